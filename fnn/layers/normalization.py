"""Normalization layers: over each example, over groups of channels, over chosen axes."""

from __future__ import annotations

from dataclasses import field

import jax.numpy as jnp
from jax import Array, lax

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import not_negative
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.tree import SpecTree
from fnn.layers.shared.statistics import (
    HAS_AXES,
    NAMES_AXES,
    Axes,
    at_least_float32,
    axes_of,
    center,
    gamma_beta,
    mean,
    scale_shift,
    standardize,
    valid_entries,
    zeros_elsewhere,
)
from fnn.runtime.arithmetic import float_dtype, unit_length
from fnn.runtime.initial_values import filled


class LayerNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, each example by itself.

    Mean and variance are over `axis`, one or several; the weights have the sizes of these axes.
    `rms_scaling` is Keras's older form gamma * x / sqrt(variance + epsilon), which does not
    subtract the mean from x; `RMSNormalization` divides by the root mean square instead. Computed
    in float32 at least. As in all layers of this file, masked steps do not count in statistics over
    time.
    Raises ValueError for wrong arguments, and in `init` for axes that the inputs do not have
    (Ba et al. 2016).

    >>> init, apply = LayerNormalization()
    >>> x = jnp.array([[1.0, 3.0]])
    >>> apply(*init(jax.random.key(0), x), x)[0].round(2).tolist()
    [[-1.0, 1.0]]
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    field_rules = (NAMES_AXES,)
    input_rules = (HAS_AXES,)

    axis: int | Axes = -1
    epsilon: float = not_negative(default=1e-3)
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    rms_scaling: bool = field(default=False, kw_only=True)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = tuple(x.shape[axis] for axis in axes_of(self, x))
        if self.rms_scaling:
            return {"gamma": self.weight("gamma", key, shape)}, {}
        return gamma_beta(self, key, shape), {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        axes = axes_of(self, x)
        valid = valid_entries(ctx, x.ndim, axes)
        values = zeros_elsewhere(at_least_float32(x), valid)
        if self.rms_scaling:
            _, factor = center(values, axes, self.epsilon, valid)  # size 1 along `axes`
            y = values * factor
        else:
            y = standardize(values, axes, self.epsilon, valid)
        y = scale_shift(y, params, axes)
        return y.astype(float_dtype(x)), state


class GroupNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, over groups of channels.

    The channels, at `axis`, are divided into `groups` of neighboring ones; mean and variance are
    over a group and all axes but the batch. With `groups=-1` each channel is a group (instance
    normalization), with 1 all channels are. Masked steps do not count. Computed in float32 at
    least.
    Raises ValueError for wrong arguments, and in `init` unless `groups` divides the number of
    channels (Wu and He 2018).

    >>> init, apply = GroupNormalization(groups=2)
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> jax.jit(apply)(*init(jax.random.key(0), x), x)[0].round(2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    masking = "pass"
    by_step = False  # the statistics are over all steps
    input_layout = "(batch, ...)"
    field_rules = (
        Rule(
            "groups",
            lambda layer: layer.groups > 0 or layer.groups == -1,
            "to be an integer above 0, or -1 for one per channel",
        ),
    )
    input_rules = (
        HAS_AXES,
        Rule(
            "axis",
            lambda layer, x: axes_of(layer, x) != (0,),
            "to be that of the channels and not of the batch, 0",
        ),
        Rule(
            "groups",
            lambda layer, x: (
                layer.groups == -1 or x.shape[layer.axis] % layer.groups == 0
            ),
            "to divide the channels of inputs of shape {x.shape}",
            "use fewer groups, or -1 for one per channel",
        ),
    )

    groups: int = 32
    axis: int = -1
    epsilon: float = not_negative(default=1e-3)
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        (axis,) = axes_of(self, x)
        channels = x.shape[axis]
        return gamma_beta(self, key, (channels,)), {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        (axis,) = axes_of(self, x)
        groups = self.groups
        if groups == -1:
            groups = x.shape[axis]

        def grouped(a: Array) -> Array:
            """(..., channels, ...) -> (..., groups, channels / groups, ...)"""
            channels = a.shape[axis]
            parts = min(groups, channels)  # a mask has size 1 there
            size = channels // parts
            before = a.shape[:axis]
            after = a.shape[axis + 1 :]
            return a.reshape(*before, parts, size, *after)

        valid = valid_entries(ctx, x.ndim, range(1, x.ndim))
        values = grouped(zeros_elsewhere(at_least_float32(x), valid))  # one axis more
        # All axes but the batch and the groups, which are at `axis` now.
        axes = tuple(i for i in range(1, values.ndim) if i != axis)
        if valid is not None:
            valid = grouped(valid)  # (batch, ..., 1, 1, ...)
        y = standardize(values, axes, self.epsilon, valid)
        y = y.reshape(x.shape)  # the groups side by side again
        y = scale_shift(y, params, (axis,))
        return y.astype(float_dtype(x)), state


class RMSNormalization(Layer):
    """scale * x / sqrt(mean(x**2) + epsilon).   same shape -> same shape

    The mean is over `axis`, one or several; the weight `scale` has the sizes of these axes.
    Computed in float32 at least. Raises as `LayerNormalization` (Zhang and Sennrich 2019).

    >>> init, apply = RMSNormalization()
    >>> x = jnp.array([[1.0, -1.0]]) * 5
    >>> apply(*init(jax.random.key(0), x), x)[0].round(3).tolist()
    [[1.0, -1.0]]
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    field_rules = (NAMES_AXES,)
    input_rules = (HAS_AXES,)

    axis: int | Axes = -1
    epsilon: float = not_negative(default=1e-6)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = tuple(x.shape[axis] for axis in axes_of(self, x))
        scale = filled(key, shape, self.weight_dtype, 1)
        return {"scale": scale}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        axes = axes_of(self, x)
        valid = valid_entries(ctx, x.ndim, axes)
        values = zeros_elsewhere(at_least_float32(x), valid)
        square = mean(jnp.square(values), axes, valid)  # size 1 along `axes`
        y = values * lax.rsqrt(square + self.epsilon)
        y = scale_shift(y, params, axes, "scale")
        return y.astype(float_dtype(x)), state


class UnitNormalization(Layer):
    """x / the L2 norm of x along `axis`, one or several.   same shape -> same shape

    Zeros stay zeros. Raises ValueError for wrong arguments, and in `init` for axes that the inputs
    do not have.

    >>> init, apply = UnitNormalization()
    >>> y, _ = apply({}, {}, jnp.array([[3.0, 4.0]]))
    >>> [round(v, 3) for v in y[0].tolist()]
    [0.6, 0.8]
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    field_rules = (NAMES_AXES,)
    input_rules = (HAS_AXES,)

    axis: int | Axes = -1

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        axes = axes_of(self, x)
        valid = valid_entries(ctx, x.ndim, axes)
        values = zeros_elsewhere(at_least_float32(x), valid)
        y = unit_length(values, axes, 1e-24)
        return y.astype(float_dtype(x)), state
