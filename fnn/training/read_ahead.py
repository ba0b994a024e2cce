"""ReadAhead: an iterator that runs in a thread, a few items ahead."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from fnn.runtime.thread_settings import ThreadSettings
from fnn.runtime.warning import sent_to, warn
from fnn.training.data import Poll

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Runs an iterator in a thread, a few items ahead; stops at the end of its `with` block.

    The thread uses the JAX settings of the thread that created this object, which also
    issues the warnings.
    """

    def __init__(self, iterator: Iterator[T], depth: int = 2) -> None:
        # Pairs of a kind ("item", "warning", "error", "end") and a value.
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._is_waiting = False  # the reader, for an item
        self._settings = ThreadSettings()
        self._thread = threading.Thread(
            target=self._work, args=(iterator,), daemon=True
        )

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(timeout=1)

    @property
    def is_awaited(self) -> bool:
        """Whether the reader waits for an item, and none is there."""
        return self._is_waiting and self._queue.empty()

    def items(self, poll: Poll | None = None) -> Iterator[T]:
        """The items, in order; an exception of the iterator is raised here."""
        while True:
            if poll is not None:
                poll()
            with contextlib.suppress(queue.Empty):
                # The timeout lets `poll` notice Ctrl-C while the source is slow.
                self._is_waiting = True
                kind, value = self._queue.get(timeout=0.1)
                self._is_waiting = False
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                if kind == "warning":
                    warn(value)
                else:
                    yield value

    def _work(self, iterator: Iterator[T]) -> None:
        try:
            with self._settings.applied(), sent_to(self._put_warning):
                for item in iterator:
                    if not self._put("item", item):
                        return
            self._put("end", None)
        except BaseException as error:
            # Raised in the thread that reads.
            self._put("error", error)

    def _put_warning(self, message: str) -> bool:
        return self._put("warning", message)

    def _put(self, kind: str, value: object) -> bool:
        """Waits for space in the queue; False if nobody reads any more."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put((kind, value), timeout=0.1)
                return True
        return False
