"""Streams: loading, copying and computing at the same time."""

import time

import jax
import numpy as np
import pytest

import fnn
from fnn.training.examples import Collector
from fnn.training.stream import StreamData

BATCHES = 40


class Clock:
    """The intervals in which batches are loaded and computed, by sleeping."""

    def __init__(self, load, compute):
        self.durations = {"load": load, "compute": compute}
        self.spans = {"load": [], "compute": []}

    def spend(self, what):
        start = time.perf_counter()
        time.sleep(self.durations[what])
        self.spans[what].append((start, time.perf_counter()))

    def batches(self):
        for number in range(BATCHES):
            self.spend("load")
            yield np.full((8, 4), number, "float32")

    def computed(self, x):
        self.spend("compute")
        return np.float32(0)

    def step(self, w, batch, key):
        spec = jax.ShapeDtypeStruct((), "float32")
        zero = jax.pure_callback(self.computed, spec, batch.sum() + w)
        return w + batch.mean() + zero, {"loss": zero}


def together(spans, others):
    """How many of the intervals overlap with any of the others."""
    return sum(any(a < d and c < b for c, d in others) for a, b in spans)


def test_batches_are_loaded_while_others_are_computed():
    clock = Clock(0.01, 0.01)
    w, _ = fnn.training.fit(clock.step, np.float32(0), clock.batches, verbose=0)
    assert float(w) == pytest.approx(sum(range(BATCHES)))
    assert len(clock.spans["compute"]) == BATCHES
    # On an idle machine all but the first and the last; none if they took turns.
    assert together(clock.spans["load"], clock.spans["compute"]) > BATCHES // 8
    assert together(clock.spans["compute"], clock.spans["load"]) > BATCHES // 8


@pytest.mark.slow
def test_the_first_batch_is_computed_while_the_others_load():
    """A dispatch that could take 32 batches does not wait for them."""
    clock = Clock(0.02, 0.0)
    fnn.training.fit(clock.step, np.float32(0), clock.batches, verbose=0)
    first = clock.spans["compute"][0][0]
    loaded = sum(end < first for _, end in clock.spans["load"])
    assert loaded < BATCHES // 2


def test_slow_steps_get_full_chunks():
    """What was loaded meanwhile goes into one dispatch."""
    counts = []

    def batches():
        return (np.full((8, 4), number) for number in range(BATCHES))

    batches_pass = Collector(lambda item: False, 1)
    stream = StreamData(batches, batches_pass, np.asarray, steps=BATCHES)
    size = stream.chunk_size(16)
    for chunk, count in stream.chunks(0, size):
        counts.append(count)
        np.testing.assert_array_equal(chunk[:count, 0, 0], sum(counts[:-1]) + np.arange(count))
        time.sleep(0.1)
    assert sum(counts) == BATCHES
    assert max(counts) == 16
