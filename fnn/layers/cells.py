"""LSTMCell, GRUCell, SimpleRNNCell: one step of a recurrent layer, to build others from."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, positive, random_seed
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
)
from fnn.layers.shared.gates import GRUStep, LSTMStep, SimpleStep
from fnn.layers.shared.recurrence import fill_states


class _Cell(Layer):
    input_names = ("inputs", "states")

    @property
    def state_size(self: Any) -> int | tuple[int, ...]:
        return self.units if self.states == 1 else (self.units,) * self.states

    def init(self: Any, key: Array, x: Any) -> tuple[Params, State]:
        x, *states = jax.tree.leaves(x)
        arguments.rank(self, x, 2, layout="(batch, features)")
        fill_states(self, jax.eval_shape(lambda: self.start(x)), states, needed=True)
        return self.make(key, x)

    def apply(
        self: Any, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, *states = jax.tree.leaves(x)
        self.check_width(params, x)
        drawn = self.drawn(x, tuple(states), ctx)
        project, step = self.stepper(params, drawn, ctx)
        y, new, _ = step(project(x), tuple(states), {})
        return (y, new if self.states > 1 else y), state


class LSTMCell(LSTMStep, _Cell):
    """One step of `LSTM`.   (batch, features), states (h, c) -> (batch, units), (h, c)

    `LSTM(...)` is `RNN(LSTMCell(...))`, numbers and weights; dropout drops the same at each call
    of one key. Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = LSTMCell(4)
    >>> x = jnp.ones((2, 3)), (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
    >>> y, (h, c) = apply(*init(jax.random.key(0), x), x)[0]
    >>> y.shape, c.shape
    ((2, 4), (2, 4))
    """

    units: int = positive()
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: Regularizer = None
    recurrent_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)


class GRUCell(GRUStep, _Cell):
    """One step of `GRU`.   (batch, features), state -> (batch, units), state

    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = GRUCell(4)
    >>> x = jnp.ones((2, 3)), jnp.zeros((2, 4))
    >>> apply(*init(jax.random.key(0), x), x)[0][0].shape
    (2, 4)
    """

    units: int = positive()
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    recurrent_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    reset_after: bool = True
    seed: int | None = random_seed(default=None)


class SimpleRNNCell(SimpleStep, _Cell):
    """One step of `SimpleRNN`.   (batch, features), state -> (batch, units), state

    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = SimpleRNNCell(4)
    >>> x = jnp.ones((2, 3)), jnp.zeros((2, 4))
    >>> apply(*init(jax.random.key(0), x), x)[0][0].shape
    (2, 4)
    """

    units: int = positive()
    activation: Activation = "tanh"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    recurrent_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)
