"""Batches that come one by one, from an iterable, a sequence or a callable, read ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.runtime.warning import warn
from fnn.training.data import Poll, is_on_several_devices
from fnn.training.read_ahead import ReadAhead

Source: TypeAlias = Any  # an iterable, a callable that returns one, or a sequence


def _never(spec: SpecTree) -> bool:
    return False


class Chunk(NamedTuple):
    """Batches stacked along a first axis; or one batch alone, not stacked."""

    arrays: Tree
    batches: int
    is_alone: bool = False


class StreamData:
    """Batches from an iterable, a callable that returns one, or a sequence with a length.

    `prepare(batch)` turns an item of the source into arrays. Every batch is copied, so
    the source may reuse its buffers. A batch smaller than the first is padded with
    `remainder="pad"`, where batches are `(arrays, valid)`, and left out with "drop". A
    pass has `steps` batches, or all if None. With `continues` a pass starts where the last
    one ended, and the source is reopened whenever it ends; else each pass starts from the
    beginning. An iterator cannot restart. If `apart` (of the spec of a batch) is True, a
    batch smaller than the first is a chunk of its own, without padding.
    """

    shuffle = False

    def __init__(
        self,
        source: Source,
        prepare: Callable[[Any], Tree],
        *,
        remainder: str = "drop",
        steps: int | None = None,
        continues: bool = False,
        apart: Callable[[SpecTree], bool] = _never,
    ) -> None:
        self.source = source
        self.prepare = prepare
        self.pad = remainder == "pad"
        self.apart = apart
        self.once = isinstance(source, Iterator)
        self.wanted = steps
        self.continues = continues and steps is not None
        self.steps = steps
        if steps is None and hasattr(source, "__len__"):
            self.steps = len(source)
        self.batch_size = 0
        self.room = 0  # the padded size of a batch, as in `ArrayData`
        self._batches: Iterator[Tree] | None = None
        self._peeked: list[Tree] = []
        self._spec: SpecTree = None

    def chunk_size(self, capacity: int) -> int:
        """How many batches to wait for: as many as a dispatch takes."""
        return capacity

    def batch_spec(self) -> SpecTree:
        """Shapes and dtypes of one batch, those of the first, which is still returned later."""
        if self._spec is None:
            self._peek()
        if not self.pad:
            return self._spec
        valid = array_spec((self.room,), np.bool_)
        return tree.resized(self._spec, self.room), valid

    def _peek(self) -> None:
        """Reads the first batch, and takes the shapes and dtypes from it."""
        first = self._next()
        if first is None:
            raise ValueError(
                "expected batches, received an empty stream; check its source"
            )
        if not is_on_several_devices(first):
            first = jax.tree.map(_copy, first)
        self._peeked.append(first)
        self._spec = tree.spec(first)
        self.batch_size = tree.batch_size(first)
        self.room = self.batch_size

    def first(self) -> Tree:
        """The first batch, which is still returned later."""
        self.batch_spec()
        return self._peeked[0]

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
    ) -> Generator[tuple[Tree, int]]:
        """(chunk, its number of batches), read ahead in a thread."""
        self.batch_spec()
        with ReadAhead(self._chunks(capacity, self.wanted or steps)) as ahead:
            for chunk in ahead.items(poll):
                arrays = chunk.arrays
                if chunk.is_alone:
                    # Not in the thread: `apart` may look at a model, which is not
                    # thread-safe.
                    arrays = self._chunk_of_one(arrays, capacity)
                yield arrays, chunk.batches

    def _chunks(self, capacity: int, steps: int | None) -> Iterator[Chunk]:
        """The chunks of a pass. An error of the source is raised after those before it."""
        done = 0
        ended = False
        failure: Exception | None = None
        while not ended and (steps is None or done < steps):
            wanted = capacity
            if steps is not None:
                wanted = min(capacity, steps - done)
            arrays = self._empty(capacity)
            count = 0
            alone: Tree = None
            while count < wanted and not ended and alone is None:
                try:
                    batch = self._next_alike(done + count)
                except Exception as error:
                    batch = None
                    failure = error
                if batch is None:
                    ended = True
                elif self._stands_alone(batch):
                    alone = batch
                else:
                    self._write(batch, arrays, count)
                    count += 1
            if count:
                done += count
                yield Chunk(jax.device_put(arrays), count)
            if alone is not None:
                done += 1
                yield Chunk(jax.tree.map(_own, alone), 1, is_alone=True)

        if failure is not None:
            raise failure
        if not self.continues:
            self._rewind()
        if ended and self.wanted:
            raise ValueError(
                f"expected {steps} batches in a pass, received {done} and the end of the "
                "data; pass fewer steps, or a stream that restarts"
            )

    def _stands_alone(self, batch: Tree) -> bool:
        """Whether a batch is not stacked with others."""
        return tree.batch_size(batch) < self.batch_size or is_on_several_devices(batch)

    def _rewind(self) -> None:
        """Lets the next pass start from the beginning; an iterator can only continue."""
        if self.wanted is None and self._batches is not None:
            # Nothing comes, but the source reaches its end: `on_epoch_end` is called.
            next(self._batches, None)
        if not self.once:
            self._batches = None

    def _next_alike(self, number: int) -> Tree:
        """The next batch of a pass, in the dtypes of the first; None at the end."""
        batch = self._next(reopen=self.continues and not self.once)
        if batch is None:
            return None
        return self._alike(batch, number)

    def _next(self, reopen: bool = False) -> Tree:
        """The next batch, None at the end; with `reopen` the source then starts over."""
        if self._peeked:
            return self._peeked.pop()
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches, None)
        if batch is None and reopen:
            self._batches = None
            return self._next()
        return batch

    def _open(self) -> Iterator[Tree]:
        """The batches of the source as arrays, from the beginning."""
        source = self.source
        is_iterable = isinstance(source, Iterable) or _is_sequence(source)
        if callable(source) and not is_iterable:
            source = source()
        for number, batch in enumerate(_items(source)):
            try:
                arrays = self.prepare(batch)
            except Exception as error:
                error.add_note(f"in batch {number} of the stream")
                raise
            size = len(jax.tree.leaves(arrays)[0])
            if not size:
                warn(f"batch {number} of the stream is empty and left out")
                continue
            if self.pad or not self.batch_size or size == self.batch_size:
                yield arrays
        if hasattr(source, "on_epoch_end"):
            source.on_epoch_end()

    def _empty(self, capacity: int) -> Tree:
        """Zeros for `capacity` batches of full size: arrays, or (arrays, valid)."""

        def zeros(spec: jax.ShapeDtypeStruct) -> np.ndarray:
            return np.zeros((capacity, *spec.shape), spec.dtype)

        return jax.tree.map(zeros, self.batch_spec())

    def _alike(self, batch: Tree, number: int) -> Tree:
        """`batch` in the dtypes of the first. Raises ValueError if it differs otherwise."""
        if _shapes_of_examples(batch) != _shapes_of_examples(self._spec):
            raise self._unlike(batch, number)
        count = tree.batch_size(batch)
        if count > self.batch_size:
            raise ValueError(
                f"batch {number} of the stream holds {count} examples and the first held "
                f"{self.batch_size}; give the largest batch first"
            )

        def cast(array: Any, spec: jax.ShapeDtypeStruct) -> Any:
            if array.dtype == spec.dtype:
                return array
            converted = _converted(np.asarray(array), spec.dtype)
            if converted is None:
                raise self._unlike(batch, number)
            return converted

        return jax.tree.map(cast, batch, self._spec)

    def _unlike(self, batch: Tree, number: int) -> ValueError:
        return ValueError(
            f"batch {number} of the stream is {tree.describe(batch)} and the first was "
            f"{tree.describe(self._spec)}; give every batch the same arrays, shapes and "
            "dtypes"
        )

    def _chunk_of_one(self, batch: Tree, capacity: int) -> Tree:
        """A chunk of one batch: as it is on devices, at its own size, or padded."""
        if not is_on_several_devices(batch) and not self.apart(self.batch_spec()):
            chunk = self._empty(capacity)
            self._write(batch, chunk, 0)
            return chunk
        if self.pad:
            batch = batch, np.ones(tree.batch_size(batch), np.bool_)
        return jax.tree.map(lambda a: a[None], batch)  # (1, examples, ...)

    def _write(self, batch: Tree, chunk: Tree, position: int) -> None:
        """Copies a batch into a chunk, so that the source may reuse its memory.

        Padding is a copy of an example: no NaN or infinity is computed from it.
        """
        arrays = chunk
        if self.pad:
            arrays, valid = chunk
            valid[position, : tree.batch_size(batch)] = True
        count = tree.batch_size(batch)
        pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(batch), strict=True)
        for whole, part in pairs:
            whole[position, :count] = part
            whole[position, count:] = part[:1]


def _items(source: Source) -> Iterator[Any]:
    if _is_sequence(source):
        return (source[i] for i in range(len(source)))
    return iter(source)


def _is_sequence(source: Source) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def _shapes_of_examples(batch: Tree) -> tuple[Any, list[tuple[int, ...]]]:
    """The structure of a batch, and the shapes of its leaves without the first axis."""
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, [leaf.shape[1:] for leaf in leaves]


def _converted(array: np.ndarray, dtype: Any) -> np.ndarray | None:
    """The array in another dtype; None if values do not fit."""
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    if jnp.issubdtype(array.dtype, jnp.floating) and jnp.issubdtype(
        dtype, jnp.floating
    ):
        # Rounding is fine, overflow is not.
        fits = np.isfinite(converted) | ~np.isfinite(array)
    else:
        fits = converted == array
    if not fits.all():
        return None
    return converted


def _own(array: Any) -> Any:
    """A copy of an array that its source may change; arrays on several devices stay there."""
    if is_on_several_devices(array):
        return array
    return _copy(array)


def _copy(array: Any) -> np.ndarray:
    return np.array(array, copy=True)
