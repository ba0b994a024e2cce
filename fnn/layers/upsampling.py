"""UpSampling1D, UpSampling2D, UpSampling3D: every position several times."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def repeated(x: Array, size: tuple[int, ...], first: int) -> Array:
    """Every position of the axes from `first` on as often as `size` says."""
    for axis, times in enumerate(size, first):
        x = jnp.repeat(x, times, axis=axis)
    return x


def first_axis(layer: Any) -> int:
    """Where the positions begin: after the batch, or after the channels."""
    return 2 if layer.data_format == "channels_first" else 1


class UpSampling1D(Layer):
    """Every step `size` times.   (batch, steps, channels) -> (batch, size * steps, channels)

    Raises ValueError for a wrong size and inputs of wrong rank.

    >>> UpSampling1D(2).apply({}, {}, jnp.arange(2.0).reshape(1, 2, 1))[0].ravel().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """

    size: int | tuple[int, ...] = 2

    def validate(self) -> None:
        arguments.integers(self, "size", 1)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 3, layout="(batch, steps, channels)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return repeated(x, arguments.integers(self, "size", 1), 1), state


class UpSampling2D(Layer):
    """Images `size` times as large.   (batch, h, w, channels) -> (batch, a h, b w, channels)

    "nearest" repeats rows and columns; the other interpolations resize as `jax.image.resize` does.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> UpSampling2D((1, 2)).apply({}, {}, jnp.ones((1, 3, 3, 1)))[0].shape
    (1, 3, 6, 1)
    """

    size: int | tuple[int, ...] = (2, 2)
    data_format: str | None = None
    interpolation: str = "nearest"

    def validate(self) -> None:
        arguments.integers(self, "size", 2)
        arguments.one_of(self, "data_format", (None, "channels_last", "channels_first"))
        arguments.one_of(self, "interpolation", INTERPOLATIONS)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 4, layout="of a batch of images")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        size, first = arguments.integers(self, "size", 2), first_axis(self)
        if self.interpolation == "nearest":
            return repeated(x, size, first), state
        shape = list(x.shape)
        for axis, times in enumerate(size, first):
            shape[axis] *= times
        return jax.image.resize(x, shape, self.interpolation), state


class UpSampling3D(Layer):
    """Volumes `size` times as large, by repetition.

    (batch, d, h, w, channels) -> (batch, a d, b h, c w, channels)

    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> UpSampling3D().apply({}, {}, jnp.ones((1, 2, 2, 2, 1)))[0].shape
    (1, 4, 4, 4, 1)
    """

    size: int | tuple[int, ...] = (2, 2, 2)
    data_format: str | None = None

    def validate(self) -> None:
        arguments.integers(self, "size", 3)
        arguments.one_of(self, "data_format", (None, "channels_last", "channels_first"))

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 5, layout="of a batch of volumes")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return repeated(x, arguments.integers(self, "size", 3), first_axis(self)), state
