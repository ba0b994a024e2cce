"""Context: how a layer is called: for training or not, with which random key and mask."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import jax
from jax import Array, random

from fnn.core.tree import Tree

# A boolean array with the first axes of its values, or None if all steps are valid; for several
# inputs a tuple of these.
Mask: TypeAlias = Any


def salt(name: str) -> int:
    """An integer that depends on `name` alone, to fold into a random key."""
    return zlib.crc32(name.encode())


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
            raise ValueError(
                "expected a key, since this layer draws random numbers in training, received "
                "Context(key=None); use Context(train=True, key=jax.random.key(0))"
            )
        check_key(self.key)
        name = "/".join((*self.path, purpose))
        return random.fold_in(self.key, salt(name))


INFERENCE = Context()


class LayerLike(Protocol):
    """The part of `Layer` that the modules below `fnn.core.layer` use."""

    @property
    def masking(self) -> str: ...
    @property
    def mixes_features(self) -> bool: ...
    @property
    def dtype(self) -> str | None: ...
    def init(self, key: Array, x: Tree) -> tuple[Tree, Tree]: ...
    def is_example(self, params: Tree, x: Tree) -> bool: ...
    def children(self) -> tuple[tuple[str | None, LayerLike], ...]: ...
