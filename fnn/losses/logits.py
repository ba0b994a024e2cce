"""Logits in the form from which a loss of probabilities is computed without rounding errors."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

# From what a loss of probabilities p can be computed instead:
# "scores"  log p, plus any constant that is the same for all classes
# "log"     log p
# "odds"    log(p / (1 - p))
Form: TypeAlias = Literal["scores", "log", "odds"]


def in_form(
    form: Form,
    activation: str,
    z: Array,
) -> Array:
    """The logits `z` of p = activation(z), "softmax" or "sigmoid", in the given form.

    >>> odds = jax.jit(lambda z: in_form("odds", "softmax", z))
    >>> odds(jnp.array([[0.0, 3.0]])).tolist()  # log(p / (1 - p))
    [[-3.0, 3.0]]
    """
    if activation == "sigmoid":
        if form == "odds":
            return z
        return jax.nn.log_sigmoid(z)
    if form == "odds":
        return _softmax_odds(z)
    if form == "log":
        return jax.nn.log_softmax(z)
    return z


def _softmax_odds(z: Array) -> Array:
    """log(p / (1 - p)) of p = softmax(z): z - logsumexp of the other classes."""
    index = jnp.argmax(z, -1)  # (...)
    largest = jax.nn.one_hot(index, z.shape[-1], dtype=bool)  # (..., classes)
    # (..., 1)
    of_all = jax.nn.logsumexp(z, -1, keepdims=True)
    without_largest = jnp.where(largest, -jnp.inf, z)
    of_all_but_largest = jax.nn.logsumexp(without_largest, -1, keepdims=True)
    # Any p but the largest is at most 1/2, so that 1 - p loses no digits.
    log_p = jnp.where(largest, -1, z - of_all)
    of_others = of_all + jnp.log1p(-jnp.exp(log_p))
    return z - jnp.where(largest, of_all_but_largest, of_others)
