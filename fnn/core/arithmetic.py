"""The few lines of mathematics that leaf layers share."""

from __future__ import annotations

from typing import Any

from jax import Array

from fnn.core.config import resolve
from fnn.core.layer import Layer


def activate(activation: Any, y: Array) -> Array:
    """The activation, a name, a function or a layer without weights, of `y`; `y` for None."""
    found = resolve("activation", activation)
    if isinstance(found, Layer):
        return found.apply({}, {}, y)[0]
    return y if found is None else found(y)


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` shaped to broadcast along one axis of an array of `ndim` axes (strict JAX)."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)
