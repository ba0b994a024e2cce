"""Warnings that point at the user's line, not at one of fnn."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_receiver: ContextVar[Callable[[str], object] | None] = ContextVar(
    "receiver", default=None
)


def warn(message: str) -> None:
    """Warns at the nearest line outside of fnn, such as a call of `fit`.

    >>> with warnings.catch_warnings(record=True) as found:
    ...     warnings.simplefilter("always")
    ...     warn("look here")
    >>> found[0].message, found[0].filename == __file__
    (UserWarning('look here'), False)
    """
    receiver = _receiver.get()
    if receiver is not None:
        receiver(message)
        return
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level += 1
        frame = frame.f_back
    warnings.warn(message, stacklevel=level)


@contextlib.contextmanager
def sent_to(receiver: Callable[[str], object]) -> Iterator[None]:
    """A context in which warnings go to `receiver`, for a thread without a line of the user.

    >>> with sent_to(print):
    ...     warn("look here")
    look here
    """
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)
