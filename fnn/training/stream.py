"""Batches that come one by one, from an iterable, a sequence or a callable, read ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.runtime.processes import agreed
from fnn.runtime.warning import warn
from fnn.training.alike import alike
from fnn.training.chunks import copied, own, write, zeros
from fnn.training.data import Poll, is_on_several_devices
from fnn.training.examples import Collector
from fnn.training.places import Loader, Orders, Place, Places, called
from fnn.training.read_ahead import ReadAhead
from fnn.training.shares import agreed_size, agreed_steps, hosts_of, together

CHUNK_BYTES = 2**21  # sent to the device at once, in a fraction of a millisecond
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

    `collect` makes batches of single examples, and `prepare(batch)` arrays of a batch.
    Every batch is copied, so the source may reuse its buffers. A batch smaller than the
    first is padded with `remainder="pad"`, where batches are `(arrays, valid)`, and left
    out with "drop". A pass has `steps` batches, or all if None. With `continues` a pass
    starts where the last one ended, and the source is reopened whenever it ends; else each
    pass starts from the beginning. An iterator cannot restart. With a `seed`, a source with
    a method `in_order(indices)` (`fnn.utils.PyDataset`) or `shuffled(generator)`
    (`Examples`) is read in a new order in each pass. If `apart` (of the spec of a batch) is
    True, a batch smaller than the first is a chunk of its own, without padding. Batches of a source
    with `has_several_shapes` (`fnn.data.bucket`), and with `varies`, may differ in the shape of
    their examples; each is a chunk.
    """

    shuffle = False

    def __init__(
        self,
        source: Source,
        collect: Collector,
        prepare: Callable[[Any], Tree],
        *,
        remainder: str = "drop",
        steps: int | None = None,
        continues: bool = False,
        apart: Callable[[SpecTree], bool] = _never,
        seed: list[int] | None = None,
        varies: bool = False,
        shared: bool = True,
    ) -> None:
        self.source = source
        self.collect = collect
        self.prepare = prepare
        self.pad = remainder == "pad"
        self.apart = apart
        self.once = isinstance(source, Iterator)
        self.varies = varies or getattr(source, "has_several_shapes", False)
        self.wanted = steps
        self.continues = continues and steps is not None
        self.steps = steps
        if steps is None and hasattr(source, "__len__"):
            self.steps = len(source)
        elif steps is None and hasattr(source, "num_batches"):
            self.steps = source.num_batches
        self.batch_size = 0
        # How many processes read batches of their own, each a part of a batch of all.
        self.hosts = 1
        # All processes run the same steps in each dispatch, so it is not made of what is there.
        self._is_one_of_several = shared and jax.distributed.is_initialized()
        self.room = 0  # the padded size of a batch, as in `ArrayData`
        self._batches: Iterator[Tree] | None = None
        self._peeked: list[tuple[Tree, int]] = []  # with what `_read` is after it
        self._spec: SpecTree = None
        self._orders = Orders(source, seed)
        self._loader = Loader(source)
        self._pass: int = getattr(source, "passes", 0)
        self._read = 0  # batches of this pass, those that are left out too
        # For a resumed training: whether `_read` batches are still to be read, and how many more
        # to leave out.
        self._behind = False
        self._skipped = 0
        self.places = Places()

    def chunk_size(self, capacity: int) -> int:
        """The most batches in a chunk: as many as a dispatch takes, fewer if they are large.

        A chunk goes to the device as a whole, also if it has few batches because no more
        were there when the device was free.
        """
        batch_bytes = max(tree.nbytes(self.batch_spec()), 1)
        return min(capacity, max(CHUNK_BYTES // batch_bytes, 1))

    def batch_spec(self) -> SpecTree:
        """Shapes and dtypes of one batch, those of the first, which is still returned later."""
        if self._spec is None:
            self._peek()
        return self._padded(self._spec, self.room)

    def _padded(self, spec: SpecTree, room: int) -> SpecTree:
        """The spec of a batch with room for so many examples, as `chunks` gives it."""
        if room != tree.batch_size(spec) or self.pad:
            spec = tree.resized(spec, room)
        if not self.pad:
            return spec
        return spec, array_spec((room,), np.bool_)

    def _peek(self) -> None:
        """Reads the first batch, and takes the shapes and dtypes from it."""
        if self._is_one_of_several:
            agreed("the first batch of a stream", self._read_first)
        else:
            self._read_first()
        first, _ = self._peeked[0]
        if self.wanted is None:
            self.steps = self.collect.batches(self.steps)
        self._spec = tree.spec(first)
        self.batch_size = tree.batch_size(first)
        if self._is_one_of_several and not self._orders.is_common:
            self.hosts = hosts_of(first, self.varies)
            size = agreed_size(self._spec, self.pad, self.hosts)
            self.batch_size = self.hosts * size
        self.room = self.batch_size

    def _read_first(self) -> None:
        first = self._next()
        if first is None:
            raise ValueError(
                "expected batches, received an empty stream; check its source"
            )
        if not is_on_several_devices(first):
            first = jax.tree.map(copied, first)
        self._peeked.append((first, self._read))
        self._read = 0

    def first(self) -> Tree:
        """The first batch, which is still returned later."""
        self.batch_spec()
        return self._peeked[0][0]

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
        start: int = 0,
    ) -> Generator[tuple[Tree, int]]:
        """(chunk, its number of batches), read ahead in a thread, after `start` batches."""
        self.batch_spec()
        self.places.clear()
        total = self.wanted or steps
        if self.hosts > 1:
            total = agreed_steps(total, self.pad)
        ahead: ReadAhead[Chunk]
        ahead = ReadAhead(
            self._chunks(capacity, total, lambda: ahead.is_awaited, start)
        )
        with ahead:
            chunks = ahead.items(poll)
            if self.hosts > 1:
                yield from together(self, chunks, capacity, total, start)
                return
            for chunk in chunks:
                arrays = chunk.arrays
                if chunk.is_alone:
                    # Not in the thread: `apart` may look at a model, which is not
                    # thread-safe.
                    arrays = self._chunk_of_one(arrays, capacity)
                yield arrays, chunk.batches

    # -- the position ----------------------------------------------------------------------------

    def place(self, done: int | None) -> Place | None:
        """The position after this many batches of the epoch, or at its end (None)."""
        if not self.places.wanted:
            return None
        if done is None:
            return self._place()
        return self.places.after(done)

    def _place(self) -> Place:
        """The position of the next batch that is read."""
        state = self._loader.state(begun=self._read > 0)
        seed = self._orders.seed
        return Place(self._pass, self._read, state, seed, self._skipped)

    def move_to(self, place: Place | None, epoch: int, batch: int) -> None:
        """Continues at a place that a training had reached, after batch `batch` of an epoch.

        Warns if the batches after it may not be those of the uninterrupted training.
        """
        if place is None or not (epoch or batch):
            return
        known = self._loader.is_saved
        returns = known or self._reads_by_number
        if not known and not self._orders.is_known:
            self._orders.warn_of(epoch, place.batch + place.skip)
        if returns or not self.once:
            self._peeked.clear()
            self._batches = None
        self._pass, self._read = place.number, place.batch
        self._skipped = place.skip
        self._behind = not returns
        self._loader.wanted = place.state
        self._orders.seed = place.seed

    @property
    def _reads_by_number(self) -> bool:
        """Whether batches can be left out without reading them."""
        return self._orders.by_number and not self.collect.collects

    def _skip(self) -> None:
        """Reads what was trained on before, as far as a resumed training could not return."""
        reopen = self.continues and not self.once
        if self._behind:
            reached, self._read = self._read, 0
            self._behind = False
            while self._read < reached and self._next() is not None:
                pass
        for _ in range(self._skipped):
            self._next(reopen)
        self._skipped = 0

    # -- reading ---------------------------------------------------------------------------------

    def _chunks(
        self,
        capacity: int,
        steps: int | None,
        is_awaited: Callable[[], bool],
        done: int = 0,
    ) -> Iterator[Chunk]:
        """The chunks of a pass. An error of the source is raised after those before it.

        A chunk that is awaited is not filled up: the device would idle meanwhile.
        """
        ended = False
        failure: Exception | None = None
        self._skip()
        while not ended and (steps is None or done < steps):
            wanted = capacity
            if steps is not None:
                wanted = min(capacity, steps - done)
            arrays = self._empty(capacity)
            if self.places.wanted:
                self.places.note(done, self._place())
            count = 0
            alone: Tree = None
            while count < wanted and not ended and alone is None:
                if count and not self._is_one_of_several and is_awaited():
                    break
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
                    write(batch, arrays, count, self.pad)
                    count += 1
            if count:
                done += count
                yield Chunk(arrays if self.hosts > 1 else jax.device_put(arrays), count)
            if alone is not None:
                done += 1
                yield Chunk(jax.tree.map(own, alone), 1, is_alone=True)

        if failure is not None:
            raise failure
        if not self.continues:
            self._rewind()
        if ended and self.wanted:
            self._refuse_end(done)

    def _refuse_end(self, done: int) -> None:
        """An error for training that lacks batches, a warning for other passes."""
        message = (
            f"expected {self.wanted} batches in a pass, received {done} and the end of the "
            "data; pass fewer steps, or a stream that restarts"
        )
        if self.continues:
            raise ValueError(message)
        warn(message)

    def _stands_alone(self, batch: Tree) -> bool:
        """Whether a batch is not stacked with others."""
        if self.hosts > 1:
            return False
        is_smaller = tree.batch_size(batch) < self.batch_size
        return self.varies or is_smaller or is_on_several_devices(batch)

    def _rewind(self) -> None:
        """Lets the next pass start from the beginning; an iterator can only continue."""
        if self.wanted is None and self._batches is not None:
            # Nothing comes, but the source reaches its end: `on_epoch_end` is called.
            next(self._batches, None)
        if not self.once:
            self._next_pass()

    def _next_pass(self) -> None:
        self._batches = None
        self._pass += 1
        self._read = 0
        self._loader.end()

    def _next_alike(self, number: int) -> Tree:
        """The next batch of a pass, in the dtypes of the first; None at the end."""
        batch = self._next(reopen=self.continues and not self.once)
        if batch is None:
            return None
        return alike(batch, self._spec, number, self.varies)

    def _next(self, reopen: bool = False) -> Tree:
        """The next batch, None at the end; with `reopen` the source then starts over."""
        if self._peeked:
            batch, self._read = self._peeked.pop()
            return batch
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches, None)
        if batch is None and reopen:
            self._next_pass()
            return self._next()
        return batch

    def _open(self) -> Iterator[Tree]:
        """The batches of the source as arrays, from the beginning."""
        source = called(self.source)
        if hasattr(source, "on_epoch_begin"):
            source.on_epoch_begin()
        batches = self.collect(self._items(source))
        for number, batch in enumerate(batches, self._read):
            self._read = number + 1
            try:
                arrays = self.prepare(batch)
            except Exception as error:
                error.add_note(f"in batch {number} of the stream")
                raise
            size = len(jax.tree.leaves(arrays)[0])
            if not size:
                warn(f"batch {number} of the stream is empty and left out")
                continue
            full = self.batch_size // self.hosts
            if self.pad or not full or size == full:
                yield arrays
        if hasattr(source, "on_epoch_end"):
            source.on_epoch_end()

    def _items(self, source: Source) -> Iterator[Any]:
        """The items of this pass, from where a resumed training returns to."""
        if self._reads_by_number and not self._loader.is_saved:
            return self._orders.items(self._pass, self._read)
        self._orders.begin(source, self._pass)
        return self._loader.items(source)

    def _chunk_of_one(self, batch: Tree, capacity: int) -> Tree:
        """A chunk of one batch: as it is on devices, at its own size, or padded."""
        if not is_on_several_devices(batch) and not self.apart(self.batch_spec()):
            chunk = self._empty(capacity)
            if self.varies:
                padded = self._padded(tree.spec(batch), self.room)
                chunk = zeros(1, padded)
            write(batch, chunk, 0, self.pad)
            return chunk
        if self.pad:
            batch = batch, np.ones(tree.batch_size(batch), np.bool_)
        return jax.tree.map(lambda a: a[None], batch)  # (1, examples, ...)

    def _empty(self, capacity: int) -> Tree:
        """Zeros for `capacity` batches of full size: arrays, or (arrays, valid)."""
        padded = self._padded(self._spec, self.room // self.hosts)
        return zeros(capacity, padded)
