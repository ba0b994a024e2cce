"""DepthwiseConv, SeparableConv: convolution of each channel by itself, then across channels."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array, lax

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
    PerAxis,
    Shape,
    Spatial,
    channel_axis,
    convolve,
    numbers,
    reach,
    spatial_axes,
)
from fnn.runtime.placement import add_bias

# On CPU, a window of up to this many positions is convolved as a sum of shifted products. Median
# CPU time of XLA's grouped convolution, as a multiple of this sum, forward and with gradients: 14
# and 3.7 for 3 x 3, 14 and 1.3 for 5 x 5, 13 and 1.2 for 7 x 7 (inputs 16 x 28 x 28 x 32); at
# 11 x 11 the gradients are slower than XLA's.
FEW_OFFSETS = 49


class _Depthwise(Spatial, loadable=False):
    """A layer with the fields of a depthwise convolution."""

    input_rules = (WINDOW_FITS,)

    if TYPE_CHECKING:

        @property
        def padding(self) -> str: ...

        @property
        def depth_multiplier(self) -> int: ...


def kernel_shape(layer: _Depthwise, x: SpecTree) -> Shape:
    """The shape of a depthwise kernel for `x`: (*window, channels, depth_multiplier)."""
    (window,) = numbers(layer, "kernel_size")
    return (*window, x.shape[channel_axis(layer)], layer.depth_multiplier)


def depthwise(layer: _Depthwise, x: Array, kernel: Array) -> Array:
    """Each channel of `x` convolved with its own kernels.

    (batch, *positions, channels) -> (batch, *new positions, channels * depth_multiplier)
    """
    *window, channels, multiplier = kernel.shape
    axis = channel_axis(layer)
    strides, dilation = numbers(layer, "strides", "dilation_rate")
    padding = layer.padding.upper()
    if jax.default_backend() == "cpu" and math.prod(window) <= FEW_OFFSETS:
        positions = spatial_axes(layer)
        sizes = [x.shape[i] for i in positions]
        covered = reach(tuple(window), dilation)
        pads = [(0, 0)] * x.ndim
        pads[positions.start : positions.stop] = lax.padtype_to_pads(
            sizes, covered, strides, padding
        )
        x = jnp.pad(x, pads)  # (batch, *padded positions, channels)
        return _by_offset(x, kernel, axis % x.ndim, positions, strides, dilation)
    # Each channel is a group, with one input and `multiplier` outputs.
    kernel = kernel.reshape(*window, 1, channels * multiplier)
    return convolve(
        x,
        kernel,
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
    positions: range,
    strides: Shape,
    dilation: Shape,
) -> Array:
    """The padded `x` convolved as a sum of shifted copies, one for each offset in the window.

    Its channels are at `axis`, its positions at the axes `positions`.
    """
    *window, _, multiplier = kernel.shape
    dtype = jnp.result_type(x, kernel)
    wide = jnp.promote_types(dtype, jnp.float32)  # a convolution sums in float32 too
    x = jnp.repeat(x, multiplier, axis).astype(wide)  # channels * multiplier at `axis`
    weights = kernel.reshape(*window, -1)  # (*window, channels * multiplier)
    weights = weights.astype(wide)
    by_channel = [1] * x.ndim
    by_channel[axis] = -1
    covered = reach(tuple(window), dilation)
    total: Array | int = 0
    for offset in itertools.product(*map(range, window)):
        first = [0] * x.ndim
        last = list(x.shape)
        step = [1] * x.ndim
        for i, place in enumerate(positions):
            start = offset[i] * dilation[i]
            first[place] = start
            count = x.shape[place] - covered[i] + 1  # of window positions with stride 1
            last[place] = start + count
            step[place] = strides[i]
        # (batch, *new positions, channels * multiplier)
        shifted = lax.slice(x, first, last, step)
        total += shifted * weights[offset].reshape(by_channel)
    return jnp.asarray(total).astype(dtype)


class _DepthwiseConv(_Depthwise):
    # The fields `depthwise_...` belong to the weight `kernel`.
    weight_names = {"depthwise": "kernel"}
    kernel_size: PerAxis = per_axis()
    strides: PerAxis = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    depth_multiplier: int = positive(default=1)
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: PerAxis = per_axis(default=1)
    activation: Activation = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    depthwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = kernel_shape(self, x)
        params = {"kernel": self.weight("depthwise", key, shape)}
        if self.use_bias:
            channels = shape[-2] * shape[-1]
            params["bias"] = self.weight("bias", key, (channels,))
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        # (batch, *new positions, channels * depth_multiplier)
        y = depthwise(self, x, params["kernel"])
        if self.use_bias:
            y = add_bias(y, params["bias"], channel_axis(self))
        return activate(self.activation, y), state


class DepthwiseConv1D(_DepthwiseConv):
    """Each channel convolved with `depth_multiplier` kernels of its own.

    (batch, steps, channels) -> (batch, new steps, channels * depth_multiplier)

    The outputs of channel 0 come first, then those of channel 1. Weights: `kernel (kernel_size,
    channels, depth_multiplier)`, `bias`. Strides and data formats are as in `Conv1D`.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = DepthwiseConv1D(3, depth_multiplier=2)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> jax.jit(apply)(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 6, 10)
    """

    spatial = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Each channel convolved with `depth_multiplier` kernels of its own.

    (batch, h, w, channels) -> (batch, new h, new w, channels * depth_multiplier)

    The outputs of channel 0 come first, then those of channel 1. Weights: `kernel (*kernel_size,
    channels, depth_multiplier)`, `bias`. Strides may differ by axis (not in Keras).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = DepthwiseConv2D(3, padding="same")
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> jax.jit(apply)(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 4, 4, 2)
    """

    spatial = 2

    strides: PerAxis = per_axis(default=(1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1))


class _SeparableConv(_Depthwise):
    weight_names = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}
    filters: int = positive()
    kernel_size: PerAxis = per_axis()
    strides: PerAxis = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: PerAxis = per_axis(default=1)
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

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = kernel_shape(self, x)
        depthwise = self.weight("depthwise", key, shape)
        window = (
            1,
        ) * self.spatial  # the second kernel mixes the channels of one position
        channels = shape[-2] * shape[-1]
        shape = (*window, channels, self.filters)
        pointwise = self.weight("pointwise", key, shape)
        params = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise}
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
        axis = channel_axis(self)
        strides = (1,) * self.spatial
        # (batch, *new positions, channels * depth_multiplier)
        y = depthwise(self, x, params["depthwise_kernel"])
        kernel = params["pointwise_kernel"]
        # (batch, *new positions, filters)
        y = convolve(y, kernel, axis, strides=strides, padding="VALID")
        if self.use_bias:
            y = add_bias(y, params["bias"], axis)
        return activate(self.activation, y), state


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution, then a pointwise one, which mixes the channels of each step.

    (batch, steps, channels) -> (batch, new steps, filters)

    Weights: `depthwise_kernel (kernel_size, channels, depth_multiplier)`, `pointwise_kernel (1,
    channels * depth_multiplier, filters)`, `bias (filters,)`. The activation is applied last.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = SeparableConv1D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> jax.jit(apply)(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 6, 4)
    """

    spatial = 1


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution, then a pointwise one, which mixes the channels of each position.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    Weights: `depthwise_kernel (*kernel_size, channels, depth_multiplier)`, `pointwise_kernel (1, 1,
    channels * depth_multiplier, filters)`, `bias (filters,)`. The activation is applied last.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.
    Chollet, Xception, arXiv:1610.02357.

    >>> init, apply = SeparableConv2D(4, 3)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> jax.jit(apply)(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 2, 2, 4)
    """

    spatial = 2

    strides: PerAxis = per_axis(default=(1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1))
