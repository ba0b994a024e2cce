"""Batches that come one by one, from an iterable, a sequence or a callable, read ahead."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.runtime.thread_settings import ThreadSettings
from fnn.runtime.warning import sent_to, warn
from fnn.training.data import Poll, lies_on_several


class StreamData:
    """Batches from an iterable, a callable that returns one, or a sequence with a length.

    `prepare(batch)` turns what comes into arrays. Every batch is copied, so the source may use its
    buffers again. A batch smaller than the first is filled up with `remainder="pad"`, where batches
    are `(arrays, rows)`, and left out with "drop". `steps` batches make a pass; None: everything.
    With `goes_on` a pass starts where the last one ended, and the source is opened again whenever
    it comes to its end; else each pass starts from the beginning. An iterator cannot start over.
    Where `apart` (of the spec of a batch) is True a batch smaller than the first comes as a chunk
    of its own, not filled.
    """

    shuffle = False

    def __init__(
        self,
        source: Any,
        prepare: Callable[[Any], Any],
        *,
        remainder: str = "drop",
        steps: int | None = None,
        goes_on: bool = False,
        apart: Callable[[Any], bool] = lambda spec: False,
    ) -> None:
        self.source, self.prepare, self.pad = source, prepare, remainder == "pad"
        self.once, self.apart = isinstance(source, Iterator), apart
        self.wanted, self.goes_on = steps, goes_on and steps is not None
        self.steps = steps
        if steps is None and hasattr(source, "__len__"):
            self.steps = len(source)
        self._batches: Iterator[Any] | None = None
        self._peeked: list[Any] = []
        self._spec: Any = None
        self.batch_size = self.room = 0  # room: as in `ArrayData`

    def chunk_size(self, capacity: int) -> int:
        """How many batches to wait for: what a dispatch takes."""
        return capacity

    def batch_spec(self) -> Any:
        """Shapes and dtypes of one batch, read off the first, which is not lost."""
        if self._spec is None:
            first = self._next()
            if first is None:
                raise ValueError(
                    "expected batches, received an empty stream; check its source"
                )
            if not lies_on_several(first):
                first = jax.tree.map(lambda a: np.array(a, copy=True), first)
            self._peeked.append(first)
            self._spec = tree.spec(first)
            self.batch_size = self.room = len(jax.tree.leaves(first)[0])
        if not self.pad:
            return self._spec
        return tree.resized(self._spec, self.room), jax.ShapeDtypeStruct(
            (self.room,), np.bool_
        )

    def first(self) -> Any:
        """The first batch, which is not lost."""
        self.batch_spec()
        return self._peeked[0]

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
    ) -> Iterator[tuple[Any, int]]:
        """(chunk, number of real batches in it), read ahead in a thread."""
        self.batch_spec()
        with ReadAhead(self._chunks(capacity, self.wanted or steps)) as ahead:
            for chunk, count in ahead.items(poll):
                # Made here, since `apart` may look at a model, which is not for two threads.
                yield (
                    (self._of_one(chunk.batch, capacity) if count == 0 else chunk),
                    count or 1,
                )

    def _chunks(self, capacity: int, steps: int | None) -> Iterator[tuple[Any, int]]:
        done, ended, failure = 0, False, None
        while not ended and (steps is None or done < steps):
            wanted = capacity if steps is None else min(capacity, steps - done)
            chunk, count, alone = self._empty(capacity), 0, None
            while count < wanted and not ended and alone is None:
                try:
                    batch = self._next(anew=self.goes_on and not self.once)
                    if batch is not None:
                        batch = self._alike(batch, done + count)
                except Exception as error:  # the batches before it count
                    batch, failure = None, error
                ended = batch is None
                if batch is not None and (
                    tree.batch_size(batch) < self.batch_size or lies_on_several(batch)
                ):
                    alone = batch
                elif batch is not None:
                    self._write(batch, chunk, count)
                    count += 1
            if count:
                done += count
                yield jax.device_put(chunk), count
            if alone is not None:
                done += 1
                yield _Alone(jax.tree.map(_kept, alone)), 0
        if failure is not None:
            raise failure
        if not self.goes_on:
            self._rewind()
        if ended and self.wanted:
            raise ValueError(
                f"expected {steps} batches in a pass, received {done} and the end of the data; "
                "ask for fewer steps, or give a stream that starts again"
            )

    def _rewind(self) -> None:
        """Lets the next pass start from the beginning; an iterator goes on, it cannot do else."""
        if self.wanted is None and self._batches is not None:
            next(self._batches, None)  # nothing comes, but the source sees its end
        if not self.once:
            self._batches = None

    def _next(self, anew: bool = False) -> Any:
        """The next batch, None at the end; with `anew` that of a source that starts over."""
        if self._peeked:
            return self._peeked.pop()
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches, None)
        if batch is None and anew:
            self._batches = None
            return self._next()
        return batch

    def _open(self) -> Iterator[Any]:
        source = self.source
        if (
            callable(source)
            and not isinstance(source, Iterable)
            and not _is_sequence(source)
        ):
            source = source()
        items = (
            (source[i] for i in range(len(source)))
            if _is_sequence(source)
            else iter(source)
        )
        for number, batch in enumerate(items):
            try:
                arrays = self.prepare(batch)
            except Exception as error:
                error.add_note(f"in batch {number} of the stream")
                raise
            rows = len(jax.tree.leaves(arrays)[0])
            if not rows:
                warn(f"batch {number} of the stream is empty and left out")
            if rows and (self.pad or not self.batch_size or rows == self.batch_size):
                yield arrays
        if hasattr(source, "on_epoch_end"):
            source.on_epoch_end()

    def _empty(self, capacity: int) -> Any:
        """Zeros for `capacity` batches of full size: arrays, or (arrays, rows)."""
        return jax.tree.map(
            lambda s: np.zeros((capacity, *s.shape), s.dtype), self.batch_spec()
        )

    def _alike(self, batch: Any, number: int) -> Any:
        """`batch` in the dtypes of the first. Raises ValueError if it is not like that one."""
        like = lambda a: a.shape[1:]
        structures: list[Any] = [jax.tree.structure(a) for a in (batch, self._spec)]
        if structures[0] != structures[1] or jax.tree.map(like, batch) != jax.tree.map(
            like, self._spec
        ):
            raise self._unlike(batch, number)
        count = tree.batch_size(batch)
        if count > self.batch_size:
            raise ValueError(
                f"batch {number} of the stream holds {count} examples and the first held "
                f"{self.batch_size}; give the largest batch first"
            )

        def cast(a: Any, spec: Any) -> Any:
            if a.dtype == spec.dtype:
                return a
            a = np.asarray(a)
            with np.errstate(all="ignore"):
                converted = a.astype(spec.dtype)
            floats = all(jnp.issubdtype(d, jnp.floating) for d in (a.dtype, spec.dtype))
            kept = (
                np.isfinite(converted) | ~np.isfinite(a) if floats else converted == a
            )
            if not kept.all():
                raise self._unlike(batch, number)
            return converted

        return jax.tree.map(cast, batch, self._spec)

    def _unlike(self, batch: Any, number: int) -> ValueError:
        return ValueError(
            f"batch {number} of the stream is {tree.describe(batch)} and the first was "
            f"{tree.describe(self._spec)}; give every batch the same arrays, shapes and dtypes"
        )

    def _of_one(self, batch: Any, capacity: int) -> Any:
        """A chunk of one batch: as it lies on devices, at its own size, or padded."""
        if lies_on_several(batch) or self.apart(self.batch_spec()):
            whole = (
                (batch, np.ones(tree.batch_size(batch), np.bool_))
                if self.pad
                else batch
            )
            return jax.tree.map(lambda a: a[None], whole)
        chunk = self._empty(capacity)
        self._write(batch, chunk, 0)
        return chunk

    def _write(self, batch: Any, chunk: Any, at: int) -> None:
        """Copies a batch to its place in a chunk: what the source does to it then is not seen.

        It is filled up with copies of an example, from which nothing odd is computed.
        """
        arrays, rows = chunk if self.pad else (chunk, None)
        count = tree.batch_size(batch)
        for whole, part in zip(
            jax.tree.leaves(arrays), jax.tree.leaves(batch), strict=True
        ):
            whole[at, :count] = part
            whole[at, count:] = part[:1]
        if rows is not None:
            rows[at, :count] = True


class _Alone(NamedTuple):
    """A batch that is a chunk by itself."""

    batch: Any


def _kept(array: Any) -> Any:
    """A copy of an array that its source may change; what lies on several devices stays there."""
    return array if lies_on_several(array) else np.array(array, copy=True)


def _is_sequence(source: Any) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


class ReadAhead:
    """Runs an iterator in a thread, a few items ahead; closed when the `with` block is left.

    There the settings of JAX are those of the thread that made this, which says the warnings.
    """

    def __init__(self, iterator: Iterator[Any], depth: int = 2) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._stop, self._settings = threading.Event(), ThreadSettings()
        self._thread = threading.Thread(
            target=self._work, args=(iterator,), daemon=True
        )

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
                if kind == "warning":
                    warn(value)
                else:
                    yield value

    def _work(self, iterator: Iterator[Any]) -> None:
        try:
            with (
                self._settings.applied(),
                sent_to(lambda text: self._put("warning", text)),
            ):
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
