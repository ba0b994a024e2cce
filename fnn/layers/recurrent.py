"""Recurrent layers: LSTM, GRU and SimpleRNN, over the time steps of a sequence."""

from __future__ import annotations

from dataclasses import field

from fnn.core.fields import fraction, positive, random_seed
from fnn.core.layer import Activation, Constraint, Initializer, Regularizer
from fnn.layers.shared.gates import GRUStep, LSTMStep, SimpleStep
from fnn.layers.shared.recurrence import OverTime


class LSTM(LSTMStep, OverTime):
    """Long short-term memory.   (batch, time, features) -> (batch, units)

    i, f, o = recurrent_activation(x @ kernel + h @ recurrent_kernel + bias), c = f c + i
    activation(...), h = o activation(c). The gates are side by side in the kernels: i, f, c, o.
    `return_sequences` returns the outputs of all steps, (batch, time, units). `return_state`
    returns (outputs, h, c), and inputs (x, h, c) start from a given state. A masked step repeats
    the output and the state of the step before; with `zero_output_for_mask` its output in the
    sequence is 0. `go_backwards` reads the sequence from the end and returns outputs in that order.
    Dropout drops the same features at all steps, for all gates (Keras draws a mask for each gate if
    `recurrent_dropout` is set). `stateful` starts each example from where the last call ended, also
    in inference: the layer's state has `rnn_state` (h) and `rnn_state_1` (c), which are zeros after
    `init`.
    Weights: `kernel (features, 4 units)`, `recurrent_kernel (units, 4 units)`, `bias (4 units,)`.
    Raises ValueError for wrong arguments, inputs or states of wrong shape, and with `stateful` for
    another batch size than in `init`.
    Hochreiter and Schmidhuber, Long short-term memory, 1997; the dropout: Gal and Ghahramani,
    arXiv:1512.05287.

    >>> init, apply = LSTM(4, return_sequences=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 4)
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
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = field(default=False, kw_only=True)


class GRU(GRUStep, OverTime):
    """Gated recurrent unit.   (batch, time, features) -> (batch, units)

    z, r = recurrent_activation(x @ kernel + h @ recurrent_kernel + bias), h = z h + (1 - z)
    activation(...). The gates are side by side in the kernels: z, r, h. `reset_after` applies r
    after the product with the state and has two biases, (2, 3 units). The rest is as in `LSTM`,
    with one state: `return_state` returns (outputs, h), and inputs (x, h) start from it.
    Raises the errors of `LSTM`.
    Cho et al., arXiv:1406.1078 (`reset_after=False`).

    >>> init, apply = GRU(4)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
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
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    seed: int | None = random_seed(default=None)
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    reset_after: bool = True
    zero_output_for_mask: bool = field(default=False, kw_only=True)


class SimpleRNN(SimpleStep, OverTime):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias).

    (batch, time, features) -> (batch, units)

    The rest is as in `LSTM`, with one state: `return_state` returns (outputs, h), and inputs (x, h)
    start from it.
    Raises the errors of `LSTM`.

    >>> init, apply = SimpleRNN(4, return_state=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> [y.shape for y in apply(params, state, jnp.ones((2, 5, 3)))[0]]
    [(2, 4), (2, 4)]
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
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    recurrent_constraint: Constraint = None
    bias_constraint: Constraint = None
    dropout: float = fraction(default=0.0)
    recurrent_dropout: float = fraction(default=0.0)
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    seed: int | None = random_seed(default=None)
    zero_output_for_mask: bool = field(default=False, kw_only=True)
