"""Recurrent cells: LSTMCell, GRUCell and SimpleRNNCell, one step of a recurrent layer each."""

from __future__ import annotations

import jax
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, positive, random_seed
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Params,
    Regularizer,
    State,
)
from fnn.core.tree import SpecTree, Tree
from fnn.layers.shared.gates import GatedStep, GRUStep, LSTMStep, SimpleStep
from fnn.layers.shared.recurrence import fill_states


class _Cell(GatedStep):
    """A single step as a layer: (inputs, states) -> (outputs, new states)."""

    input_names = ("inputs", "states")
    input_layout = "(batch, features)"

    @property
    def state_size(self) -> int | tuple[int, ...]:
        if self.state_count == 1:
            return self.units
        return (self.units,) * self.state_count

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        x, *states = jax.tree.leaves(x)
        zeros = jax.eval_shape(lambda: self.initial_states(x))
        fill_states(self, zeros, states, needed=True)
        return self.init_weights(key, x)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        in_list = isinstance(x[1], (tuple, list))
        x, *given = jax.tree.leaves(x)
        states = tuple(given)  # each (batch, units)
        scales = self.dropout_scales(x, states, ctx)
        project, step = self.step_functions(params, scales, ctx)
        y, new, _ = step(project(x), states, {})
        if self.state_count == 1 and not in_list:
            return (y, y), state
        return (y, new), state


class LSTMCell(LSTMStep, _Cell):
    """One step of `LSTM`.   (batch, features), states (h, c) -> (batch, units), (h, c)

    `RNN(LSTMCell(...))` has the outputs and weights of `LSTM(...)`. Calls with the same key drop
    the same features. Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = LSTMCell(4)
    >>> x = jnp.ones((2, 3)), (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
    >>> y, (h, c) = jax.jit(apply)(*init(jax.random.key(0), x), x)[0]
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
    >>> jax.jit(apply)(*init(jax.random.key(0), x), x)[0][0].shape
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
    >>> jax.jit(apply)(*init(jax.random.key(0), x), x)[0][0].shape
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
