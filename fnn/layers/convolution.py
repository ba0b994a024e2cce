"""Conv1D, Conv2D, Conv3D: one small kernel, moved over every position."""

from __future__ import annotations

from typing import Any, ClassVar

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
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    channel_axis,
    check_inputs,
    convolve,
    numbers,
    reach,
)


class _Conv(Layer):
    spatial: ClassVar[int]

    filters: int = positive()
    kernel_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] = per_axis(default=1)
    padding: str = one_of(("valid", "same", "causal"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: int | tuple[int, ...] = per_axis(default=1)
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
            raise arguments.wrong(
                self,
                "filters",
                f"to be a multiple of groups={self.groups}",
                self.filters,
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        window, dilation = numbers(self, "kernel_size", "dilation_rate")
        check_inputs(
            self, x, reach(window, dilation) if self.padding == "valid" else ()
        )
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
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        kernel, channels = params["kernel"], channel_axis(self)
        window, strides, dilation = numbers(
            self, "kernel_size", "strides", "dilation_rate"
        )
        padding: Any = self.padding.upper()
        if self.padding == "causal":  # a step sees itself and the past
            padding = [(reach(window, dilation)[0] - 1, 0)]
        if "cached_inputs" in state:
            past = state["cached_inputs"]
            x, padding = jnp.concatenate([past.astype(x.dtype), x], 1), "VALID"
            new = x[:, x.shape[1] - past.shape[1] :].astype(past.dtype)
            state = {**state, "cached_inputs": new}
        y = convolve(
            x,
            kernel,
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

    `padding="causal"` pads the past only, so that no step sees a later one. Where the padding is
    uneven, "same" pads one more at the end. `data_format="channels_first"` has (batch, channels,
    steps) in and out and the same weights: `kernel (kernel_size, channels / groups, filters)`,
    `bias (filters,)`. Strides and dilation may be combined (Keras refuses that).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = Conv1D(4, 3, padding="causal")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> apply(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 8, 4)
    """

    spatial = 1

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The last inputs that a window still covers, zeros at first.

        Raises ValueError unless the padding is causal, step by step, and channels come last.
        """
        strides, (past,) = (
            numbers(self, "strides")[0],
            reach(*numbers(self, "kernel_size", "dilation_rate")),
        )
        for name, fits, expected in (
            (
                "padding",
                self.padding == "causal" or past == 1,
                "to be 'causal', since a step cannot see those to come",
            ),
            ("strides", strides == (1,), "to be 1, an output for each step"),
            (
                "data_format",
                channel_axis(self) == -1,
                "to be 'channels_last', steps before channels",
            ),
        ):
            if not fits:
                raise arguments.wrong(self, name, expected, getattr(self, name))
        kernel = params["kernel"]
        shape = batch, past - 1, kernel.shape[-2] * self.groups
        return {"cached_inputs": jnp.zeros(shape, kernel.dtype)}


class Conv2D(_Conv):
    """activation(x * kernel + bias) over images.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    "valid" gives (n - (k - 1) d - 1) // s + 1 positions along an axis of n, "same" gives
    ceil(n / s), padded one more at the end where uneven. `data_format="channels_first"` has
    (batch, channels, h, w) in and out and the same weights: `kernel (*kernel_size, channels /
    groups, filters)`, `bias (filters,)`. Strides and dilation may be combined (Keras refuses that).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = Conv2D(32, (3, 3), activation="relu")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 26, 26, 32)
    """

    spatial = 2

    strides: int | tuple[int, ...] = per_axis(default=(1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1))


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

    strides: int | tuple[int, ...] = per_axis(default=(1, 1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1, 1))
