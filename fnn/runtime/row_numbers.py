"""Row numbers: the places of a batch's examples in the whole data, for messages of checks."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import numpy as np

_numbers: contextvars.ContextVar[np.ndarray | None] = contextvars.ContextVar(
    "numbers", default=None
)


@contextlib.contextmanager
def numbered(numbers: np.ndarray) -> Iterator[None]:
    """A context in which row i of an array is example `numbers[i]` of the data.

    >>> with numbered(np.array([40, 70])):
    ...     print(row_number(1))
    70
    """
    token = _numbers.set(numbers)
    try:
        yield
    finally:
        _numbers.reset(token)


def row_number(row: int) -> int:
    """The number of a row of the current batch in the whole data; outside of one, `row`."""
    numbers = _numbers.get()
    if numbers is None:
        return row
    return int(numbers[row])
