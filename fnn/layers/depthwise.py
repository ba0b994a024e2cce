"""DepthwiseConv, SeparableConv: convolution of each channel alone, and a mixing after it."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

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
    spatial_axes,
)

# On CPU, a window of up to so many places is convolved as a sum of shifted products. Median CPU
# time of XLA's grouped convolution over that, forward and with gradients: 14 and 3.7 times for
# 3 x 3, 14 and 1.3 for 5 x 5, 13 and 1.2 for 7 x 7 (16 x 28 x 28 x 32); at 11 x 11 gradients lose.
FEW_OFFSETS = 49


def kernel_shape(layer: Any, x: Any) -> tuple[int, ...]:
    """The shape of a depthwise kernel for `x`, which `init` checks for it."""
    window, dilation = numbers(layer, "kernel_size", "dilation_rate")
    check_inputs(layer, x, reach(window, dilation) if layer.padding == "valid" else ())
    return (*window, x.shape[channel_axis(layer)], layer.depth_multiplier)


def depthwise(layer: Any, x: Array, kernel: Array) -> Array:
    """Each channel of `x` convolved with its own kernels; their results stand side by side."""
    axis, (*window, channels, multiplier) = channel_axis(layer), kernel.shape
    arguments.width(layer, x, channels, axis)
    strides, dilation = numbers(layer, "strides", "dilation_rate")
    padding = layer.padding.upper()
    if jax.default_backend() == "cpu" and math.prod(window) <= FEW_OFFSETS:
        places = spatial_axes(layer)
        sizes = [x.shape[a] for a in places]
        pads = lax.padtype_to_pads(
            sizes, reach(tuple(window), dilation), strides, padding
        )
        x = jnp.pad(
            x, [pads[a - places[0]] if a in places else (0, 0) for a in range(x.ndim)]
        )
        return _by_offset(x, kernel, axis % x.ndim, places, strides, dilation)
    return convolve(
        x,
        kernel.reshape(*window, 1, channels * multiplier),
        axis,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=channels,
    )


def _by_offset(
    x: Array,
    kernel: Array,
    axis: int,
    places: range,
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Array:
    """The padded `x` convolved as a sum of shifted copies of it, one for each place of a window.

    Its channels are at `axis`, its positions at `places`.
    """
    *window, _, multiplier = kernel.shape
    dtype = jnp.result_type(x, kernel)
    wide = jnp.promote_types(dtype, jnp.float32)  # as a convolution adds up
    x = jnp.repeat(x, multiplier, axis).astype(wide)
    weights = kernel.reshape(*window, -1).astype(wide)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    covered = reach(tuple(window), dilation)
    total: Any = 0
    for offset in itertools.product(*map(range, window)):
        first, last, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for place, o, d, c, s in zip(
            places, offset, dilation, covered, strides, strict=True
        ):
            first[place], step[place] = o * d, s
            last[place] = x.shape[place] - c + o * d + 1
        total += lax.slice(x, first, last, step) * weights[offset].reshape(shape)
    return total.astype(dtype)


class _DepthwiseConv(Layer):
    weight_names = {"depthwise": "kernel"}  # what the fields depthwise_... are for
    spatial: ClassVar[int]

    kernel_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    depth_multiplier: int = positive(default=1)
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: int | tuple[int, ...] = per_axis(default=1)
    activation: Activation = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    depthwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shape = kernel_shape(self, x)
        params = {"kernel": self.weight("depthwise", key, shape)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (shape[-2] * shape[-1],))
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        y = depthwise(self, x, params["kernel"])
        if self.use_bias:
            y = add_bias(y, params["bias"], channel_axis(self))
        return activate(self.activation, y), state


class DepthwiseConv1D(_DepthwiseConv):
    """Each channel convolved with `depth_multiplier` kernels of its own.

    (batch, steps, channels) -> (batch, new steps, channels * depth_multiplier)

    The results of channel 0 come first, then those of channel 1. Weights: `kernel (kernel_size,
    channels, depth_multiplier)`, `bias`. Strides and formats are as in `Conv1D`.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = DepthwiseConv1D(3, depth_multiplier=2)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> apply(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 6, 10)
    """

    spatial = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Each channel convolved with `depth_multiplier` kernels of its own.

    (batch, h, w, channels) -> (batch, new h, new w, channels * depth_multiplier)

    The results of channel 0 come first, then those of channel 1. Weights: `kernel (*kernel_size,
    channels, depth_multiplier)`, `bias`. Strides may differ by axis (Keras refuses that).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = DepthwiseConv2D(3, padding="same")
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 4, 4, 2)
    """

    spatial = 2

    strides: int | tuple[int, ...] = per_axis(default=(1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1))


class _SeparableConv(Layer):
    weight_names = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}
    spatial: ClassVar[int]

    filters: int = positive()
    kernel_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: int | tuple[int, ...] = per_axis(default=1)
    depth_multiplier: int = positive(default=1)
    activation: Activation = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    pointwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    pointwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    depthwise_constraint: Constraint = None
    pointwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shape = kernel_shape(self, x)
        mixing = (*(1,) * self.spatial, shape[-2] * shape[-1], self.filters)
        params = {
            "depthwise_kernel": self.weight("depthwise", key, shape),
            "pointwise_kernel": self.weight("pointwise", key, mixing),
        }
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.filters,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        axis, once = channel_axis(self), (1,) * self.spatial
        y = depthwise(self, x, params["depthwise_kernel"])
        y = convolve(y, params["pointwise_kernel"], axis, strides=once, padding="VALID")
        if self.use_bias:
            y = add_bias(y, params["bias"], axis)
        return activate(self.activation, y), state


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution, then a mixing of the channels at each step.

    (batch, steps, channels) -> (batch, new steps, filters)

    Weights: `depthwise_kernel (kernel_size, channels, depth_multiplier)`, `pointwise_kernel (1,
    channels * depth_multiplier, filters)`, `bias (filters,)`; nothing stands between the two.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = SeparableConv1D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> apply(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 6, 4)
    """

    spatial = 1


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution, then a mixing of the channels at each position.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    Weights: `depthwise_kernel (*kernel_size, channels, depth_multiplier)`, `pointwise_kernel (1, 1,
    channels * depth_multiplier, filters)`, `bias (filters,)`; nothing stands between the two.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.
    Chollet, Xception, arXiv:1610.02357.

    >>> init, apply = SeparableConv2D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 2, 2, 4)
    """

    spatial = 2

    strides: int | tuple[int, ...] = per_axis(default=(1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1))
