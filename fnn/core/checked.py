"""Checked: the pair of every layer answers to natural mistakes before it computes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.context import Context
from fnn.core.operators import Operators


def check_pair(cls: type) -> None:
    """Puts the checks in front of what a class defines of `init` and `apply`.

    They look at types and cost nothing in what is compiled.
    """
    for name, check in (("init", _check_init), ("apply", _check_apply)):
        if name in vars(cls):
            setattr(cls, name, _checked(vars(cls)[name], check))


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(self: Any, *given: Any, **named: Any) -> Any:
        check(self, *given, **named)
        return function(self, *given, **named)

    return checked


def _check_init(layer: Any, *given: Any, **named: Any) -> None:
    key, x, *_ = (*given, None, None)
    dtype = getattr(key, "dtype", None)
    drawn = dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32
    )
    if key is not None and not drawn:
        raise TypeError(
            f"{type(layer).__name__}: expected a key of jax.random, received {_shown(key)}; do "
            "init(jax.random.key(0), x)"
        )
    _check_inputs(layer, x, "init(key, {})")


def _check_apply(layer: Any, *given: Any, **named: Any) -> None:
    _, state, x, ctx, *_ = (*given, *(None,) * 4)
    ctx = named.get("ctx", ctx)
    if ctx is not None and not isinstance(ctx, Context):
        raise TypeError(
            f"{type(layer).__name__}: expected a Context after the inputs, received {_shown(ctx)}; "
            "do apply(params, state, x, Context(train=True, key=key)), and nothing for inference"
        )
    if hasattr(state, "shape"):
        raise TypeError(
            f"{type(layer).__name__}: expected the state before the inputs, received "
            f"{_shown(state)}; do apply(params, state, x), with the state that init returned"
        )
    _check_inputs(layer, x, "apply(params, state, {})")


def _check_inputs(layer: Any, x: Any, call: str) -> None:
    leaves = jax.tree.leaves(x)
    if any(isinstance(leaf, Operators) for leaf in leaves):
        raise TypeError(
            f"{type(layer).__name__}: expected arrays, received a symbolic node; do call the layer "
            "itself on it, layer(x), and put inputs and outputs into a Model"
        )
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        shape = isinstance(x, (tuple, list)) and all(isinstance(n, int) for n in x)
        whole = f"jnp.zeros({tuple(x)})" if shape else "jnp.asarray(x)"
        raise TypeError(
            f"{type(layer).__name__}: expected arrays (or a tuple of them), received {_shown(x)}; "
            f"do {call.format(whole)}"
        )


def _shown(value: Any) -> str:
    """A value in an error: an array by its dtype and shape, anything else cut short."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array {value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
