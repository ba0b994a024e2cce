"""Padding: ZeroPadding and Cropping, which add and cut off positions at the edges."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Params, State
from fnn.core.tree import SpecTree
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    Spatial,
    spatial_axes,
)

# One number, or one or two for each axis: `field_rules` check what an annotation cannot say.
Edges: TypeAlias = Any
Pairs: TypeAlias = tuple[tuple[int, int], ...]


def pairs(layer: Spatial, argument: str) -> Pairs:
    """The value of a field as (before, after) for each axis of positions.

    One number stands for both sides of an axis, or for all axes.
    """
    value = getattr(layer, argument)
    if layer.spatial == 1:  # two numbers are the two sides of the only axis
        value = (value,)
    elif not isinstance(value, tuple):
        value = (value,) * layer.spatial
    if len(value) != layer.spatial:
        expected = f"to be an integer or {layer.spatial} numbers or pairs"
        raise arguments.wrong(layer, argument, expected, value)
    edges = []
    for item in value:
        before, after = arguments.integers(layer, argument, 2, minimum=0, value=item)
        edges.append((before, after))
    return tuple(edges)


def enlarge(
    layer: Spatial,
    x: Array,
    edges: Pairs,
    sign: int = 1,
) -> Array:
    """`x` with zeros added at the edges of its positions, or with edges cut off (`sign` -1)."""
    config = [(0, 0, 0)] * x.ndim
    for axis, (before, after) in zip(spatial_axes(layer), edges, strict=True):
        config[axis] = (sign * before, sign * after, 0)
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, config)  # (batch, *new positions, channels)


def _remains(layer: Spatial, x: SpecTree) -> bool:
    sizes = [x.shape[axis] for axis in spatial_axes(layer)]
    cut = map(sum, pairs(layer, "cropping"))
    return all(size > count for size, count in zip(sizes, cut, strict=True))


class _ZeroPadding(Spatial):
    field_rules = (functools.partial(pairs, argument="padding"),)

    padding: Edges = 1
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
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
    """Zeros around images.   (batch, h, w, channels) -> (batch, new h, new w, channels)

    `padding` is a number, (rows, columns), or ((top, bottom), (left, right)).
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> ZeroPadding2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((1, 3, 3, 1)))[0].shape
    (1, 4, 7, 1)
    """

    spatial = 2

    padding: Edges = (1, 1)


class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    `padding` is a number, three numbers, or three pairs.
    Raises ValueError for wrong arguments and inputs of wrong rank.

    >>> ZeroPadding3D().apply({}, {}, jnp.ones((1, 2, 2, 2, 1)))[0].shape
    (1, 4, 4, 4, 1)
    """

    spatial = 3

    padding: Edges = ((1, 1), (1, 1), (1, 1))


class _Cropping(Spatial):
    field_rules = (functools.partial(pairs, argument="cropping"),)
    input_rules = (
        Rule("inputs", _remains, "larger than cropping={self.cropping!r}", "crop less"),
    )

    cropping: Edges = (1, 1)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
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
    """Cuts off the edges of images.   (batch, h, w, channels) -> (batch, new h, new w, channels)

    `cropping` is a number, (rows, columns), or ((top, bottom), (left, right)).
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping2D(((1, 0), (2, 2))).apply({}, {}, jnp.ones((1, 5, 5, 1)))[0].shape
    (1, 4, 1, 1)
    """

    spatial = 2

    cropping: Edges = ((0, 0), (0, 0))
    data_format: str | None = one_of(DATA_FORMATS, default=None)


class Cropping3D(_Cropping):
    """Cuts off the edges of volumes.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, channels)

    `cropping` is a number, three numbers, or three pairs.
    Raises ValueError for wrong arguments, inputs of wrong rank, and if nothing remains.

    >>> Cropping3D().apply({}, {}, jnp.ones((1, 3, 4, 5, 1)))[0].shape
    (1, 1, 2, 3, 1)
    """

    spatial = 3

    cropping: Edges = ((1, 1), (1, 1), (1, 1))
    data_format: str | None = one_of(DATA_FORMATS, default=None)
