"""Keras layers: those that Keras defines beside its published networks."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree
from fnn.layers.shared.dropping import drop


class CustomScaleLayer(Layer):
    """x + scale * y.   (x, y) -> same shape

    >>> CustomScaleLayer(0.5).apply({}, {}, (jnp.ones(2), jnp.ones(2)))[0].tolist()
    [1.5, 1.5]
    """

    scale: float

    def apply(
        self,
        params: Params,
        state: State,
        x: tuple[Array, Array],
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return x[0] + self.scale * x[1], state


class LayerScale(Layer):
    """x * gamma, a weight for each channel.   (..., projection_dim) -> same

    `init_values` is what all of `gamma` starts with, small so that a deep network starts as nearly
    the identity (Touvron et al. 2021).
    Raises ValueError unless the inputs have `projection_dim` channels.

    >>> layer, x = LayerScale(0.5, 3), jnp.ones((1, 3))
    >>> layer.apply(*layer.init(jax.random.key(0), x), x)[0].tolist()
    [[0.5, 0.5, 0.5]]
    """

    masking = "pass"

    init_values: float
    projection_dim: int = positive()

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.projection_dim,)
        gamma = jnp.full(shape, self.init_values, self.weight_dtype)
        return {"gamma": gamma}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        gamma = jnp.expand_dims(params["gamma"], tuple(range(x.ndim - 1)))
        return x * gamma, state


class StochasticDepth(Layer):
    """In training all of an example is 0 with probability `drop_path_rate`, else x / (1 - rate).

    (batch, ...) -> same. For the branch of a residual block, which is then the identity
    (Huang et al. 2016). Raises ValueError in training without a key.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = StochasticDepth(0.5).apply({}, {}, jnp.ones((8, 2)), ctx)
    >>> sorted({tuple(example) for example in y.tolist()})
    [(0.0, 0.0), (2.0, 2.0)]
    """

    masking = "pass"

    drop_path_rate: float = fraction()

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        return drop(self, x, self.drop_path_rate, ctx, shape=shape), state
