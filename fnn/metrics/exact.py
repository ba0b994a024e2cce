"""Sums that lose nothing: with what rounding takes kept beside them, or as integers that add."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# A sum is written in digits of 8 bits, from 2**-120 on: all of float32, but for what is smaller.
_BITS, _LOWEST, DIGITS = 8, -120, 31


def add(sums: Any, lost: Any, more: Any) -> tuple[Any, Any]:
    """Trees of sums with `more` added, and of what rounding has taken from them so far.

    float32 drops what is below 2**-24 of a sum, batch after batch; with `lost` it is kept, down to
    2**-48. What is infinite or NaN stays so.
    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.

    >>> sums, lost = jnp.float32(2**24), jnp.float32(0)
    >>> for _ in range(5):
    ...     sums, lost = add(sums, lost, jnp.float32(1))
    >>> int(sums), int(lost)
    (16777220, 1)
    """
    leaves, treedef = jax.tree.flatten(sums)
    pairs = [
        _added(*three)
        for three in zip(
            leaves, jax.tree.leaves(lost), jax.tree.leaves(more), strict=True
        )
    ]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    return jax.tree.unflatten(treedef, first), jax.tree.unflatten(treedef, second)


def _added(total: Array, lost: Array, more: Array) -> tuple[Array, Array]:
    after = total + more
    added = after - total
    lost = lost + ((total - (after - added)) + (more - added)).astype(after.dtype)
    whole = after + lost  # so that `lost` stays small, and is rounded far below the sum
    finite = jnp.isfinite(after)
    return jnp.where(finite, whole, after), jnp.where(finite, lost - (whole - after), 0)


def nothing_lost(sums: Any) -> Any:
    """Zeros like `sums`."""
    return jax.tree.map(jnp.zeros_like, sums)


def digits(*parts: Array) -> Array:
    """The sum of float32 numbers of one shape, exactly.   (...) each -> (31, ...) int32

    Such digits add without rounding, in any order; 8 million parts fit.
    """
    x = jnp.stack(parts).astype("float32")
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits >> 23) & 255
    mantissa = jnp.where(exponent > 0, (bits & 0x7FFFFF) | 0x800000, 0)
    place = exponent - 150 - _LOWEST  # of the mantissa's last bit
    mantissa = jnp.where(bits < 0, -1, 1) * (mantissa >> jnp.clip(-place, 0, 31))
    place = jnp.maximum(place, 0)
    first, size = place // _BITS, jnp.abs(mantissa) << (place % _BITS)  # below 2**31
    index = jnp.arange(DIGITS).reshape(-1, *(1,) * x.ndim)
    total = jnp.zeros(index.shape[:1] + x.shape, jnp.int32)
    for i in range(4):
        digit = jnp.sign(mantissa) * ((size >> (_BITS * i)) & 255)
        total += jnp.where(index == (first + i)[None], digit[None], 0)
    return total.sum(1)


def terms(sums: Array) -> Array:
    """Float32 numbers of 8 bits and one sign that are the sum.   (31, ...) -> (31, ...)"""
    sign = jnp.where(_carried(sums)[1] < 0, -1, 1)[None]
    whole = sign * _carried(sign * sums)[0]
    scale = jnp.asarray(
        [2.0 ** (_LOWEST + _BITS * i) for i in range(DIGITS)], "float32"
    )
    return whole.astype("float32") * scale.reshape(-1, *(1,) * (sums.ndim - 1))


def value(sums: Array) -> Array:
    """The sum as float32.   (31, ...) -> (...)"""
    return terms(sums).sum(0)


def _carried(sums: Array) -> tuple[Array, Array]:
    """The digits within 0..255, and what is carried out of them: -1 for a sum below 0."""

    def step(carry: Array, digit: Array) -> tuple[Array, Array]:
        digit = digit + carry
        return digit >> _BITS, digit & 255

    carry, digits = jax.lax.scan(step, jnp.zeros(sums.shape[1:], jnp.int32), sums)
    return digits, carry


def product(a: Array, b: Array) -> list[Array]:
    """Numbers whose sum is a b, exactly: factors of 12 bits have products without rounding."""
    return [x * y for x in _halves(a) for y in _halves(b)]


def _halves(x: Array) -> tuple[Array, Array]:
    bits = jax.lax.bitcast_convert_type(x.astype("float32"), jnp.int32)
    high = jax.lax.bitcast_convert_type(bits & ~0xFFF, jnp.float32)
    return high, x - high


def moments(
    t: Array, weights: Array, axes: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """The digits of sum(w), sum(w t) and sum(w t**2) over some axes of a batch.

    They are taken about c, the mean of the batch, where nothing cancels, and moved to 0 without
    rounding. So their differences give the variance, wherever the numbers lie.
    """
    whole = weights.sum(axes, keepdims=True)
    mean = (weights * t).sum(axes, keepdims=True) / jnp.where(whole == 0, 1, whole)
    counts = weights != 0  # of constant numbers the mean is to be that constant
    low = jnp.where(counts, t, jnp.inf).min(axes, keepdims=True)
    high = jnp.where(counts, t, -jnp.inf).max(axes, keepdims=True)
    c = jnp.where(whole == 0, 0, jnp.clip(mean, low, high)).astype("float32")
    r = t - c.astype(t.dtype)
    sums = (x.sum(axes) for x in (weights, weights * r, weights * r * r))
    w, first, second = (x.astype("float32") for x in sums)
    c = c.reshape(w.shape)
    squared = [
        *(p for q in product(c, c) for p in product(q, w)),
        *product(2 * c, first),
        second,
    ]
    return digits(w), digits(*product(c, w), first), digits(*squared)


def variation(weight: Array, total: Array, squared: Array) -> Array:
    """sum(w (t - mean) ** 2), of the digits of `moments`."""
    whole = value(weight)
    whole, of_weight = jnp.where(whole == 0, 1, whole), terms(weight)
    mean = value(total) / whole
    for _ in range(2):  # the second time with what rounding left
        off = value(total - digits_of_rows(product(mean[None], of_weight)))
        mean, before = mean + off / whole, mean
    off = off - (mean - before) * whole
    crossed = product(-2 * mean[None], terms(total))
    square = [p for q in product(mean, mean) for p in product(q[None], of_weight)]
    about = squared + digits_of_rows([*crossed, *square])
    return jnp.maximum(value(about) - off * off / whole, 0)


def digits_of_rows(parts: list[Array]) -> Array:
    """The digits of the sum of numbers, along their first axis too."""
    return digits(*jnp.concatenate(parts))
