"""The parts of a transformer: a gated dense layer, an encoder block, a decoder block."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.combining import Flow, Visit
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, not_negative, positive
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
    add_bias,
)
from fnn.layers.attention import MultiHeadAttention
from fnn.layers.dense import Dense
from fnn.layers.dropout import Dropout
from fnn.layers.merging import Add
from fnn.layers.normalization import LayerNormalization


class GatedDense(Layer):
    """activation(x @ gate) * (x @ values).   (..., features) -> (..., units)

    "silu" makes it SwiGLU, "gelu" GeGLU, "sigmoid" the first GLU.
    Weights: `kernel (features, 2 * units)`, gate and values side by side, `bias (2 * units,)`.
    Raises ValueError unless `units` is an integer above 0 (Shazeer 2020, section 2).

    >>> params, state = GatedDense(3).init(jax.random.key(0), jnp.ones((2, 5)))
    >>> params["kernel"].shape, GatedDense(3).apply(params, state, jnp.ones((2, 5)))[0].shape
    ((5, 6), (2, 3))
    """

    masking = "pass"

    units: int = positive()
    activation: Activation = "silu"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def is_example(self, params: Params, x: Any) -> bool:
        return arguments.is_vector(x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 2, "(batch, ..., features)")
        # Each half by itself, so that its scale is that of a layer of `units`.
        halves = [
            self.weight("kernel", k, (x.shape[-1], self.units))
            for k in random.split(key)
        ]
        params = {"kernel": jnp.concatenate(halves, 1)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (2 * self.units,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        y = jnp.matmul(x, params["kernel"])
        if self.use_bias:
            y = add_bias(y, params["bias"])
        gate, values = jnp.split(y, 2, -1)
        return activate(self.activation, gate) * values, state


class _Block(Flow):
    """Parts in sequence, each around a residual connection, by the names of its children."""

    def validate(self: Any) -> None:
        if self.position is not None:
            arguments.layer(self, self.position, "as position")
        if self.units % self.num_heads:
            raise arguments.wrong(
                self, "num_heads", f"to divide units={self.units}", self.num_heads
            )

    def children(self: Any) -> tuple[tuple[str | None, Layer], ...]:
        return self._fnn_children  # made once for a value

    def _attention(self: Any, **options: Any) -> Layer:
        sizes = self.num_heads, self.units // self.num_heads
        return MultiHeadAttention(
            *sizes, dropout=self.dropout, dtype=self.dtype, **options
        )

    def _parts(self: Any, name: str, *layers: tuple[str, Layer]) -> dict[str, Layer]:
        """The children of one part: its normalization, its layers, its dropout, its sum."""
        return {
            f"{name}_norm": LayerNormalization(epsilon=self.epsilon, dtype=self.dtype),
            **dict(layers),
            f"{name}_dropout": Dropout(self.dropout, dtype=self.dtype),
            f"{name}_add": Add(dtype=self.dtype),
        }

    def _feedforward(self: Any) -> dict[str, Layer]:
        width = self.intermediate_dim or 4 * self.units
        up = Dense(width, self.activation, dtype=self.dtype)
        down = Dense(self.units, dtype=self.dtype)
        return self._parts(
            "feedforward", ("feedforward_up", up), ("feedforward_down", down)
        )

    def _around(self: Any, name: str, inner: Any, x: Any, visit: Visit) -> Any:
        """x + inner(norm(x)), or norm(x + inner(x)) where normalization comes after."""
        layers = dict(self.children())
        norm = lambda a: visit(f"{name}_norm", layers[f"{name}_norm"], a)
        y = inner(norm(x) if self.normalize_first else x)
        y = visit(f"{name}_dropout", layers[f"{name}_dropout"], y)
        y = visit(f"{name}_add", layers[f"{name}_add"], (x, y))
        return y if self.normalize_first else norm(y)

    def _after_attention(self: Any, x: Any, visit: Visit) -> Any:
        layers = dict(self.children())

        def feedforward(a: Any) -> Any:
            a = visit("feedforward_up", layers["feedforward_up"], a)
            return visit("feedforward_down", layers["feedforward_down"], a)

        return self._around("feedforward", feedforward, x, visit)


class TransformerEncoderBlock(_Block):
    """Self-attention, then two dense layers, each around a residual.   (batch, time, units) -> same

    With `use_causal_mask` it is a block of a GPT. `intermediate_dim` is 4 * units unless told;
    `normalize_first=False` normalizes after each sum, as the first transformer did; `position` is
    that of `MultiHeadAttention`. Children: `attention`, `feedforward_up`, `feedforward_down`, and
    `_norm`, `_dropout`, `_add` of both parts.
    Raises ValueError for wrong arguments (Vaswani et al. 2017; Xiong et al. 2020 for the order).

    >>> block = TransformerEncoderBlock(16, 2)
    >>> params, state = block.init(jax.random.key(0), jnp.ones((1, 5, 16)))
    >>> block.apply(params, state, jnp.ones((1, 5, 16)))[0].shape
    (1, 5, 16)
    """

    units: int = positive()
    num_heads: int = positive()
    intermediate_dim: int | None = positive(default=None)
    dropout: float = fraction(default=0.0)
    activation: Activation = "gelu"
    normalize_first: bool = True
    epsilon: float = not_negative(default=1e-5)
    use_causal_mask: bool = False
    position: Layer | None = None

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str | None, Layer], ...]:
        options = {"use_causal_mask": self.use_causal_mask, "position": self.position}
        attention = ("attention", self._attention(**options))
        return tuple(
            {**self._parts("attention", attention), **self._feedforward()}.items()
        )

    def flow(self, x: Any, visit: Visit) -> Any:
        attention = dict(self.children())["attention"]
        x = self._around(
            "attention", lambda a: visit("attention", attention, a), x, visit
        )
        return self._after_attention(x, visit)


class TransformerDecoderBlock(_Block):
    """Causal self-attention, attention to a memory, two dense layers, each around a residual.

    Takes `(inputs, memory)`: (batch, time, units), (batch, steps, ...) -> (batch, time, units).
    The memory is what an encoder returns, its mask counts. The rest is as in
    `TransformerEncoderBlock`; a further child is `cross_attention`.
    Raises TypeError without a memory, ValueError for wrong arguments.

    >>> block = TransformerDecoderBlock(16, 2)
    >>> x = jnp.ones((1, 5, 16)), jnp.ones((1, 3, 8))
    >>> params, state = block.init(jax.random.key(0), x)
    >>> block.apply(params, state, x)[0].shape
    (1, 5, 16)
    """

    input_names = ("inputs", "memory")

    units: int = positive()
    num_heads: int = positive()
    intermediate_dim: int | None = positive(default=None)
    dropout: float = fraction(default=0.0)
    activation: Activation = "gelu"
    normalize_first: bool = True
    epsilon: float = not_negative(default=1e-5)
    position: Layer | None = None

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str | None, Layer], ...]:
        own = (
            "attention",
            self._attention(use_causal_mask=True, position=self.position),
        )
        cross = ("cross_attention", self._attention())
        parts = (self._parts("attention", own), self._parts("cross_attention", cross))
        return tuple({**parts[0], **parts[1], **self._feedforward()}.items())

    def flow(self, x: Any, visit: Visit) -> Any:
        if not isinstance(x, (tuple, list)) or len(x) != 2:
            raise TypeError(
                "TransformerDecoderBlock: expected a tuple (inputs, memory), received "
                f"{arguments.kind_of(x)}; use TransformerEncoderBlock(use_causal_mask=True) "
                "without a memory"
            )
        (x, memory), layers = x, dict(self.children())
        run = lambda name, a: visit(name, layers[name], a)
        x = self._around("attention", lambda a: run("attention", a), x, visit)
        look = lambda a: run("cross_attention", (a, memory))
        x = self._around("cross_attention", look, x, visit)
        return self._after_attention(x, visit)
