"""The few lines of mathematics that leaf layers share."""

from __future__ import annotations

from typing import Any

from jax import Array

from fnn.core.config import resolve


def activate(activation: Any, y: Array) -> Array:
    """The activation, by name or as a function, of `y`; `y` itself for None."""
    return y if activation is None else resolve("activation", activation)(y)


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` shaped to broadcast along one axis of an array of `ndim` axes (strict JAX)."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)
