"""Adaptive pooling: the maximum or mean of a given number of windows, for inputs of any size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis
from fnn.core.layer import Params, State
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    PerAxis,
    Spatial,
    lowest,
    numbers,
    reduce_axis,
    spatial_axes,
)
from fnn.runtime.arithmetic import floating
from fnn.runtime.placement import along


class Windows(NamedTuple):
    """The windows along one axis, each with an axis of its own, and how long they are."""

    values: Array  # (..., windows, longest window, ...)
    sizes: Array  # (windows,)


def windows(
    x: Array,
    axis: int,
    number: int,
    fill: float,
) -> Windows:
    """Splits an axis of n positions into `number` windows.

    Window i goes from floor(i n / number) to ceil((i + 1) n / number), so sizes differ by at most
    one; shorter windows end with `fill`. If `number` divides n, this is a reshape.
    """
    size = x.shape[axis]
    before = x.shape[:axis]
    after = x.shape[axis + 1 :]
    if size % number == 0:
        values = x.reshape(*before, number, size // number, *after)
        return Windows(values, jnp.full(number, size // number))
    if size * number >= 2**31:  # the products below would overflow int32
        raise ValueError(
            f"expected output_size times the size of the axis below 2**31, received {number} "
            f"windows of an axis of size {size}; give a smaller output_size"
        )
    index = jnp.arange(number)
    starts = index * size // number
    ends = -(-(index + 1) * size // number)
    span = size + number - math.gcd(size, number)
    longest = -(-span // number)
    positions = starts[:, None] + jnp.arange(longest)[None]  # (windows, longest)
    inside = positions < ends[:, None]  # (windows, longest)
    # (1, ..., windows, longest, 1, ...)
    inside = inside.reshape(*[1] * axis, *inside.shape, *[1] * len(after))
    positions = jnp.minimum(positions, size - 1)
    values = jnp.take(x, positions, axis=axis, mode="clip")
    return Windows(jnp.where(inside, values, fill), ends - starts)


def largest(x: Array, axis: int, number: int) -> Array:
    """The largest value in each of `number` windows along an axis."""
    values = windows(x, axis, number, lowest(x)).values
    return reduce_axis(values, axis + 1, lax.max, jnp.max)  # (..., windows, ...)


def mean(x: Array, axis: int, number: int) -> Array:
    """The mean of each of `number` windows along an axis."""
    values, sizes = windows(floating(x), axis, number, 0)
    total = reduce_axis(values, axis + 1, lax.add, jnp.sum)  # (..., windows, ...)
    sizes = jnp.asarray(sizes, total.dtype)
    return total / along(sizes, total.ndim, axis)


class _AdaptivePooling(Spatial):
    pool: ClassVar[Callable[..., Array]]  # (x, axis, number of windows) -> outputs

    output_size: PerAxis = per_axis()
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        (sizes,) = numbers(self, "output_size")
        for axis, size in zip(spatial_axes(self), sizes, strict=True):
            x = type(self).pool(x, axis, size)  # `axis` now has `size` windows
        return x, state


class AdaptiveMaxPooling1D(_AdaptivePooling):
    """The largest value in each of `output_size` windows of steps, for sequences of any length.

    (batch, steps, channels) -> (batch, output_size, channels)

    Of n steps, window i of m covers floor(i n / m) to ceil((i + 1) n / m): neighboring windows may
    share a step if m does not divide n, and steps repeat if m is larger than n. Equal largest
    values share the gradient (Keras gives it to one).
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> x = jnp.array([1.0, 5.0, 2.0, 3.0, 9.0]).reshape(1, 5, 1)
    >>> AdaptiveMaxPooling1D(2)(x).ravel().tolist()
    [5.0, 9.0]
    """

    spatial = 1
    pool = staticmethod(largest)


class AdaptiveMaxPooling2D(_AdaptivePooling):
    """The largest value in each of `output_size` windows, for images of any size.

    (batch, h, w, channels) -> (batch, *output_size, channels)

    As `AdaptiveMaxPooling1D`, along height and width.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    >>> AdaptiveMaxPooling2D((1, 2))(x).ravel().tolist()
    [9.0, 11.0]
    """

    spatial = 2
    pool = staticmethod(largest)


class AdaptiveMaxPooling3D(_AdaptivePooling):
    """The largest value in each of `output_size` windows, for volumes of any size.

    (batch, d, h, w, channels) -> (batch, *output_size, channels)

    As `AdaptiveMaxPooling1D`, along depth, height and width.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> AdaptiveMaxPooling3D(1)(jnp.arange(8.0).reshape(1, 2, 2, 2, 1)).item()
    7.0
    """

    spatial = 3
    pool = staticmethod(largest)


class AdaptiveAveragePooling1D(_AdaptivePooling):
    """The mean of each of `output_size` windows of steps, for sequences of any length.

    (batch, steps, channels) -> (batch, output_size, channels)

    Of n steps, window i of m covers floor(i n / m) to ceil((i + 1) n / m): neighboring windows may
    share a step if m does not divide n, and steps repeat if m is larger than n. Integers give
    float32.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> x = jnp.array([1.0, 5.0, 3.0, 4.0, 8.0]).reshape(1, 5, 1)
    >>> AdaptiveAveragePooling1D(2)(x).ravel().tolist()
    [3.0, 5.0]
    """

    spatial = 1
    pool = staticmethod(mean)


class AdaptiveAveragePooling2D(_AdaptivePooling):
    """The mean of each of `output_size` windows, for images of any size.

    (batch, h, w, channels) -> (batch, *output_size, channels)

    As `AdaptiveAveragePooling1D`, along height and width: the same head for images of any size.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    >>> AdaptiveAveragePooling2D((1, 2))(x).ravel().tolist()
    [4.5, 6.5]
    """

    spatial = 2
    pool = staticmethod(mean)


class AdaptiveAveragePooling3D(_AdaptivePooling):
    """The mean of each of `output_size` windows, for volumes of any size.

    (batch, d, h, w, channels) -> (batch, *output_size, channels)

    As `AdaptiveAveragePooling1D`, along depth, height and width.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> AdaptiveAveragePooling3D(1)(jnp.arange(8.0).reshape(1, 2, 2, 2, 1)).item()
    3.5
    """

    spatial = 3
    pool = staticmethod(mean)
