"""Layers that disturb or penalize in training, and do nothing else: dropout, noise, activity."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.registry import lookup

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

    rate: float
    noise_shape: tuple[int | None, ...] | None = None
    seed: int | None = None

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        _noise_shape(self, x.shape, batch=False)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return _drop(self, x, ctx, _noise_shape(self, x.shape, batch=ctx.train)), state


class SpatialDropout1D(Layer):
    """Dropout of whole channels: one draw for all steps.   (batch, time, channels) -> same

    Raises as `Dropout`, and ValueError in `init` unless the inputs have three axes
    (Tompson et al. 2015).
    """

    masking = "pass"

    rate: float
    seed: int | None = None

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 3, layout="(batch, time, channels)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return _drop(self, x, ctx, _channels(x, "channels_last")), state


class SpatialDropout2D(Layer):
    """Dropout of whole channels of images.   (batch, height, width, channels) -> same

    `data_format="channels_first"` takes (batch, channels, height, width).
    Raises as `Dropout`, and ValueError in `init` unless the inputs have four axes.
    """

    masking = "pass"

    rate: float
    data_format: str | None = None
    seed: int | None = None

    def validate(self) -> None:
        arguments.one_of(self, "data_format", FORMATS)
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 4, layout="(batch, height, width, channels)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return _drop(self, x, ctx, _channels(x, self.data_format)), state


class SpatialDropout3D(Layer):
    """Dropout of whole channels of volumes.   (batch, depth, height, width, channels) -> same

    `data_format="channels_first"` takes (batch, channels, depth, height, width).
    Raises as `Dropout`, and ValueError in `init` unless the inputs have five axes.
    """

    masking = "pass"

    rate: float
    data_format: str | None = None
    seed: int | None = None

    def validate(self) -> None:
        arguments.one_of(self, "data_format", FORMATS)
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 5, layout="(batch, depth, height, width, channels)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return _drop(self, x, ctx, _channels(x, self.data_format)), state


class GaussianDropout(Layer):
    """x * normal(1, sqrt(rate / (1 - rate))) in training.   same shape -> same shape

    Mean and variance of `Dropout` at the same rate (Srivastava et al. 2014, section 10).
    Raises ValueError unless `rate` is at least 0 and below 1, and in training without a key.
    """

    masking = "pass"

    rate: float
    seed: int | None = None

    def validate(self) -> None:
        _check(self)
        _below_one(self)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not ctx.train or self.rate == 0:
            return x, state
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return x * (1 + stddev * random.normal(_key(self, ctx), x.shape, x.dtype)), state


class GaussianNoise(Layer):
    """x + normal(0, stddev) in training.   same shape -> same shape

    Keras allows a `stddev` up to 1, here it may be any. Raises ValueError below 0, and in training
    without a key.
    """

    masking = "pass"

    stddev: float
    seed: int | None = None

    def validate(self) -> None:
        arguments.not_negative(self, "stddev")
        _check(self)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not ctx.train or self.stddev == 0:
            return x, state
        return x + self.stddev * random.normal(_key(self, ctx), x.shape, x.dtype), state


SELU_FLOOR = -1.6732632423543772 * 1.0507009873554805  # what selu tends to far below 0


class AlphaDropout(Layer):
    """Dropout to the floor of selu, then scaled and moved: mean 0 and variance 1 stay.

    For networks of `selu` and `lecun_normal`. `noise_shape` is that of `Dropout`.
    Raises ValueError unless `rate` is at least 0 and below 1 and `noise_shape` fits the inputs,
    and in training without a key (Klambauer et al. 2017, section 3).
    """

    masking = "pass"

    rate: float
    noise_shape: tuple[int | None, ...] | None = None
    seed: int | None = None

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
            _key(self, ctx), 1 - self.rate, _noise_shape(self, x.shape, batch=True)
        )
        a = ((1 - self.rate) * (1 + self.rate * SELU_FLOOR**2)) ** -0.5
        return a * jnp.where(kept, x, SELU_FLOOR) - a * SELU_FLOOR * self.rate, state


class ActivityRegularization(Layer):
    """x; the loss gains l1 * sum(abs(x)) + l2 * sum(x**2), a mean over the examples.

    Raises ValueError for a factor below 0.
    """

    masking = "pass"
    only_moves = True

    l1: float = 0.0
    l2: float = 0.0

    def validate(self) -> None:
        _ = self.activity_regularizer  # which checks the factors

    @property
    def activity_regularizer(self) -> Any:
        """`L1L2(l1, l2)`, under the name by which every layer has its outputs penalized."""
        return lookup("regularizer", "L1L2")(self.l1, self.l2)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return x, state


FORMATS = (None, "channels_last", "channels_first")


def _drop(layer: Any, x: Array, ctx: Context, shape: tuple[int, ...]) -> Array:
    """`Dropout` with a draw for each entry of `shape`, which spreads over x."""
    if not ctx.train or layer.rate == 0:
        return x
    if layer.rate == 1:
        return jnp.zeros_like(x)
    kept = random.bernoulli(_key(layer, ctx), 1 - layer.rate, shape)
    return jnp.where(kept, x / (1 - layer.rate), 0)


def _key(layer: Any, ctx: Context) -> Array:
    key = ctx.random_key()
    return key if layer.seed is None else random.fold_in(key, layer.seed)


def _channels(x: Array, data_format: str | None) -> tuple[int, ...]:
    """The shape of one draw for each channel of each example."""
    kept = (0, 1 if data_format == "channels_first" else x.ndim - 1)
    return tuple(n if axis in kept else 1 for axis, n in enumerate(x.shape))


def _noise_shape(layer: Any, shape: tuple[int, ...], batch: bool) -> tuple[int, ...]:
    """`noise_shape` with the sizes of x for None. `init` may run on another size of `batch`."""
    if layer.noise_shape is None:
        return shape
    pairs = list(zip(layer.noise_shape, shape, strict=False))
    fits = len(layer.noise_shape) == len(shape) and all(
        n in (None, 1, size) for n, size in (pairs if batch else pairs[1:])
    )
    if not fits:
        expected = f"to have 1, None or the size for each axis of the inputs {tuple(shape)}"
        raise arguments.wrong(layer, "noise_shape", expected, layer.noise_shape)
    return tuple(size if n is None else n for n, size in pairs)


def _check(layer: Any) -> None:
    """Raises ValueError for a wrong rate, seed or noise_shape, of those that the layer has."""
    if hasattr(layer, "rate"):
        arguments.fraction(layer, "rate")
    arguments.seed(layer)
    shape = getattr(layer, "noise_shape", None)
    sizes = () if shape is None else shape if isinstance(shape, tuple) else (0,)
    if any(n is not None and (not isinstance(n, int) or n < 1) for n in sizes):
        expected = "to be a tuple of whole numbers above 0 and None"
        raise arguments.wrong(layer, "noise_shape", expected, shape)


def _below_one(layer: Any) -> None:
    if layer.rate == 1:
        raise arguments.wrong(layer, "rate", "to be below 1", 1, "do use Dropout(1.0) to drop all")
