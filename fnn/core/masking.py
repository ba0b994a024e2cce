"""Masked: values and the mask that travels with them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.context import Context
from fnn.runtime.placement import place_like


def _operator(function: Callable[[Any, Any], Any], reflected: bool = False) -> Any:
    """The method for an operator: a step of the result is valid where it is in both operands."""

    def method(self: Masked, other: Any) -> Masked:
        theirs, mask = (other.values, other.mask) if is_masked(other) else (other, None)
        operands = (theirs, self.values) if reflected else (self.values, theirs)
        return Masked(function(*operands), combine_masks((self.mask, mask)))

    return method


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked:
    """Values `(batch, time, ...)` with `mask` `(batch, time)`, True where a step is valid.

    A mask has the first axes of its values, two at least: `(batch, sentences, words)` beside values
    `(batch, sentences, words, features)` says which words are valid.
    A pytree, so it passes through every JAX transform; `+`, `-`, `*` and `/` keep the mask.
    `Embedding(mask_zero=True)` and `Masking` return it; combinators carry it on; a leaf layer gets
    plain values and finds the mask in `ctx.mask`; losses and metrics count only the real steps.

    Layers that treat steps one by one (`Dense`) compute the masked ones too, as Keras does: any
    number may stand there and reaches nothing, but NaN would reach the gradient of their weights
    (0 * NaN). Where there may be some, put numbers: `jnp.where(mask[..., None], x, 0)`.

    >>> Masked(jnp.ones((1, 2, 3)), jnp.array([[True, False]])).shape
    (1, 2, 3)
    """

    values: Any
    mask: Any

    __add__, __radd__ = _operator(operator.add), _operator(operator.add, True)
    __sub__, __rsub__ = _operator(operator.sub), _operator(operator.sub, True)
    __mul__, __rmul__ = _operator(operator.mul), _operator(operator.mul, True)
    __truediv__, __rtruediv__ = (
        _operator(operator.truediv),
        _operator(operator.truediv, True),
    )

    def __neg__(self) -> Masked:
        return Masked(-self.values, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> Any:
        return self.values.dtype


def is_masked(x: Any) -> bool:
    """Whether `x` is a `Masked` (for `is_leaf`)."""
    return isinstance(x, Masked)


def split_mask(x: Any) -> tuple[Any, Any]:
    """The plain values of `x` and their masks: `(values, mask or tuple of masks or None)`."""
    if isinstance(x, Masked):
        return x.values, x.mask
    if isinstance(x, (tuple, list)) and any(map(is_masked, x)):
        pairs = [split_mask(item) for item in x]
        return tuple(value for value, _ in pairs), tuple(mask for _, mask in pairs)
    return x, None


def strip_masks(x: Any) -> Any:
    """`x` with every `Masked` in it replaced by its values."""
    return jax.tree.map(lambda a: a.values if is_masked(a) else a, x, is_leaf=is_masked)


def attach_mask(x: Any, mask: Array | None) -> Any:
    """`Masked(x, mask)`, or `x` as it is if there is no mask."""
    return x if mask is None else Masked(x, mask)


def carry_mask(x: Any, ctx: Context) -> tuple[Any, Context]:
    """Moves a mask given by the context onto the values, where a combinator carries it."""
    if ctx.mask is None:
        return x, ctx
    if isinstance(x, (tuple, list)):
        return tuple(map(attach_mask, x, ctx.mask)), ctx.replace(mask=None)
    return attach_mask(x, ctx.mask), ctx.replace(mask=None)


def check_mask(layer: Any, shape: Any, mask: Any) -> None:
    """Raises ValueError unless a mask of shape `mask` has the first axes of values of this shape.

    Two at least, all but the last at most where the layer mixes features; channels are left out.
    """
    shape, mask = tuple(shape), tuple(mask)
    steps = (
        shape[:1] + shape[2:]
        if getattr(layer, "data_format", 0) == "channels_first"
        else shape
    )
    most = len(shape) - layer.mixes_features
    if len(mask) < 2 or mask != steps[: len(mask)] or len(mask) > most:
        combined = ", by jnp.any(mask, axis=-1)" if mask == shape else ""
        raise ValueError(
            f"{type(layer).__name__}: expected a mask of the first axes, (batch, time), of inputs "
            f"of shape {shape}, received a mask of shape {mask}; pass one boolean for each step, "
            f"of shape {steps[: max(2, len(shape) - 1)]}{combined}, or Unmask() the inputs"
        )


def leading(mask: Any, ndim: int) -> Any:
    """A mask over the first axes, with further axes of length 1 up to `ndim`.

    >>> leading(jnp.ones((2, 3), bool), 4).shape
    (2, 3, 1, 1)
    """
    return mask.reshape(*mask.shape, *(1,) * (ndim - mask.ndim))


def combine_masks(masks: Any) -> Array | None:
    """The positions that every mask in `masks` calls valid; None where there is no mask at all.

    A mask of fewer axes than another holds for all positions along the further ones.
    """
    known = [mask for mask in masks if mask is not None]
    axes = max((mask.ndim for mask in known), default=0)
    aligned = (leading(mask, axes) for mask in known)
    return functools.reduce(jnp.logical_and, aligned) if known else None


def first_axes(mask: Any, axes: int) -> Any:
    """`mask` over its first `axes` alone; a position is valid if anything in it is.

    >>> first_axes(jnp.array([[[True, False], [False, False]]]), 2).tolist()
    [[True, False]]
    """
    further = tuple(range(axes, 0 if mask is None else mask.ndim))
    return mask.any(further) if further else mask


def mask_over(mask: Any, x: Any, axes: int) -> Array:
    """`mask` for all positions along the first `axes` of `x`; without one, all are valid."""
    valid = True if mask is None else leading(mask, axes)
    return place_like(jnp.broadcast_to(valid, x.shape[:axes]), x)


def joined_mask(masks: Any, shape: tuple[int, ...]) -> Array | None:
    """The mask of outputs of `shape` that several inputs of as many axes spread over."""
    mask = combine_masks(masks if isinstance(masks, tuple) else (masks,))
    return None if mask is None else jnp.broadcast_to(mask, shape[: mask.ndim])
