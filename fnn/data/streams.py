"""Streams: the methods of tf.data that programs call on the datasets of `keras.utils`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeAlias

import numpy as np

Batch: TypeAlias = Any  # x, (x, y) or (x, y, sample_weight)


class Stream:
    """An iterable of batches, from which others are made: mapped, shortened, kept in memory.

    A subclass defines `__iter__` and `__len__`, the number of batches.
    """

    def __iter__(self) -> Iterator[Batch]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def map(self, function: Callable[..., Batch], **ignored: object) -> Derived:
        """The stream of `function(x, y)` for each batch `(x, y)`, called as the batch is read.

        `num_parallel_calls` and `deterministic` of tf.data have no effect.
        """

        def mapped() -> Iterator[Batch]:
            for batch in self:
                if isinstance(batch, tuple):
                    yield function(*batch)
                else:
                    yield function(batch)

        return Derived(mapped, len(self))

    def take(self, count: int) -> Derived:
        """The stream of the first `count` batches; -1 takes all."""
        count = len(self) if count < 0 else min(count, len(self))
        return Derived(lambda: itertools.islice(self, count), count)

    def skip(self, count: int) -> Derived:
        """The stream without the first `count` batches."""
        left = max(len(self) - count, 0)
        return Derived(lambda: itertools.islice(self, count, None), left)

    def cache(self) -> Derived:
        """The stream of the batches of the first pass, kept in memory from then on."""
        kept: list[Batch] = []

        def cached() -> Iterator[Batch]:
            if not kept:
                kept.extend(self)
            return iter(kept)

        return Derived(cached, len(self))

    def shuffle(
        self, buffer_size: int, seed: int | None = None, **_: object
    ) -> Derived:
        """The batches in an order of its own for each pass, out of `buffer_size` at a time."""
        rng = np.random.default_rng(seed)

        def shuffled() -> Iterator[Batch]:
            buffer: list[Batch] = []
            for batch in self:
                buffer.append(batch)
                if len(buffer) >= buffer_size:
                    yield buffer.pop(rng.integers(len(buffer)))
            yield from (buffer[i] for i in rng.permutation(len(buffer)))

        return Derived(shuffled, len(self))

    def prefetch(self, buffer_size: int | None = None) -> Self:
        """The stream itself: `fit` reads ahead."""
        return self


class Derived(Stream):
    """The stream of the batches that `start()` yields at each pass.

    >>> numbers = Derived(lambda: iter([1, 2, 3]), 3)
    >>> list(numbers.map(lambda x: x * x).take(2)), len(numbers.skip(1))
    ([1, 4], 2)
    """

    def __init__(self, start: Callable[[], Iterator[Batch]], count: int) -> None:
        self._start = start
        self._count = count

    def __iter__(self) -> Iterator[Batch]:
        return self._start()

    def __len__(self) -> int:
        return self._count
