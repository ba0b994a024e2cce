"""Interrupts: Ctrl-C ends a run at a step boundary, never inside a step, and is never lost."""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


# The functions of C: those of the module look each handler up among enums, and that takes longer
# than the prediction of one example.
_set_handler, _handler = inspect.unwrap(signal.signal), inspect.unwrap(signal.getsignal)


class Interrupt:
    """Whether Ctrl-C was pressed. `poll()` raises KeyboardInterrupt if so, once."""

    def __init__(self) -> None:
        self.requested = False
        self.raised = (
            False  # at once; C code may have dropped it or made another error of it
        )

    def poll(self) -> None:
        if self.requested:
            self.requested = False
            raise KeyboardInterrupt


_UNINTERRUPTED: set[CodeType] = set()


def uninterrupted(function: F) -> F:
    """A function in which no second Ctrl-C strikes: it would leave a lock or a handler behind."""
    _UNINTERRUPTED.add(function.__code__)
    return function


class _Deferral:
    """Between enter and exit the first Ctrl-C only asks to stop.

    It could otherwise strike inside a call that C code makes, where Python drops it or turns it
    into another error. A second one before `poll` raises at once, and once more at the exit where
    that happens to it; but not while handlers are changed, or the old one would not come back.
    """

    current: Interrupt | None = None  # of the outermost block of the main thread

    @uninterrupted
    def __enter__(self) -> Interrupt:
        before = _handler(signal.SIGINT)
        ignored = (
            before == signal.SIG_IGN or before is None
        )  # the user, or C code, wants it so
        main = threading.current_thread() is threading.main_thread()
        self.before: Any = None
        if main and _Deferral.current is not None:
            return _Deferral.current
        interrupt = Interrupt()
        if main and not ignored:
            _set_handler(signal.SIGINT, functools.partial(_handle, interrupt, before))
            self.before, _Deferral.current = (
                before,
                interrupt,
            )  # no Ctrl-C strikes in between
        return interrupt

    @uninterrupted
    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self.before is None:
            return
        interrupt, _Deferral.current = _Deferral.current, None
        _set_handler(signal.SIGINT, self.before)
        if interrupt is None or isinstance(error, KeyboardInterrupt):
            return
        if (
            interrupt.requested or interrupt.raised
        ):  # after the last step, or beside an error
            raise KeyboardInterrupt from error


def _handle(
    interrupt: Interrupt, before: Any, number: int, frame: FrameType | None
) -> None:
    if callable(before) and before is not signal.default_int_handler:
        before(number, frame)
    if interrupt.requested and not _is_uninterrupted(frame):
        interrupt.requested, interrupt.raised = False, True
        raise KeyboardInterrupt
    interrupt.requested = True


def _is_uninterrupted(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code not in _UNINTERRUPTED:
        frame = frame.f_back
    return frame is not None


def interruptible() -> _Deferral:
    """A block in which Ctrl-C is noted, and raised where `poll` is called or at the end.

    A handler of the user's is called as well, and every handler is back afterwards. In another
    thread than the main one signals do not arrive, and nothing is installed. Inside another such
    block it is that one.

    >>> with interruptible() as interrupt:
    ...     interrupt.poll()  # between two steps
    """
    return _Deferral()


def deferring(function: Callable[P, T]) -> Callable[P, T]:
    """A function that notes Ctrl-C and raises KeyboardInterrupt at a step boundary or its end."""

    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> T:
        with interruptible():
            return function(*given, **named)

    return run
