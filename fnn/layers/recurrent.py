"""LSTM, GRU, SimpleRNN: a state carried along the steps of a sequence."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.arithmetic import activate, add_bias
from fnn.core.config import resolve
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.layer import Activation, Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.masking import attach_mask

States = tuple[Array, ...]


def dropout_scale(
    layer: Any, rate: float, purpose: str, shape: tuple[int, ...], dtype: Any, ctx: Context
) -> Any:
    """What to multiply with to drop a share `rate`: 0 or 1 / (1 - rate), or 1 in inference."""
    if not ctx.train or rate == 0:
        return 1
    key = ctx.random_key(purpose)
    if layer.seed is not None:
        key = random.fold_in(key, layer.seed)
    kept = random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, 1 / (1 - rate) if rate < 1 else 0, 0).astype(dtype)


def recur(layer: Any, params: Params, x: Any, ctx: Context) -> Any:
    """Runs `layer.step` along time, and returns what the fields of `layer` say.

    The inputs are multiplied with their kernel inside the loop: doing it before the loop, for all
    steps at once, took 1.75 times as long (CPU, 64 steps, 128 units, forward and backward).
    """
    sequences, *initial = jax.tree.leaves(x)
    arguments.width(layer, sequences, params["kernel"].shape[0])
    mask = ctx.mask[0] if isinstance(ctx.mask, tuple) else ctx.mask
    dtype = jnp.result_type(sequences, params["kernel"])
    batch, _, features = sequences.shape
    zeros = jnp.zeros((batch, layer.units), dtype)
    start = tuple(h.astype(dtype) for h in initial) or (zeros,) * layer.states
    if layer.go_backwards:
        sequences = jnp.flip(sequences, 1)
        mask = None if mask is None else jnp.flip(mask, 1)
    scale = dropout_scale(layer, layer.dropout, "dropout", (batch, 1, features), dtype, ctx)
    keep = dropout_scale(
        layer, layer.recurrent_dropout, "recurrent_dropout", (batch, layer.units), dtype, ctx
    )
    sequences = sequences.astype(dtype) * scale

    def advance(old: States, at: tuple[Array, Array | None]) -> tuple[States, Array | None]:
        x, real = at
        if real is not None:  # so that not even NaN in a masked step reaches a gradient
            real = real[:, None]
            x = jnp.where(real, x, 0)
        new = tuple(h.astype(dtype) for h in layer.step(params, x, old, keep))
        y = new[0]
        if real is not None:
            new = tuple(jnp.where(real, n, o) for n, o in zip(new, old, strict=True))
            y = jnp.where(real, y, 0) if layer.zero_output_for_mask else new[0]
        return new, y if layer.return_sequences else None

    by_time = jnp.swapaxes(sequences, 0, 1), None if mask is None else mask.T
    last, outputs = lax.scan(advance, start, by_time, unroll=bool(layer.unroll))
    y: Any = last[0]
    if outputs is not None:
        y = attach_mask(jnp.swapaxes(outputs, 0, 1), mask)
    return (y, *last) if layer.return_state else y


class _Recurrent(Layer):
    """A subclass lists the fields and writes `step(params, x, states, keep) -> states`.

    `step` multiplies the output state by `keep` where it reads it (recurrent dropout).
    """

    masking = "use"
    input_names = ("sequences", "initial_state")
    weight_names = {"recurrent": "recurrent_kernel"}  # what recurrent_regularizer applies to
    gates: ClassVar[int]  # side by side in the kernels
    states: ClassVar[int] = 1  # the first of them is the output

    def validate(self: Any) -> None:
        arguments.positive_int(self, "units")
        arguments.fraction(self, "dropout")
        arguments.fraction(self, "recurrent_dropout")
        if self.stateful:
            raise arguments.wrong(
                self,
                "stateful",
                "to be False, since a layer keeps nothing between calls",
                self.stateful,
                "do set return_state=True and give the returned states as further inputs",
            )

    def init(self: Any, key: Array, x: Any) -> tuple[Params, State]:
        sequences, *initial = jax.tree.leaves(x)
        arguments.rank(self, sequences, 3, layout="(batch, time, features)")
        shape = (sequences.shape[0], self.units)
        received = [tuple(state.shape) for state in initial]
        if initial and received != [shape] * self.states:
            raise ValueError(
                f"{type(self).__name__}: expected no initial state or {self.states} of shape "
                f"{shape}, received {received}; do give those that return_state=True returns"
            )
        width = self.gates * self.units
        initializer = resolve("initializer", self.recurrent_initializer)
        key_of_state = random.fold_in(key, salt("recurrent_kernel"))
        params = {
            "kernel": self.weight("kernel", key, (sequences.shape[-1], width)),
            "recurrent_kernel": initializer(key_of_state, (self.units, width), self.weight_dtype),
        }
        if self.use_bias:
            params["bias"] = self.bias(key, width)
        return params, {}

    def bias(self, key: Array, width: int) -> Array:
        return self.weight("bias", key, (width,))

    def total(self: Any, params: Params, x: Array, h: Array) -> Array:
        """What the inputs and the state add up to, before any activation."""
        z = x @ params["kernel"] + h @ params["recurrent_kernel"]
        return add_bias(z, params["bias"]) if self.use_bias else z

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return recur(self, params, x, ctx), state


class LSTM(_Recurrent):
    """Long short-term memory.   (batch, time, features) -> (batch, units)

    i, f, o = recurrent_activation(x @ kernel + h @ recurrent_kernel + bias), c = f c + i
    activation(...), h = o activation(c); the gates stand side by side as i, f, c, o.
    `return_sequences` gives (batch, time, units), `return_state` gives (outputs, h, c), and
    inputs (x, h, c) start from a state. A masked step repeats output and state (outputs are 0
    there with `zero_output_for_mask`; the last output never is). `go_backwards` reads from the end
    and returns in the order of reading. Dropout drops the same features at all steps, for all
    gates (Keras draws anew for each gate if `recurrent_dropout` is set). Weights: `kernel
    (features, 4 units)`, `recurrent_kernel (units, 4 units)`, `bias (4 units,)`.
    Raises ValueError for wrong arguments, `stateful`, and inputs or states of wrong shape.
    Hochreiter and Schmidhuber, Long short-term memory, 1997; the dropout: Gal and Ghahramani,
    arXiv:1512.05287.

    >>> init, apply = LSTM(4, return_sequences=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 4)
    """

    gates, states = 4, 2

    units: int
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
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    def bias(self, key: Array, width: int) -> Array:
        fresh = self.weight("bias", key, (width,))
        if not self.unit_forget_bias:
            return fresh
        return fresh.at[self.units : 2 * self.units].set(1)  # remember at first

    def step(self, params: Params, x: Array, states: States, keep: Any) -> States:
        h, c = states
        i, f, new, o = jnp.split(self.total(params, x, h * keep), 4, axis=-1)
        i, f, o = (activate(self.recurrent_activation, gate) for gate in (i, f, o))
        c = f * c + i * activate(self.activation, new)
        return o * activate(self.activation, c), c


class GRU(_Recurrent):
    """Gated recurrent unit.   (batch, time, features) -> (batch, units)

    z, r = recurrent_activation(x @ kernel + h @ recurrent_kernel + bias), h = z h + (1 - z)
    activation(...); the gates stand side by side as z, r, h. `reset_after` applies r after the
    product with the state and has two rows of biases, (2, 3 units). The rest is as in `LSTM`,
    with one state: `return_state` gives (outputs, h), and inputs (x, h) start from it.
    Raises ValueError for wrong arguments, `stateful`, and inputs or states of wrong shape.
    Cho et al., arXiv:1406.1078 (`reset_after=False`).

    >>> init, apply = GRU(4)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 4)
    """

    gates = 3

    units: int
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
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    reset_after: bool = True
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    def bias(self, key: Array, width: int) -> Array:
        return self.weight("bias", key, (2, width) if self.reset_after else (width,))

    def step(self, params: Params, x: Array, states: States, keep: Any) -> States:
        (h,), seen, early = states, states[0] * keep, 2 * self.units
        recurrent, of_x = params["recurrent_kernel"], x @ params["kernel"]
        of_h = seen @ (recurrent if self.reset_after else recurrent[:, :early])
        if self.use_bias:
            biases = jnp.atleast_2d(params["bias"])
            of_x = add_bias(of_x, biases[0])
            of_h = add_bias(of_h, biases[1]) if self.reset_after else of_h
        gates = activate(self.recurrent_activation, of_x[:, :early] + of_h[:, :early])
        z, r = jnp.split(gates, 2, axis=-1)
        candidate = r * of_h[:, early:] if self.reset_after else (r * seen) @ recurrent[:, early:]
        return (z * h + (1 - z) * activate(self.activation, of_x[:, early:] + candidate),)


class SimpleRNN(_Recurrent):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias).

    (batch, time, features) -> (batch, units)

    The rest is as in `LSTM`, with one state: `return_state` gives (outputs, h), and inputs (x, h)
    start from it.
    Raises ValueError for wrong arguments, `stateful`, and inputs or states of wrong shape.

    >>> init, apply = SimpleRNN(4, return_state=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> [y.shape for y in apply(params, state, jnp.ones((2, 5, 3)))[0]]
    [(2, 4), (2, 4)]
    """

    gates = 1

    units: int
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
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    seed: int | None = None
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    def step(self, params: Params, x: Array, states: States, keep: Any) -> States:
        return (activate(self.activation, self.total(params, x, states[0] * keep)),)
