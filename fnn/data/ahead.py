"""Made ahead: what a function returns for many arguments, by threads or processes, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeAlias, TypeVar

from fnn.runtime.optional import optional
from fnn.runtime.thread_settings import ThreadSettings

T = TypeVar("T")
Numbers: TypeAlias = "range | list[int]"


def made_ahead(
    make: Callable[[Any], T],
    indices: Iterable[Any],
    workers: int,
    most: int,
) -> Iterator[T]:
    """`make` of each index, in order, made by threads; at most `most` are made ahead.

    >>> list(made_ahead(abs, [-2, 3], workers=2, most=2))
    [2, 3]
    """
    if workers < 2:
        yield from map(make, indices)
        return
    settings = ThreadSettings()

    def run(index: Any) -> T:
        with settings.applied():
            return make(index)

    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index in indices:
                waiting.append(pool.submit(run, index))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Made(Generic[T]):
    """What a function returns for numbers, by their places: a source of Grain."""

    def __init__(self, make: Callable[[int], T], indices: Numbers) -> None:
        self.make = make
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> T:
        return self.make(self.indices[place])


def made_by_processes(
    make: Callable[[int], T],
    indices: Numbers,
    workers: int,
    most: int,
) -> Iterator[T]:
    """`make` of each index, in order, made by worker processes of Grain.

    About `most` are made ahead, at least one by each worker. `make` must be importable in
    the processes.
    """
    with optional("grain", extra="workers"):
        import grain
        from absl import flags

    if not flags.FLAGS.is_parsed():
        # Its workers read flags, which programs without `absl.app` do not parse.
        flags.FLAGS.mark_as_parsed()
    source = grain.MapDataset.source(_Made(make, indices))
    # One thread in each process, which makes one at a time.
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    options = grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=max(most // workers, 1)
    )
    made = iter(source.to_iter_dataset(reading).mp_prefetch(options))
    try:
        yield from made
    finally:
        made.close()
