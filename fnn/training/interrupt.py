"""Interrupts: Ctrl-C ends a run at a step boundary, never inside a step, and is never lost."""

from __future__ import annotations

import contextlib
import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeAlias, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
Handler: TypeAlias = (
    Any  # what `signal.getsignal` returns: a function, an enum, or None
)

# The C functions: the wrappers in `signal` convert each handler to an enum, which takes
# longer than the prediction of one example.
_set_handler = inspect.unwrap(signal.signal)
_get_handler = inspect.unwrap(signal.getsignal)


TERMINATED = 128 + signal.SIGTERM  # the exit status of a process that SIGTERM ended


class Interrupt:
    """Whether Ctrl-C was pressed. `poll()` raises KeyboardInterrupt if so, once.

    It raises SystemExit after SIGTERM, in a block of `terminable`.
    """

    def __init__(self) -> None:
        self.requested = False
        self.terminated = False
        # Raised at once; C code may have dropped it or replaced it by another error.
        self.raised = False
        self.at_boundary: BaseException | None = None  # what `poll` has raised

    def poll(self) -> None:
        if self.terminated:
            self.at_boundary = SystemExit(TERMINATED)
            raise self.at_boundary
        if self.requested:
            self.requested = False
            self.at_boundary = KeyboardInterrupt()
            raise self.at_boundary


_UNINTERRUPTED: set[CodeType] = set()


def uninterrupted(function: F) -> F:
    """A function that a second Ctrl-C does not interrupt: a lock or handler would remain."""
    _UNINTERRUPTED.add(function.__code__)
    return function


class _Deferral:
    """A context in which the first Ctrl-C only requests to stop.

    Otherwise it could arrive in Python code called from C code, which drops it or turns
    it into another error. A second Ctrl-C before `poll` raises at once, and again at the
    exit in case C code dropped it; but not while handlers are changed, or the old handler
    would not be restored.
    """

    current: Interrupt | None = None  # of the outermost block of the main thread

    @uninterrupted
    def __enter__(self) -> Interrupt:
        before = _get_handler(signal.SIGINT)
        # Set by the user, or by C code.
        ignored = before == signal.SIG_IGN or before is None
        is_main = threading.current_thread() is threading.main_thread()
        self.before: Handler = None
        if is_main and _Deferral.current is not None:
            return _Deferral.current
        interrupt = Interrupt()
        if is_main and not ignored:
            _set_handler(signal.SIGINT, functools.partial(_handle, interrupt, before))
            # No Ctrl-C raises in between, since this function is uninterrupted.
            self.before = before
            _Deferral.current = interrupt
        return interrupt

    @uninterrupted
    def __exit__(
        self,
        kind: object,
        error: BaseException | None,
        traceback: object,
    ) -> None:
        if self.before is None:
            return
        interrupt = _Deferral.current
        _Deferral.current = None
        _set_handler(signal.SIGINT, self.before)
        if interrupt is None or isinstance(error, KeyboardInterrupt):
            return
        # Pressed after the last step, or while an error was raised.
        if interrupt.requested or interrupt.raised:
            raise KeyboardInterrupt from error


def _handle(
    interrupt: Interrupt,
    before: Handler,
    number: int,
    frame: FrameType | None,
) -> None:
    """The handler of Ctrl-C in a block; calls the user's handler too."""
    if callable(before) and before is not signal.default_int_handler:
        before(number, frame)
    if interrupt.requested and not _is_uninterrupted(frame):
        interrupt.requested = False
        interrupt.raised = True
        raise KeyboardInterrupt
    interrupt.requested = True


def _is_uninterrupted(frame: FrameType | None) -> bool:
    """Whether an uninterrupted function is running."""
    while frame is not None and frame.f_code not in _UNINTERRUPTED:
        frame = frame.f_back
    return frame is not None


def interruptible() -> _Deferral:
    """A block in which Ctrl-C is recorded, and raised at the next `poll` or at the end.

    A handler of the user is called too, and is restored afterwards. In other threads than
    the main one signals do not arrive, and nothing is installed. A block inside another
    uses the outer one.

    >>> with interruptible() as interrupt:
    ...     interrupt.poll()  # between two steps
    """
    return _Deferral()


@contextlib.contextmanager
def terminable(interrupt: Interrupt, wanted: bool = True) -> Iterator[None]:
    """A block in which SIGTERM, if `wanted`, ends the training at the next `poll`.

    At the end of the block the signal is sent again, so that the process ends as by SIGTERM, or
    the user's handler runs.
    """
    before = _get_handler(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    # Ignored by the user, or set by C code.
    unheard = before in (signal.SIG_IGN, None)
    # JAX's own: several processes end after the same step (`Trainer`).
    unheard |= jax.distributed.is_initialized()
    if not wanted or not is_main or unheard:
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.terminated = True

    _set_handler(signal.SIGTERM, note)
    try:
        yield
    finally:
        _set_handler(signal.SIGTERM, before)
        if interrupt.terminated:
            interrupt.terminated = False
            signal.raise_signal(signal.SIGTERM)


def deferring(function: Callable[P, T]) -> Callable[P, T]:
    """A function in which Ctrl-C raises KeyboardInterrupt at a step boundary or its end."""

    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> T:
        with interruptible():
            return function(*given, **named)

    return run
