"""Initializers that draw, whatever the shape: normal, uniform, orthogonal."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.fields import random_seed
from fnn.core.layer import along
from fnn.initializers.initializer import Initializer, Shape, draw_key, require_rank
from fnn.runtime.initial_values import normal, orthonormal, truncated_normal, uniform


class RandomNormal(Initializer):
    """Normal numbers of this mean and standard deviation.

    >>> weight = RandomNormal(mean=2.0, stddev=0.5)(jax.random.key(0), (200, 200))
    >>> round(float(weight.mean()), 1), round(float(weight.std()), 1)
    (2.0, 0.5)
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return self.mean + self.stddev * normal(draw_key(self, key), shape, dtype)


class RandomUniform(Initializer):
    """Numbers from [minval, maxval), each equally likely.

    >>> weight = RandomUniform(2.0, 4.0)(jax.random.key(0), (200, 200))
    >>> bool(((weight >= 2) & (weight < 4)).all()), round(float(weight.mean()), 1)
    (True, 3.0)
    """

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return uniform(draw_key(self, key), shape, dtype, self.minval, self.maxval)


class TruncatedNormal(Initializer):
    """Normal numbers, drawn again where they are over two `stddev` from the mean.

    `stddev` is that of the whole normal curve; what comes out spreads 0.88 times as far.

    >>> weight = TruncatedNormal(stddev=1.0)(jax.random.key(0), (200, 200))
    >>> round(float(abs(weight).max()), 1), round(float(weight.std()), 2)
    (2.0, 0.88)
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        drawn = truncated_normal(draw_key(self, key), shape, dtype, -2.0, 2.0)
        return self.mean + self.stddev * drawn


class Orthogonal(Initializer):
    """gain * a random matrix of orthonormal columns, or of rows where these are fewer.

    All axes but the last are taken together as rows (Saxe et al. 2014).
    Raises ValueError if the weight has fewer than two axes.

    >>> weight = np.asarray(Orthogonal(gain=2.0)(jax.random.key(0), (4, 2)))
    >>> np.allclose(weight.T @ weight, 4 * np.eye(2), atol=1e-4)  # gain ** 2
    True
    """

    gain: float = 1.0
    seed: int | None = random_seed(default=None)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        require_rank(self, len(shape) >= 2, "at least 2 axes", shape)
        rows, columns = math.prod(shape[:-1]), shape[-1]
        full = jnp.promote_types(dtype, jnp.float32)  # no QR in half precision
        drawn = normal(
            draw_key(self, key), (max(rows, columns), min(rows, columns)), full
        )
        q, r = orthonormal(drawn)
        signs = (np if isinstance(r, np.ndarray) else jnp).sign(r.diagonal())
        q = q * along(signs, 2)  # else not every rotation is equally likely
        return (
            (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)
        )
