"""Evaluation: the logs of a step over data, which changes no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax

from fnn.core.tree import Tree
from fnn.runtime.devices import beside, divide
from fnn.runtime.processes import any_of
from fnn.training import engine
from fnn.training.data import ArrayData
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import Interrupt, interruptible
from fnn.training.progress import Progress
from fnn.training.shares import meet
from fnn.training.state import result_values

if TYPE_CHECKING:
    from fnn.training.plan import Holder
    from fnn.training.stream import StreamData


class Window(NamedTuple):
    """The batches of one dispatch: `size` of them from index `at` on in a chunk."""

    chunk: Tree
    at: int
    size: int


class Sums(NamedTuple):
    """(params, state), the accumulated sums and the number of batches so far."""

    weighted: Tree
    accumulated: Tree
    done: int


def evaluate(
    step: engine.Step,
    weights: Holder,
    data: ArrayData | StreamData,
    *,
    callbacks: CallbackList,
    verbose: str | int = 0,
    steps: int | None = None,
    carry: Callable[[Tree], None] | None = None,
) -> dict[str, float]:
    """The logs of a step over all of `data`, with the weights in `weights.now`.

    They are read after `on_test_begin`, where a callback may put other weights in place. The step
    changes nothing, unless there is `carry`: then each batch starts from the state after the one
    before, and `carry` gets the state after the last. A callback that sets
    `model.stop_evaluating` ends it after the batch.
    """
    are_several = False
    if jax.distributed.is_initialized():
        count = data.count if isinstance(data, ArrayData) else "streamed"
        are_several = meet(f"evaluate with {count} examples")
    callbacks.model.stop_evaluating = False
    now = weights.now
    before = now.params, now.state
    spec = data.batch_spec()
    program = engine.program(step, before, spec, now.key, read_only=carry is None)
    if isinstance(data, ArrayData) and data.room == data.batch_size and carry is None:
        data.runs_apart = program.runs_apart
    total = _least(steps, data.steps)
    progress = Progress(verbose, total)
    with interruptible() as interrupt:
        size = data.chunk_size(program.capacity)
        chunks = data.chunks(0, size, total, interrupt.poll)
        try:
            callbacks.begin("test")
            progress.begin()
            now = weights.now
            run = _Evaluation(program, now.key, callbacks, progress, interrupt)
            if are_several:
                run.meet()
            sums = run.over(chunks, (now.params, now.state))
            # Waits for the device.
            logs = result_values(sums.accumulated)
            progress.reached(sums.done)
            if carry is not None:
                carry(sums.weighted[1])
        except BaseException as error:
            progress.stop()
            callbacks.end("test", {}, error)
            raise
        finally:
            chunks.close()
        progress.end(sums.done, logs)
        callbacks.end("test", logs)
    return logs


def _least(*counts: int | None) -> int | None:
    """The least of some counts of batches, None for all that there are."""
    return min((count for count in counts if count), default=None)


class _Evaluation:
    """A program run over chunks of batches, with progress and callbacks."""

    def __init__(
        self,
        program: engine.Program,
        key: Tree,
        callbacks: CallbackList,
        progress: Progress,
        interrupt: Interrupt,
    ) -> None:
        self.program = program
        self.key = key
        self.callbacks = callbacks
        self.progress = progress
        self.interrupt = interrupt
        self.watched = callbacks.watches("on_test_batch_begin", "on_test_batch_end")
        self.each = self.watched or bool(callbacks.model.stop_evaluating)
        self.meets = False  # other processes, after each batch

    def meet(self) -> None:
        """Goes batch by batch in all processes where one does, which may end it in all."""
        self.each = self.meets = any_of(self.each, "the first batch of evaluate")

    def over(self, chunks: Iterator[tuple[Tree, int]], weighted: Tree) -> Sums:
        """The sums after all batches."""
        stride = 1 if self.each else self.program.capacity
        sums = Sums(weighted, self.program.zeros(), 0)
        for chunk, count in chunks:
            placed = divide(chunk, sums.weighted, axis=1)
            for at in range(0, count, stride):
                window = Window(placed, at, min(stride, count - at))
                sums = self._advance(sums, window)
                if self.progress.reached(sums.done):
                    self.progress.update(sums.done, result_values(sums.accumulated))
                self.interrupt.poll()
                if self._is_stopped():
                    return sums
        if not sums.done:
            raise ValueError(
                "expected batches to evaluate, received none; check the data"
            )
        return sums

    def _is_stopped(self) -> bool:
        """Whether a callback has ended the evaluation, in any of the processes that meet."""
        stopped = bool(self.callbacks.model.stop_evaluating)
        if self.meets:
            return any_of(stopped, "the end of a batch of evaluate")
        return stopped

    def _advance(self, sums: Sums, window: Window) -> Sums:
        """The sums after one more dispatch."""
        weighted = beside(window.chunk, sums.weighted)
        if self.watched:
            self.callbacks.call("on_test_batch_begin", sums.done, {})
        after, accumulated, _ = self.program.of_size(window.chunk)(
            weighted,
            sums.accumulated,
            window.chunk,
            self.key,
            first=window.at,
            count=window.size,
            number=sums.done,
            guard="ignore",
        )
        done = sums.done + window.size
        if self.watched:
            logs = result_values(accumulated)
            self.callbacks.call("on_test_batch_end", done - 1, logs)
        if after is None:
            after = weighted
        return Sums(after, accumulated, done)
