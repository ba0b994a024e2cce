"""Drawing weights: initializers of (key, shape, dtype), and those of (shape, dtype) as in Keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp


def keyed(initializer: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer of (key, shape, dtype); one of (shape, dtype=None), as in Keras, made so.

    What takes three stays as it is. Raises TypeError for a function of neither form.

    >>> keyed(lambda shape, dtype=None: jnp.ones(shape, dtype))(None, (2,), "float32").tolist()
    [1.0, 1.0]
    """
    try:
        signature = inspect.signature(initializer)
    except (TypeError, ValueError):  # of functions in C
        return initializer
    first = next(iter(signature.parameters), "")
    if first != "shape" and _takes(signature, 0, 1, 2):
        return initializer
    if _takes(signature, 0, dtype=1):
        return lambda key, shape, dtype: jnp.asarray(initializer(shape, dtype=dtype), dtype)
    if first == "shape" and _takes(signature, 0):
        return lambda key, shape, dtype: jnp.asarray(initializer(shape), dtype)
    raise TypeError(
        "expected an initializer that is called as (key, shape, dtype), or as (shape, dtype=None), "
        f"received {initializer!r} of {signature}; do e.g. "
        "lambda key, shape, dtype: 0.01 * jax.random.normal(key, shape, dtype)"
    )


def _takes(signature: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
