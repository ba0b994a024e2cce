"""Initializers that scale by the inputs and outputs of a weight: Glorot, He, LeCun."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.fields import one_of, positive, random_seed
from fnn.initializers.initializer import Initializer, Shape, draw_key
from fnn.runtime.initial_values import normal, truncated_normal, uniform

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform", "normal")
TRUNCATED_STDDEV = 0.87962566103423978  # of the standard normal, cut at -2 and 2


class VarianceScaling(Initializer):
    """Numbers around 0 of variance scale / fan, the fan being that of `mode`.

    `fan_in` counts the inputs that one output sums, `fan_out` the outputs that one input feeds:
    for a kernel `(*spatial, inputs, outputs)` both are times the spatial size. Kernels of another
    layout name their axes in `input_axes` and `output_axes`. "normal" is "truncated_normal".
    Raises ValueError for wrong arguments.

    >>> VarianceScaling(2.0, "fan_in", "uniform", seed=0)(None, (3, 4)).shape
    (3, 4)
    """

    scale: float = positive(default=1.0)
    mode: str = one_of(MODES, default="fan_in")
    distribution: str = one_of(DISTRIBUTIONS, default="truncated_normal")
    seed: int | None = random_seed(default=None)
    input_axes: tuple[int, ...] | None = None
    output_axes: tuple[int, ...] | None = None

    def validate(self) -> None:
        super().validate()

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[
            self.mode
        ]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        key = draw_key(self, key)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return uniform(key, shape, dtype, -limit, limit)
        if self.distribution == "untruncated_normal":
            return stddev * normal(key, shape, dtype)
        return (
            stddev / TRUNCATED_STDDEV * truncated_normal(key, shape, dtype, -2.0, 2.0)
        )


class _Scaled(Initializer):
    """`VarianceScaling` of a fixed scale, mode and distribution."""

    fixed: ClassVar[tuple[float, str, str]]

    seed: int | None = random_seed(default=None)
    input_axes: tuple[int, ...] | None = None
    output_axes: tuple[int, ...] | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        rule = VarianceScaling(
            *self.fixed, self.seed, self.input_axes, self.output_axes
        )
        return rule(key, shape, dtype)


class GlorotUniform(_Scaled):
    """Uniform within sqrt(6 / (fan_in + fan_out)) of 0 (Glorot and Bengio 2010, eq. 16).

    >>> weight = GlorotUniform()(jax.random.key(0), (200, 400))
    >>> round(float(abs(weight).max()), 3)  # sqrt(6 / 600)
    0.1
    """

    fixed = 1.0, "fan_avg", "uniform"


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010, eq. 12).

    >>> weight = GlorotNormal()(jax.random.key(0), (100, 100))
    >>> round(float(weight.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    fixed = 1.0, "fan_avg", "truncated_normal"


class HeUniform(_Scaled):
    """Uniform within sqrt(6 / fan_in) of 0, for relu (He et al. 2015).

    >>> weight = HeUniform()(jax.random.key(0), (600, 100))
    >>> round(float(abs(weight).max()), 3)  # sqrt(6 / 600)
    0.1
    """

    fixed = 2.0, "fan_in", "uniform"


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for relu (He et al. 2015, eq. 10).

    >>> weight = HeNormal()(jax.random.key(0), (200, 100))
    >>> round(float(weight.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    fixed = 2.0, "fan_in", "truncated_normal"


class LecunUniform(_Scaled):
    """Uniform within sqrt(3 / fan_in) of 0 (LeCun et al. 1998, section 4.6).

    >>> weight = LecunUniform()(jax.random.key(0), (300, 200))
    >>> round(float(abs(weight).max()), 3)  # sqrt(3 / 300)
    0.1
    """

    fixed = 1.0, "fan_in", "uniform"


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in, for selu (Klambauer et al. 2017).

    >>> weight = LecunNormal()(jax.random.key(0), (100, 200))
    >>> round(float(weight.std()), 2)  # sqrt(1 / 100)
    0.1
    """

    fixed = 1.0, "fan_in", "truncated_normal"


def compute_fans(
    shape: Shape,
    input_axes: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
) -> tuple[int, int]:
    """How many inputs an output of a weight sums, and how many outputs an input feeds.

    >>> compute_fans((3, 3, 16, 32))
    (144, 288)
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(
            shape[i] for i in output_axes
        )
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    *spatial, inputs, outputs = shape
    return math.prod(spatial) * inputs, math.prod(spatial) * outputs
