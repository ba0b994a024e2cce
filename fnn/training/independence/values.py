"""Abstract values of arrays: which axis holds the examples, and the values at padding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

Fill: TypeAlias = Any  # the value of all entries at padding, a number; None if unknown
Shape: TypeAlias = tuple[int, ...]


class Mixes(Exception):  # noqa: N818 - a finding rather than an error
    """An operation combines several examples, or may do so."""


@dataclass(frozen=True)
class Same:
    """The same array for any padding and any number of examples in the batch.

    `fill` is the value of every entry, if known.
    """

    fill: Fill = None


@dataclass(frozen=True)
class Each:
    """An array with an axis of examples: entry i depends on example i only.

    The axis has the size `before * batch * after`. `before` and `after` are 1 unless the
    axis was merged with others: `(B, T)` reshaped to `(B * T,)` has `after` T. It is None
    if the entries along the axis are equal, so that any value is right. `fill` is the
    value of every entry at padding, if known.
    """

    axis: int
    after: int | None = 1
    fill: Fill = None


@dataclass(frozen=True)
class Single:
    """Inside a loop over the examples: depends on the example of this iteration only."""

    fill: Fill = None


@dataclass(frozen=True)
class Mixed:
    """Depends on several examples, including padding, or on the batch size."""

    reason: str
    where: str = ""
    fill: Fill = None


Value: TypeAlias = Same | Each | Single | Mixed


def aligned(values: Iterable[Value]) -> Each | None:
    """The position of the examples in arrays of one shape, without `fill`; None if none.

    Raises Mixes if they are in different places.
    """
    found = [value for value in values if isinstance(value, Each)]
    if not found:
        return None
    axes = {value.axis for value in found}
    afters = {value.after for value in found} - {None}
    if len(axes) > 1 or len(afters) > 1:
        raise Mixes("the operands have their examples in different places")
    after = None
    if afters:
        after = afters.pop()
    return Each(axes.pop(), after)


def check_same_after(a: Each, b: Each) -> None:
    """Raises Mixes if the entries of an example are known to differ in number."""
    aligned((Each(0, a.after), Each(0, b.after)))


def placed(values: Iterable[Value], fill: Fill) -> Value:
    """The result of an operation that keeps the examples at their position."""
    place = aligned(values)
    if place is None:
        return Same(fill)
    return replace(place, fill=fill)


def common_fill(values: Iterable[Value]) -> Fill:
    """The fill of all values if it is the same, else None."""
    fills = {value.fill for value in values}
    if len(fills) != 1:
        return None
    return fills.pop()


def joined(a: Value, b: Value) -> Value:
    """The value of an array that is either `a` or `b`, as after a branch or an iteration."""
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


def _same(a: np.ndarray) -> np.ndarray:
    return a


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":
        floored: np.ndarray = a // b
        return floored
    quotient: np.ndarray = a / b
    return quotient


# Elementwise operations with their NumPy equivalents, to compute the values at padding.
FOLDED: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "ceil": np.ceil,
    "convert_element_type": _same,
    "copy": _same,
    "copy_p": _same,
    "div": _divide,
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
# Elementwise operations whose values at padding are not computed.
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
    name: str,
    params: dict[str, Any],
    values: list[Value],
    dtypes: list[np.dtype],
    result: np.dtype,
) -> Fill:
    """The value at padding after an elementwise operation, None if unknown.

    A product with 0 is 0, and so is 0 divided by a number, since padding must hold
    numbers that lead to no NaN or infinity.
    """
    fills = [value.fill for value in values]
    if name == "integer_pow":
        if fills[0] in (0, 1) and params["y"] > 0:
            return fills[0]
        return None
    if name in ("mul", "and") and 0 in fills:
        return 0
    if name == "or" and any(fill is True for fill in fills):
        return True
    if name == "div" and fills[1] == 0:
        return None  # infinity of either sign
    if name == "div" and fills[0] == 0:
        return 0
    if name == "select_n":
        if fills[0] is None:
            return common_fill(values[1:])
        return fills[1 + int(fills[0])]
    if name not in FOLDED or any(fill is None for fill in fills):
        return None
    with np.errstate(all="ignore"):
        operands = map(np.asarray, fills, dtypes)
        value = FOLDED[name](*operands).astype(result).item()
    if value != value:
        return None  # NaN
    return value


@functools.cache
def neutral(name: str, dtype: np.dtype) -> Fill:
    """The neutral element of the reduction `name`; None if there is none."""
    if name in ("reduce_sum", "reduce_or", "reduce_xor"):
        return 0
    if name == "reduce_prod":
        return 1
    if name == "reduce_and":
        if dtype == np.dtype(bool):
            return True
        return -1
    if name == "reduce_max":
        return _extreme(dtype, smallest=True)
    if name == "reduce_min":
        return _extreme(dtype, smallest=False)
    return None


def _extreme(dtype: np.dtype, smallest: bool) -> Fill:
    """The smallest or the largest value of a dtype."""
    if dtype == np.dtype(bool):
        return not smallest
    low, high = -np.inf, np.inf
    if jnp.issubdtype(dtype, jnp.integer):
        limits = np.iinfo(dtype)
        low, high = limits.min, limits.max
    if smallest:
        return low
    return high
