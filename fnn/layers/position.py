"""Positions of time steps: learned vectors, sines and cosines, or rotations."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.tree import SpecTree

# All of these layers count positions from 0. If the state has an "index", put there by a cache
# (`fnn.networks.start_decoding`), they count from it and advance it in every call.


class PositionEmbedding(Layer):
    """x plus a learned vector for each position.   (batch, time, features) -> same shape

    Weights: `embeddings (sequence_length, features)`. KerasHub's layer of the same name returns
    only the vectors. Raises ValueError for more than `sequence_length` steps.

    >>> init, apply = PositionEmbedding(10)
    >>> init(jax.random.key(0), jnp.ones((2, 7, 4)))[0]["embeddings"].shape
    (10, 4)
    """

    masking = "pass"
    input_layout = "(batch, time, features)"
    input_rules = (
        Rule(
            "inputs",
            lambda layer, x: x.shape[1] <= layer.sequence_length,
            "of at most {self.sequence_length} steps",
            "make sequence_length larger",
        ),
    )

    sequence_length: int = positive()
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.sequence_length, x.shape[-1])
        return {"embeddings": self.weight("embeddings", key, shape)}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        start = state.get("index", 0)
        table = params["embeddings"]  # (sequence length, features)
        # (time, features)
        vectors = lax.dynamic_slice_in_dim(table, start, x.shape[1])
        return x + vectors[None], advance(state, x)

    def cache(
        self,
        params: Params,
        batch: int,
        length: int,
    ) -> State:
        """The position of the next step; raises ValueError for too many steps."""
        if length > self.sequence_length:
            expected = f"to be at least {length}, the number of steps to decode"
            given = self.sequence_length
            raise arguments.wrong(self, "sequence_length", expected, given)
        return {"index": jnp.array(0)}


class SinusoidalPosition(Layer):
    """x plus sines and cosines of the position.   (batch, time, features) -> same shape

    sin(position / max_wavelength**(2i / features)) is added to feature 2i, the cosine to feature
    2i + 1. Raises ValueError unless `max_wavelength` is positive (Vaswani et al. 2017, section
    3.5).

    >>> y = SinusoidalPosition()(jnp.zeros((1, 2, 2)))
    >>> [f"{value:.2f}" for value in np.ravel(y)]
    ['0.00', '1.00', '0.84', '0.54']
    """

    masking = "pass"
    input_layout = "(batch, time, features)"

    max_wavelength: float = positive(default=10000.0)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        features = x.shape[-1]
        pairs = (features + 1) // 2
        angle = angles(state, x, pairs, features, self.max_wavelength)  # (time, pairs)
        sin = jnp.sin(angle)
        cos = jnp.cos(angle)
        waves = jnp.stack([sin, cos], -1)  # (time, pairs, 2)
        waves = waves.reshape(x.shape[1], -1)  # (time, 2 * pairs)
        waves = waves[None, :, :features]  # (1, time, features)
        return x + waves.astype(x.dtype), advance(state, x)

    def cache(
        self,
        params: Params,
        batch: int,
        length: int,
    ) -> State:
        """The position of the next step."""
        return {"index": jnp.array(0)}


class RotaryEmbedding(Layer):
    """Rotates pairs of features by an angle proportional to the position.   same -> same shape

    For inputs (batch, time, ..., features), features i and i + features / 2 are rotated by
    position / scaling_factor / max_wavelength**(2i / features). The product of a query and a key
    then depends only on their distance: `MultiHeadAttention(..., position=RotaryEmbedding())`.
    `scaled_wavelengths` (shortest, longest) are those, in steps, between which `scaling_factor`
    gradually takes effect, as in Llama 3.1; by default it holds for all.
    Raises ValueError for an odd number of features (Su et al. 2021, section 3.2.2; the same pairs
    as in GPT-NeoX, Llama and KerasHub).

    >>> y = RotaryEmbedding()(jnp.array([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> [f"{value:.2f}" for value in np.ravel(y)]
    ['1.00', '0.00', '0.54', '0.84']
    """

    masking = "pass"
    input_layout = "(batch, time, ..., features)"
    input_rules = (
        Rule(
            "inputs",
            lambda _, x: x.shape[-1] % 2 == 0,
            "with an even number of features",
            "choose another key_dim",
        ),
    )
    field_rules = (
        Rule(
            "scaled_wavelengths",
            lambda layer: _are_increasing(layer.scaled_wavelengths),
            "to be two numbers, the first below the second",
        ),
    )

    max_wavelength: float = positive(default=10000.0)
    scaling_factor: float = positive(default=1.0)
    scaled_wavelengths: tuple[float, float] | None = positive(default=None)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        half = x.shape[-1] // 2
        angle = angles(state, x, half, 2 * half, self.max_wavelength)  # (time, half)
        scale = self._scale(half)[None]  # (1, half)
        angle = angle * scale.astype(angle.dtype)
        between = (1,) * (x.ndim - 3)
        angle = angle.reshape(1, x.shape[1], *between, half)  # (1, time, ..., half)
        sin = jnp.sin(angle).astype(x.dtype)
        cos = jnp.cos(angle).astype(x.dtype)
        a, b = jnp.split(x, 2, -1)  # each (batch, time, ..., half)
        rotated_a = a * cos - b * sin
        rotated_b = b * cos + a * sin
        y = jnp.concatenate([rotated_a, rotated_b], -1)  # the shape of x
        return y, advance(state, x)

    def _scale(self, half: int) -> Array:
        """What the angle of each pair is multiplied by, (half,)."""
        scaled = jnp.full(half, 1 / self.scaling_factor)
        if self.scaled_wavelengths is None:
            return scaled
        shortest, longest = self.scaled_wavelengths
        exponent = jnp.arange(half) / half
        wavelengths = 2 * jnp.pi * self.max_wavelength**exponent
        # 1 up to the shortest, 0 from the longest on
        above = 1 / wavelengths - 1 / longest
        kept = above / (1 / shortest - 1 / longest)
        kept = jnp.clip(kept, 0, 1)
        return kept + (1 - kept) * scaled

    def cache(
        self,
        params: Params,
        batch: int,
        length: int,
    ) -> State:
        """The position of the next step."""
        return {"index": jnp.array(0)}


def _are_increasing(bounds: tuple[float, ...] | None) -> bool:
    if bounds is None:
        return True
    return len(bounds) == 2 and bounds[0] < bounds[1]


def angles(
    state: State,
    x: Array,
    number: int,
    features: int,
    longest: float,
) -> Array:
    """position / longest**(2i / features) for i from 0 to number - 1, (time, number)."""
    # Half precision cannot count to 300.
    exact = jnp.promote_types(x.dtype, jnp.float32)
    start = state.get("index", 0)
    steps = jnp.arange(x.shape[1])
    position: Array = (start + steps).astype(exact)  # (time,)
    exponent = -2 / features * jnp.arange(number).astype(exact)  # (number,)
    rate: Array = longest**exponent
    return position[:, None] * rate[None]


def advance(state: State, x: Array) -> State:
    """The state after the steps of `x`."""
    if "index" not in state:
        return state
    return {**state, "index": state["index"] + x.shape[1]}
