"""Padding: ZeroPadding and Cropping: larger and smaller images."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.layers.shared.spatial import DATA_FORMATS, check_inputs, spatial_axes

Pairs = tuple[tuple[int, int], ...]


def pairs(layer: Any, argument: str) -> Pairs:
    """A field as (before, after) for each axis; a number stands for both sides, or for all axes."""
    value, spatial = getattr(layer, argument), layer.spatial
    if spatial == 1:
        value = (arguments.integers(layer, argument, 2, minimum=0),)
    elif not isinstance(value, tuple):
        value = (value,) * spatial
    if len(value) != spatial:
        raise arguments.wrong(
            layer, argument, f"to be an integer or {spatial} numbers or pairs", value
        )
    return tuple(
        (a, b)
        for a, b in (
            arguments.integers(layer, argument, 2, minimum=0, value=v) for v in value
        )
    )


def enlarge(layer: Any, x: Array, edges: Pairs, sign: int = 1) -> Array:
    """`x` with zeros at the edges of its positions; cut off where `sign` is -1."""
    config = [(0, 0, 0)] * x.ndim
    for axis, (before, after) in zip(spatial_axes(layer), edges, strict=True):
        config[axis] = (sign * before, sign * after, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


class _ZeroPadding(Layer):
    spatial: ClassVar[int]

    padding: Any = 1
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def validate(self) -> None:
        pairs(self, "padding")

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarge(self, x, pairs(self, "padding")), state


class ZeroPadding1D(_ZeroPadding):
    """Zeros before and after the steps.   (batch, steps, channels) -> (batch, more steps, channels)

    `padding` is a number for both ends, or (before, after).
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> ZeroPadding1D((2, 1)).apply({}, {}, jnp.ones((1, 3, 2)))[0].shape
    (1, 6, 2)
    """

    spatial = 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images.   (batch, h, w, channels) -> (batch, taller, wider, channels)

    `padding` is a number, (rows, columns), or ((top, bottom), (left, right)).
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> ZeroPadding2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((1, 3, 3, 1)))[0].shape
    (1, 4, 7, 1)
    """

    spatial = 2

    padding: Any = (1, 1)


class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes.

    (batch, d, h, w, channels) -> (batch, deeper, taller, wider, channels)

    `padding` is a number, three numbers, or three pairs.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> ZeroPadding3D().apply({}, {}, jnp.ones((1, 2, 2, 2, 1)))[0].shape
    (1, 4, 4, 4, 1)
    """

    spatial = 3

    padding: Any = ((1, 1), (1, 1), (1, 1))


class _Cropping(Layer):
    spatial: ClassVar[int]

    cropping: Any = (1, 1)

    def validate(self) -> None:
        pairs(self, "cropping")

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        sizes = tuple(x.shape[axis] for axis in spatial_axes(self))
        edges = pairs(self, "cropping")
        if any(sum(edge) >= size for edge, size in zip(edges, sizes, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: expected inputs larger than cropping={self.cropping!r}, "
                f"received {sizes} in shape {tuple(x.shape)}; crop less"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarge(self, x, pairs(self, "cropping"), -1), state


class Cropping1D(_Cropping):
    """Cuts off the first and last steps.

    (batch, steps, channels) -> (batch, fewer steps, channels)

    `cropping` is a number for both ends, or (first, last).
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping1D((1, 0)).apply({}, {}, jnp.ones((1, 3, 2)))[0].shape
    (1, 2, 2)
    """

    spatial = 1


class Cropping2D(_Cropping):
    """Cuts off the edges of images.   (batch, h, w, channels) -> (batch, lower, narrower, channels)

    `cropping` is a number, (rows, columns), or ((top, bottom), (left, right)).
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((1, 5, 5, 1)))[0].shape
    (1, 4, 1, 1)
    """

    spatial = 2

    cropping: Any = ((0, 0), (0, 0))
    data_format: str | None = one_of(DATA_FORMATS, default=None)


class Cropping3D(_Cropping):
    """Cuts off the edges of volumes.

    (batch, d, h, w, channels) -> (batch, less of each, channels)

    `cropping` is a number, three numbers, or three pairs.
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping3D().apply({}, {}, jnp.ones((1, 3, 4, 5, 1)))[0].shape
    (1, 1, 2, 3, 1)
    """

    spatial = 3

    cropping: Any = ((1, 1), (1, 1), (1, 1))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
