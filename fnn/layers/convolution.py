"""Conv1D, Conv2D, Conv3D: convolution over steps, images and volumes."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis, positive
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.tree import SpecTree
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    WINDOW_FITS,
    Padding,
    PerAxis,
    Spatial,
    channel_axis,
    convolve,
    numbers,
    reach,
)
from fnn.runtime.placement import add_bias


class _Conv(Spatial):
    field_rules = (
        Rule(
            "padding",
            lambda conv: conv.padding != "causal" or conv.spatial == 1,
            "to be one of 'valid', 'same'; only Conv1D can be causal",
        ),
        Rule(
            "filters",
            lambda conv: conv.filters % conv.groups == 0,
            "to be a multiple of groups={self.groups}",
        ),
    )
    input_rules = (
        WINDOW_FITS,
        Rule(
            "inputs",
            lambda conv, x: x.shape[channel_axis(conv)] % conv.groups == 0,
            "with a number of channels that is a multiple of groups={self.groups}",
            "choose groups that divide it",
        ),
    )

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

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        (window,) = numbers(self, "kernel_size")
        channels = x.shape[channel_axis(self)]
        # Each filter sees the channels of its group alone.
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
            (covered,) = reach(window, dilation)
            padding = [(covered - 1, 0)]
        if "cached_inputs" in state:  # decoding: the past inputs stand for the padding
            past = state["cached_inputs"]
            past_and_now = past.astype(x.dtype), x
            x = jnp.concatenate(past_and_now, 1)  # (batch, past + steps, channels)
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


def _reaches(conv: _Conv) -> int:
    """How many steps the window of a `Conv1D` covers."""
    return reach(*numbers(conv, "kernel_size", "dilation_rate"))[0]


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
    cache_rules = (
        Rule(
            "padding",
            lambda conv: conv.padding == "causal" or _reaches(conv) == 1,
            "to be 'causal', since a step cannot see later ones",
        ),
        Rule(
            "strides",
            lambda conv: conv.strides in (1, (1,)),
            "to be 1, an output for each step",
        ),
        Rule(
            "data_format",
            lambda conv: channel_axis(conv) == -1,
            "to be 'channels_last', steps before channels",
        ),
    )

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The last inputs that the next window covers, zeros at first."""
        covered = _reaches(self)
        kernel = params["kernel"]
        channels = kernel.shape[-2] * self.groups
        shape = batch, covered - 1, channels
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
