"""Convolutions: which of them are computed as products of matrices on CPU.

XLA runs many convolutions on one core, and their gradients many times slower inside a loop. So in
a loop all are products (`in_loop`), and a training step whose every convolution is fast as a
product has none at all, and itself runs in a loop (`products`). Which of them are fast that
way, `fnn/layers/shared/spatial.py` knows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")

# "none", "fast" or "all". What JAX has compiled for a function inside holds for one of them alone.
_products = jax.make_user_context("none")  # type: ignore[no-untyped-call]


class NoProductError(BaseException):
    """A step that was to have products alone has come to a convolution that is slow as one.

    No Exception, so that `call` of a user's layer does not take it for an error of its own.
    """


def products(wanted: bool) -> AbstractContextManager[object]:
    """A block in which every convolution is a product, if `wanted`, or raises NoProductError.

    Whoever traces a function in it calls that in such a block too.
    """
    block: AbstractContextManager[object] = _products("fast" if wanted else "none")
    return block


def in_loop(function: Callable[P, T]) -> Callable[P, T]:
    """The body of a loop, traced with products for all convolutions that can be one."""

    @functools.wraps(function)
    def run(*given: P.args, **named: P.kwargs) -> T:
        with _products("all"):
            return function(*given, **named)

    return run


def is_in_loop() -> bool:
    """Whether the body of a loop is traced."""
    return bool(_products.value == "all")


def is_product(fast: bool, possible: bool) -> bool:
    """Whether to compute a convolution as a product. Raises as `products` says."""
    if is_in_loop():
        return fast or possible
    if _products.value == "fast" and not fast:
        raise NoProductError
    return bool(_products.value == "fast")
