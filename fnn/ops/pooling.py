"""Pooling: the maximum or the mean of windows, of given or of adapted sizes, for `fnn.ops.nn`."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from fnn.ops.operation import MOST_PARTS
from fnn.ops.spatial import (
    Sizes,
    from_channels_last,
    is_last,
    padding_name,
    per_axis,
    to_channels_last,
)


def _all_axes(
    sizes: Sizes,
    count: int,
    channels_last: bool,
) -> tuple[int, ...]:
    """Sizes for all axes of an array, 1 for those of the batch and the channels."""
    inner = per_axis(sizes, count)
    if channels_last:
        return (1, *inner, 1)
    return (1, 1, *inner)


def _windows(
    inputs: Array,
    pool_size: Sizes,
    strides: Sizes | None,
    data_format: str | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    count, last = inputs.ndim - 2, is_last(data_format)
    window = _all_axes(pool_size, count, last)
    if strides is None:
        return window, window
    return window, _all_axes(strides, count, last)


def max_pool(
    inputs: Array,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """The largest element in each window along the axes of space."""
    window, steps = _windows(inputs, pool_size, strides, data_format)
    result: Array = lax.reduce_window(
        inputs, -jnp.inf, lax.max, window, steps, padding_name(padding)
    )
    return result


def average_pool(
    inputs: Array,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """The mean of each window along the axes of space, padding not counted."""
    window, steps = _windows(inputs, pool_size, strides, data_format)
    padding = padding_name(padding)
    sums = lax.reduce_window(inputs, 0.0, lax.add, window, steps, padding)
    if padding == "VALID":
        result: Array = sums / math.prod(window)
        return result
    pairs = zip(inputs.shape, window, strict=True)
    shape = [n if size > 1 else 1 for n, size in pairs]
    ones = jnp.ones(shape, inputs.dtype)
    counts = lax.reduce_window(ones, 0.0, lax.add, window, steps, padding)
    result = sums / counts
    return result


def _adaptive(
    inputs: Array,
    output_size: Sizes,
    data_format: str | None,
    pool: Callable[[Array, int, int], Array],
) -> Array:
    """Windows of two sizes along each axis, in each place the one that Keras takes."""
    if inputs.ndim not in (3, 4, 5):
        raise ValueError(
            f"expected inputs with 1, 2 or 3 axes of space, received shape {inputs.shape}"
        )
    y = to_channels_last(inputs, data_format)
    sizes = per_axis(output_size, inputs.ndim - 2)
    if max(sizes) > MOST_PARTS:
        raise ValueError(
            f"expected output_size of at most {MOST_PARTS}, received {output_size}"
        )
    for axis, size in enumerate(sizes, 1):
        length = y.shape[axis]
        small = math.ceil(length / size)
        borders = [place * length / size for place in range(size + 1)]
        starts = map(math.floor, borders[:-1])
        ends = map(math.ceil, borders[1:])
        # Windows of both sizes from each start, one behind the other along the axis.
        parts = [pool(y, axis, small), pool(y, axis, small + 1)]
        both = jnp.concatenate(parts, axis)
        shift = length - small + 1
        pairs = zip(starts, ends, strict=True)
        places = [s + shift * (e - s == small + 1) for s, e in pairs]
        y = jnp.take(both, jnp.asarray(places), axis=axis)
    return from_channels_last(y, data_format)


def _window_along(
    inputs: Array,
    axis: int,
    size: int,
) -> tuple[int, ...]:
    window = [1] * inputs.ndim
    window[axis] = size
    return tuple(window)


def adaptive_average_pool(
    inputs: Array,
    output_size: Sizes,
    data_format: str | None = None,
) -> Array:
    """Means of windows of whatever size gives the output its size."""

    def pool(
        x: Array,
        axis: int,
        size: int,
    ) -> Array:
        window = _window_along(x, axis, size)
        ones = (1,) * x.ndim
        sums: Array = lax.reduce_window(x, 0.0, lax.add, window, ones, "VALID")
        return sums / size

    return _adaptive(inputs, output_size, data_format, pool)


def adaptive_max_pool(
    inputs: Array,
    output_size: Sizes,
    data_format: str | None = None,
) -> Array:
    """The largest elements in windows of whatever size gives the output its size."""

    def pool(
        x: Array,
        axis: int,
        size: int,
    ) -> Array:
        window = _window_along(x, axis, size)
        ones = (1,) * x.ndim
        result: Array = lax.reduce_window(x, -jnp.inf, lax.max, window, ones, "VALID")
        return result

    return _adaptive(inputs, output_size, data_format, pool)
