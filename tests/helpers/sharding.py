"""Arrays on several devices: put there, noted inside a program, and what this computes anyway."""

import functools
import itertools

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.helpers.same import data_of

DATA, MODEL = 4, 2  # the sizes of the axes


@functools.cache
def mesh(kind=AxisType.Explicit):
    return jax.make_mesh((DATA, MODEL), ("data", "model"), axis_types=(kind, kind))


def on(*spec, kind=AxisType.Explicit):
    return NamedSharding(mesh(kind), PartitionSpec(*spec))


def put(tree, rule, kind=AxisType.Explicit):
    return jax.tree.map(lambda a: jax.device_put(a, on(*rule(a), kind=kind)), tree)


def lie(tree, rule, kind=AxisType.Explicit):
    """Like `put`, for what is traced alone."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=on(*rule(a), kind=kind)), tree
    )


WHOLE, BY_BATCH = (lambda a: ()), (lambda a: ("data",))


def rows(a, axis="model", size=MODEL):
    return (axis,) if a.ndim and a.shape[0] % size == 0 else ()


def columns(a, axis="model", size=MODEL):
    return (*(None,) * (a.ndim - 1), axis) if a.ndim and a.shape[-1] % size == 0 else ()


def close(received, expected):
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, a), b in zip(paths, jax.tree.leaves(received), strict=True):
        if a.dtype == jax.dtypes.float0:
            continue  # integers have no gradient
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        scale = max(1, np.abs(a).max(initial=0))
        np.testing.assert_allclose(b / scale, a / scale, rtol=1e-5, atol=1e-5, err_msg=str(path))


def note(x, found):
    """Puts into `found` how many examples of `x` each device has."""

    def look(sharding):
        found.append(sharding.shard_shape(x.shape)[0])

    if isinstance(x, jax.core.Tracer):
        jax.debug.inspect_array_sharding(x, callback=look)


MOVES = {"reshard", "sharding_constraint"}
PLACES = {"mesh", "ctx_mesh", "in_layouts", "out_layouts"}  # and what has `sharding` in its name


def arithmetic(program):
    """The operations of a program, without those that move arrays and without where they lie.

    Two programs of equal arithmetic give the same numbers, unless XLA is wrong.
    """
    constants = [data_of(a) for a in getattr(program, "consts", ())]
    program = getattr(program, "jaxpr", program)
    names, fresh = {}, itertools.count()
    for variable in (*program.constvars, *program.invars):
        names[variable] = next(fresh)

    def name(operand):
        return repr(operand.val) if isinstance(operand, Literal) else names[operand]

    operations = []
    for equation in program.eqns:
        operands = [name(operand) for operand in equation.invars]
        if equation.primitive.name in MOVES:
            names[equation.outvars[0]] = operands[0]
            continue
        results = []
        for variable in equation.outvars:
            names[variable] = next(fresh)
            results.append((names[variable], variable.aval.shape, str(variable.aval.dtype)))
        options = {
            key: [*map(arithmetic, programs_in(value))] or str(value)
            for key, value in equation.params.items()
            if key not in PLACES and "sharding" not in key
        }
        operations.append((equation.primitive.name, operands, results, options))
    constants = [(a.dtype, a.shape, a.tobytes()) for a in constants]
    return constants, operations, [name(operand) for operand in program.outvars]


def programs_in(value):
    if isinstance(value, (tuple, list)):
        return [program for part in value for program in programs_in(part)]
    return [value] if isinstance(value, (ClosedJaxpr, Jaxpr)) else []
