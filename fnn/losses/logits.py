"""Logits in the form that a loss of probabilities is computed from without rounding."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

# What a loss of probabilities p can be computed from:
# "scores"  log p, up to a number that all classes share
# "log"     log p
# "odds"    log(p / (1 - p))
Form: TypeAlias = Literal["scores", "log", "odds"]


def in_form(form: Form, activation: str, z: Array) -> Array:
    """The logits `z` of p = activation(z), "softmax" or "sigmoid", in the form that a loss takes.

    >>> in_form("odds", "softmax", jnp.array([[0.0, 3.0]])).tolist()  # log(p / (1 - p))
    [[-3.0, 3.0]]
    """
    if activation == "sigmoid":
        return z if form == "odds" else jax.nn.log_sigmoid(z)
    if form == "odds":
        return _odds(z)
    return jax.nn.log_softmax(z) if form == "log" else z


def _odds(z: Array) -> Array:
    """log(p / (1 - p)) of p = softmax(z): z - log(sum of exp(z) of all other classes)."""
    top = jax.nn.one_hot(jnp.argmax(z, -1), z.shape[-1], dtype=bool)
    total = jax.nn.logsumexp(z, -1, keepdims=True)
    others = jax.nn.logsumexp(jnp.where(top, -jnp.inf, z), -1, keepdims=True)
    # All but the largest p are at most 1/2, so that 1 - p loses no digits.
    below = total + jnp.log1p(-jnp.exp(jnp.where(top, -1, z - total)))
    return z - jnp.where(top, others, below)
