"""Context: how a layer is called: its key, its mask, its place in the network."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import tree
from fnn.core.masks import (
    Mask,
    attach_mask,
    is_masked,
    leading,
    split_mask,
)
from fnn.core.tree import Tree


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
        params = tree.put(params, path, lax.stop_gradient(tree.get(params, path)))
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
