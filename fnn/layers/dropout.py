"""Dropout and noise: layers that perturb their inputs in training only."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, not_negative, one_of, positive, random_seed
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree
from fnn.layers.shared.dropping import drop, seeded_key
from fnn.layers.shared.spatial import DATA_FORMATS, Spatial, spatial_axes

# Every layer here is the identity in inference and at rate 0, and then needs no key. A `seed` is
# folded into the key of the call. Unlike in Keras it does not replace that key, since there is no
# counter that would change it from call to call.

NoiseShape: TypeAlias = tuple[int | None, ...] | None


class WithNoiseShape(Protocol):
    """A layer with a field `noise_shape`."""

    @property
    def noise_shape(self) -> NoiseShape: ...


BELOW_ONE = Rule(
    "rate",
    lambda layer: layer.rate < 1,
    "to be below 1",
    "use Dropout(1.0) to drop everything",
)


def _check_noise_shape(layer: WithNoiseShape, x: SpecTree) -> None:
    _noise_shape(layer, x.shape, batch=False)


class Dropout(Layer):
    """In training 0 with probability `rate`, else x / (1 - rate).   same shape -> same shape

    `rate` is the fraction that is dropped, not the fraction that is kept. `noise_shape` has a size
    for each axis: 1 if all entries along it are dropped together, None for the size of x.
    Raises ValueError unless `rate` is between 0 and 1 and `noise_shape` fits the inputs, and in
    training without a key (Srivastava et al. 2014).

    >>> init, apply = Dropout(0.5)
    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> sorted(set(apply({}, {}, jnp.ones((4, 4)), ctx)[0].ravel().tolist()))
    [0.0, 2.0]
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    input_rules = (_check_noise_shape,)

    rate: float = fraction()
    noise_shape: NoiseShape = positive(default=None)
    seed: int | None = random_seed(default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        shape = _noise_shape(self, x.shape, batch=ctx.train)
        y = drop(self, x, self.rate, ctx, shape=shape)
        return y, state


class _SpatialDropout(Spatial):
    masking = "pass"
    rate: float = fraction()

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        shape = list(x.shape)
        for axis in spatial_axes(self):
            shape[axis] = 1  # one draw for all positions: (batch, 1, ..., channels)
        y = drop(self, x, self.rate, ctx, shape=tuple(shape))
        return y, state


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole channels: one draw for all steps.   (batch, time, channels) -> same

    Raises as `Dropout`, and ValueError in `init` unless the inputs have three axes
    (Tompson et al. 2015).

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = SpatialDropout1D(0.5).apply({}, {}, jnp.ones((2, 6, 8)), ctx)
    >>> bool((y == y[:, :1]).all()), sorted(set(y.ravel().tolist()))
    (True, [0.0, 2.0])
    """

    spatial = 1

    seed: int | None = random_seed(default=None)


class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole channels of images.   (batch, height, width, channels) -> same

    `data_format="channels_first"` takes (batch, channels, height, width).
    Raises as `Dropout`, and ValueError in `init` unless the inputs have four axes.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = SpatialDropout2D(0.5).apply({}, {}, jnp.ones((2, 4, 4, 8)), ctx)
    >>> bool((y == y[:, :1, :1]).all())  # a channel is there or it is not
    True
    """

    spatial = 2

    data_format: str | None = one_of(DATA_FORMATS, default=None)
    seed: int | None = random_seed(default=None)


class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole channels of volumes.   (batch, depth, height, width, channels) -> same

    `data_format="channels_first"` takes (batch, channels, depth, height, width).
    Raises as `Dropout`, and ValueError in `init` unless the inputs have five axes.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = SpatialDropout3D(0.5).apply({}, {}, jnp.ones((2, 3, 3, 3, 8)), ctx)
    >>> bool((y == y[:, :1, :1, :1]).all())
    True
    """

    spatial = 3

    data_format: str | None = one_of(DATA_FORMATS, default=None)
    seed: int | None = random_seed(default=None)


class GaussianDropout(Layer):
    """x * normal(1, sqrt(rate / (1 - rate))) in training.   same shape -> same shape

    It has the mean and variance of `Dropout` at the same rate (Srivastava et al. 2014, section 10).
    Raises ValueError unless `rate` is at least 0 and below 1, and in training without a key.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = GaussianDropout(0.5).apply({}, {}, jnp.ones((200, 200)), ctx)
    >>> round(float(y.mean()), 1), round(float(y.std()), 1)
    (1.0, 1.0)
    """

    masking = "pass"
    field_rules = (BELOW_ONE,)

    rate: float = fraction()
    seed: int | None = random_seed(default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        if not ctx.train or self.rate == 0:
            return x, state
        stddev = math.sqrt(self.rate / (1 - self.rate))
        key = seeded_key(self, ctx)
        noise = random.normal(key, x.shape, x.dtype)
        return x * (1 + stddev * noise), state


class GaussianNoise(Layer):
    """x + normal(0, stddev) in training.   same shape -> same shape

    `stddev` may be above 1 (not in Keras). Raises ValueError if it is below 0, and in training
    without a key.

    >>> x, ctx = jnp.zeros((200, 200)), fnn.Context(train=True, key=jax.random.key(1))
    >>> round(float(GaussianNoise(0.5).apply({}, {}, x, ctx)[0].std()), 1)
    0.5
    """

    masking = "pass"

    stddev: float = not_negative()
    seed: int | None = random_seed(default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        if not ctx.train or self.stddev == 0:
            return x, state
        key = seeded_key(self, ctx)
        noise = random.normal(key, x.shape, x.dtype)
        return x + self.stddev * noise, state


SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805  # the limit of selu at -infinity


class AlphaDropout(Layer):
    """Dropout that keeps mean 0 and variance 1, for networks of `selu` and `lecun_normal`.

    Dropped entries become the lowest value of selu; then all are scaled and shifted. `noise_shape`
    is as in `Dropout`.
    Raises ValueError unless `rate` is at least 0 and below 1 and `noise_shape` fits the inputs,
    and in training without a key (Klambauer et al. 2017, section 3).

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = AlphaDropout(0.5).apply({}, {}, jnp.zeros((8, 8)), ctx)
    >>> sorted({round(v, 4) for v in y.ravel().tolist()})  # kept and dropped: none is 0
    [-0.7792, 0.7792]
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    field_rules = (BELOW_ONE,)
    input_rules = (_check_noise_shape,)

    rate: float = fraction()
    noise_shape: NoiseShape = positive(default=None)
    seed: int | None = random_seed(default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        if not ctx.train or self.rate == 0:
            return x, state
        key = seeded_key(self, ctx)
        shape = _noise_shape(self, x.shape, batch=True)
        kept = random.bernoulli(key, 1 - self.rate, shape)
        y = jnp.where(kept, x, SELU_FLOOR)
        # The factor restores the variance and the shift the mean (section 3 of the paper).
        variance = (1 - self.rate) * (1 + self.rate * SELU_FLOOR**2)
        factor = variance**-0.5
        y = factor * y - factor * SELU_FLOOR * self.rate
        return y, state


def _noise_shape(
    layer: WithNoiseShape,
    shape: tuple[int, ...],
    batch: bool,
) -> tuple[int, ...]:
    """`noise_shape` with the sizes of the inputs in place of None.

    Without `batch` its first size is not checked: `init` may see another batch size than `apply`.
    """
    given = layer.noise_shape
    if given is None:
        return shape
    pairs = list(zip(given, shape, strict=False))
    checked = pairs
    if not batch:
        checked = pairs[1:]
    fits = all(n in (None, 1, size) for n, size in checked)
    if len(given) != len(shape) or not fits:
        sizes = tuple(shape)
        expected = f"to have 1, None or the size for each axis of the inputs {sizes}"
        raise arguments.wrong(layer, "noise_shape", expected, given)
    return tuple(n or size for n, size in pairs)
