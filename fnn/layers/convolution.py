"""Conv1D, Conv2D, Conv3D: convolution over steps, images and volumes."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis, positive
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
from fnn.core.tree import SpecTree
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    Padding,
    PerAxis,
    channel_axis,
    check_inputs,
    convolve,
    numbers,
    reach,
)


class _Conv(Layer):
    spatial: ClassVar[int]

    filters: int = positive()
    kernel_size: PerAxis = per_axis()
    strides: PerAxis = per_axis(default=1)
    padding: str = one_of(("valid", "same", "causal"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: PerAxis = per_axis(default=1)
    groups: int = positive(default=1)
    activation: Activation = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def validate(self) -> None:
        if self.padding == "causal" and self.spatial > 1:
            expected = "to be one of 'valid', 'same'; only Conv1D can be causal"
            raise arguments.wrong(self, "padding", expected, self.padding)
        if self.filters % self.groups:
            expected = f"to be a multiple of groups={self.groups}"
            raise arguments.wrong(self, "filters", expected, self.filters)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        window, dilation = numbers(self, "kernel_size", "dilation_rate")
        smallest: tuple[int, ...] = ()
        if self.padding == "valid":
            smallest = reach(window, dilation)
        check_inputs(self, x, smallest)
        channels = x.shape[channel_axis(self)]
        if channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: expected the number of input channels to be a multiple of "
                f"groups={self.groups}, received {channels} in shape {tuple(x.shape)}; choose "
                "groups that divide it"
            )
        shape = (*window, channels // self.groups, self.filters)
        params = {"kernel": self.weight("kernel", key, shape)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.filters,))
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        channels = channel_axis(self)
        fields = "kernel_size", "strides", "dilation_rate"
        window, strides, dilation = numbers(self, *fields)
        padding: Padding = self.padding.upper()
        if self.padding == "causal":  # a step sees itself and the past
            padding = [(reach(window, dilation)[0] - 1, 0)]
        if "cached_inputs" in state:  # decoding: the past inputs stand for the padding
            past = state["cached_inputs"]
            x = jnp.concatenate(
                [past.astype(x.dtype), x], 1
            )  # (batch, past + steps, channels)
            padding = "VALID"
            kept = x.shape[1] - past.shape[1]
            latest = x[:, kept:]  # (batch, past, channels)
            state = {**state, "cached_inputs": latest.astype(past.dtype)}
        y = convolve(  # (batch, *new positions, filters)
            x,
            params["kernel"],
            channels,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=self.groups,
        )
        if self.use_bias:
            y = add_bias(y, params["bias"], channels)
        return activate(self.activation, y), state


class Conv1D(_Conv):
    """activation(x * kernel + bias) along time.

    (batch, steps, channels) -> (batch, new steps, filters)

    `padding="causal"` pads the past only, so that no step sees a later one; "same" pads both sides,
    an odd position at the end. With `data_format="channels_first"` inputs and outputs are (batch,
    channels, steps). The weights are the same in both formats: `kernel (kernel_size, channels /
    groups, filters)`, `bias (filters,)`. Strides and dilation may be combined (not in Keras).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = Conv1D(4, 3, padding="causal")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> apply(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 8, 4)
    """

    spatial = 1

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The last inputs that the next window covers, zeros at first.

        Raises ValueError unless the padding is causal, the strides are 1 and channels come last.
        """
        window, strides, dilation = numbers(
            self, "kernel_size", "strides", "dilation_rate"
        )
        (covered,) = reach(window, dilation)
        if self.padding != "causal" and covered > 1:
            expected = "to be 'causal', since a step cannot see later ones"
            raise arguments.wrong(self, "padding", expected, self.padding)
        if strides != (1,):
            expected = "to be 1, an output for each step"
            raise arguments.wrong(self, "strides", expected, self.strides)
        if channel_axis(self) != -1:
            expected = "to be 'channels_last', steps before channels"
            raise arguments.wrong(self, "data_format", expected, self.data_format)
        kernel = params["kernel"]
        shape = batch, covered - 1, kernel.shape[-2] * self.groups
        return {"cached_inputs": jnp.zeros(shape, kernel.dtype)}


class Conv2D(_Conv):
    """activation(x * kernel + bias) over images.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    Along an axis of n positions, with kernel size k, stride s and dilation d, "valid" gives
    (n - (k - 1) d - 1) // s + 1 positions and "same" gives ceil(n / s), padded with an odd position
    at the end. With `data_format="channels_first"` inputs and outputs are (batch, channels, h, w).
    The weights are the same in both formats: `kernel (*kernel_size, channels / groups, filters)`,
    `bias (filters,)`. Strides and dilation may be combined (not in Keras).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = Conv2D(32, (3, 3), activation="relu")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 26, 26, 32)
    """

    spatial = 2

    strides: PerAxis = per_axis(default=(1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1))


class Conv3D(_Conv):
    """activation(x * kernel + bias) over volumes.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, filters)

    As `Conv2D`, with one axis more.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = Conv3D(4, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 3, 4, 5, 2)))
    >>> apply(params, state, jnp.ones((1, 3, 4, 5, 2)))[0].shape
    (1, 2, 3, 4, 4)
    """

    spatial = 3

    strides: PerAxis = per_axis(default=(1, 1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1, 1))
