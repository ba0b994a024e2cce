"""Batching: requests that arrive at about the same time are computed together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from fnn.serving.metrics import Metrics
from fnn.serving.served import Arrays, joined

T = TypeVar("T")


class FullError(RuntimeError):
    """More examples wait than the queue may hold."""


class Request(NamedTuple):
    """Examples that wait, and where their outputs go."""

    arrays: Arrays
    examples: int
    kind: Hashable
    arrived: float
    outputs: asyncio.Future[Arrays]


class Batcher:
    """Collects requests up to `most` examples or for `delay` seconds and computes them at once.

    `await batcher(arrays)` gives the outputs of these examples alone. One thread computes; what
    arrives meanwhile is the next batch, so that the delay counts only when nothing is running and
    the batch before had several requests.
    With `together=False` each request is computed by itself, unpadded.

    A batch that fails is computed again request by request: an error reaches its own request only.

    >>> async def two_at_once():
    ...     batcher = Batcher(lambda arrays: [2 * arrays[0]], most=4)
    ...     batcher.start()
    ...     both = await asyncio.gather(batcher([np.ones(1)]), batcher([np.zeros(2)]))
    ...     await batcher.stop()
    ...     return [outputs[0].tolist() for outputs in both]
    >>> asyncio.run(two_at_once())
    [[2.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        *,
        most: int = 32,
        delay: float = 0.002,
        queue: int = 4096,
        together: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        self.run = run
        self.most = most
        self.delay = delay
        self.queue = queue
        self.together = together
        self.metrics = metrics or Metrics()
        self.examples = 0  # that wait
        self._last = 1  # the size of the last batch
        self._waiting: deque[Request] = deque()
        self._arrival = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._open: set[asyncio.Future[Arrays]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether what arrives is computed."""
        return self._task is not None

    def start(self) -> None:
        """Begins to compute what arrives."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """Computes what has arrived, and ends."""
        while self._open:
            await asyncio.wait(self._open)
        if self._task is not None:
            self._task.cancel()
        self._worker.shutdown()

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Runs a function in the thread that computes."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    def check_room(self, count: int) -> None:
        """Raises FullError if `count` more examples would not fit into the queue."""
        if self.examples and self.examples + count > self.queue:
            raise FullError(
                f"{self.examples} examples are waiting, and at most {self.queue} may; try again "
                "later"
            )

    async def __call__(self, arrays: Arrays) -> Arrays:
        """The outputs for these examples. Raises FullError, or what the model raises."""
        count = len(arrays[0])
        self.check_room(count)
        step = count
        if self.together:
            step = self.most
        parts = []
        for start in range(0, count, step):
            part = [array[start : start + step] for array in arrays]
            parts.append(self._enter(part))
        found = await asyncio.gather(*parts)
        if len(found) == 1:
            return found[0]
        return [np.concatenate(column) for column in zip(*found, strict=True)]

    def _enter(self, arrays: Arrays) -> asyncio.Future[Arrays]:
        loop = asyncio.get_running_loop()
        kind = tuple((array.shape[1:], array.dtype.str) for array in arrays)
        outputs: asyncio.Future[Arrays] = loop.create_future()
        self._open.add(outputs)
        outputs.add_done_callback(self._open.discard)
        count = len(arrays[0])
        request = Request(arrays, count, kind, loop.time(), outputs)
        self._waiting.append(request)
        self.examples += count
        self._arrival.set()
        return outputs

    # -- the task that computes ------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            while not self._waiting:
                await self._next_arrival()
            await self._wait_for_others()
            batch = self._take()
            results = await self.in_thread(functools.partial(self._computed, batch))
            for request, result in zip(batch, results, strict=True):
                if request.outputs.done():  # cancelled, with the request
                    continue
                if isinstance(result, Exception):
                    request.outputs.set_exception(result)
                else:
                    request.outputs.set_result(result)

    async def _wait_for_others(self) -> None:
        """Waits until as many examples are here as in the last batch, at most for `delay`.

        So a single client, whose batches have one request, never waits.
        """
        loop = asyncio.get_running_loop()
        end = self._waiting[0].arrived + self.delay
        while self.together and self.examples < self._last:
            left = end - loop.time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._next_arrival(), left)

    async def _next_arrival(self) -> None:
        self._arrival.clear()
        await self._arrival.wait()

    def _take(self) -> list[Request]:
        """The oldest requests that go into one batch; the others keep their order."""
        batch = [self._waiting.popleft()]
        count = batch[0].examples
        others: deque[Request] = deque()
        while self.together and self._waiting and count < self.most:
            request = self._waiting.popleft()
            fits = (
                count + request.examples <= self.most and request.kind == batch[0].kind
            )
            if fits:
                batch.append(request)
                count += request.examples
            else:
                others.append(request)
        self._waiting.extendleft(reversed(others))
        self.examples -= count
        return batch

    def _computed(self, batch: list[Request]) -> list[Arrays | Exception]:
        """The outputs of each request, or its error; in the thread that computes."""
        total = sum(request.examples for request in batch)
        size = total
        if self.together:
            size = min(1 << (total - 1).bit_length(), self.most)
        self.metrics.batches.observe(total)
        self._last = total
        try:
            outputs = self.run(joined([request.arrays for request in batch], size))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._computed([request])[0] for request in batch]
        ends = np.cumsum([request.examples for request in batch]).tolist()
        starts = [0, *ends[:-1]]
        return [
            [array[first:last] for array in outputs]
            for first, last in zip(starts, ends, strict=True)
        ]
