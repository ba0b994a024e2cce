"""Transformer blocks: a gated dense layer, an encoder block, a decoder block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.arguments import Rule
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
)
from fnn.core.tree import SpecTree, Tree
from fnn.layers.attention import MultiHeadAttention
from fnn.layers.dense import Dense
from fnn.layers.dropout import Dropout
from fnn.layers.merging import Add
from fnn.layers.normalization import LayerNormalization
from fnn.runtime.placement import add_bias

Children: TypeAlias = dict[str, Layer]


class GatedDense(Layer):
    """activation(x @ gate) * (x @ values).   (..., features) -> (..., units)

    SwiGLU with "silu", GeGLU with "gelu", the original GLU with "sigmoid".
    Weights: `kernel (features, 2 * units)`, gate and values side by side, `bias (2 * units,)`.
    Raises ValueError unless `units` is a positive integer (Shazeer 2020, section 2).

    >>> params, state = GatedDense(3).init(jax.random.key(0), jnp.ones((2, 5)))
    >>> params["kernel"].shape, GatedDense(3).apply(params, state, jnp.ones((2, 5)))[0].shape
    ((5, 6), (2, 3))
    """

    masking = "pass"
    input_layout = "(batch, ..., features)"

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

    def is_example(self, params: Params, x: Tree) -> bool:
        return arguments.is_vector(x)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        # Each half is drawn separately, with the scale of a layer of `units`.
        shape = (x.shape[-1], self.units)
        halves = [self.weight("kernel", half, shape) for half in random.split(key)]
        params = {"kernel": jnp.concatenate(halves, 1)}  # (features, 2 * units)
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (2 * self.units,))
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        y = jnp.matmul(x, params["kernel"])  # (..., 2 * units)
        if self.use_bias:
            y = add_bias(y, params["bias"])
        gate, values = jnp.split(y, 2, -1)  # each (..., units)
        return activate(self.activation, gate) * values, state


class _Block(Flow):
    """Attention and dense layers, each with normalization, dropout and a residual connection."""

    field_rules = (
        Rule(
            "num_heads",
            lambda block: block.units % block.num_heads == 0,
            "to divide units={self.units}",
        ),
    )

    # Fields that the subclasses declare. Annotations here would make them fields of this
    # class, and the first arguments of every constructor.
    if TYPE_CHECKING:

        @property
        def units(self) -> int: ...

        @property
        def num_heads(self) -> int: ...

        @property
        def intermediate_dim(self) -> int | None: ...

        @property
        def dropout(self) -> float: ...

        @property
        def activation(self) -> Activation: ...

        @property
        def normalize_first(self) -> bool: ...

        @property
        def epsilon(self) -> float: ...

        @property
        def position(self) -> Layer | None: ...

    @functools.cached_property
    def _fnn_children(self) -> Children:
        """The children by name; made once for a value."""
        with self.without_policy():
            return self._make_children()

    def _make_children(self) -> Children:
        raise NotImplementedError

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(self._fnn_children.items())

    def _attention(
        self, use_causal_mask: bool = False, position: Layer | None = None
    ) -> Layer:
        return MultiHeadAttention(
            self.num_heads,
            self.units // self.num_heads,
            dropout=self.dropout,
            dtype=self.dtype,
            use_causal_mask=use_causal_mask,
            position=position,
        )

    def _around(self, name: str, inner: Children) -> Children:
        """`inner` with the normalization, dropout and addition of its residual connection."""
        return {
            f"{name}_norm": LayerNormalization(epsilon=self.epsilon, dtype=self.dtype),
            **inner,
            f"{name}_dropout": Dropout(self.dropout, dtype=self.dtype),
            f"{name}_add": Add(dtype=self.dtype),
        }

    def _feedforward(self) -> Children:
        width = self.intermediate_dim or 4 * self.units
        inner: Children = {
            "feedforward_up": Dense(width, self.activation, dtype=self.dtype),
            "feedforward_down": Dense(self.units, dtype=self.dtype),
        }
        return self._around("feedforward", inner)

    def _residual(
        self,
        name: str,
        inner: Callable[[Tree], Tree],
        x: Tree,
        visit: Visit,
    ) -> Tree:
        """x + inner(norm(x)), or norm(x + inner(x)) unless `normalize_first`."""
        run = functools.partial(self._run, visit)
        y = x
        if self.normalize_first:
            y = run(f"{name}_norm", x)
        y = inner(y)
        y = run(f"{name}_dropout", y)
        y = run(f"{name}_add", (x, y))
        if not self.normalize_first:
            y = run(f"{name}_norm", y)
        return y

    def _run(self, visit: Visit, name: str, x: Tree) -> Tree:
        """The child called `name` applied to `x`."""
        return visit(name, self._fnn_children[name], x)

    def _run_feedforward(self, x: Tree, visit: Visit) -> Tree:
        """The dense layers, around a residual connection."""
        run = functools.partial(self._run, visit)

        def feedforward(x: Tree) -> Tree:
            x = run("feedforward_up", x)  # (batch, time, intermediate_dim)
            return run("feedforward_down", x)  # (batch, time, units)

        return self._residual("feedforward", feedforward, x, visit)


class TransformerEncoderBlock(_Block):
    """Self-attention, then two dense layers, both residual.   (batch, time, units) -> same shape

    With `use_causal_mask` it is a block of GPT. `intermediate_dim` is 4 * units by default.
    `normalize_first=False` normalizes after each addition, as the original transformer did.
    `position` is passed to `MultiHeadAttention`. Children: `attention`, `feedforward_up`,
    `feedforward_down`, and `_norm`, `_dropout`, `_add` of `attention` and `feedforward`.
    Raises ValueError for wrong arguments (Vaswani et al. 2017; Xiong et al. 2020 for the order).

    >>> block = TransformerEncoderBlock(16, 2)
    >>> params, state = block.init(jax.random.key(0), jnp.ones((1, 5, 16)))
    >>> jax.jit(block.apply)(params, state, jnp.ones((1, 5, 16)))[0].shape
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

    def _make_children(self) -> Children:
        attention = self._attention(self.use_causal_mask, self.position)
        return {
            **self._around("attention", {"attention": attention}),
            **self._feedforward(),
        }

    def flow(self, x: Tree, visit: Visit) -> Tree:
        attention = functools.partial(self._run, visit, "attention")
        x = self._residual("attention", attention, x, visit)
        return self._run_feedforward(x, visit)


class TransformerDecoderBlock(_Block):
    """Causal self-attention, attention to a memory, two dense layers, each of them residual.

    Takes `(inputs, memory)`: (batch, time, units), (batch, steps, ...) -> (batch, time, units).
    The memory is the output of an encoder; its mask is applied. The rest is as in
    `TransformerEncoderBlock`, with one more child, `cross_attention`.
    Raises TypeError without a memory, ValueError for wrong arguments.

    >>> block = TransformerDecoderBlock(16, 2)
    >>> x = jnp.ones((1, 5, 16)), jnp.ones((1, 3, 8))
    >>> params, state = block.init(jax.random.key(0), x)
    >>> jax.jit(block.apply)(params, state, x)[0].shape
    (1, 5, 16)
    """

    input_names = ("inputs", "memory")
    input_rules = (
        Rule(
            "inputs",
            lambda _, x: isinstance(x, (tuple, list)) and len(x) == 2,
            "to be a tuple (inputs, memory)",
            "use TransformerEncoderBlock(use_causal_mask=True) without a memory",
            TypeError,
        ),
    )

    units: int = positive()
    num_heads: int = positive()
    intermediate_dim: int | None = positive(default=None)
    dropout: float = fraction(default=0.0)
    activation: Activation = "gelu"
    normalize_first: bool = True
    epsilon: float = not_negative(default=1e-5)
    position: Layer | None = None

    def _make_children(self) -> Children:
        attention = self._attention(use_causal_mask=True, position=self.position)
        cross_attention = {"cross_attention": self._attention()}
        return {
            **self._around("attention", {"attention": attention}),
            **self._around("cross_attention", cross_attention),
            **self._feedforward(),
        }

    def flow(self, x: Tree, visit: Visit) -> Tree:
        x, memory = x
        attention = functools.partial(self._run, visit, "attention")

        def cross_attention(x: Tree) -> Tree:
            return self._run(visit, "cross_attention", (x, memory))

        x = self._residual("attention", attention, x, visit)
        x = self._residual("cross_attention", cross_attention, x, visit)
        return self._run_feedforward(x, visit)
