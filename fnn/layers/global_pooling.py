"""Global pooling: the maximum or the mean of all positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    channel_axis,
    check_inputs,
    lowest,
    spatial_axes,
)


def global_max(
    x: Array, axes: tuple[int, ...], keepdims: bool, mask: Array | None
) -> Array:
    """The largest real value along `axes`; 0 where nothing is real."""
    if mask is None:
        return jnp.max(x, axes, keepdims=keepdims)
    largest = jnp.max(x, axes, keepdims=keepdims, initial=lowest(x), where=mask)
    return jnp.where(
        jnp.any(mask, axes, keepdims=keepdims), largest, jnp.zeros_like(largest)
    )


def global_average(
    x: Array, axes: tuple[int, ...], keepdims: bool, mask: Array | None
) -> Array:
    """The mean of the real values along `axes`; 0 where nothing is real."""
    if mask is None:
        return jnp.mean(x, axes, keepdims=keepdims)
    count = jnp.sum(mask, axes, dtype=jnp.float32, keepdims=keepdims)
    total = jnp.sum(
        x,
        axes,
        dtype=jnp.promote_types(x.dtype, jnp.float32),
        keepdims=keepdims,
        where=mask,
    )
    mean = total / jnp.maximum(count, 1)  # in float32: bfloat16 cannot count to 300
    return mean.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else mean


class _GlobalPooling(Layer):
    spatial: ClassVar[int]
    pool: ClassVar[Callable[..., Array]]

    data_format: str | None = one_of(DATA_FORMATS, default=None)
    keepdims: bool = False

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        mask = (
            None if ctx.mask is None else jnp.expand_dims(ctx.mask, channel_axis(self))
        )
        return type(self).pool(x, tuple(spatial_axes(self)), self.keepdims, mask), state


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest of all real steps.   (batch, steps, channels) -> (batch, channels)

    Masked steps are left out (Keras counts them); where no step is real the result is 0.
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling1D().apply({}, {}, jnp.arange(6.0).reshape(1, 3, 2))[0].tolist()
    [[4.0, 5.0]]
    """

    masking = "use"
    mixes_features = True
    spatial, pool = 1, staticmethod(global_max)


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest of all positions of an image.   (batch, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling2D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[6.0, 7.0]]
    """

    spatial, pool = 2, staticmethod(global_max)


class GlobalMaxPooling3D(_GlobalPooling):
    """The largest of all positions of a volume.   (batch, d, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalMaxPooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].tolist()
    [[7.0]]
    """

    spatial, pool = 3, staticmethod(global_max)


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of all real steps.   (batch, steps, channels) -> (batch, channels)

    Masked steps are left out and not counted; where no step is real the result is 0.
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling1D().apply({}, {}, jnp.arange(6.0).reshape(1, 3, 2))[0].tolist()
    [[2.0, 3.0]]
    """

    masking = "use"
    mixes_features = True
    spatial, pool = 1, staticmethod(global_average)


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of all positions of an image.   (batch, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling2D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2))[0].tolist()
    [[3.0, 4.0]]
    """

    spatial, pool = 2, staticmethod(global_average)


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean of all positions of a volume.   (batch, d, h, w, channels) -> (batch, channels)

    `keepdims=True` gives (batch, 1, 1, 1, channels).
    Raises ValueError for a wrong `data_format` or inputs of wrong rank.

    >>> GlobalAveragePooling3D().apply({}, {}, jnp.arange(8.0).reshape(1, 2, 2, 2, 1))[0].tolist()
    [[3.5]]
    """

    spatial, pool = 3, staticmethod(global_average)
