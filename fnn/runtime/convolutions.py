"""Convolutions: whether a training step on CPU computes them as products of matrices.

XLA runs many convolutions on one core, and all of them many times slower in a loop. So a step
whose every convolution is fast as a product has none at all, and runs in loops (`suits` in
`fnn/layers/shared/spatial.py` says which are).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_seen: ContextVar[list[bool] | None] = ContextVar("seen", default=None)
_wanted: ContextVar[bool] = ContextVar("wanted", default=False)


@contextlib.contextmanager
def watched() -> Iterator[list[bool]]:
    """A block that collects, for each convolution that is traced, whether a product suits it."""
    seen: list[bool] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def with_products(function: Callable[P, T]) -> Callable[P, T]:
    """The function with products for the convolutions that they suit."""

    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> T:
        token = _wanted.set(True)
        try:
            return function(*given, **named)
        finally:
            _wanted.reset(token)

    return run


def is_product(suits: bool) -> bool:
    """Whether a convolution is to be a product, if one suits it; the block around learns of it."""
    seen = _seen.get()
    if seen is not None:
        seen.append(suits)
    return suits and _wanted.get()
