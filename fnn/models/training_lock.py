"""Training lock: no two trainings of the same weights at a time."""

from __future__ import annotations

import threading

from fnn.training.interrupt import uninterrupted


class Training:
    """A block of code in which no other training of the same weights begins."""

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._name = name

    @uninterrupted
    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"the model {self._name!r} is already training, in a callback or another thread; "
                "wait until it has finished"
            )

    @uninterrupted
    def __exit__(self, *error: object) -> None:
        self._lock.release()
