"""TrainingLock: one training of the same weights at a time."""

from __future__ import annotations

import threading

from fnn.runtime.compilations import CompilationLog, active
from fnn.training.interrupt import uninterrupted


class TrainingLock:
    """A block of code in which no other training of the same weights begins.

    What is compiled in it is logged in `compilations`.
    """

    def __init__(self, name: str, compilations: CompilationLog) -> None:
        self._lock = threading.Lock()
        self._name = name
        self._compilations = compilations

    @uninterrupted
    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"the model {self._name!r} is already training, in a callback or another thread; "
                "wait until it has finished"
            )
        active.set(self._compilations)

    @uninterrupted
    def __exit__(self, *error: object) -> None:
        self._lock.release()
