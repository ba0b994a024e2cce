"""Evaluation: the logs of a step over data, which changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fnn.runtime.devices import beside, divide
from fnn.training import engine
from fnn.training.data import ArrayData
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import Interrupt, interruptible
from fnn.training.progress import Progress
from fnn.training.state import numbers


def evaluate(
    step: Any,
    weights: Any,
    data: Any,
    *,
    callbacks: CallbackList,
    verbose: Any = 0,
    steps: int | None = None,
    carry: Callable[[Any], None] | None = None,
) -> dict[str, float]:
    """The logs of a step over all of `data`, with the weights in `weights.now`.

    They are read after `on_test_begin`, where a callback may put other weights in place. The step
    changes nothing, unless there is `carry`: then a batch starts from the state after the one
    before, and `carry` gets the state after the last. A callback that sets
    `model.stop_evaluating` ends it after the batch.
    """
    callbacks.model.stop_evaluating = False
    now = weights.now
    key = now.key
    program = engine.program(
        step, (now.params, now.state), data.batch_spec(), key, read_only=carry is None
    )
    if isinstance(data, ArrayData) and data.room == data.batch_size and carry is None:
        data.runs_apart = program.runs_apart
    total = min(steps or data.steps or 0, data.steps or steps or 0) or None
    progress = Progress(verbose, total)
    with interruptible() as interrupt:
        chunks = data.chunks(
            0, data.chunk_size(program.capacity), total, interrupt.poll
        )
        try:
            callbacks.begin("test")
            progress.begin()
            now = weights.now
            weighted, tallies, done = _run(
                program,
                (now.params, now.state),
                chunks,
                key,
                callbacks,
                progress,
                interrupt,
            )
            logs = numbers(tallies)  # waits
            progress.reached(done)
            if carry is not None:
                carry(weighted[1])
        except BaseException as error:
            progress.stop()
            callbacks.end("test", {}, error)
            raise
        finally:
            chunks.close()
        progress.end(done, logs)
        callbacks.end("test", logs)
    return logs


def _run(
    program: Any,
    weighted: Any,
    chunks: Any,
    key: Any,
    callbacks: CallbackList,
    progress: Progress,
    interrupt: Interrupt,
) -> tuple[Any, Any, int]:
    """All batches: ((params, state), tallies, batches done) after them."""
    tallies, done, model = program.zeros(), 0, callbacks.model
    told = (
        callbacks
        if callbacks.watches("on_test_batch_begin", "on_test_batch_end")
        else None
    )
    placed = ((divide(chunk, weighted, axis=1), count) for chunk, count in chunks)
    for window in _windows(
        placed, 1 if told or model.stop_evaluating else program.capacity
    ):
        weighted, tallies, done = _advance(
            program, weighted, tallies, window, key, done, told
        )
        if progress.reached(done):
            progress.update(done, numbers(tallies))
        interrupt.poll()
        if model.stop_evaluating:
            break
    if not done:
        raise ValueError("expected batches to evaluate, received none; check the data")
    return weighted, tallies, done


def _advance(
    program: Any,
    weighted: Any,
    tallies: Any,
    window: tuple[Any, int, int],
    key: Any,
    done: int,
    told: CallbackList | None,
) -> tuple[Any, Any, int]:
    """One dispatch: ((params, state), tallies, batches done) after it."""
    chunk, at, size = window
    weighted = beside(chunk, weighted)
    if told:
        told.call("on_test_batch_begin", done, {})
    after, tallies, _ = program.of_size(chunk)(
        weighted, tallies, chunk, key, first=at, count=size, number=done, guard="ignore"
    )
    done += size
    if told:
        told.call("on_test_batch_end", done - 1, numbers(tallies))
    return weighted if after is None else after, tallies, done


def _windows(
    chunks: Iterator[tuple[Any, int]], stride: int
) -> Iterator[tuple[Any, int, int]]:
    """What one dispatch takes: (chunk, first batch, number of batches)."""
    for chunk, count in chunks:
        for at in range(0, count, stride):
            yield chunk, at, min(stride, count - at)
