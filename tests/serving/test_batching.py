"""Batches of requests: each gets its own outputs or its own error, and none is lost."""

import asyncio
import threading
import time

import numpy as np
import pytest

from fnn.serving.batching import Batcher, FullError
from fnn.serving.metrics import Histogram, Metrics


def numbered(*numbers):
    return [np.array(numbers, "float32")]


class Double:
    """Doubles numbers; keeps the batches that it was given, and waits where it is told to."""

    def __init__(self, gate=None):
        self.batches, self.gate = [], gate

    def __call__(self, arrays):
        if self.gate is not None:
            self.gate.wait(5)
        self.batches.append(arrays[0].tolist())
        if (arrays[0] < 0).any():
            raise ValueError("negative")
        return [2 * arrays[0]]


def running(run, **options):
    """What `use(batcher)` returns for a batcher that runs."""

    def decorate(use):
        async def whole():
            batcher = Batcher(run, **options)
            batcher.start()
            try:
                return await use(batcher)
            finally:
                await batcher.stop()

        return asyncio.run(whole())

    return decorate


def test_each_request_gets_its_own_outputs():
    run = Double()

    @running(run, most=8)
    async def found(batcher):
        requests = [batcher(numbered(*range(n, n + 1 + n % 3))) for n in range(100)]
        return await asyncio.gather(*requests)

    for n, (outputs,) in enumerate(found):
        np.testing.assert_array_equal(outputs, 2 * np.arange(n, n + 1 + n % 3))
    assert {len(batch) for batch in run.batches} <= {1, 2, 4, 8}
    assert len(run.batches) < 50


def test_batches_are_padded_with_copies_of_the_last_example():
    gate = threading.Event()
    run = Double(gate)

    @running(run, most=6)
    async def found(batcher):
        first = asyncio.ensure_future(batcher(numbered(9)))
        await asyncio.sleep(0.05)  # it is running
        others = [asyncio.ensure_future(batcher(numbered(n))) for n in range(5)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, *others)

    assert [outputs[0].tolist() for outputs in found] == [[18], [0], [2], [4], [6], [8]]
    assert run.batches == [[9], [0, 1, 2, 3, 4, 4]]  # 6 is the most, and no power of two


def test_a_large_request_is_divided_and_joined():
    run = Double()

    @running(run, most=4)
    async def found(batcher):
        return await batcher(numbered(*range(11)))

    np.testing.assert_array_equal(found[0], 2 * np.arange(11))
    assert [len(batch) for batch in run.batches] == [4, 4, 4]


def test_examples_that_hang_together_are_computed_alone_and_unpadded():
    run = Double()

    @running(run, most=4, together=False)
    async def found(batcher):
        return await asyncio.gather(batcher(numbered(*range(7))), batcher(numbered(1, 2, 3)))

    np.testing.assert_array_equal(found[0][0], 2 * np.arange(7))
    assert [len(batch) for batch in run.batches] == [7, 3]


def test_requests_of_other_shapes_go_into_other_batches():
    def run(arrays):
        return [arrays[0].sum(tuple(range(1, arrays[0].ndim)))]

    @running(run, most=8)
    async def found(batcher):
        shapes = [(1, 2), (1, 3), (2, 2), (1, 2, 2)] * 5
        requests = [batcher([np.full(shape, n)]) for n, shape in enumerate(shapes)]
        return shapes, await asyncio.gather(*requests)

    for n, (shape, (outputs,)) in enumerate(zip(*found, strict=True)):
        np.testing.assert_array_equal(outputs, np.full(shape, n).sum(tuple(range(1, len(shape)))))


def test_requests_that_are_left_over_are_computed_without_another_arrival():
    @running(lambda arrays: [2 * arrays[0]], most=8, delay=0.02)
    async def found(batcher):
        # After a large batch the next one waits for others, which do not come.
        await asyncio.gather(*(batcher(numbered(n)) for n in range(6)))
        await asyncio.gather(*(batcher(numbered(n)) for n in range(6)))
        two_kinds = batcher([np.ones((1, 2))]), batcher([np.ones((1, 3))])
        async with asyncio.timeout(5):
            return await asyncio.gather(*two_kinds)

    assert [outputs.shape for (outputs,) in found] == [(1, 2), (1, 3)]


def test_an_error_reaches_its_own_request_alone():
    gate = threading.Event()

    @running(Double(gate), most=8)
    async def found(batcher):
        requests = [batcher(numbered(n)) for n in (5, 1, -1, 2, -2, 3)]
        waiting = asyncio.gather(*requests, return_exceptions=True)
        await asyncio.sleep(0.05)
        gate.set()
        return await waiting

    shown = [str(one) if isinstance(one, Exception) else one[0].tolist() for one in found]
    assert shown == [[10], [2], "negative", [4], "negative", [6]]


def test_a_full_queue_refuses_and_what_was_accepted_is_answered():
    gate = threading.Event()

    @running(Double(gate), most=2, queue=4)
    async def found(batcher):
        accepted = [asyncio.ensure_future(batcher(numbered(n))) for n in range(3)]
        await asyncio.sleep(0.05)  # two run, one waits
        accepted.append(asyncio.ensure_future(batcher(numbered(3, 4))))
        await asyncio.sleep(0)
        with pytest.raises(FullError, match="3 examples are waiting, and at most 4 may"):
            await batcher(numbered(5, 6))
        gate.set()
        return await asyncio.gather(*accepted)

    assert [outputs[0].tolist() for outputs in found] == [[0], [2], [4], [6, 8]]


def test_stopping_finishes_what_has_arrived():
    async def whole():
        batcher = Batcher(Double(), most=2)
        batcher.start()
        requests = [asyncio.ensure_future(batcher(numbered(n))) for n in range(9)]
        await asyncio.sleep(0)
        await batcher.stop()
        return [request.result()[0].tolist() for request in requests]

    assert asyncio.run(whole()) == [[2 * n] for n in range(9)]


def test_a_request_that_is_given_up_disturbs_no_other():
    gate = threading.Event()

    @running(Double(gate), most=4)
    async def found(batcher):
        first = asyncio.ensure_future(batcher(numbered(1)))
        others = [asyncio.ensure_future(batcher(numbered(n))) for n in (2, 3)]
        await asyncio.sleep(0.05)
        first.cancel()
        others[0].cancel()
        gate.set()
        return await others[1]

    assert found[0].tolist() == [6]


def test_a_lone_request_does_not_wait_for_others():
    @running(Double(), most=8, delay=5.0)
    async def seconds(batcher):
        start = time.perf_counter()
        for n in range(3):
            await batcher(numbered(n))
        return time.perf_counter() - start

    assert seconds < 2


def test_histograms_count_up_to_each_bound():
    histogram = Histogram("h", "Help.", (1, 2))
    for value in (0, 1, 2, 3):
        histogram.observe(value)
    lines = list(histogram.lines())
    assert [line.split()[-1] for line in lines[2:]] == ["2", "3", "4", "6.0", "4"]
    metrics = Metrics()
    metrics.answered(503, 0.2)
    assert 'fnn_request_seconds_bucket{le="0.25"} 1' in metrics.text()
