"""Positions: where a step stands in its sequence, learned, as sines, or as rotations."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State

# All of them count from 0, or from `state["index"]` where a cache (`fnn.networks.start_decoding`)
# has put one there: then they count on from call to call.


class PositionEmbedding(Layer):
    """x plus a learned vector for each position.   (batch, time, features) -> same shape

    Weights: `embeddings (sequence_length, features)`. KerasHub's layer of this name returns the
    vectors alone. Raises ValueError for more than `sequence_length` steps.

    >>> init, apply = PositionEmbedding(10)
    >>> init(jax.random.key(0), jnp.ones((2, 7, 4)))[0]["embeddings"].shape
    (10, 4)
    """

    masking = "pass"

    sequence_length: int = positive()
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 3, layout="(batch, time, features)")
        self._require_length(x)
        shape = (self.sequence_length, x.shape[-1])
        return {"embeddings": self.weight("embeddings", key, shape)}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        start = state.get("index", 0)
        vectors = lax.dynamic_slice_in_dim(params["embeddings"], start, x.shape[1])
        return x + vectors[None], later(state, x)

    def _require_length(self, x: Any) -> None:
        if x.shape[1] > self.sequence_length:
            raise ValueError(
                f"PositionEmbedding: expected at most {self.sequence_length} steps, received "
                f"{x.shape[1]} in shape {tuple(x.shape)}; make sequence_length larger"
            )

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The state with which it counts on; raises ValueError for more steps than it has."""
        if length > self.sequence_length:
            expected = f"to be at least the {length} steps to decode"
            raise arguments.wrong(
                self, "sequence_length", expected, self.sequence_length
            )
        return {"index": jnp.array(0)}


class SinusoidalPosition(Layer):
    """x plus sines and cosines of the position.   (batch, time, features) -> same shape

    Feature 2i gets sin(position / max_wavelength**(2i / features)), feature 2i + 1 the cosine.
    Raises ValueError unless `max_wavelength` is a number above 0 (Vaswani et al. 2017,
    section 3.5).

    >>> y, _ = SinusoidalPosition().apply({}, {}, jnp.zeros((1, 2, 2)))
    >>> [f"{value:.2f}" for value in y.ravel()]
    ['0.00', '1.00', '0.84', '0.54']
    """

    masking = "pass"

    max_wavelength: float = positive(default=10000.0)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 3, layout="(batch, time, features)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        features = x.shape[-1]
        angle = angles(state, x, (features + 1) // 2, features, self.max_wavelength)
        waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(x.shape[1], -1)
        return x + waves[None, :, :features].astype(x.dtype), later(state, x)

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The state with which it counts on."""
        return {"index": jnp.array(0)}


class RotaryEmbedding(Layer):
    """Features turned in pairs, by an angle that grows with the position.   same -> same shape

    (batch, time, ..., features): feature i is turned with feature i + features / 2 by
    position / scaling_factor / max_wavelength**(2i / features), so that the product of a query and
    a key depends on their distance alone: `MultiHeadAttention(..., position=RotaryEmbedding())`.
    Raises ValueError for an odd number of features (Su et al. 2021, section 3.2.2; the pairs are
    laid out as in GPT-NeoX, Llama and KerasHub).

    >>> y, _ = RotaryEmbedding().apply({}, {}, jnp.array([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> [f"{value:.2f}" for value in y.ravel()]
    ['1.00', '0.00', '0.54', '0.84']
    """

    masking = "pass"

    max_wavelength: float = positive(default=10000.0)
    scaling_factor: float = positive(default=1.0)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 3, "(batch, time, ..., features)")
        if x.shape[-1] % 2:
            raise ValueError(
                f"RotaryEmbedding: expected an even number of features, received {x.shape[-1]} in "
                f"shape {tuple(x.shape)}; choose another key_dim"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        half = x.shape[-1] // 2
        angle = (
            angles(state, x, half, 2 * half, self.max_wavelength) / self.scaling_factor
        )
        angle = angle.reshape(1, x.shape[1], *(1,) * (x.ndim - 3), half)
        sin, cos = jnp.sin(angle).astype(x.dtype), jnp.cos(angle).astype(x.dtype)
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1), later(
            state, x
        )

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The state with which it counts on."""
        return {"index": jnp.array(0)}


def angles(state: State, x: Any, number: int, features: int, longest: float) -> Array:
    """(time, number): position / longest**(2i / features), the position by the cache, if any.

    In float32 at least: half precision cannot count to 300.
    """
    exact = jnp.promote_types(x.dtype, jnp.float32)
    position = (state.get("index", 0) + jnp.arange(x.shape[1])).astype(exact)
    rate = longest ** (-2 / features * jnp.arange(number).astype(exact))
    return position[:, None] * rate[None]


def later(state: State, x: Array) -> State:
    """The state after the steps of `x`."""
    return (
        {**state, "index": state["index"] + x.shape[1]} if "index" in state else state
    )
