"""Convolutional LSTMs: ConvLSTM1D, ConvLSTM2D and ConvLSTM3D, for sequences of images."""

from __future__ import annotations

from dataclasses import field

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.fields import fraction, one_of, per_axis, positive, random_seed
from fnn.core.layer import Activation, Constraint, Initializer, Params, Regularizer
from fnn.core.tree import SpecTree, array_spec
from fnn.layers.shared.gates import LSTMStep, Shape, States
from fnn.layers.shared.recurrence import OverTime, one_step
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    WINDOW_FITS,
    Spatial,
    channel_axis,
    convolve,
    layout,
    numbers,
)
from fnn.runtime.placement import add_bias


def _check_window(layer: _ConvLSTM, x: SpecTree) -> None:
    sequences = jax.tree.leaves(x)[0]
    WINDOW_FITS(layer, one_step(sequences))


class _ConvLSTM(Spatial, LSTMStep, OverTime):
    """`LSTMStep` with convolutions in place of the products, and images as states.

    Inputs of a step are (batch, *positions, channels), states (batch, *positions, filters).
    """

    input_rules = (_check_window,)
    cache_rules = (
        *OverTime.cache_rules,
        Rule(
            "stateful",
            lambda layer: layer.stateful,
            "to be True, since init knows the size of the images and a cache does not",
        ),
    )

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
    def gate_axis(self) -> int:
        return channel_axis(self)

    @property
    def input_layout(self) -> str:  # type: ignore[override]
        return layout(self, "time")

    def initial_states(self, x: SpecTree) -> States:
        # A state has the size of the inputs convolved with the kernel of one gate.
        kernel_shape, _ = self.kernel_shapes(x)
        *front, _ = kernel_shape
        kernel = array_spec((*front, self.filters), x.dtype)
        shape = jax.eval_shape(self._convolve_inputs, x, kernel).shape
        return (jnp.zeros(shape),) * self.state_count

    def kernel_shapes(self, x: SpecTree) -> tuple[Shape, Shape]:
        (window,) = numbers(self, "kernel_size")
        channels = x.shape[channel_axis(self)]
        width = self.gate_count * self.filters
        kernel = *window, channels, width
        recurrent_kernel = *window, self.filters, width
        return kernel, recurrent_kernel

    def _convolve_inputs(self, x: Array, kernel: Array) -> Array:
        """(batch, *positions, channels) -> (batch, *new positions, filters of the kernel)."""
        strides, dilation = numbers(self, "strides", "dilation_rate")
        return convolve(
            x,
            kernel,
            channel_axis(self),
            strides=strides,
            padding=self.padding.upper(),
            dilation=dilation,
        )

    def project(self, params: Params, x: Array) -> Array:
        # The convolution is in the loop over steps: images of all steps and gates together
        # would fill the memory.
        return x

    def preactivation(self, params: Params, x: Array, h: Array) -> Array:
        """The gates before their activations, (batch, *positions, 4 * filters)."""
        axis = channel_axis(self)
        # "SAME" with strides 1: a state keeps its size.
        recurrent = convolve(  # (batch, *new positions, 4 * filters)
            h,
            params["recurrent_kernel"],
            axis,
            strides=(1,) * self.spatial,
            padding="SAME",
        )
        z = self._convolve_inputs(x, params["kernel"])
        z = z + recurrent
        if self.use_bias:
            z = add_bias(z, params["bias"], axis)
        return z


class ConvLSTM1D(_ConvLSTM):
    """`LSTM` with convolutions along one axis in place of the products.

    (batch, time, steps, channels) -> (batch, new steps, filters)

    As `ConvLSTM2D`, with one axis less. With `data_format="channels_first"`, inputs are (batch,
    time, channels, steps) and outputs (batch, filters, new steps).
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = ConvLSTM1D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 8, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 8, 3)))[0].shape
    (2, 6, 4)
    """

    spatial = 1


class ConvLSTM2D(_ConvLSTM):
    """`LSTM` with convolutions in place of the products, for sequences of images.

    (batch, time, h, w, channels) -> (batch, new h, new w, filters)

    Inputs are convolved as by `Conv2D` with the same strides, padding and dilation. States are
    images of the size of the outputs; their convolution keeps that size. Masks, states, dropout
    and the arguments from `return_sequences` on are as in `LSTM` (Keras draws a dropout mask for
    each gate). With `data_format="channels_first"`, inputs are (batch, time, channels, h, w) and
    outputs (batch, filters, new h, new w).
    Weights: `kernel (*kernel_size, channels, 4 filters)`, `recurrent_kernel (*kernel_size, filters,
    4 filters)`, `bias (4 filters,)`.
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.
    Shi et al., arXiv:1506.04214, section 3.1, without the connections from c to the gates.

    >>> init, apply = ConvLSTM2D(4, 3, return_sequences=True)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 8, 8, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 8, 8, 3)))[0].shape
    (2, 5, 6, 6, 4)
    """

    spatial = 2


class ConvLSTM3D(_ConvLSTM):
    """`LSTM` with convolutions in place of the products, for sequences of volumes.

    (batch, time, d, h, w, channels) -> (batch, new d, new h, new w, filters)

    As `ConvLSTM2D`, with one axis more.
    Raises ValueError for wrong arguments, and inputs or states of wrong shape.

    >>> init, apply = ConvLSTM3D(2, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 2, 4, 4, 4, 1)))
    >>> apply(params, state, jnp.ones((1, 2, 4, 4, 4, 1)))[0].shape
    (1, 3, 3, 3, 2)
    """

    spatial = 3
