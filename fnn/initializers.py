"""Initializers: fresh weights, by Keras's names."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core.config import register
from fnn.core.config import Value


class Initializer(Value):
    kind = "initializer"


class Zeros(Initializer):
    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jnp.zeros(shape, dtype)


class GlorotUniform(Initializer):
    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        limit = math.sqrt(6 / (shape[0] + shape[-1]))
        return random.uniform(key, shape, dtype, -limit, limit)


register(Zeros, "zeros")
register(GlorotUniform, "glorot_uniform")
