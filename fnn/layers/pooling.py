"""Pooling: the maximum or the mean of each window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.core.arithmetic import floating
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis
from fnn.core.layer import Layer, Params, State, along
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    check_inputs,
    lowest,
    numbers,
    reduce_axis,
    spatial_axes,
)


def paddings(
    sizes: tuple[int, ...],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
) -> list[tuple[int, int]]:
    """What is added before and after each axis; "same" adds one more after where uneven.

    >>> paddings((5, 6), (2, 3), (2, 3), "same")
    [(0, 1), (0, 0)]
    """
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0)
        for n, k, s in zip(sizes, window, strides, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def reduce_windows(
    x: Array,
    axes: range,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    pads: list[tuple[int, int]],
    fill: Any,
    combine: Any,
    reduce: Any,
) -> Array:
    """`combine` over the windows along `axes`, with `fill` in the padding.

    Forward it is one `lax.reduce_window`, which fuses with the convolution before it. Windows that
    do not overlap are differentiated as an axis of their own: the transpose of `reduce_window` for
    a maximum is a scatter, six times slower on CPU.
    """
    apart = all(s >= k for s, k in zip(strides, window, strict=True))
    reduce_all = _reduce_windows_apart if apart else _reduce_windows
    return reduce_all(
        x, tuple(axes), window, strides, tuple(pads), fill, combine, reduce
    )


def _reduce_windows(
    x: Array,
    axes: Any,
    window: Any,
    strides: Any,
    pads: Any,
    fill: Any,
    combine: Any,
    reduce: Any,
) -> Array:
    full: Any = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
    for axis, *values in zip(axes, window, strides, pads, strict=True):
        for row, value in zip(full, values, strict=True):
            row[axis] = value
    # NumPy's scalar, since JAX differentiates this reduction only if it knows a constant.
    return lax.reduce_window(x, np.asarray(fill, x.dtype), combine, *full)


_reduce_windows_apart = jax.custom_jvp(
    _reduce_windows, nondiff_argnums=tuple(range(1, 8))
)


@_reduce_windows_apart.defjvp
def _derivative_apart(*given: Any) -> tuple[Array, Array]:
    *settings, primals, tangents = given
    return jax.jvp(lambda x: _reduce_as_axes(x, *settings), primals, tangents)


def _reduce_as_axes(
    x: Array,
    axes: Any,
    window: Any,
    strides: Any,
    pads: Any,
    fill: Any,
    combine: Any,
    reduce: Any,
) -> Array:
    """Windows that do not overlap, each along an axis of its own."""
    empty = np.asarray(fill, x.dtype)
    along = list(zip(axes, window, strides, pads, strict=True))
    for axis, size, stride, (before, after) in reversed(along):
        length = x.shape[axis]
        count = (before + length + after - size) // stride + 1
        edges = [(0, 0, 0)] * x.ndim
        # A remainder is cut off; a last window without the rest of its stride is filled up.
        edges[axis] = (before, count * stride - before - length, 0)
        x = lax.pad(x, empty, edges)
        x = x.reshape(*x.shape[:axis], count, stride, *x.shape[axis + 1 :])
        x = lax.slice_in_dim(x, 0, size, axis=axis + 1)
        x = reduce_axis(x, axis + 1, combine, reduce)
    return x


def max_windows(
    x: Array, axes: range, window: Any, strides: Any, padding: str
) -> Array:
    """The largest value in each window; padding never wins."""
    pads = paddings(tuple(x.shape[axis] for axis in axes), window, strides, padding)
    return reduce_windows(x, axes, window, strides, pads, lowest(x), lax.max, jnp.max)


def average_windows(
    x: Array, axes: range, window: Any, strides: Any, padding: str
) -> Array:
    """The mean of the real values in each window: padding is not counted.

    Summed in float32 at least: a sum of many in half precision loses the last ones.
    """
    dtype = floating(x).dtype
    x = floating(x).astype(jnp.promote_types(dtype, jnp.float32))
    sizes = tuple(x.shape[axis] for axis in axes)
    pads = paddings(sizes, window, strides, padding)
    total = reduce_windows(x, axes, window, strides, pads, 0, lax.add, jnp.sum)
    if padding == "valid":
        return (total / math.prod(window)).astype(dtype)
    count = jnp.ones([1] * x.ndim, total.dtype)
    for axis, n, k, s, (before, _) in zip(
        axes, sizes, window, strides, pads, strict=True
    ):
        start = jnp.arange(total.shape[axis]) * s - before
        real = jnp.minimum(start + k, n) - jnp.maximum(start, 0)
        count = count * along(real.astype(count.dtype), x.ndim, axis)
    return (total / count).astype(dtype)


class _Pooling(Layer):
    spatial: ClassVar[int]
    pool: ClassVar[Callable[..., Array]]  # of each window

    pool_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] | None = per_axis(default=None)
    padding: str = one_of(("valid", "same"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        (window,) = numbers(self, "pool_size")
        check_inputs(self, x, window if self.padding == "valid" else (), "pool_size")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        strides = "pool_size" if self.strides is None else "strides"
        sizes = numbers(self, "pool_size", strides)
        return type(self).pool(x, spatial_axes(self), *sizes, self.padding), state


class MaxPooling1D(_Pooling):
    """The largest of each `pool_size` steps.

    (batch, steps, channels) -> (batch, new steps, channels)

    `strides` is `pool_size` if None. Steps that fill no window are left out with "valid", and fill
    a shorter one with "same". Equal largest values share the gradient (Keras gives it to one).
    Raises ValueError for wrong arguments, and for inputs of wrong rank or shorter than a window.

    >>> x = jnp.array([1.0, 5.0, 2.0, 3.0, 9.0]).reshape(1, 5, 1)
    >>> MaxPooling1D(2).apply({}, {}, x)[0].ravel().tolist()
    [5.0, 3.0]
    """

    spatial, pool = 1, staticmethod(max_windows)

    pool_size: int | tuple[int, ...] = per_axis(default=2)


class MaxPooling2D(_Pooling):
    """The largest of each window of an image.

    (batch, h, w, channels) -> (batch, new h, new w, channels)

    `strides` is `pool_size` if None. Rows and columns that fill no window are left out with
    "valid", and fill a smaller one with "same". Equal largest values share the gradient (Keras
    gives it to one).
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> MaxPooling2D(2).apply({}, {}, jnp.arange(16.0).reshape(1, 4, 4, 1))[0].ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """

    spatial, pool = 2, staticmethod(max_windows)

    pool_size: int | tuple[int, ...] = per_axis(default=(2, 2))


class MaxPooling3D(_Pooling):
    """The largest of each window of a volume.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    As `MaxPooling2D`, with one axis more.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> MaxPooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].item()
    7.0
    """

    spatial, pool = 3, staticmethod(max_windows)

    pool_size: int | tuple[int, ...] = per_axis(default=(2, 2, 2))


class AveragePooling1D(_Pooling):
    """The mean of each `pool_size` steps.

    (batch, steps, channels) -> (batch, new steps, channels)

    With "same", a window over the edge is the mean of the values that it has: padding is not
    counted. Integers come out as float32.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or shorter than a window.

    >>> x = jnp.array([0.0, 1.0, 2.0]).reshape(1, 3, 1)
    >>> AveragePooling1D(2, padding="same").apply({}, {}, x)[0].ravel().tolist()
    [0.5, 2.0]
    """

    spatial, pool = 1, staticmethod(average_windows)


class AveragePooling2D(_Pooling):
    """The mean of each window of an image.

    (batch, h, w, channels) -> (batch, new h, new w, channels)

    With "same", a window over the edge is the mean of the values that it has.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> AveragePooling2D(2).apply({}, {}, jnp.arange(4.0).reshape(1, 2, 2, 1))[0].item()
    1.5
    """

    spatial, pool = 2, staticmethod(average_windows)


class AveragePooling3D(_Pooling):
    """The mean of each window of a volume.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    With "same", a window over the edge is the mean of the values that it has.
    Raises ValueError for wrong arguments, and for inputs of wrong rank or smaller than a window.

    >>> AveragePooling3D(2).apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].item()
    3.5
    """

    spatial, pool = 3, staticmethod(average_windows)
