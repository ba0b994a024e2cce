"""Scope: what holds the values of variables and the randomness while a function runs."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TypeVar

from jax import Array

S = TypeVar("S", bound="Scope")


class Scope:
    """A context manager in which variables are read from, and written to, one place.

    Scopes nest: a variable is read from the innermost scope that holds it.
    """

    def __enter__(self: S) -> S:
        _running.scopes.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _running.scopes.remove(self)

    def read(self, variable: object) -> Array | None:
        """The value of a variable here, None if this scope does not hold it."""
        return None

    def write(self, variable: object, value: Array) -> bool:
        """Sets the value of a variable here. False if this scope does not hold it."""
        return False

    def random_key(self) -> Array | None:
        """A fresh key for random numbers, None if this scope has no randomness."""
        return None


class _Running(threading.local):
    """The scopes that are entered now, of one thread."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []


_running = _Running()


def scopes() -> list[Scope]:
    """The scopes that are entered now, the innermost first."""
    return _running.scopes[::-1]


def scoped_key() -> Array | None:
    """A key from the innermost scope that has randomness."""
    for scope in scopes():
        key = scope.random_key()
        if key is not None:
            return key
    return None
