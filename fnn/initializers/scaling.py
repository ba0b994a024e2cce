"""Initializers that scale by the number of inputs and outputs: Glorot, He, LeCun."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fnn.core.fields import one_of, positive, random_seed
from fnn.initializers.initializer import Initializer, Shape, draw_key
from fnn.runtime.initial_values import normal, truncated_normal, uniform

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform", "normal")
TRUNCATED_STDDEV = 0.87962566103423978  # of the standard normal, cut at -2 and 2


class VarianceScaling(Initializer):
    """Random values with mean 0 and variance scale / fan, where `mode` chooses the fan.

    "fan_in" is the number of inputs of each output, "fan_out" the number of outputs of each input,
    "fan_avg" their mean. For a kernel `(*spatial, inputs, outputs)` both include the spatial size;
    for other layouts, name the axes in `input_axes` and `output_axes`. "normal" is
    "truncated_normal".
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

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = float(fan_in)
        if self.mode == "fan_out":
            fan = float(fan_out)
        elif self.mode == "fan_avg":
            fan = (fan_in + fan_out) / 2
        stddev = math.sqrt(self.scale / max(1.0, fan))  # an empty weight has fan 0
        key = draw_key(self, key)
        values: Array
        if self.distribution == "uniform":
            # The variance of a uniform distribution is limit**2 / 3.
            limit = math.sqrt(3.0) * stddev
            values = uniform(key, shape, dtype, -limit, limit)
        elif self.distribution == "untruncated_normal":
            values = stddev * normal(key, shape, dtype)
        else:
            # Truncation lowers the standard deviation, which the division restores.
            drawn = truncated_normal(key, shape, dtype, -2.0, 2.0)
            values = stddev / TRUNCATED_STDDEV * drawn
        return values


class _Scaled(Initializer):
    """`VarianceScaling` of a fixed scale, mode and distribution."""

    scale: ClassVar[float]
    mode: ClassVar[str]
    distribution: ClassVar[str]

    seed: int | None = random_seed(default=None)
    input_axes: tuple[int, ...] | None = None
    output_axes: tuple[int, ...] | None = None

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        rule = VarianceScaling(
            self.scale,
            self.mode,
            self.distribution,
            self.seed,
            self.input_axes,
            self.output_axes,
        )
        return rule(key, shape, dtype)


class GlorotUniform(_Scaled):
    """Uniform within sqrt(6 / (fan_in + fan_out)) of 0 (Glorot and Bengio 2010, eq. 16).

    >>> weight = GlorotUniform()(jax.random.key(0), (200, 400))
    >>> round(float(abs(weight).max()), 3)  # sqrt(6 / 600)
    0.1
    """

    scale = 1.0
    mode = "fan_avg"
    distribution = "uniform"


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010, eq. 12).

    >>> weight = GlorotNormal()(jax.random.key(0), (100, 100))
    >>> round(float(weight.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    scale = 1.0
    mode = "fan_avg"
    distribution = "truncated_normal"


class HeUniform(_Scaled):
    """Uniform within sqrt(6 / fan_in) of 0, for relu (He et al. 2015).

    >>> weight = HeUniform()(jax.random.key(0), (600, 100))
    >>> round(float(abs(weight).max()), 3)  # sqrt(6 / 600)
    0.1
    """

    scale = 2.0
    mode = "fan_in"
    distribution = "uniform"


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for relu (He et al. 2015, eq. 10).

    >>> weight = HeNormal()(jax.random.key(0), (200, 100))
    >>> round(float(weight.std()), 2)  # sqrt(2 / 200)
    0.1
    """

    scale = 2.0
    mode = "fan_in"
    distribution = "truncated_normal"


class LecunUniform(_Scaled):
    """Uniform within sqrt(3 / fan_in) of 0 (LeCun et al. 1998, section 4.6).

    >>> weight = LecunUniform()(jax.random.key(0), (300, 200))
    >>> round(float(abs(weight).max()), 3)  # sqrt(3 / 300)
    0.1
    """

    scale = 1.0
    mode = "fan_in"
    distribution = "uniform"


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in, for selu (Klambauer et al. 2017).

    >>> weight = LecunNormal()(jax.random.key(0), (100, 200))
    >>> round(float(weight.std()), 2)  # sqrt(1 / 100)
    0.1
    """

    scale = 1.0
    mode = "fan_in"
    distribution = "truncated_normal"


class Fans(NamedTuple):
    """How many inputs each output of a weight has, and how many outputs each input."""

    fan_in: int
    fan_out: int


def compute_fans(
    shape: Shape,
    input_axes: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
) -> Fans:
    """The number of inputs of each output of a weight, and of outputs of each input.

    >>> compute_fans((3, 3, 16, 32))
    Fans(fan_in=144, fan_out=288)
    """
    if input_axes is not None and output_axes is not None:
        fan_in = math.prod(shape[axis] for axis in input_axes)
        fan_out = math.prod(shape[axis] for axis in output_axes)
        return Fans(fan_in, fan_out)
    if len(shape) < 2:  # a bias: each value is an input and an output
        size = math.prod(shape)
        return Fans(size, size)
    *spatial, inputs, outputs = shape
    positions = math.prod(spatial)
    return Fans(positions * inputs, positions * outputs)
