"""Layers that disturb in training, and do nothing else: dropout and noise."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, not_negative, one_of, random_seed
from fnn.core.layer import Layer, Params, State
from fnn.layers.shared.dropping import drop, seeded_key
from fnn.layers.shared.spatial import DATA_FORMATS, check_inputs, spatial_axes

# Every layer here is the identity in inference and at rate 0, and then needs no key. A `seed` is
# folded into the key of the call; unlike in Keras it alone fixes nothing, as no counter moves on.


class Dropout(Layer):
    """0 with probability `rate`, else x / (1 - rate), in training.   same shape -> same shape

    `rate` is the share dropped, not the share kept. `noise_shape` has 1 for an axis along which
    all are dropped together and None for one as long as that of x.
    Raises ValueError unless `rate` is in 0 to 1 and `noise_shape` fits the inputs, and in training
    without a key (Srivastava et al. 2014).

    >>> init, apply = Dropout(0.5)
    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> sorted(set(apply({}, {}, jnp.ones((4, 4)), ctx)[0].ravel().tolist()))
    [0.0, 2.0]
    """

    masking = "pass"

    rate: float = fraction()
    noise_shape: tuple[int | None, ...] | None = None
    seed: int | None = random_seed(default=None)

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        _noise_shape(self, x.shape, batch=False)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        shape = _noise_shape(self, x.shape, batch=ctx.train)
        return drop(self, x, self.rate, ctx, shape=shape), state


class _SpatialDropout(Layer):
    masking = "pass"
    spatial: ClassVar[int]

    rate: float = fraction()

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        once = spatial_axes(self)
        shape = tuple(1 if axis in once else n for axis, n in enumerate(x.shape))
        return drop(self, x, self.rate, ctx, shape=shape), state


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

    Mean and variance of `Dropout` at the same rate (Srivastava et al. 2014, section 10).
    Raises ValueError unless `rate` is at least 0 and below 1, and in training without a key.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = GaussianDropout(0.5).apply({}, {}, jnp.ones((200, 200)), ctx)
    >>> round(float(y.mean()), 1), round(float(y.std()), 1)
    (1.0, 1.0)
    """

    masking = "pass"

    rate: float = fraction()
    seed: int | None = random_seed(default=None)

    def validate(self) -> None:
        _check(self)
        _below_one(self)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not ctx.train or self.rate == 0:
            return x, state
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return x * (
            1 + stddev * random.normal(seeded_key(self, ctx), x.shape, x.dtype)
        ), state


class GaussianNoise(Layer):
    """x + normal(0, stddev) in training.   same shape -> same shape

    Keras allows a `stddev` up to 1, here it may be any. Raises ValueError below 0, and in training
    without a key.

    >>> x, ctx = jnp.zeros((200, 200)), fnn.Context(train=True, key=jax.random.key(1))
    >>> round(float(GaussianNoise(0.5).apply({}, {}, x, ctx)[0].std()), 1)
    0.5
    """

    masking = "pass"

    stddev: float = not_negative()
    seed: int | None = random_seed(default=None)

    def validate(self) -> None:
        _check(self)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not ctx.train or self.stddev == 0:
            return x, state
        return x + self.stddev * random.normal(
            seeded_key(self, ctx), x.shape, x.dtype
        ), state


SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805  # what selu tends to far below 0


class AlphaDropout(Layer):
    """Dropout to the floor of selu, then scaled and moved: mean 0 and variance 1 stay.

    For networks of `selu` and `lecun_normal`. `noise_shape` is that of `Dropout`.
    Raises ValueError unless `rate` is at least 0 and below 1 and `noise_shape` fits the inputs,
    and in training without a key (Klambauer et al. 2017, section 3).

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = AlphaDropout(0.5).apply({}, {}, jnp.zeros((8, 8)), ctx)
    >>> sorted({round(v, 4) for v in y.ravel().tolist()})  # kept and dropped: none is 0
    [-0.7792, 0.7792]
    """

    masking = "pass"

    rate: float = fraction()
    noise_shape: tuple[int | None, ...] | None = None
    seed: int | None = random_seed(default=None)

    def validate(self) -> None:
        _check(self)
        _below_one(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        _noise_shape(self, x.shape, batch=False)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not ctx.train or self.rate == 0:
            return x, state
        kept = random.bernoulli(
            seeded_key(self, ctx),
            1 - self.rate,
            _noise_shape(self, x.shape, batch=True),
        )
        a = ((1 - self.rate) * (1 + self.rate * SELU_FLOOR**2)) ** -0.5
        return a * jnp.where(kept, x, SELU_FLOOR) - a * SELU_FLOOR * self.rate, state


def _noise_shape(layer: Any, shape: tuple[int, ...], batch: bool) -> tuple[int, ...]:
    """`noise_shape` with the sizes of x for None. `init` may run on another size of `batch`."""
    if layer.noise_shape is None:
        return shape
    pairs = list(zip(layer.noise_shape, shape, strict=False))
    fits = len(layer.noise_shape) == len(shape) and all(
        n in (None, 1, size) for n, size in (pairs if batch else pairs[1:])
    )
    if not fits:
        expected = (
            f"to have 1, None or the size for each axis of the inputs {tuple(shape)}"
        )
        raise arguments.wrong(layer, "noise_shape", expected, layer.noise_shape)
    return tuple(size if n is None else n for n, size in pairs)


def _check(layer: Any) -> None:
    """Raises ValueError for a wrong noise_shape, where the layer has one."""
    shape = getattr(layer, "noise_shape", None)
    sizes = () if shape is None else shape if isinstance(shape, tuple) else (0,)
    if any(n is not None and (not isinstance(n, int) or n < 1) for n in sizes):
        expected = "to be a tuple of integers above 0 and None"
        raise arguments.wrong(layer, "noise_shape", expected, shape)


def _below_one(layer: Any) -> None:
    if layer.rate == 1:
        raise arguments.wrong(
            layer, "rate", "to be below 1", 1, "use Dropout(1.0) to drop all"
        )
