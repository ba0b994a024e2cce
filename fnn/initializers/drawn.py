"""Random initializers that do not scale by the shape: normal, uniform, orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from fnn.core.fields import random_seed
from fnn.initializers.initializer import Initializer, Shape, check_shape, draw_key
from fnn.runtime.initial_values import normal, orthonormal, truncated_normal, uniform
from fnn.runtime.placement import along


class RandomNormal(Initializer):
    """Normally distributed values with this mean and standard deviation.

    >>> weight = RandomNormal(mean=2.0, stddev=0.5)(jax.random.key(0), (200, 200))
    >>> round(float(weight.mean()), 1), round(float(weight.std()), 1)
    (2.0, 0.5)
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        key = draw_key(self, key)
        values: Array = self.mean + self.stddev * normal(key, shape, dtype)
        return values


class RandomUniform(Initializer):
    """Values from the uniform distribution over [minval, maxval).

    >>> weight = RandomUniform(2.0, 4.0)(jax.random.key(0), (200, 200))
    >>> bool(((weight >= 2) & (weight < 4)).all()), round(float(weight.mean()), 1)
    (True, 3.0)
    """

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        key = draw_key(self, key)
        values: Array = uniform(key, shape, dtype, self.minval, self.maxval)
        return values


class TruncatedNormal(Initializer):
    """Normally distributed values, without those farther than two `stddev` from the mean.

    `stddev` is that of the distribution before truncation; that of the values is 0.88 times it.

    >>> weight = TruncatedNormal(stddev=1.0)(jax.random.key(0), (200, 200))
    >>> round(float(abs(weight).max()), 1), round(float(weight.std()), 2)
    (2.0, 0.88)
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = random_seed(default=None)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        key = draw_key(self, key)
        drawn = truncated_normal(key, shape, dtype, -2.0, 2.0)
        values: Array = self.mean + self.stddev * drawn
        return values


class Orthogonal(Initializer):
    """gain * a random matrix with orthonormal columns, or rows if there are fewer rows.

    All axes but the last count as one axis of rows (Saxe et al. 2014).
    Raises ValueError if the weight has fewer than two axes.

    >>> weight = np.asarray(Orthogonal(gain=2.0)(jax.random.key(0), (4, 2)))
    >>> np.allclose(weight.T @ weight, 4 * np.eye(2), atol=1e-4)  # gain ** 2
    True
    """

    gain: float = 1.0
    seed: int | None = random_seed(default=None)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        check_shape(self, len(shape) >= 2, "at least 2 axes", shape)
        rows = math.prod(shape[:-1])
        columns = shape[-1]
        long, short = max(rows, columns), min(rows, columns)
        full = jnp.promote_types(dtype, jnp.float32)  # there is no QR in half precision
        drawn = normal(draw_key(self, key), (long, short), full)
        q, r = orthonormal(drawn)  # (long, short), (short, short)
        sign: Callable[..., Array] = jnp.sign
        if isinstance(r, np.ndarray):
            sign = np.sign
        # Without these signs some rotations are likelier than others.
        q = q * along(sign(r.diagonal()), 2)
        if rows < columns:
            q = q.T  # (rows, columns)
        values: Array = (self.gain * q).reshape(shape).astype(dtype)
        return values
