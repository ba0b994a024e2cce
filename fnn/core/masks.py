"""Masks: which time steps of values are valid; Masked: values with their mask."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from fnn.core.tree import Tree
from fnn.runtime.placement import place_like

A = TypeVar("A", Array, np.ndarray)

# A boolean array with the first axes of its values, or None if all steps are valid; for several
# inputs a tuple of these.
Mask: TypeAlias = Any


def _operator(
    function: Callable[[Tree, Tree], Tree], reflected: bool = False
) -> Callable[[Masked, object], Masked]:
    """The method of an operator: a step of the result is valid if it is in both operands."""

    def method(self: Masked, other: object) -> Masked:
        values, mask = other, None
        if is_masked(other):
            values, mask = other.values, other.mask
        operands = (self.values, values)
        if reflected:
            operands = (values, self.values)
        return Masked(function(*operands), combine_masks((self.mask, mask)))

    return method


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked:
    """Values `(batch, time, ...)` with `mask` `(batch, time)`, True where a step is valid.

    A mask has the first axes of its values, at least two: for values
    `(batch, sentences, words, features)` a mask `(batch, sentences, words)` marks the valid words.
    `Masked` is a pytree, so it passes through every JAX transform; `+`, `-`, `*` and `/` keep the
    mask. `Embedding(mask_zero=True)` and `Masking` return it and combinators pass it on; a leaf
    layer receives plain values and reads the mask from `ctx.mask`; losses and metrics count only
    the valid steps.

    Layers that treat steps one by one (`Dense`) compute the masked ones too, as Keras does. The
    values there have no effect if they are finite, but NaN would reach the gradient of the
    weights (0 * NaN): replace it first, with `jnp.where(mask[..., None], x, 0)`.

    >>> Masked(jnp.ones((1, 2, 3)), jnp.array([[True, False]])).shape
    (1, 2, 3)
    """

    values: Tree
    mask: Mask

    __add__ = _operator(operator.add)
    __radd__ = _operator(operator.add, reflected=True)
    __sub__ = _operator(operator.sub)
    __rsub__ = _operator(operator.sub, reflected=True)
    __mul__ = _operator(operator.mul)
    __rmul__ = _operator(operator.mul, reflected=True)
    __truediv__ = _operator(operator.truediv)
    __rtruediv__ = _operator(operator.truediv, reflected=True)

    def __neg__(self) -> Masked:
        return Masked(-self.values, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.values.shape
        return shape

    @property
    def dtype(self) -> jnp.dtype:
        dtype: jnp.dtype = self.values.dtype
        return dtype


def is_masked(x: object) -> TypeGuard[Masked]:
    """Whether `x` is a `Masked` (for `is_leaf`)."""
    return isinstance(x, Masked)


def split_mask(x: Tree) -> tuple[Tree, Mask]:
    """The plain values of `x` and their masks: `(values, mask or tuple of masks or None)`."""
    if isinstance(x, Masked):
        return x.values, x.mask
    if isinstance(x, (tuple, list)) and any(map(is_masked, x)):
        values, masks = zip(*map(split_mask, x), strict=True)
        return values, masks
    return x, None


def strip_masks(x: Tree) -> Tree:
    """`x` with every `Masked` in it replaced by its values."""
    return jax.tree.map(_values_of, x, is_leaf=is_masked)


def _values_of(leaf: Tree) -> Tree:
    if isinstance(leaf, Masked):
        return leaf.values
    return leaf


def attach_mask(x: Tree, mask: Mask) -> Tree:
    """`Masked(x, mask)`; `x` itself if there is no mask."""
    if mask is None:
        return x
    return Masked(x, mask)


def leading(mask: A, ndim: int) -> A:
    """A mask of the first axes with further axes of length 1, `ndim` axes in all.

    >>> leading(jnp.ones((2, 3), bool), 4).shape
    (2, 3, 1, 1)
    """
    further = (1,) * (ndim - mask.ndim)
    return mask.reshape(*mask.shape, *further)


def combine_masks(masks: Iterable[Array | None]) -> Array | None:
    """The positions that are valid in every mask; None if there is no mask.

    A mask of fewer axes than another holds for all positions along the further ones.
    """
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    axes = max(mask.ndim for mask in known)
    aligned = (leading(mask, axes) for mask in known)
    return functools.reduce(jnp.logical_and, aligned)


def first_axes(mask: Array | None, axes: int) -> Array | None:
    """The mask of the first `axes`: a position is valid if any step at it is valid.

    >>> first_axes(jnp.array([[[True, False], [False, False]]]), 2).tolist()
    [[True, False]]
    """
    if mask is None or mask.ndim <= axes:
        return mask
    return mask.any(tuple(range(axes, mask.ndim)))


def mask_over(
    mask: Mask,
    x: Array,
    axes: int,
) -> Array:
    """`mask` broadcast to the first `axes` of `x`; all True without a mask."""
    valid: ArrayLike = True
    if mask is not None:
        valid = leading(mask, axes)
    return place_like(jnp.broadcast_to(valid, x.shape[:axes]), x)


def joined_mask(masks: Mask, shape: tuple[int, ...]) -> Array | None:
    """The mask of outputs of `shape`, to which several inputs of equal rank broadcast."""
    if not isinstance(masks, tuple):
        masks = (masks,)
    mask = combine_masks(masks)
    if mask is None:
        return None
    return jnp.broadcast_to(mask, shape[: mask.ndim])
