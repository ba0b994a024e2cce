"""Arrays as chunks of equal batches on the device, shuffled by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree

Poll = Callable[[], None]
GATHERED_BYTES = 2**24  # so much is gathered ahead of the steps that use it
RESIDENT_BYTES = 2**30  # arrays up to this size stay on the device for the whole of fit


class ArrayData:
    """Arrays with a common number of rows, cut into batches; shuffled anew each epoch.

    `remainder="pad"`: the last batch is filled up and batches are `(arrays, rows)`, `rows` False
    where a row is filling. `remainder="drop"`: batches are the arrays; rows that do not fill a
    batch are left out (other ones each epoch).
    """

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        *,
        shuffle: Any = False,
        seed: Any = 0,
        remainder: str = "drop",
    ) -> None:
        if not isinstance(shuffle, (bool, np.bool_)) and shuffle != "batch":
            raise ValueError(
                f'expected shuffle as True, False or "batch", received {shuffle!r}; do e.g. '
                "shuffle=True"
            )
        leaves = jax.tree.leaves(arrays)
        self.count = len(leaves[0])
        self.pad = remainder == "pad"
        self.batch_size = batch_size if self.pad else min(batch_size, self.count)
        self.steps = (
            -(-self.count // self.batch_size) if self.pad else self.count // self.batch_size
        )
        self.shuffle, self.seed = shuffle, seed
        self.resident = tree.nbytes(arrays) <= RESIDENT_BYTES
        self.arrays = jax.tree.map(_own_copy, arrays) if self.resident else arrays

    def chunk_size(self, capacity: int) -> int:
        """How many batches to gather at once: what a dispatch takes, more if they are small.

        Fewer if they are large, or if there are not so many (up to a power of two, so that data of
        another length seldom needs another compilation).
        """
        batch = tree.nbytes(self.arrays) * self.batch_size // max(self.count, 1)
        fitting = max(GATHERED_BYTES // max(batch, 1), 1)
        return min(max(capacity, 8), fitting, 1 << (self.steps - 1).bit_length())

    def batch_spec(self) -> Any:
        """Shapes and dtypes of one batch."""
        spec = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((self.batch_size, *a.shape[1:]), a.dtype), self.arrays
        )
        return (spec, jax.ShapeDtypeStruct((self.batch_size,), np.bool_)) if self.pad else spec

    def order(self, number: int) -> np.ndarray:
        """The rows in the order of this pass over them. It depends on seed and number alone."""
        if not self.shuffle:
            return np.arange(self.count)
        generator = np.random.default_rng([*np.atleast_1d(self.seed).tolist(), number])
        if self.shuffle == "batch":
            whole = self.count // self.batch_size * self.batch_size
            blocks = generator.permutation(np.arange(whole).reshape(-1, self.batch_size))
            return np.concatenate([blocks.reshape(-1), np.arange(whole, self.count)])
        return generator.permutation(self.count)

    def chunks(
        self, epoch: int, capacity: int, steps: int | None = None, poll: Poll | None = None
    ) -> Iterator[tuple[Any, int]]:
        """(chunk, number of real batches in it): `capacity` batches stacked along a first axis.

        An epoch of `steps` batches goes on where the last one ended; passes over the rows follow
        each other, each in its own order.
        """
        total = steps or self.steps
        indices = self._indices(epoch * total)
        for first in range(0, total, capacity):
            count = min(capacity, total - first)
            found = [next(indices) for _ in range(count)]
            found += [(found[0][0], np.zeros(self.batch_size, bool))] * (capacity - count)
            index, rows = map(np.stack, zip(*found, strict=True))
            chunk = (_take if self.resident else _take_on_host)(self.arrays, index)
            yield ((chunk, rows) if self.pad else chunk), count

    def _indices(self, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows of each batch from this one on, and which of them are real."""
        number, within = divmod(batch, self.steps)
        while True:
            order = self.order(number).astype(np.int32)
            for first in range(
                within * self.batch_size, self.steps * self.batch_size, self.batch_size
            ):
                index = order[first : first + self.batch_size]
                real = len(index)
                filling = np.zeros(self.batch_size - real, np.int32)
                yield np.concatenate([index, filling]), np.arange(self.batch_size) < real
            number, within = number + 1, 0


def key_numbers(key: Any) -> list[int]:
    """The numbers of a random key, for the seed of the shuffling."""
    return [int(n) for n in np.asarray(jax.random.key_data(key)).reshape(-1)]


def _own_copy(array: Any) -> Any:
    """A device array that shares no memory with the caller's: what he changes later is not seen."""
    if isinstance(array, jax.Array):
        return array
    return jax.device_put(np.array(array, copy=True, order="C"))


@jax.jit
def _take(arrays: Any, index: Any) -> Any:
    return jax.tree.map(lambda a: jnp.take(a, index, axis=0, mode="clip"), arrays)


def _take_on_host(arrays: Any, index: np.ndarray) -> Any:
    return jax.device_put(jax.tree.map(lambda a: np.asarray(a)[index], arrays))
