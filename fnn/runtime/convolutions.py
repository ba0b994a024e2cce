"""Convolutions: which of them are computed as products of matrices on CPU.

XLA runs many convolutions on one core, and their gradients many times slower inside a loop. So in
a loop all are products (`in_loop`), and a training step whose every convolution is fast as a
product has none at all, and itself runs in a loop (`with_products`). Which of them are fast that
way, `fnn/layers/shared/spatial.py` knows.
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
_products: ContextVar[str] = ContextVar("products", default="none")  # or "fast", "all"


@contextlib.contextmanager
def watched() -> Iterator[list[bool]]:
    """A block that collects, for each convolution that is traced, whether a product is fast."""
    seen: list[bool] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def with_products(function: Callable[P, T]) -> Callable[P, T]:
    """A function, traced with products for the convolutions that are fast as one."""
    return _traced_with("fast", function)


def in_loop(function: Callable[P, T]) -> Callable[P, T]:
    """The body of a loop, traced with products for all convolutions that can be one."""
    return _traced_with("all", function)


def _traced_with(products: str, function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> T:
        token = _products.set(products)
        try:
            return function(*given, **named)
        finally:
            _products.reset(token)

    return run


def is_product(fast: bool, possible: bool) -> bool:
    """Whether to compute a convolution as a product; the block around learns of it."""
    wanted = _products.get()
    seen = _seen.get()
    if seen is not None:
        seen.append(fast or (possible and wanted == "all"))
    return (fast and wanted != "none") or (possible and wanted == "all")
