"""UpSampling1D, UpSampling2D, UpSampling3D: every position several times."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis
from fnn.core.layer import Layer, Params, State
from fnn.layers.shared.spatial import DATA_FORMATS, check_inputs, numbers, spatial_axes

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def enlarged(layer: Any, x: Array, interpolation: str = "nearest") -> Array:
    """`x` with each axis of positions as many times as long as the field `size` says."""
    axes, (size,) = spatial_axes(layer), numbers(layer, "size")
    if interpolation == "nearest":
        for axis, times in zip(axes, size, strict=True):
            x = jnp.repeat(x, times, axis=axis)
        return x
    shape = list(x.shape)
    for axis, times in zip(axes, size, strict=True):
        shape[axis] *= times
    return jax.image.resize(x, shape, interpolation)


class _UpSampling(Layer):
    spatial: ClassVar[int]

    size: int | tuple[int, ...] = per_axis(default=2)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarged(self, x), state


class UpSampling1D(_UpSampling):
    """Every step `size` times.   (batch, steps, channels) -> (batch, size * steps, channels)

    Raises ValueError for a wrong size and inputs of wrong rank.

    >>> UpSampling1D(2).apply({}, {}, jnp.arange(2.0).reshape(1, 2, 1))[0].ravel().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """

    spatial = 1


class UpSampling2D(_UpSampling):
    """Images `size` times as large.   (batch, h, w, channels) -> (batch, a h, b w, channels)

    "nearest" repeats rows and columns; the other interpolations resize as `jax.image.resize` does.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> UpSampling2D((1, 2)).apply({}, {}, jnp.ones((1, 3, 3, 1)))[0].shape
    (1, 3, 6, 1)
    """

    spatial = 2

    size: int | tuple[int, ...] = per_axis(default=(2, 2))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    interpolation: str = one_of(INTERPOLATIONS, default="nearest")

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarged(self, x, self.interpolation), state


class UpSampling3D(_UpSampling):
    """Volumes `size` times as large, by repetition.

    (batch, d, h, w, channels) -> (batch, a d, b h, c w, channels)

    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> UpSampling3D().apply({}, {}, jnp.ones((1, 2, 2, 2, 1)))[0].shape
    (1, 4, 4, 4, 1)
    """

    spatial = 3

    size: int | tuple[int, ...] = per_axis(default=(2, 2, 2))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
