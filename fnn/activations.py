"""Activations: functions of an array, by Keras's names."""

from __future__ import annotations

import jax
from jax import Array

from fnn.core.config import register


@register(kind="activation")
def relu(x: Array) -> Array:
    """max(x, 0)."""
    return jax.nn.relu(x)


@register(kind="activation")
def softmax(x: Array) -> Array:
    return jax.nn.softmax(x)


@register(kind="activation")
def sigmoid(x: Array) -> Array:
    return jax.nn.sigmoid(x)
