"""Parts of traced programs: their constants, the equations that matter, parameters compared."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun


def opened(program: Any) -> Any:
    """The program without its constants."""
    return getattr(program, "jaxpr", program)


def constants(program: Any) -> Any:
    """The constants of a program, in the order of its `constvars`."""
    return getattr(program, "consts", ())


def needed(program: Any) -> list[Any]:
    """The equations that the results are computed from, and those with effects."""
    wanted, found = {v for v in program.outvars if not isinstance(v, Literal)}, []
    for equation in reversed(program.eqns):
        if equation.effects or not wanted.isdisjoint(equation.outvars):
            found.append(equation)
            wanted.update(v for v in equation.invars if not isinstance(v, Literal))
    return found[::-1]


def on_host(constant: Any) -> np.ndarray:
    """A constant as a NumPy array; of a random key its key data."""
    return np.asarray(jax.random.key_data(constant) if _is_key(constant) else constant)


def scalar(constant: Any) -> Any:
    """The value of a scalar; None for other constants and for NaN."""
    if np.ndim(constant) or _is_key(constant):
        return None
    value = np.asarray(constant).item()
    return value if value == value else None


def _is_key(constant: Any) -> bool:
    return jnp.issubdtype(getattr(constant, "dtype", float), jax.dtypes.prng_key)


def is_float(variable: Any) -> bool:
    """Whether a variable has a gradient."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def equal(a: Any, b: Any) -> bool:
    """Whether two parameters are equal; False if that cannot be known."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(equal, a, b))
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
        return str(a) == str(b) and equal(list(constants(a)), list(constants(b)))
    if hasattr(a, "shape") and hasattr(b, "shape"):
        return np.array_equal(a, b)
    return a is b or bool(a == b)


def pullback(program: Any, equation: Any) -> tuple[Any, list[Any], list[Any]]:
    """One equation run forward and backward: (the traced program, its inputs, its results).

    The program takes the values of `inputs` and the cotangents of `results`, variables of the
    equation, and returns the results and the cotangents of the inputs. Integers have none.
    """
    inputs = list({v: None for v in equation.invars if not isinstance(v, Literal)})
    results = [
        v for v in equation.outvars if is_float(v) and type(v).__name__ != "DropVar"
    ]
    alone = program.replace(
        constvars=[], invars=inputs, outvars=results, eqns=[equation]
    )
    compute = jaxpr_as_fun(ClosedJaxpr(alone, []))
    numbers = [number for number, v in enumerate(inputs) if is_float(v)]

    def pull(values: list[Any], cotangents: list[Any]) -> Any:
        def of_floats(*floats: Any) -> Any:
            return compute(*_replaced(values, numbers, floats))

        found, back = jax.vjp(of_floats, *(values[number] for number in numbers))
        return found, back(cotangents)

    specs = [
        [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in part]
        for part in (inputs, results)
    ]
    return jax.make_jaxpr(pull)(*specs), inputs, results


def _replaced(values: list[Any], numbers: list[int], others: Any) -> list[Any]:
    changed = dict(zip(numbers, others, strict=True))
    return [changed.get(number, value) for number, value in enumerate(values)]
