"""Layers under a dtype policy, and what their programs compute in."""

import contextlib

import jax

import fnn
from fnn.core.layer import Layer
from fnn.core.value import Fields


@contextlib.contextmanager
def policy(name, keras=None):
    """The dtype policy of fnn, and of Keras if it is given, inside."""
    modules = [fnn, keras] if keras else [fnn]
    try:
        for module in modules:
            module.config.set_dtype_policy(name)
        yield
    finally:
        for module in modules:
            module.config.set_dtype_policy("float32")


def remade(value):
    """A layer as a user would write it now: it and the layers inside are constructed again."""
    if isinstance(value, Fields):
        return Fields(remade(value.items))
    if isinstance(value, tuple):
        return type(value)(map(remade, value)) if type(value) is tuple else value
    if not isinstance(value, Layer) or value._open:
        return value
    held = {n: remade(v) for n, v in vars(value).items() if n[0] != "_"}
    if held.get("name", "") is None:
        del held["name"]
    return type(value)(**held)


def equations(program):
    """All equations of a program, those of the programs inside it too."""
    for equation in program.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(value):
                yield from equations(getattr(value, "jaxpr", value))


def is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def operands(program, *names):
    """The dtypes of the floating-point operands of the primitives of these names."""
    found = [e.invars for e in equations(program) if e.primitive.name in names]
    dtypes = {str(a.aval.dtype) for invars in found for a in invars}
    return {name for name in dtypes if "float" in name}
