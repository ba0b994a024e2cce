"""Batches that come one by one, from an iterable, a sequence or a callable, read ahead."""

from __future__ import annotations

import contextlib
import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.training.data import Poll


class StreamData:
    """Batches from an iterable, a callable that returns one, or a sequence with a length.

    `prepare(batch)` turns what comes into arrays. Every batch is copied, so the source may use its
    buffers again. A batch smaller than the first is filled up with `remainder="pad"`, where batches
    are `(arrays, rows)`, and left out with "drop". `steps` batches make an epoch, and the next one
    goes on where it ended; None: an epoch is everything, and the next one starts over.
    """

    shuffle = False

    def __init__(
        self,
        source: Any,
        prepare: Callable[[Any], Any],
        *,
        remainder: str = "drop",
        steps: int | None = None,
    ) -> None:
        self.source, self.prepare, self.pad = source, prepare, remainder == "pad"
        self.once = isinstance(source, Iterator)
        self.steps = steps
        if steps is None and hasattr(source, "__len__"):
            self.steps = len(source)
        self.goes_on = steps is not None
        self._batches: Iterator[Any] | None = None
        self._peeked: list[Any] = []
        self._spec: Any = None
        self.batch_size = 0

    def chunk_size(self, capacity: int) -> int:
        """How many batches to wait for: what a dispatch takes."""
        return capacity

    def batch_spec(self) -> Any:
        """Shapes and dtypes of one batch, read off the first, which is not lost."""
        if self._spec is None:
            first = self._next()
            if first is None:
                raise ValueError("expected batches, received an empty stream; do check its source")
            self._peeked.append(first)
            self._spec = tree.spec(first)
            self.batch_size = len(jax.tree.leaves(first)[0])
        if not self.pad:
            return self._spec
        return self._spec, jax.ShapeDtypeStruct((self.batch_size,), np.bool_)

    def first(self) -> Any:
        """The first batch, which is not lost."""
        self.batch_spec()
        return self._peeked[0]

    def chunks(
        self, epoch: int, capacity: int, steps: int | None = None, poll: Poll | None = None
    ) -> Iterator[tuple[Any, int]]:
        """(chunk, number of real batches in it), read ahead in a thread."""
        self.batch_spec()
        with ReadAhead(self._chunks(capacity, self.steps if self.goes_on else steps)) as ahead:
            yield from ahead.items(poll)

    def _chunks(self, capacity: int, steps: int | None) -> Iterator[tuple[Any, int]]:
        done = 0
        while steps is None or done < steps:
            wanted = capacity if steps is None else min(capacity, steps - done)
            batches: list[Any] = []
            while len(batches) < wanted and (batch := self._next()) is not None:
                batches.append(self._filled(batch, done + len(batches)))
            done += len(batches)
            if batches:
                yield self._stacked(batches, capacity), len(batches)
            if len(batches) < wanted:
                self._batches = None
                if self.goes_on:
                    raise ValueError(
                        f"expected {steps} batches an epoch, received {done} and the end of the "
                        "data; do give fewer steps_per_epoch, or a stream that starts again"
                    )
                return

    def _next(self) -> Any:
        if self._peeked:
            return self._peeked.pop()
        if self._batches is None:
            self._batches = self._open()
        return next(self._batches, None)

    def _open(self) -> Iterator[Any]:
        source = self.source
        if callable(source) and not isinstance(source, Iterable) and not _is_sequence(source):
            source = source()
        items = (source[i] for i in range(len(source))) if _is_sequence(source) else iter(source)
        for number, batch in enumerate(items):
            try:
                arrays = jax.tree.map(lambda a: np.array(a, copy=True), self.prepare(batch))
            except Exception as error:
                error.add_note(f"in batch {number} of the stream")
                raise
            rows = len(jax.tree.leaves(arrays)[0])
            if not rows:
                warnings.warn(f"batch {number} of the stream is empty and left out", stacklevel=2)
            if rows and (self.pad or not self.batch_size or rows == self.batch_size):
                yield arrays
        if hasattr(source, "on_epoch_end"):
            source.on_epoch_end()

    def _filled(self, batch: Any, number: int) -> Any:
        """The batch at full size: arrays, or (arrays, rows)."""
        expected, received = tree.describe(self._spec), tree.describe(batch)
        like = lambda a: (a.shape[1:], np.dtype(a.dtype).kind)
        if jax.tree.map(like, batch) != jax.tree.map(like, self._spec):
            raise ValueError(
                f"expected batches like the first, {expected}, received {received} in batch "
                f"{number}; do give every batch the same arrays, shapes and dtypes"
            )
        count = len(jax.tree.leaves(batch)[0])
        if count > self.batch_size:
            raise ValueError(
                f"expected at most {self.batch_size} rows a batch, as in the first, received "
                f"{count} in batch {number}; do give the largest batch first"
            )

        def fill(array: Any, spec: Any) -> Any:
            full = np.zeros((self.batch_size, *array.shape[1:]), spec.dtype)
            full[:count] = array
            return full

        arrays = jax.tree.map(fill, batch, self._spec)
        return (arrays, np.arange(self.batch_size) < count) if self.pad else arrays

    def _stacked(self, batches: list[Any], capacity: int) -> Any:
        filling = [batches[0]] * (capacity - len(batches))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches, *filling)
        return jax.device_put(stacked)


def _is_sequence(source: Any) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


class ReadAhead:
    """Runs an iterator in a thread, a few items ahead; closed when the `with` block is left."""

    def __init__(self, iterator: Iterator[Any], depth: int = 2) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(iterator,), daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join(timeout=1)

    def items(self, poll: Poll | None = None) -> Iterator[Any]:
        """The items, in order; an exception of the iterator is raised here."""
        while True:
            if poll is not None:
                poll()
            with contextlib.suppress(queue.Empty):
                kind, value = self._queue.get(timeout=0.1)
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value

    def _work(self, iterator: Iterator[Any]) -> None:
        try:
            for item in iterator:
                if not self._put("item", item):
                    return
            self._put("end", None)
        except BaseException as error:  # handed to the thread that reads
            self._put("error", error)

    def _put(self, kind: str, value: Any) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((kind, value), timeout=0.1)
                return True
        return False
