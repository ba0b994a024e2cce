"""Errors of a command: one line on standard error, and an exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

ERRORS = (OSError, ValueError, TypeError, RuntimeError, ImportError, MemoryError)


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Inside, an error of the user is printed as one line, and the status is 1.

    Characters that the encoding of the output lacks are printed as `?`. A reader that closes the
    pipe, such as `head`, ends the command without a message.

    >>> with one_line_errors("predict"):
    ...     raise ValueError("no such file")
    Traceback (most recent call last):
    SystemExit: 1
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would write what is left, and fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        sys.exit(1)
    except ERRORS as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"python -m fnn {command}: {message}", file=sys.stderr)
        sys.exit(1)
