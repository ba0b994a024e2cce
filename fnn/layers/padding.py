"""Padding: ZeroPadding, Cropping, UpSampling: larger and smaller images."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State

Pairs = tuple[tuple[int, int], ...]


def pairs(layer: Any, argument: str, spatial: int) -> Pairs:
    """A field as (before, after) for each axis; a number stands for both sides, or for all axes."""
    value = getattr(layer, argument)
    if spatial == 1:
        value = (arguments.integers(layer, argument, 2, minimum=0),)
    elif not isinstance(value, tuple):
        value = (value,) * spatial
    if len(value) != spatial:
        raise arguments.wrong(
            layer, argument, f"to be a whole number or {spatial} numbers or pairs", value
        )
    return tuple(
        (a, b)
        for a, b in (arguments.integers(layer, argument, 2, minimum=0, value=v) for v in value)
    )


def first_axis(layer: Any) -> int:
    """Where the positions begin: after the batch, or after the channels."""
    return 2 if getattr(layer, "data_format", None) == "channels_first" else 1


def check_format(layer: Any) -> None:
    """Checks the field `data_format`."""
    arguments.one_of(layer, "data_format", (None, "channels_last", "channels_first"))


def check_images(layer: Any, x: Any, spatial: int) -> None:
    """Checks in `init` the number of axes."""
    names = ("(batch, steps, channels)", "of a batch of images", "of a batch of volumes")
    arguments.rank(layer, x, spatial + 2, layout=names[spatial - 1])


def enlarge(x: Array, first: int, edges: Pairs, sign: int = 1) -> Array:
    """`x` with zeros at the edges of the axes from `first` on; cut off where `sign` is -1."""
    config = [(0, 0, 0)] * x.ndim
    for axis, (before, after) in enumerate(edges, first):
        config[axis] = (sign * before, sign * after, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


class _ZeroPadding(Layer):
    spatial: ClassVar[int]

    padding: Any = 1
    data_format: str | None = None

    def validate(self) -> None:
        pairs(self, "padding", self.spatial)
        check_format(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_images(self, x, self.spatial)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarge(x, first_axis(self), pairs(self, "padding", self.spatial)), state


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


def check_cropping(layer: Any, x: Any, edges: Pairs) -> None:
    """Checks in `init` the number of axes, and that something remains."""
    check_images(layer, x, len(edges))
    sizes = tuple(x.shape[first_axis(layer) :][: len(edges)])
    if any(sum(edge) >= size for edge, size in zip(edges, sizes, strict=True)):
        raise ValueError(
            f"{type(layer).__name__}: expected inputs larger than cropping={layer.cropping!r}, "
            f"received {sizes} in shape {tuple(x.shape)}; do crop less"
        )


class Cropping1D(Layer):
    """Cuts off the first and last steps.

    (batch, steps, channels) -> (batch, fewer steps, channels)

    `cropping` is a number for both ends, or (first, last).
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping1D((1, 0)).apply({}, {}, jnp.ones((1, 3, 2)))[0].shape
    (1, 2, 2)
    """

    cropping: Any = (1, 1)

    def validate(self) -> None:
        pairs(self, "cropping", 1)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_cropping(self, x, pairs(self, "cropping", 1))
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarge(x, 1, pairs(self, "cropping", 1), -1), state


class _Cropping(Layer):
    spatial: ClassVar[int]

    cropping: Any = 1
    data_format: str | None = None

    def validate(self) -> None:
        pairs(self, "cropping", self.spatial)
        check_format(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_cropping(self, x, pairs(self, "cropping", self.spatial))
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return enlarge(x, first_axis(self), pairs(self, "cropping", self.spatial), -1), state


class Cropping2D(_Cropping):
    """Cuts off the edges of images.   (batch, h, w, channels) -> (batch, lower, narrower, channels)

    `cropping` is a number, (rows, columns), or ((top, bottom), (left, right)).
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((1, 5, 5, 1)))[0].shape
    (1, 4, 1, 1)
    """

    spatial = 2

    cropping: Any = ((0, 0), (0, 0))


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
