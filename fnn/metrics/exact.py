"""Exact sums: with a compensation for rounding errors, or as integers that add without rounding."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree

# A sum is stored in digits of 8 bits from 2**-120 on: all of float32 except smaller numbers.
_BITS = 8
_LOWEST = -120
DIGITS = 31


def add(
    sums: Tree,
    lost: Tree,
    more: Tree,
) -> tuple[Tree, Tree]:
    """Trees of sums with `more` added, and of the rounding errors of the sums so far.

    float32 drops numbers below 2**-24 of a sum, batch after batch; `lost` keeps them, down to
    2**-48. Infinity and NaN are kept as they are.
    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.

    >>> sums, lost = jnp.float32(2**24), jnp.float32(0)
    >>> for _ in range(5):
    ...     sums, lost = add(sums, lost, jnp.float32(1))
    >>> int(sums), int(lost)
    (16777220, 1)
    """
    totals, treedef = jax.tree.flatten(sums)
    new_totals = []
    new_errors = []
    errors = jax.tree.leaves(lost)
    terms = jax.tree.leaves(more)
    for total, error, term in zip(totals, errors, terms, strict=True):
        new_total, new_error = _added(total, error, term)
        new_totals.append(new_total)
        new_errors.append(new_error)
    unflatten = jax.tree.unflatten
    return unflatten(treedef, new_totals), unflatten(treedef, new_errors)


def _added(
    total: Array,
    lost: Array,
    more: Array,
) -> tuple[Array, Array]:
    after = total + more
    added = after - total
    # Exact, in whatever order of size `total` and `more` are.
    error = (total - (after - added)) + (more - added)
    lost = lost + error.astype(after.dtype)
    # Carry `lost` into the sum: it stays small, and its own rounding is negligible.
    carried = after + lost
    finite = jnp.isfinite(after)
    new_total = jnp.where(finite, carried, after)
    new_lost = lost - (carried - after)
    return new_total, jnp.where(finite, new_lost, 0)


def nothing_lost(sums: Tree) -> Tree:
    """The rounding errors before the first batch: zeros like `sums`."""
    return jax.tree.map(jnp.zeros_like, sums)


def digits(*parts: Array) -> Array:
    """The exact sum of float32 numbers of one shape.   (...) each -> (31, ...) int32

    Such digits are added without rounding, in any order; up to 8 million parts fit.
    """
    x = jnp.stack(parts).astype("float32")  # (parts, ...)
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits >> 23) & 255
    # Numbers with an exponent of 0 are too small to count.
    mantissa = (bits & 0x7FFFFF) | 0x800000
    mantissa = jnp.where(exponent > 0, mantissa, 0)
    # The place of the last bit of the mantissa.
    place = exponent - 150 - _LOWEST
    sign = jnp.where(bits < 0, -1, 1)
    # Bits below the lowest digit are dropped.
    dropped = jnp.clip(-place, 0, 31)
    mantissa = sign * (mantissa >> dropped)
    place = jnp.maximum(place, 0)
    first = place // _BITS
    # Below 2**31.
    size = jnp.abs(mantissa) << (place % _BITS)
    trailing = (1,) * x.ndim
    index = jnp.arange(DIGITS)
    index = index.reshape(-1, *trailing)  # (31, 1, 1, ...)
    total = jnp.zeros((DIGITS, *x.shape), jnp.int32)  # (31, parts, ...)
    # A mantissa of 24 bits that is shifted by up to 7 spans 4 digits.
    for i in range(4):
        shifted = size >> (_BITS * i)
        digit = jnp.sign(mantissa) * (shifted & 255)
        here = index == (first + i)[None]
        total += jnp.where(here, digit[None], 0)
    return total.sum(1)


def terms(sums: Array) -> Array:
    """Float32 numbers of 8 bits and of one sign whose sum is `sums`.   (31, ...) -> (31, ...)"""
    is_negative = _carry(sums).out < 0
    sign = jnp.where(is_negative, -1, 1)
    sign = sign[None]  # (1, ...)
    digits = sign * _carry(sign * sums).digits
    exponents = [_LOWEST + _BITS * i for i in range(DIGITS)]
    powers = [2.0**exponent for exponent in exponents]
    scale = jnp.asarray(powers, "float32")
    trailing = (1,) * (sums.ndim - 1)
    scale = scale.reshape(-1, *trailing)  # (31, 1, ...)
    return digits.astype("float32") * scale


def value(sums: Array) -> Array:
    """The sum as float32.   (31, ...) -> (...)"""
    return terms(sums).sum(0)


class _Carried(NamedTuple):
    """Digits within 0..255, and the carry out of the highest one: -1 for a negative sum."""

    digits: Array
    out: Array


def _carry(sums: Array) -> _Carried:
    def step(carry: Array, digit: Array) -> tuple[Array, Array]:
        digit = digit + carry
        return digit >> _BITS, digit & 255

    shape = sums.shape[1:]
    no_carry = jnp.zeros(shape, jnp.int32)
    out, digits = jax.lax.scan(step, no_carry, sums)
    return _Carried(digits, out)


def product(a: Array, b: Array) -> list[Array]:
    """Numbers whose sum is exactly a b: products of 12-bit factors have no rounding errors."""
    return [x * y for x in _halves(a) for y in _halves(b)]


def _halves(x: Array) -> tuple[Array, Array]:
    x32 = x.astype("float32")
    bits = jax.lax.bitcast_convert_type(x32, jnp.int32)
    # The upper 12 bits of the mantissa.
    upper = bits & ~0xFFF
    high = jax.lax.bitcast_convert_type(upper, jnp.float32)
    return high, x - high


class Moments(NamedTuple):
    """The digits of sum(w), sum(w t) and sum(w t**2)."""

    weight: Array
    total: Array
    squared: Array


def moments(
    t: Array,
    weights: Array,
    axes: tuple[int, ...],
) -> Moments:
    """The weighted moments of a batch over some axes.

    They are computed around c, the mean of the batch, where nothing cancels, and then shifted to 0
    without rounding. So their differences give the variance even of numbers far from 0.
    """
    c = _center(t, weights, axes)
    r = t - c.astype(t.dtype)
    # Moments around c.
    w = weights.sum(axes).astype("float32")
    first = weights * r
    first = first.sum(axes).astype("float32")
    second = weights * r * r
    second = second.sum(axes).astype("float32")
    c = c.reshape(w.shape)
    squared = []
    for part in product(c, c):
        squared += product(part, w)
    squared += product(2 * c, first)
    squared.append(second)
    total = product(c, w)
    total.append(first)
    return Moments(digits(w), digits(*total), digits(*squared))


def _center(
    t: Array,
    weights: Array,
    axes: tuple[int, ...],
) -> Array:
    """The weighted mean over `axes`, exactly the constant if all numbers are equal."""
    total = weights.sum(axes, keepdims=True)
    empty = total == 0
    weighted = (weights * t).sum(axes, keepdims=True)
    mean = weighted / jnp.where(empty, 1, total)
    counted = weights != 0
    low = jnp.where(counted, t, jnp.inf)
    low = low.min(axes, keepdims=True)
    high = jnp.where(counted, t, -jnp.inf)
    high = high.max(axes, keepdims=True)
    mean = jnp.clip(mean, low, high)
    return jnp.where(empty, 0, mean).astype("float32")


def variation(
    weight: Array,
    total: Array,
    squared: Array,
) -> Array:
    """sum(w (t - mean) ** 2), from the digits of `moments`."""
    whole = value(weight)
    whole = jnp.where(whole == 0, 1, whole)
    weight_terms = terms(weight)
    mean = value(total) / whole
    # The second pass corrects the rounding error of the first.
    for _ in range(2):
        expected = _digits_of(product(mean[None], weight_terms))
        residual = value(total - expected)
        previous = mean
        mean = mean + residual / whole
    residual = residual - (mean - previous) * whole
    mixed = product(-2 * mean[None], terms(total))
    square = []
    for part in product(mean, mean):
        square += product(part[None], weight_terms)
    around_mean = squared + _digits_of([*mixed, *square])
    shift = residual * residual / whole
    return jnp.maximum(value(around_mean) - shift, 0)


def _digits_of(parts: list[Array]) -> Array:
    """The digits of a sum of arrays, summed along their first axis too."""
    return digits(*jnp.concatenate(parts))
