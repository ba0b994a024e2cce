"""Pooling: the maximum or the mean of each window."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis
from fnn.core.layer import Params, State
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    WINDOW_FITS,
    PerAxis,
    Shape,
    Spatial,
    lowest,
    numbers,
    reduce_axis,
    spatial_axes,
)
from fnn.runtime.arithmetic import floating
from fnn.runtime.placement import along

Pads: TypeAlias = tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """The windows along the axes of positions; each field has an entry for each axis."""

    axes: Shape
    sizes: Shape
    strides: Shape
    pads: Pads


class Reduction(NamedTuple):
    """How the values of a window become one."""

    fill: float  # the value of padding
    combine: Callable[[Array, Array], Array]  # two values
    reduce: Callable[..., Array]  # a whole axis


def paddings(
    sizes: Shape,
    window: Shape,
    strides: Shape,
    padding: str,
) -> Pads:
    """The padding before and after each axis; "same" adds an odd position at the end.

    >>> paddings((5, 6), (2, 3), (2, 3), "same")
    ((0, 1), (0, 0))
    """
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    pads = []
    for n, k, s in zip(sizes, window, strides, strict=True):
        outputs = -(-n // s)  # rounded up
        covered = (outputs - 1) * s + k
        total = max(covered - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def reduce_windows(x: Array, windows: Windows, reduction: Reduction) -> Array:
    """Each window reduced to one value.   (..., *positions, ...) -> (..., *windows, ...)

    The forward pass is one `lax.reduce_window`, which fuses with the convolution before it. Windows
    that do not overlap have a derivative of their own: that of `reduce_window` for a maximum is a
    scatter, six times slower on CPU.
    """
    pairs = zip(windows.strides, windows.sizes, strict=True)
    if all(stride >= size for stride, size in pairs):
        return _reduce_windows_apart(x, windows, reduction)
    return _reduce_windows(x, windows, reduction)


def _reduce_windows(x: Array, windows: Windows, reduction: Reduction) -> Array:
    sizes = [1] * x.ndim
    strides = [1] * x.ndim
    pads = [(0, 0)] * x.ndim
    for axis, size, stride, pad in zip(*windows, strict=True):
        sizes[axis] = size
        strides[axis] = stride
        pads[axis] = pad
    # A NumPy scalar, since JAX differentiates this reduction only for a known constant.
    empty = np.asarray(reduction.fill, x.dtype)
    y: Array = lax.reduce_window(x, empty, reduction.combine, sizes, strides, pads)
    return y


_reduce_windows_apart = jax.custom_jvp(_reduce_windows, nondiff_argnums=(1, 2))


@_reduce_windows_apart.defjvp
def _reduce_windows_apart_jvp(
    windows: Windows,
    reduction: Reduction,
    primals: tuple[Array],
    tangents: tuple[Array],
) -> tuple[Array, Array]:
    by_axes = functools.partial(_reduce_as_axes, windows=windows, reduction=reduction)
    return jax.jvp(by_axes, primals, tangents)


def _reduce_as_axes(x: Array, windows: Windows, reduction: Reduction) -> Array:
    """Each window reduced to one value, for windows that do not overlap.

    An axis of positions becomes an axis of windows and one of the positions in a window, which is
    reduced.
    """
    empty = np.asarray(reduction.fill, x.dtype)
    along_axes = list(zip(*windows, strict=True))
    for axis, size, stride, (before, after) in reversed(along_axes):
        length = x.shape[axis]
        count = (before + length + after - size) // stride + 1
        edges = [(0, 0, 0)] * x.ndim
        # Positions after the last window are cut off; a last window shorter than the stride is
        # filled up.
        edges[axis] = (before, count * stride - before - length, 0)
        x = lax.pad(x, empty, edges)  # (..., count * stride, ...)
        before_axis = x.shape[:axis]
        after_axis = x.shape[axis + 1 :]
        x = x.reshape(*before_axis, count, stride, *after_axis)
        x = lax.slice_in_dim(x, 0, size, axis=axis + 1)  # (..., count, size, ...)
        x = reduce_axis(x, axis + 1, reduction.combine, reduction.reduce)
    return x


def max_windows(
    x: Array,
    axes: range,
    window: Shape,
    strides: Shape,
    padding: str,
) -> Array:
    """The largest value in each window; padding never is."""
    sizes = tuple(x.shape[axis] for axis in axes)
    pads = paddings(sizes, window, strides, padding)
    windows = Windows(tuple(axes), window, strides, pads)
    reduction = Reduction(lowest(x), lax.max, jnp.max)
    return reduce_windows(x, windows, reduction)


def average_windows(
    x: Array,
    axes: range,
    window: Shape,
    strides: Shape,
    padding: str,
) -> Array:
    """The mean of the values in each window; padding is not counted.

    Summed in float32 at least: a long sum in half precision loses the last terms.
    """
    x = floating(x)
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    sizes = tuple(x.shape[axis] for axis in axes)
    pads = paddings(sizes, window, strides, padding)
    windows = Windows(tuple(axes), window, strides, pads)
    reduction = Reduction(0, lax.add, jnp.sum)
    total = reduce_windows(x, windows, reduction)  # (..., *windows, ...)
    if padding == "valid":
        return (total / math.prod(window)).astype(dtype)
    # How many values, and not padding, each window has: the product of the counts along the axes.
    count = jnp.ones([1] * x.ndim, total.dtype)
    for n, (axis, k, s, (before, _)) in zip(
        sizes, zip(*windows, strict=True), strict=True
    ):
        start = jnp.arange(total.shape[axis]) * s - before  # (windows,)
        stop = jnp.minimum(start + k, n)
        inside = stop - jnp.maximum(start, 0)
        inside = inside.astype(count.dtype)
        count = count * along(inside, x.ndim, axis)
    return (total / count).astype(dtype)


class _Pooling(Spatial):
    window_field = "pool_size"
    input_rules = (WINDOW_FITS,)

    pool: ClassVar[
        Callable[..., Array]
    ]  # (x, axes, window, strides, padding) -> outputs

    pool_size: PerAxis = per_axis()
    strides: PerAxis | None = per_axis(default=None)
    padding: str = one_of(("valid", "same"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        (window,) = numbers(self, "pool_size")
        strides = window
        if self.strides is not None:
            (strides,) = numbers(self, "strides")
        axes = spatial_axes(self)
        y = type(self).pool(x, axes, window, strides, self.padding)
        return y, state  # (batch, *windows, channels)


class MaxPooling1D(_Pooling):
    """The largest value in each window of `pool_size` steps.

    (batch, steps, channels) -> (batch, new steps, channels)

    `strides` None is `pool_size`. Steps at the end that do not fill a window are left out by
    "valid" and make a shorter window with "same". Equal largest values share the gradient (Keras
    gives it to one).
    Raises ValueError for wrong arguments, and for inputs of wrong rank or shorter than a window.

    >>> x = jnp.array([1.0, 5.0, 2.0, 3.0, 9.0]).reshape(1, 5, 1)
    >>> MaxPooling1D(2).apply({}, {}, x)[0].ravel().tolist()
    [5.0, 3.0]
    """

    spatial = 1
    pool = staticmethod(max_windows)

    pool_size: PerAxis = per_axis(default=2)


class MaxPooling2D(_Pooling):
    """The largest value in each window of an image.

    (batch, h, w, channels) -> (batch, new h, new w, channels)

    `strides` None is `pool_size`. Rows and columns at the end that do not fill a window are left
    out by "valid" and make a smaller window with "same". Equal largest values share the gradient
    (Keras gives it to one).
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> MaxPooling2D(2).apply({}, {}, jnp.arange(16.0).reshape(1, 4, 4, 1))[0].ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """

    spatial = 2
    pool = staticmethod(max_windows)

    pool_size: PerAxis = per_axis(default=(2, 2))


class MaxPooling3D(_Pooling):
    """The largest value in each window of a volume.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    As `MaxPooling2D`, with one axis more.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> MaxPooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].item()
    7.0
    """

    spatial = 3
    pool = staticmethod(max_windows)

    pool_size: PerAxis = per_axis(default=(2, 2, 2))


class AveragePooling1D(_Pooling):
    """The mean of each window of `pool_size` steps.

    (batch, steps, channels) -> (batch, new steps, channels)

    With "same", padding is not counted: a window over the edge is the mean of the values inside.
    Integers give float32.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or shorter than a window.

    >>> x = jnp.array([0.0, 1.0, 2.0]).reshape(1, 3, 1)
    >>> AveragePooling1D(2, padding="same")(x).ravel().tolist()
    [0.5, 2.0]
    """

    spatial = 1
    pool = staticmethod(average_windows)


class AveragePooling2D(_Pooling):
    """The mean of each window of an image.

    (batch, h, w, channels) -> (batch, new h, new w, channels)

    With "same", padding is not counted: a window over the edge is the mean of the values inside.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> AveragePooling2D(2).apply({}, {}, jnp.arange(4.0).reshape(1, 2, 2, 1))[0].item()
    1.5
    """

    spatial = 2
    pool = staticmethod(average_windows)


class AveragePooling3D(_Pooling):
    """The mean of each window of a volume.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    With "same", padding is not counted: a window over the edge is the mean of the values inside.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> AveragePooling3D(2).apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].item()
    3.5
    """

    spatial = 3
    pool = staticmethod(average_windows)
