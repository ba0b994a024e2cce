"""ConvLSTM1D, ConvLSTM2D, ConvLSTM3D: an LSTM whose inputs and states are images."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.fields import fraction, one_of, per_axis, positive, random_seed
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Params,
    Regularizer,
    State,
    add_bias,
)
from fnn.layers.shared.gates import LSTMStep
from fnn.layers.shared.recurrence import OverTime, States
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    channel_axis,
    check_inputs,
    convolve,
    numbers,
    reach,
)


class _ConvLSTM(LSTMStep, OverTime):
    spatial: ClassVar[int]

    filters: int = positive()
    kernel_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: int | tuple[int, ...] = per_axis(default=1)
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
    unroll: bool = field(default=False, kw_only=True)
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    @property
    def gate_axis(self) -> int:  # type: ignore[override]
        return channel_axis(self)

    def check(self, sequences: Any) -> None:
        arguments.rank(
            self, sequences, self.spatial + 3, layout="(batch, time, ...), images each"
        )
        step = jax.ShapeDtypeStruct(
            (sequences.shape[0], *sequences.shape[2:]), sequences.dtype
        )
        window, dilation = numbers(self, "kernel_size", "dilation_rate")
        check_inputs(
            self, step, reach(window, dilation) if self.padding == "valid" else ()
        )

    def check_width(self, params: Params, x: Any) -> None:
        axis = 2 if channel_axis(self) == 1 else -1  # of the sequences
        arguments.width(self, x, params["kernel"].shape[-2], axis)

    def start(self, x: Any) -> States:
        kernel = jax.ShapeDtypeStruct((*self.shapes(x)[0][:-1], self.filters), x.dtype)
        shape = jax.eval_shape(self._see, x, kernel).shape
        return (jnp.zeros(shape),) * self.states

    def cache(self, params: Params, batch: int, length: int) -> State:
        """Nothing if `stateful`; else raises ValueError, as the size of the images is unknown."""
        if not self.stateful:
            expected = "to be True, since init knows the size of the images and a cache does not"
            raise arguments.wrong(self, "stateful", expected, False)
        return super().cache(params, batch, length)

    def shapes(self, x: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        (window,), width = numbers(self, "kernel_size"), self.gates * self.filters
        return (*window, x.shape[channel_axis(self)], width), (
            *window,
            self.filters,
            width,
        )

    def _see(self, x: Array, kernel: Array) -> Array:
        strides, dilation = numbers(self, "strides", "dilation_rate")
        padding = self.padding.upper()
        return convolve(
            x,
            kernel,
            channel_axis(self),
            strides=strides,
            padding=padding,
            dilation=dilation,
        )

    def project(self, params: Params, x: Array) -> Array:
        return x  # convolved within the loop: images of all steps and gates would fill the memory

    def total(self, params: Params, x: Array, h: Array) -> Array:
        recurrent, axis = params["recurrent_kernel"], channel_axis(self)
        of_h = convolve(h, recurrent, axis, strides=(1,) * self.spatial, padding="SAME")
        z = self._see(x, params["kernel"]) + of_h
        return add_bias(z, params["bias"], axis) if self.use_bias else z


class ConvLSTM1D(_ConvLSTM):
    """`LSTM` whose products are convolutions along one axis.

    (batch, time, steps, channels) -> (batch, new steps, filters)

    As `ConvLSTM2D`, with one axis less; `data_format="channels_first"` has (batch, time, channels,
    steps) in and (batch, filters, new steps) out.
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = ConvLSTM1D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 8, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 8, 3)))[0].shape
    (2, 6, 4)
    """

    spatial = 1


class ConvLSTM2D(_ConvLSTM):
    """`LSTM` whose products are convolutions, for sequences of images.

    (batch, time, h, w, channels) -> (batch, new h, new w, filters)

    The convolution of the inputs is that of `Conv2D` with the same strides, padding and dilation;
    that of the states, images of the size of the outputs, keeps their size. Masks, states and the
    arguments from `return_sequences` on are as in `LSTM`, dropout too (Keras draws anew for each
    gate). `data_format="channels_first"` has (batch, time, channels, h, w) in and (batch, filters,
    new h, new w) out. Weights: `kernel (*kernel_size, channels, 4 filters)`, `recurrent_kernel
    (*kernel_size, filters, 4 filters)`, `bias (4 filters,)`.
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.
    Shi et al., arXiv:1506.04214, section 3.1, without the products of c and the gates.

    >>> init, apply = ConvLSTM2D(4, 3, return_sequences=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 8, 8, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 8, 8, 3)))[0].shape
    (2, 5, 6, 6, 4)
    """

    spatial = 2


class ConvLSTM3D(_ConvLSTM):
    """`LSTM` whose products are convolutions, for sequences of volumes.

    (batch, time, d, h, w, channels) -> (batch, new d, new h, new w, filters)

    As `ConvLSTM2D`, with one axis more.
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = ConvLSTM3D(2, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 2, 4, 4, 4, 1)))
    >>> apply(params, state, jnp.ones((1, 2, 4, 4, 4, 1)))[0].shape
    (1, 3, 3, 3, 2)
    """

    spatial = 3
