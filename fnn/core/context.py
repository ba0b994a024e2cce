"""Context: what a call needs besides weights and inputs."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass, field
from typing import Any

import jax
from jax import Array, random


def salt(name: str) -> int:
    """A number that depends on `name` alone, to fold into a random key."""
    return zlib.crc32(name.encode())


def check_key(key: Any) -> None:
    """Raises TypeError for what is no key of `jax.random`, nor None."""
    if key is not None and not hasattr(key, "dtype"):
        shown = key if isinstance(key, int) else 0
        raise TypeError(
            f"Context(key={key!r}) has no key of jax.random; pass "
            f"Context(train=True, key=jax.random.key({shown}))"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Context:
    """How a layer is called: for training or not, with which key, mask and rows.

    `train`   batch statistics and dropout are on (static, so each mode is one compilation)
    `key`     the source of randomness of this call, a `jax.random.key`
    `mask`    True where a step of the inputs is valid, `(batch, time)` or of more of their first
              axes; for a layer of several inputs a tuple of such masks, each of which may be None
    `rows`    True where a row of the batch is real, `(batch,)`; the others are padding
    `path`    the names of the layers around this one, outermost first (static)
    `frozen`  this layer does not learn: batch statistics are not updated (static)

    A combinator hands each child `ctx.child(name)`. The mask does not go along, since it
    travels with the values (`Masked`).

    >>> Context(train=True).child("encoder").path
    ('encoder',)
    """

    train: bool = field(default=False, metadata={"static": True})
    key: Array | None = None
    mask: Any = None
    rows: Array | None = None
    path: tuple[str, ...] = field(default=(), metadata={"static": True})
    frozen: bool = field(default=False, metadata={"static": True})

    def child(self, name: str) -> Context:
        """The context of the child called `name`."""
        return dataclasses.replace(self, mask=None, path=(*self.path, name))

    def repeat(self, index: Array | int) -> Context:
        """The context of copy number `index` of a layer that runs many times."""
        return (
            self
            if self.key is None
            else self.replace(key=random.fold_in(self.key, index))
        )

    def replace(self, **changes: Any) -> Context:
        """This context with some fields changed."""
        return dataclasses.replace(self, **changes)

    def random_key(self, purpose: str = "") -> Array:
        """A key for this layer and `purpose`.

        It depends on the path and not on how many keys were asked for before, so that adding a
        layer never changes the randomness of another. Raises ValueError without a key.
        """
        if self.key is None:
            raise ValueError(
                "expected a key, since this layer draws random numbers in training, received "
                "Context(key=None); use Context(train=True, key=jax.random.key(0))"
            )
        check_key(self.key)
        return random.fold_in(self.key, salt("/".join((*self.path, purpose))))


INFERENCE = Context()
