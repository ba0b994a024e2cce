"""Interrupts: Ctrl-C ends a run at a step boundary, never inside a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupt:
    """Whether Ctrl-C was pressed. `poll()` raises KeyboardInterrupt if so."""

    def __init__(self) -> None:
        self.requested = False

    def poll(self) -> None:
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Inside, the first Ctrl-C only asks to stop; a second one before that raises at once.

    A handler of the user's is called as well, and every handler is back afterwards. In another
    thread than the main one signals do not arrive, and nothing is installed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    if before is signal.SIG_IGN or before is None:  # the user, or C code, wants it otherwise
        yield interrupt
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
    interrupt.poll()  # asked for after the last step: not lost either
