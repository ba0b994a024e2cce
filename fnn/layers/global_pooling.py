"""Global pooling: the maximum or the mean of all positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Params, State
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    Spatial,
    channel_axis,
    lowest,
    spatial_axes,
)


def global_max(
    x: Array,
    axes: tuple[int, ...],
    keepdims: bool,
    mask: Array | None,
) -> Array:
    """The largest valid value along `axes`; 0 if none is valid.

    `mask` is True where a value is valid and broadcasts to x.
    """
    if mask is None:
        return jnp.max(x, axes, keepdims=keepdims)
    largest = jnp.max(
        x,
        axes,
        keepdims=keepdims,
        initial=lowest(x),
        where=mask,
    )
    any_valid = jnp.any(mask, axes, keepdims=keepdims)
    return jnp.where(any_valid, largest, jnp.zeros_like(largest))


def global_average(
    x: Array,
    axes: tuple[int, ...],
    keepdims: bool,
    mask: Array | None,
) -> Array:
    """The mean of the valid values along `axes`; 0 if none is valid."""
    if mask is None:
        return jnp.mean(x, axes, keepdims=keepdims)
    # Sums and counts are at least in float32: bfloat16 cannot count to 300.
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    count = jnp.sum(mask, axes, dtype=jnp.float32, keepdims=keepdims)
    total = jnp.sum(x, axes, dtype=dtype, keepdims=keepdims, where=mask)
    mean = total / jnp.maximum(count, 1)
    if jnp.issubdtype(x.dtype, jnp.floating):
        mean = mean.astype(x.dtype)
    return mean


class _GlobalPooling(Spatial):
    pool: ClassVar[Callable[..., Array]]  # (x, axes, keepdims, mask) -> outputs

    data_format: str | None = one_of(DATA_FORMATS, default=None)
    keepdims: bool = False

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        mask = ctx.mask
        if mask is not None:
            mask = jnp.expand_dims(mask, channel_axis(self))  # (batch, steps, 1)
        axes = tuple(spatial_axes(self))
        # (batch, *positions, channels) -> (batch, channels)
        return type(self).pool(x, axes, self.keepdims, mask), state


class GlobalMaxPooling1D(_GlobalPooling):
    """The maximum over the valid steps.   (batch, steps, channels) -> (batch, channels)

    Masked steps are left out (not in Keras); if no step is valid the result is 0.
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling1D().apply({}, {}, jnp.arange(6.0).reshape(1, 3, 2))[0].tolist()
    [[4.0, 5.0]]
    """

    masking = "use"
    mixes_features = True
    spatial = 1
    pool = staticmethod(global_max)


class GlobalMaxPooling2D(_GlobalPooling):
    """The maximum over all positions of an image.   (batch, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling2D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[6.0, 7.0]]
    """

    spatial = 2
    pool = staticmethod(global_max)


class GlobalMaxPooling3D(_GlobalPooling):
    """The maximum over all positions of a volume.   (batch, d, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].tolist()
    [[7.0]]
    """

    spatial = 3
    pool = staticmethod(global_max)


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over the valid steps.   (batch, steps, channels) -> (batch, channels)

    Masked steps are left out and not counted; if no step is valid the result is 0.
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling1D().apply({}, {}, jnp.arange(6.0).reshape(1, 3, 2))[0].tolist()
    [[2.0, 3.0]]
    """

    masking = "use"
    mixes_features = True
    spatial = 1
    pool = staticmethod(global_average)


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean over all positions of an image.   (batch, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling2D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[3.0, 4.0]]
    """

    spatial = 2
    pool = staticmethod(global_average)


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean over all positions of a volume.   (batch, d, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].tolist()
    [[3.5]]
    """

    spatial = 3
    pool = staticmethod(global_average)
