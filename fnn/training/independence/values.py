"""What can be known of an array: which axis carries examples, and what is at filling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np


class Mixes(Exception):  # noqa: N818 - a finding rather than an error
    """An operation combines several examples, or is not known not to."""


@dataclass(frozen=True)
class Same:
    """The same array whatever the filling holds and however many examples the batch has.

    `fill` is the value of every entry, if it is known.
    """

    fill: Any = None


@dataclass(frozen=True)
class Each:
    """An array with an axis of size `before * batch * after`: entry i depends on example i alone.

    `before` and `after` are 1 unless the axis was merged with others: `(B, T)` reshaped to
    `(B * T,)` has `after` T. It is None if the entries along the axis are equal, so that any fits.
    `fill` is the value of every entry at filling, if it is known.
    """

    axis: int
    after: int | None = 1
    fill: Any = None


@dataclass(frozen=True)
class Single:
    """Inside a loop over the examples: depends on the example of this iteration alone."""

    fill: Any = None


@dataclass(frozen=True)
class Mixed:
    """Depends on several examples, filling included, or on the batch size."""

    reason: str
    where: str = ""
    fill: Any = None


Value: TypeAlias = Same | Each | Single | Mixed


def aligned(values: Iterable[Value]) -> Each | None:
    """Where the examples are in arrays of one shape, without `fill`; None if there are none.

    Raises Mixes if they are in different places.
    """
    found = [value for value in values if isinstance(value, Each)]
    if not found:
        return None
    axes = {value.axis for value in found}
    afters = {value.after for value in found} - {None}
    if len(axes) > 1 or len(afters) > 1:
        raise Mixes("the operands have their examples in different places")
    return Each(axes.pop(), afters.pop() if afters else None)


def placed(values: Iterable[Value], fill: Any) -> Value:
    """The result of an operation that leaves the examples where its operands have them."""
    place = aligned(values)
    return Same(fill) if place is None else replace(place, fill=fill)


def common_fill(values: Iterable[Value]) -> Any:
    """The fill of all values if it is the same, else None."""
    fills = {value.fill for value in values}
    return fills.pop() if len(fills) == 1 else None


def joined(a: Value, b: Value) -> Value:
    """What holds of an array that is either `a` or `b`, as after a branch or an iteration."""
    if a == b or isinstance(a, Mixed):
        return a
    if isinstance(b, Mixed):
        return b
    if type(a) is not type(b):
        return Mixed("one branch or iteration returns examples where another does not")
    try:
        return placed((a, b), common_fill((a, b)))
    except Mixes as finding:
        return Mixed(str(finding))


def _same(a: Any) -> Any:
    return a


# Elementwise operations, with a NumPy twin where it is worth computing what filling holds.
FOLDED: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "ceil": np.ceil,
    "convert_element_type": _same,
    "copy": _same,
    "copy_p": _same,
    "div": lambda a, b: a // b if a.dtype.kind in "iu" else a / b,
    "eq": np.equal,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "name": _same,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "reduce_precision": _same,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "stop_gradient": _same,
    "sub": np.subtract,
    "tanh": np.tanh,
    "xor": np.bitwise_xor,
}
_OTHERS = """
acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt clamp clz
complex conj cos cosh digamma eq_to erf erf_inv erfc exp2 igamma igamma_grad_a igammac imag
integer_pow le_to lgamma logistic lt_to nextafter polygamma population_count pow random_fold_in
random_gamma real regularized_incomplete_beta rem round rsqrt select_n shift_left
shift_right_arithmetic shift_right_logical sin sinh tan threefry2x32 zeta
"""
ELEMENTWISE = {
    *FOLDED,
    *_OTHERS.split(),
}


def folded(
    name: str, params: Any, values: list[Value], dtypes: list[Any], result: Any
) -> Any:
    """What filling holds after an elementwise operation, None if that is not known.

    A product with 0 is 0, and so is 0 divided by a number, since filling is to hold numbers that
    lead to no NaN or infinity.
    """
    fills = [value.fill for value in values]
    if name == "integer_pow":
        return fills[0] if fills[0] in (0, 1) and params["y"] > 0 else None
    if name in ("mul", "and") and any(fill is not None and fill == 0 for fill in fills):
        return 0
    if name == "or" and any(fill is True for fill in fills):
        return True
    if name == "div" and fills[1] == 0:
        return None  # of either sign
    if name == "div" and fills[0] == 0:
        return 0
    if name == "select_n":
        return common_fill(values[1:]) if fills[0] is None else fills[1 + int(fills[0])]
    if name not in FOLDED or any(fill is None for fill in fills):
        return None
    with np.errstate(all="ignore"):
        operands = map(np.asarray, fills, dtypes)
        value = FOLDED[name](*operands).astype(result).item()
    return value if value == value else None  # NaN is not equal to itself


@functools.cache
def neutral(name: str, dtype: Any) -> Any:
    """The value that changes no reduction called `name`; None if there is none."""
    boolean = dtype == np.dtype(bool)
    info: Any = np.iinfo if jnp.issubdtype(dtype, jnp.integer) else None
    if name in ("reduce_sum", "reduce_or", "reduce_xor"):
        return 0
    if name == "reduce_prod":
        return 1
    if name == "reduce_and":
        return True if boolean else -1
    if name == "reduce_max":
        return False if boolean else info(dtype).min if info else -np.inf
    if name == "reduce_min":
        return True if boolean else info(dtype).max if info else np.inf
    return None
