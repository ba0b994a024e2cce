"""Runs that change nothing: evaluate a step over data, predict batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fnn.training import engine
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import interruptible
from fnn.training.progress import Progress
from fnn.training.state import numbers


def evaluate(
    step: Any,
    weights: Callable[[], Any],
    data: Any,
    key: Any,
    *,
    callbacks: CallbackList,
    verbose: Any = 0,
    steps: int | None = None,
) -> dict[str, float]:
    """The logs of a read-only step over all of `data`; `weights()` is (params, state).

    It is asked after `on_test_begin`, where a callback may put other weights in place.
    """
    program = engine.program(step, weights(), data.batch_spec(), key, read_only=True)
    tallies, done = program.zeros(), 0
    total = min(steps or data.steps or 0, data.steps or steps or 0) or None
    progress = Progress(verbose, total)
    each = callbacks.watches("on_test_batch_begin", "on_test_batch_end")
    with interruptible() as interrupt:
        callbacks.call("on_test_begin", {})
        weighted = weights()
        chunks = data.chunks(0, data.chunk_size(program.capacity), total, interrupt.poll)
        try:
            for chunk, at, size in _windows(chunks, 1 if each else program.capacity):
                if each:
                    callbacks.call("on_test_batch_begin", done, {})
                _, tallies, _ = program(weighted, tallies, chunk, key, at, size, done)
                done += size
                if each:
                    callbacks.call("on_test_batch_end", done - 1, numbers(tallies))
                if progress.due():
                    progress.update(done, numbers(tallies))
                interrupt.poll()
        except BaseException:
            progress.stop()
            callbacks.call_every("on_test_end", {})
            raise
        finally:
            chunks.close()
        logs = numbers(tallies)
        progress.end(done, logs)
        callbacks.call("on_test_end", logs)
    return logs


def _windows(chunks: Iterator[tuple[Any, int]], stride: int) -> Iterator[tuple[Any, int, int]]:
    """What one dispatch takes: (chunk, first batch, number of batches)."""
    for chunk, count in chunks:
        for at in range(0, count, stride):
            yield chunk, at, min(stride, count - at)


def predict(
    step: Callable[[Any], Any],
    batches: Iterator[tuple[Any, int]],
    *,
    callbacks: CallbackList,
    verbose: Any = 0,
    total: int | None = None,
) -> Any:
    """The outputs of `step(x)` over batches (x, number of real rows), joined, as NumPy arrays.

    The next batch is dispatched before the last is fetched; a few are on the device at a time.
    """
    parts: list[Any] = []
    flight: deque[tuple[Any, int]] = deque()
    progress = Progress(verbose, total)

    def fetch() -> None:
        outputs, rows = flight.popleft()
        parts.append(jax.tree.map(lambda a: np.asarray(a)[:rows], outputs))
        callbacks.call("on_predict_batch_end", len(parts) - 1, {"outputs": parts[-1]})
        if progress.due():
            progress.update(len(parts), {})

    with interruptible() as interrupt:
        callbacks.call("on_predict_begin", {})
        try:
            for number, (x, rows) in enumerate(batches):
                callbacks.call("on_predict_batch_begin", number, {})
                flight.append((step(x), rows))
                if len(flight) > 1:
                    fetch()
                interrupt.poll()
            while flight:
                fetch()
        except BaseException:
            progress.stop()
            callbacks.call_every("on_predict_end", {})
            raise
        progress.end(len(parts), {})
        callbacks.call("on_predict_end", {})
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def padded_batches(x: Any, batch_size: int, steps: int | None = None) -> Iterator[tuple[Any, int]]:
    """Batches of one size from arrays: (batch, number of real rows).

    Fewer rows than a batch go into the next power of two, so that any number of rows needs only a
    handful of compilations.
    """
    count = len(jax.tree.leaves(x)[0])
    size = batch_size if count >= batch_size else 1 << max(count - 1, 0).bit_length()
    for number, first in enumerate(range(0, count, size)):
        if steps is not None and number >= steps:
            return
        rows = min(size, count - first)

        def part(array: Any, first: int = first, rows: int = rows) -> Any:
            piece = array[first : first + rows]
            if rows < size:
                widths = [(0, size - rows)] + [(0, 0)] * (piece.ndim - 1)
                piece = np.pad(np.asarray(piece), widths)
            return piece if isinstance(piece, jax.Array) else np.array(piece, copy=True)

        yield jax.tree.map(part, x), rows
