"""Parts of traced programs: constants, the equations that matter, comparison of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from fnn.core.tree import array_spec

# The types of JAX's programs are not public: a `Jaxpr` or `ClosedJaxpr`, a `JaxprEqn`, a
# `Var` or `Literal`.
Program: TypeAlias = Any
Equation: TypeAlias = Any
Variable: TypeAlias = Any


def opened(program: Program) -> Program:
    """The program without its constants."""
    return getattr(program, "jaxpr", program)


def constants(program: Program) -> Sequence[object]:
    """The constants of a program, in the order of its `constvars`."""
    return getattr(program, "consts", ())


def needed(program: Program) -> list[Equation]:
    """The equations from which the results are computed, and those with effects."""
    wanted = {v for v in program.outvars if not isinstance(v, Literal)}
    found = []
    for equation in reversed(program.eqns):
        if equation.effects or not wanted.isdisjoint(equation.outvars):
            found.append(equation)
            wanted.update(v for v in equation.invars if not isinstance(v, Literal))
    return found[::-1]


def on_host(constant: Any) -> np.ndarray:
    """A constant as a NumPy array; of a random key its key data."""
    if _is_key(constant):
        constant = jax.random.key_data(constant)
    return np.asarray(constant)


def scalar(constant: Any) -> object:
    """The value of a scalar; None for other constants and for NaN."""
    if np.ndim(constant) or _is_key(constant):
        return None
    value = np.asarray(constant).item()
    if value != value:
        return None
    return value


def _is_key(constant: object) -> bool:
    return jnp.issubdtype(getattr(constant, "dtype", float), jax.dtypes.prng_key)


def is_float(variable: Variable) -> bool:
    """Whether a variable has a gradient."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def equal(a: Any, b: Any) -> bool:
    """Whether two parameters are equal; False if that cannot be known."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(equal, a, b))
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
        if str(a) != str(b):
            return False
        return equal(list(constants(a)), list(constants(b)))
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return np.array_equal(a, b)
    return a is b or bool(a == b)


class Pullback(NamedTuple):
    """One equation run forward and backward, as a traced program.

    The program takes the values of `inputs` and the cotangents of `results`, variables of
    the equation, and returns the results and the cotangents of the inputs. Integers have
    none.
    """

    program: Program
    inputs: list[Variable]
    results: list[Variable]


def pullback(program: Program, equation: Equation) -> Pullback:
    """The pullback of one equation of a program."""
    variables = [v for v in equation.invars if not isinstance(v, Literal)]
    inputs = list(dict.fromkeys(variables))  # each once
    results = []
    for variable in equation.outvars:
        is_dropped = type(variable).__name__ == "DropVar"
        if is_float(variable) and not is_dropped:
            results.append(variable)
    alone = program.replace(
        constvars=[], invars=inputs, outvars=results, eqns=[equation]
    )
    compute = jaxpr_as_fun(ClosedJaxpr(alone, []))
    positions = [i for i, variable in enumerate(inputs) if is_float(variable)]

    def pull(values: list[jax.Array], cotangents: list[jax.Array]) -> Any:
        def of_floats(*floats: jax.Array) -> Any:
            return compute(*_replaced(values, positions, floats))

        floats = [values[i] for i in positions]
        found, back = jax.vjp(of_floats, *floats)
        return found, back(cotangents)

    traced = jax.make_jaxpr(pull)(_specs(inputs), _specs(results))
    return Pullback(traced, inputs, results)


def _specs(variables: Iterable[Variable]) -> list[jax.ShapeDtypeStruct]:
    return [array_spec(v.aval.shape, v.aval.dtype) for v in variables]


def _replaced(
    values: list[jax.Array],
    positions: list[int],
    others: Iterable[jax.Array],
) -> list[jax.Array]:
    """`values` with others at these positions."""
    changed = dict(zip(positions, others, strict=True))
    return [changed.get(i, value) for i, value in enumerate(values)]
