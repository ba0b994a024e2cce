"""Batches: examples made by index, in batches; a stream that starts again at each pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.data.ahead import made_ahead
from fnn.data.streams import Stream

Batch: TypeAlias = Any  # x, (x, y) or (x, y, sample_weight)


class Batches(Stream):
    """Batches of examples that are made by index; a stream that starts again at each pass.

    `make(indices)` returns the batch of the examples with these numbers. With a `seed` each pass
    is in an order of its own. `batch_size=None` gives single examples. `targets` are the labels
    of all examples, where they are known without reading: `fnn.data.split` stratifies by them.

    >>> x = np.arange(5)
    >>> batches = Batches(5, lambda indices: x[indices], 2)
    >>> len(batches), [batch.tolist() for batch in batches]
    (3, [[0, 1], [2, 3], [4]])
    """

    def __init__(
        self,
        count: int,
        make: Callable[[np.ndarray], Batch],
        batch_size: int | None,
        seed: int | None = None,
        workers: int = 1,
        targets: np.ndarray | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"expected batch_size as a positive integer or None, received {batch_size!r}"
            )
        self.indices = np.arange(count)
        self.make = make
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.targets = targets
        self.passes = 0

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.indices)

    def __len__(self) -> int:
        return -(-self.count // (self.batch_size or 1))

    def __iter__(self) -> Iterator[Batch]:
        order = self.indices
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.passes])
            order = generator.permutation(order)
        self.passes += 1
        batches = self.batches_of(order)
        if self.batch_size is not None:
            return batches
        return (jax.tree.map(lambda array: array[0], batch) for batch in batches)

    def batches_of(self, order: np.ndarray) -> Iterator[Batch]:
        """The batches of the examples with these numbers, one after the other."""
        parts = cut(order, self.batch_size or 1)
        return made_ahead(self.make, parts, self.workers, 2 * self.workers)

    def subset(self, positions: Sequence[int] | np.ndarray, shuffle: bool) -> Batches:
        """The stream of some of the examples, by their positions in this one.

        >>> batches = Batches(5, lambda indices: indices**2, 2)
        >>> list(batches.subset([0, 3], shuffle=False))
        [array([0, 9])]
        """
        part = copy.copy(self)
        part.indices = self.indices[positions]
        part.passes = 0
        if self.targets is not None:
            part.targets = self.targets[positions]
        if not shuffle:
            part.seed = None
        return part


def cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """The indices in parts of `size`; the last may be smaller."""
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def seed_of(shuffle: bool, seed: int | None) -> int | None:
    """The seed of a stream; None for one that is not shuffled.

    Without one it is drawn from NumPy's own random state, which `set_random_seed` sets.
    """
    if not shuffle:
        return None
    if seed is None:
        return np.random.randint(10**6)
    return seed
