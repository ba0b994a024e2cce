"""Context: how a layer is called, its key and mask; Masked: values with their mask."""

from __future__ import annotations

import dataclasses
import functools
import operator
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.typing import ArrayLike

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime.placement import place_like

A = TypeVar("A", Array, np.ndarray)

# A boolean array with the first axes of its values, or None if all steps are valid; for several
# inputs a tuple of these.
Mask: TypeAlias = Any


def salt(name: str) -> int:
    """An integer that depends on `name` alone, to fold into a random key."""
    return zlib.crc32(name.encode())


class NeedsKeyError(ValueError):
    """A layer draws random numbers in a call that has no key for them."""


def is_key(key: object) -> bool:
    """Whether this is a key of `jax.random`, of the new type or the old."""
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        return False
    return jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32


def check_key(key: object) -> None:
    """Raises TypeError unless `key` is a key of `jax.random` or None."""
    if key is None or hasattr(key, "dtype"):
        return
    seed = 0
    if isinstance(key, int):
        seed = key
    raise TypeError(
        f"Context(key={key!r}) has no key of jax.random; pass "
        f"Context(train=True, key=jax.random.key({seed}))"
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Context:
    """How a layer is called.

    `train`   batch statistics and dropout are on (static, so each mode is one compilation)
    `key`     the source of randomness of this call, a `jax.random.key`
    `mask`    True where a step of the inputs is valid, `(batch, time)` or more of the first axes;
              for a layer of several inputs a tuple of masks, each of which may be None
    `rows`    True where an example of the batch is valid, `(batch,)`; the others are padding
    `path`    the names of the layers around this one, outermost first (static)
    `frozen`  this layer does not learn: batch statistics are not updated (static)
    `stored`  computes with weights that are stored in eight bits, set by `Quantized` (static)
    `remat`   patterns of paths of layers whose values the backward pass computes again (static)
    `record`  layers inside put their outputs into their state, as `fnn.explain` reads them (static)

    A combinator passes `ctx.child(name)` to each child. It has no mask, since masks travel with
    the values (`Masked`).

    >>> Context(train=True).child("encoder").path
    ('encoder',)
    """

    train: bool = field(default=False, metadata={"static": True})
    key: Array | None = None
    mask: Mask = None
    rows: Array | None = None
    path: tuple[str, ...] = field(default=(), metadata={"static": True})
    frozen: bool = field(default=False, metadata={"static": True})
    stored: Any = field(default=None, metadata={"static": True})
    remat: tuple[str, ...] = field(default=(), metadata={"static": True})
    record: bool = field(default=False, metadata={"static": True})

    def child(self, name: str) -> Context:
        """The context of the child called `name`."""
        return dataclasses.replace(self, mask=None, path=(*self.path, name))

    def repeat(self, index: Array | int) -> Context:
        """The context of copy number `index` of a layer that runs several times."""
        if self.key is None:
            return self
        return self.replace(key=random.fold_in(self.key, index))

    def replace(self, **changes: Any) -> Context:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def random_key(self, purpose: str = "") -> Array:
        """A key for this layer and `purpose`.

        It depends on the path of the layer, not on how many keys were made before, so adding a
        layer never changes the randomness of another. Raises ValueError without a key.
        """
        if self.key is None:
            raise NeedsKeyError(
                "expected a key, since this layer draws random numbers in training, received "
                "Context(key=None); use Context(train=True, key=jax.random.key(0))"
            )
        check_key(self.key)
        name = "/".join((*self.path, purpose))
        return random.fold_in(self.key, salt(name))


INFERENCE = Context()


def without_gradients(params: Tree, names: tuple[str, ...]) -> Tree:
    """The weights of a layer, of which some (by path within it) get no gradient."""
    for name in names:
        path = tuple(name.split("/"))
        fixed = lax.stop_gradient(tree.get(params, path))
        params = tree.put(params, path, fixed)
    return params


class Defaults(Protocol):
    """The settings of the process that layers read."""

    floatx: str
    policy_dtype: str | None

    @property
    def channels_first(self) -> bool: ...
    @property
    def dtype_of_new_layers(self) -> str | None: ...
    def without_policy(self) -> AbstractContextManager[None]: ...


def take_defaults(layer: LayerLike, settings: Defaults) -> None:
    """Sets the fields of a new layer that it leaves to the settings of the process."""
    held = vars(layer)
    if held.get("data_format", "") is None and settings.channels_first:
        held["data_format"] = "channels_first"
    if settings.policy_dtype is None or not layer.follows_policy:
        return
    if held.get("dtype") is None:
        held["dtype"] = settings.dtype_of_new_layers


class LayerLike(Protocol):
    """The part of `Layer` that the modules below `fnn.core.layer` use."""

    @property
    def masking(self) -> str: ...
    @property
    def mixes_features(self) -> bool: ...
    @property
    def casts_inputs(self) -> bool: ...
    @property
    def follows_policy(self) -> bool: ...
    @property
    def dtype(self) -> str | None: ...
    def init(self, key: Array, x: Tree) -> tuple[Tree, Tree]: ...
    def is_example(self, params: Tree, x: Tree) -> bool: ...
    def children(self) -> tuple[tuple[str | None, LayerLike], ...]: ...


def carry_mask(x: Tree, ctx: Context) -> tuple[Tree, Context]:
    """Moves the mask of a context to the values, for a combinator to pass on."""
    if ctx.mask is None:
        return x, ctx
    if isinstance(x, (tuple, list)):
        return tuple(map(attach_mask, x, ctx.mask)), ctx.replace(mask=None)
    return attach_mask(x, ctx.mask), ctx.replace(mask=None)


def check_mask(
    layer: LayerLike,
    shape: Iterable[int],
    mask: Iterable[int],
) -> None:
    """Raises ValueError unless a mask of shape `mask` has the first axes of values of `shape`.

    It needs at least two, and not the last one if the layer mixes features. Channels in front are
    skipped.
    """
    shape = tuple(shape)
    mask = tuple(mask)
    steps = shape
    if getattr(layer, "data_format", None) == "channels_first":
        steps = shape[:1] + shape[2:]
    most = len(shape) - layer.mixes_features
    if 2 <= len(mask) <= most and mask == steps[: len(mask)]:
        return
    combine = ""
    if mask == shape:
        combine = ", by jnp.any(mask, axis=-1)"
    raise ValueError(
        f"{type(layer).__name__}: expected a mask of the first axes, (batch, time), of inputs "
        f"of shape {shape}, received a mask of shape {mask}; pass one boolean for each step, "
        f"of shape {steps[: max(2, len(shape) - 1)]}{combine}, or Unmask() the inputs"
    )


def refuse_mask(layer: LayerLike, mask: Mask) -> None:
    """Raises ValueError if there is a mask and the layer refuses masks."""
    # Leaves do not include None.
    if layer.masking == "refuse" and jax.tree.leaves(mask):
        raise ValueError(
            f"expected inputs without a mask, since {type(layer).__name__} mixes or drops time "
            "steps, received a mask (from Embedding(mask_zero=True) or Masking); use a layer "
            "that reads the mask first (LSTM, GlobalAveragePooling1D), or Unmask() to drop it"
        )


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
    return leaf.values if isinstance(leaf, Masked) else leaf


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


def activity_penalty(
    regularizer: Callable[[Array], Array],
    y: Tree,
    ctx: Context,
) -> Array:
    """The regularizer of the valid steps of `y`, averaged over the valid examples of the batch.

    Each example has the same weight, however many of its steps are valid. Without a mask this is
    Keras's definition.
    """
    total = jnp.zeros(())
    for part in jax.tree.leaves(y, is_leaf=is_masked):
        output, mask = split_mask(part)
        for valid in (ctx.rows, mask):
            if valid is not None:
                # (batch, time, 1, ...), to broadcast to the outputs
                valid = leading(valid.astype(bool), output.ndim)
                output = jnp.where(valid, output, 0)
        examples = output.shape[0]
        if ctx.rows is not None:
            examples = jnp.maximum(ctx.rows.sum(), 1)
        # In float32 at least: a sum of squares overflows in float16.
        wide = output.astype(jnp.promote_types(output.dtype, jnp.float32))
        total += regularizer(wide) / examples
    return total
