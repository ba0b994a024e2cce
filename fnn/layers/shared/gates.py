"""Gates: one step of LSTM, GRU and SimpleRNN, for layers and cells alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.context import Context
from fnn.core.layer import Activation, Layer, Params, State, activate
from fnn.core.tree import SpecTree
from fnn.core.value import resolve
from fnn.layers.shared.dropping import drop
from fnn.layers.shared.recurrence import StepFunctions
from fnn.runtime.initial_values import on_device
from fnn.runtime.placement import add_bias

Shape: TypeAlias = tuple[int, ...]
States: TypeAlias = tuple[Array, ...]  # each (batch, units)


class Scales(NamedTuple):
    """The factors of dropout, the same at all steps; None without dropout."""

    inputs: Array | None  # (batch, features)
    recurrent: Array | None  # (batch, units)


class GatedStep(Layer, loadable=False):
    """The weights of a step with `units` units, and the step itself.

    It is a base class of a layer over time and of its cell, which declare the fields. A subclass
    defines `step`. The gates are side by side in the kernels, (..., gates * units).
    """

    # Keras's fields recurrent_... belong to the weight `recurrent_kernel`.
    weight_names = {"recurrent": "recurrent_kernel"}
    gate_count: ClassVar[int] = 1
    state_count: ClassVar[int] = 1

    # Fields that the subclasses declare. Annotations here would make them fields of this
    # class, and the first arguments of every constructor.
    if TYPE_CHECKING:

        @property
        def units(self) -> int: ...

        @property
        def activation(self) -> Activation: ...

        @property
        def use_bias(self) -> bool: ...

        @property
        def dropout(self) -> float: ...

        @property
        def recurrent_dropout(self) -> float: ...

    def step(
        self,
        params: Params,
        projected: Array,
        states: States,
        recurrent_scale: Array | int,
    ) -> States:
        """The states after a step; the first of them is the output.

        `projected` comes from `project`. The output state is multiplied by `recurrent_scale`
        wherever it is read (recurrent dropout).
        """
        raise NotImplementedError

    def initial_states(self, x: SpecTree) -> States:
        """Zeros."""
        zeros = jnp.zeros((x.shape[0], self.units))
        return (zeros,) * self.state_count

    def kernel_shapes(self, x: SpecTree) -> tuple[Shape, Shape]:
        """The shapes of the kernels of the inputs and of the output state."""
        width = self.gate_count * self.units
        return (x.shape[-1], width), (self.units, width)

    def init_weights(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        """Fresh params and state."""
        kernel, recurrent = self.kernel_shapes(x)
        params = {
            "kernel": self.weight("kernel", key, kernel),
            "recurrent_kernel": self.weight("recurrent", key, recurrent),
        }
        if self.use_bias:
            params["bias"] = self.init_bias(key, kernel[-1])
        return params, {}

    def init_bias(self, key: Array, width: int) -> Array:
        """A fresh bias."""
        return self.weight("bias", key, (width,))

    @property
    def independent_examples(self) -> bool:
        """Whether a step treats examples independently: with activations of fnn or JAX."""
        recurrent = getattr(self, "recurrent_activation", None)
        return _is_known(self.activation) and _is_known(recurrent)

    def dropout_scales(self, x: SpecTree, states: States, ctx: Context) -> Scales:
        """The factors of dropout for the inputs and the output state."""
        h = states[0]
        return Scales(
            _dropout_scale(self, self.dropout, "dropout", x.shape, h.dtype, ctx),
            _dropout_scale(
                self,
                self.recurrent_dropout,
                "recurrent_dropout",
                h.shape,
                h.dtype,
                ctx,
            ),
        )

    def step_functions(
        self,
        params: Params,
        scales: Scales,
        ctx: Context,
    ) -> StepFunctions:
        """`project` and `step`, with dropout."""
        scale: Array | int = 1
        recurrent_scale: Array | int = 1
        if scales.inputs is not None:
            scale = scales.inputs
        if scales.recurrent is not None:
            recurrent_scale = scales.recurrent

        def project(x: Array) -> Array:
            return self.project(params, x * scale)

        def step(
            projected: Array, states: States, memory: State
        ) -> tuple[Array, States, State]:
            new = self.step(params, projected, states, recurrent_scale)
            return new[0], new, memory

        return StepFunctions(project, step)

    def project(self, params: Params, x: Array) -> Array:
        """The part of the gates that depends on the inputs alone, (batch, gates * units)."""
        projected: Array = x @ params["kernel"]
        return projected

    def preactivation(self, params: Params, projected: Array, h: Array) -> Array:
        """The gates before their activations, (batch, gates * units)."""
        z: Array = projected + h @ params["recurrent_kernel"]
        if self.use_bias:
            z = add_bias(z, params["bias"])
        return z


def _dropout_scale(
    layer: Layer,
    rate: float,
    purpose: str,
    shape: Shape,
    dtype: jnp.dtype,
    ctx: Context,
) -> Array | None:
    """Ones, a fraction `rate` of them dropped; None in inference or without dropout."""
    if not ctx.train or rate == 0:
        return None
    return drop(layer, jnp.ones(shape, dtype), rate, ctx, purpose)


def _is_known(activation: Activation) -> bool:
    """Whether an activation is a function of fnn or JAX: these treat examples independently."""
    found = resolve("activation", activation)
    if found is None:
        return True
    if isinstance(found, Layer):
        return False
    package = str(getattr(found, "__module__", "")).partition(".")[0]
    return package in ("fnn", "jax")


class SimpleStep(GatedStep, loadable=False):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    def step(
        self,
        params: Params,
        projected: Array,
        states: States,
        recurrent_scale: Array | int,
    ) -> States:
        h = states[0] * recurrent_scale
        z = self.preactivation(params, projected, h)  # (batch, units)
        return (activate(self.activation, z),)


class LSTMStep(GatedStep, loadable=False):
    """The gates i, f, c, o and the states h, c of `LSTM`."""

    gate_count = 4
    state_count = 2

    if TYPE_CHECKING:

        @property
        def recurrent_activation(self) -> Activation: ...

        @property
        def unit_forget_bias(self) -> bool: ...

    @property
    def gate_axis(self) -> int:
        """The axis along which the gates are side by side."""
        return -1

    def init_bias(self, key: Array, width: int) -> Array:
        """A fresh bias; 1 for the forget gate, so that an untrained layer remembers."""
        fresh = self.weight("bias", key, (width,))
        if not self.unit_forget_bias:
            return fresh
        forget = slice(width // 4, width // 2)
        if isinstance(fresh, jax.core.Tracer):
            changed: Array = fresh.at[forget].set(1)
            return changed
        values = np.array(fresh)  # on the host: nothing to compile
        values[forget] = 1
        return on_device(values)

    def step(
        self,
        params: Params,
        projected: Array,
        states: States,
        recurrent_scale: Array | int,
    ) -> States:
        h, c = states
        z = self.preactivation(params, projected, h * recurrent_scale)
        # each (batch, units)
        i, f, new, o = jnp.split(z, 4, axis=self.gate_axis)
        i = activate(self.recurrent_activation, i)
        f = activate(self.recurrent_activation, f)
        o = activate(self.recurrent_activation, o)
        c = f * c
        new = activate(self.activation, new)
        c = c + i * new
        h = o * activate(self.activation, c)
        return h, c


class GRUStep(GatedStep, loadable=False):
    """The gates z, r, h of `GRU`; with `reset_after`, both kernels have a bias."""

    gate_count = 3

    if TYPE_CHECKING:

        @property
        def recurrent_activation(self) -> Activation: ...

        @property
        def reset_after(self) -> bool: ...

    def init_bias(self, key: Array, width: int) -> Array:
        """A fresh bias; with `reset_after` (2, width): of the inputs, and of the state."""
        if self.reset_after:
            return self.weight("bias", key, (2, width))
        return self.weight("bias", key, (width,))

    def step(
        self,
        params: Params,
        projected: Array,
        states: States,
        recurrent_scale: Array | int,
    ) -> States:
        h = states[0]
        seen = h * recurrent_scale
        z_and_r = 2 * self.units  # the columns of these two gates
        kernel = params["recurrent_kernel"]  # (units, 3 * units)
        columns = kernel
        if not self.reset_after:  # the gate h waits for r
            columns = kernel[:, :z_and_r]
        recurrent = seen @ columns  # (batch, 3 * units) or (batch, 2 * units)
        # Gate by gate: cutting z and r off together takes a quarter more time on CPU.
        gates = recurrent.shape[-1] // self.units
        z_h, r_h, *new_h = jnp.split(recurrent, gates, axis=-1)  # each (batch, units)
        if self.use_bias:
            bias = params["bias"]
            if self.reset_after:
                new_h = [add_bias(new_h[0], bias[1, z_and_r:])]
                # z and r have both biases added to the same sum.
                both = bias[0, :z_and_r] + bias[1, :z_and_r]
                bias = jnp.concatenate([both, bias[0, z_and_r:]])  # (3 * units,)
            projected = add_bias(projected, bias)
        z, r, new = jnp.split(projected, 3, axis=-1)  # each (batch, units)
        z = z + z_h
        r = r + r_h
        z = activate(self.recurrent_activation, z)
        r = activate(self.recurrent_activation, r)
        if self.reset_after:
            new += r * new_h[0]
        else:
            new += (r * seen) @ kernel[:, z_and_r:]
        kept = z * h
        h = kept + (1 - z) * activate(self.activation, new)
        return (h,)
