"""Gates: one step of LSTM, GRU and SimpleRNN, for layers and cells alike."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.context import Context
from fnn.core.layer import Layer, Params, State, activate, add_bias
from fnn.core.value import resolve
from fnn.layers.shared.dropping import drop
from fnn.layers.shared.recurrence import States, Steps
from fnn.runtime.initial_values import on_device


def dropout_scale(
    layer: Any,
    rate: float,
    purpose: str,
    shape: tuple[int, ...],
    dtype: Any,
    ctx: Context,
) -> Any:
    """What to multiply with to drop a share `rate` at all steps alike; None in inference."""
    dropped = ctx.train and rate > 0
    return drop(layer, jnp.ones(shape, dtype), rate, ctx, purpose) if dropped else None


def _is_known(activation: Any) -> bool:
    """Whether an activation is a function of fnn or JAX, which look at one example at a time."""
    found = resolve("activation", activation)
    module = str(getattr(found, "__module__", ""))
    return found is None or (
        not isinstance(found, Layer) and module.partition(".")[0] in ("fnn", "jax")
    )


class GatedStep:
    """One step of `units` that see the inputs and their last state, and its weights.

    The gates stand side by side in the kernels. A layer over time and its cell both are of it;
    they have the fields, and a subclass here writes `step(params, of_x, states, keep) -> states`,
    the first of which is the output. `of_x` is what `project` makes of the inputs; `step`
    multiplies the output state by `keep` where it reads it (recurrent dropout).
    """

    weight_names = {
        "recurrent": "recurrent_kernel"
    }  # what the fields recurrent_... are for
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def start(self: Any, x: Any) -> States:
        """Zeros."""
        return (jnp.zeros((x.shape[0], self.units)),) * self.states

    def shapes(self: Any, x: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the kernels, of the inputs and of the state."""
        width = self.gates * self.units
        return (x.shape[-1], width), (self.units, width)

    def make(self: Any, key: Array, x: Any) -> tuple[Params, State]:
        """Fresh weights."""
        kernel, recurrent = self.shapes(x)
        params = {
            "kernel": self.weight("kernel", key, kernel),
            "recurrent_kernel": self.weight("recurrent", key, recurrent),
        }
        if self.use_bias:
            params["bias"] = self.bias(key, kernel[-1])
        return params, {}

    def bias(self: Any, key: Array, width: int) -> Array:
        """A fresh bias."""
        return self.weight("bias", key, (width,))

    @property
    def separates(self: Any) -> bool:
        """Whether steps are known to treat examples independently: by activations of fnn or JAX."""
        return all(
            map(
                _is_known,
                (self.activation, getattr(self, "recurrent_activation", None)),
            )
        )

    def drawn(self: Any, x: Any, start: States, ctx: Context) -> Any:
        """What dropout multiplies inputs and states with at all steps; None for nothing."""
        h, recurrent = start[0], self.recurrent_dropout
        return (
            dropout_scale(self, self.dropout, "dropout", x.shape, h.dtype, ctx),
            dropout_scale(self, recurrent, "recurrent_dropout", h.shape, h.dtype, ctx),
        )

    def stepper(self: Any, params: Params, drawn: Any, ctx: Context) -> Steps:
        """`project` and `step` with dropout, the same at all steps."""
        scale, keep = (1 if a is None else a for a in drawn)

        def project(x: Array) -> Array:
            return self.project(params, x * scale)

        def advance(
            of_x: Array, states: States, memory: State
        ) -> tuple[Array, States, State]:
            new = self.step(params, of_x, states, keep)
            return new[0], new, memory

        return project, advance

    def check_width(self: Any, params: Params, x: Any) -> None:
        """Raises ValueError for inputs of another width than those of `init`."""
        arguments.width(self, x, params["kernel"].shape[0])

    def project(self: Any, params: Params, x: Array) -> Array:
        """What the inputs are for the gates, whatever the state is."""
        return x @ params["kernel"]

    def total(self: Any, params: Params, of_x: Array, h: Array) -> Array:
        """What the inputs and the state add up to, before any activation."""
        z = of_x + h @ params["recurrent_kernel"]
        return add_bias(z, params["bias"]) if self.use_bias else z


class SimpleStep(GatedStep):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    def step(
        self: Any, params: Params, of_x: Array, states: States, keep: Any
    ) -> States:
        """The state after a step."""
        return (activate(self.activation, self.total(params, of_x, states[0] * keep)),)


class LSTMStep(GatedStep):
    """The gates i, f, c, o and the states h, c of `LSTM`."""

    gates, states = 4, 2
    gate_axis: ClassVar[int] = -1

    def bias(self: Any, key: Array, width: int) -> Array:
        """A fresh bias, 1 for f, which remembers at first."""
        fresh = self.weight("bias", key, (width,))
        if not self.unit_forget_bias:
            return fresh
        forget = slice(width // 4, width // 2)
        if isinstance(fresh, jax.core.Tracer):
            return fresh.at[forget].set(1)
        values = np.array(fresh)
        values[forget] = 1
        return on_device(values)

    def step(
        self: Any, params: Params, of_x: Array, states: States, keep: Any
    ) -> States:
        """The states h, c after a step."""
        h, c = states
        i, f, new, o = jnp.split(
            self.total(params, of_x, h * keep), 4, axis=self.gate_axis
        )
        i, f, o = (activate(self.recurrent_activation, gate) for gate in (i, f, o))
        c = f * c + i * activate(self.activation, new)
        return o * activate(self.activation, c), c


class GRUStep(GatedStep):
    """The gates z, r, h of `GRU`; with `reset_after` the kernels have a bias each."""

    gates = 3

    def bias(self: Any, key: Array, width: int) -> Array:
        """A fresh bias."""
        return self.weight("bias", key, (2, width) if self.reset_after else (width,))

    def step(
        self: Any, params: Params, of_x: Array, states: States, keep: Any
    ) -> States:
        """The state after a step."""
        (h,), seen, early = states, states[0] * keep, 2 * self.units
        recurrent = params["recurrent_kernel"]
        of_h = seen @ (recurrent if self.reset_after else recurrent[:, :early])
        # Gate by gate: cutting z and r off together takes a quarter more time on CPU.
        z_h, r_h, *new_h = jnp.split(of_h, of_h.shape[-1] // self.units, axis=-1)
        if self.use_bias:
            bias = params["bias"]
            if self.reset_after:  # z and r only see the sum of both rows
                new_h = [add_bias(new_h[0], bias[1, early:])]
                bias = jnp.concatenate(
                    [bias[0, :early] + bias[1, :early], bias[0, early:]]
                )
            of_x = add_bias(of_x, bias)
        z, r, new = jnp.split(of_x, 3, axis=-1)
        z, r = (
            activate(self.recurrent_activation, gate) for gate in (z + z_h, r + r_h)
        )
        new += r * new_h[0] if self.reset_after else (r * seen) @ recurrent[:, early:]
        return (z * h + (1 - z) * activate(self.activation, new),)
