"""UpSampling1D, UpSampling2D, UpSampling3D: larger inputs, by repetition or interpolation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis
from fnn.core.layer import Params, State
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    PerAxis,
    Spatial,
    numbers,
    spatial_axes,
)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def enlarged(
    layer: Spatial,
    x: Array,
    interpolation: str = "nearest",
) -> Array:
    """`x` with each axis of positions longer by the factor in the field `size`."""
    (size,) = numbers(layer, "size")
    factors = list(zip(spatial_axes(layer), size, strict=True))
    if interpolation == "nearest":
        for axis, factor in factors:
            x = jnp.repeat(x, factor, axis=axis)  # each position `factor` times
        return x
    shape = list(x.shape)
    for axis, factor in factors:
        shape[axis] *= factor
    # (batch, *new positions, channels)
    y: Array = jax.image.resize(x, shape, interpolation)
    return y


class _UpSampling(Spatial):
    size: PerAxis = per_axis(default=2)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return enlarged(self, x), state


class UpSampling1D(_UpSampling):
    """Each step `size` times in a row.

    (batch, steps, channels) -> (batch, size * steps, channels)

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

    size: PerAxis = per_axis(default=(2, 2))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    interpolation: str = one_of(INTERPOLATIONS, default="nearest")

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
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

    size: PerAxis = per_axis(default=(2, 2, 2))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
