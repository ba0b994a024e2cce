"""BatchNormalization: normalization over the batch, with moving averages for inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, leading
from fnn.core.fields import fraction, not_negative
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.tree import SpecTree
from fnn.core.value import Fields
from fnn.layers.shared.statistics import (
    HAS_AXES,
    at_least_float32,
    axes_of,
    gamma_beta,
    mean,
    valid_entries,
    zeros_elsewhere,
)
from fnn.runtime.arithmetic import float_dtype
from fnn.runtime.placement import along, spec_of, used_by


class BatchNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta.   same shape -> same shape

    In training, mean and variance are those of the batch, over all axes but `axis`; in inference,
    and in a layer that is not trainable, they are the moving averages. Padded examples (`ctx.rows`)
    and masked steps are left out. Computed in float32 at least, also for half precision.
    Weights: `gamma`, `beta`; state: `moving_mean`, `moving_variance` (of the biased variance),
    each of shape (channels,); moving = momentum * moving + (1 - momentum) * batch.

    `renorm` corrects the batch statistics towards the moving ones (Ioffe 2017); `renorm_clipping`,
    a dict of "rmin", "rmax" and "dmax", limits the correction. `synchronized` changes nothing:
    under `jit` the statistics are those of the whole batch, on any number of devices.
    Raises ValueError for wrong arguments, and in `init` for an axis that the inputs do not have
    (Ioffe and Szegedy 2015).

    >>> params, state = BatchNormalization().init(jax.random.key(0), jnp.ones((8, 3)))
    >>> sorted(params), sorted(state)
    (['beta', 'gamma'], ['moving_mean', 'moving_variance'])
    """

    masking = "pass"
    input_layout = "(batch, ...)"
    field_rules = (
        Rule(
            "renorm_clipping",
            lambda layer: _are_bounds(layer.renorm_clipping),
            'to be a dict of "rmin" <= "rmax" and "dmax" >= 0',
        ),
    )
    input_rules = (HAS_AXES,)

    axis: int = -1
    momentum: float = fraction(default=0.99)
    epsilon: float = not_negative(default=1e-3)
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    moving_mean_initializer: Initializer = "zeros"
    moving_variance_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    renorm: bool = False
    renorm_clipping: Mapping[str, float] | Fields | None = None
    renorm_momentum: float = fraction(default=0.99)
    synchronized: bool = False

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        (axis,) = axes_of(self, x)
        shape = (x.shape[axis],)
        mean = self.weight("moving_mean", key, shape)
        variance = self.weight("moving_variance", key, shape)
        state = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:
            stddev = jnp.sqrt(variance)
            state["moving_stddev"] = stddev
            state["renorm_mean"] = mean
            state["renorm_stddev"] = stddev
        return gamma_beta(self, key, shape), state

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        (axis,) = axes_of(self, x)
        values = at_least_float32(x)
        offset = jnp.zeros(())
        shift = jnp.zeros(())
        if not ctx.train or ctx.frozen or not self.trainable:
            center = state["moving_mean"]  # (channels,)
            scale = lax.rsqrt(state["moving_variance"] + self.epsilon)  # (channels,)
        else:
            valid = valid_entries(ctx, x.ndim, range(x.ndim))
            center, offset, variance = _moments(values, axis, valid)
            if ctx.rows is not None:  # padding may hold NaN, the outputs must not
                values = zeros_elsewhere(values, leading(ctx.rows, x.ndim))
            scale = lax.rsqrt(variance + self.epsilon)
            batch = lax.stop_gradient((center + offset, variance))
            if self.renorm:
                r, shift = self._correction(state, *batch)
                scale = scale * r
            state = self._moved(state, *batch)
        # Factors and shifts, each (channels,), are combined first, to go through the array once.
        gamma = params.get("gamma", 1)
        scale = scale * gamma
        shift = shift * gamma
        beta = params.get("beta", 0)
        shift = shift + beta - offset * scale
        y = values - along(center, x.ndim, axis)  # the shape of x
        y = y * along(scale, x.ndim, axis)
        y = y + along(shift, x.ndim, axis)
        return y.astype(float_dtype(x)), state

    def _correction(
        self,
        state: State,
        mean: Array,
        variance: Array,
    ) -> tuple[Array, Array]:
        """The factor r and the shift d from the batch's normalization to the moving one."""
        bounds = _bounds(self.renorm_clipping)
        moving = jnp.maximum(state["renorm_stddev"], self.epsilon**0.5)
        r = jnp.sqrt(variance + self.epsilon) / moving
        d = (mean - state["renorm_mean"]) / moving
        rmin = bounds.get("rmin")
        rmax = bounds.get("rmax")
        dmax = bounds.get("dmax", math.inf)
        r = jnp.clip(r, rmin, rmax)
        d = jnp.clip(d, -dmax, dmax)
        return r, d

    def _moved(
        self,
        state: State,
        mean: Array,
        variance: Array,
    ) -> State:
        """The moving averages after this batch."""

        def moved(name: str, batch: Array, momentum: float) -> Array:
            average: Array = momentum * state[name] + (1 - momentum) * batch
            return average.astype(state[name].dtype)

        new = {"moving_mean": moved("moving_mean", mean, self.momentum)}
        if not self.renorm:
            new["moving_variance"] = moved("moving_variance", variance, self.momentum)
            return new
        stddev = jnp.sqrt(variance + self.epsilon)
        moving = moved("moving_stddev", stddev, self.momentum)
        # As in Keras the variance follows from the moving standard deviation.
        moving_variance = jnp.square(moving) - self.epsilon
        new["moving_variance"] = jnp.maximum(moving_variance, 0)
        new["moving_stddev"] = moving
        new["renorm_mean"] = moved("renorm_mean", mean, self.renorm_momentum)
        new["renorm_stddev"] = moved("renorm_stddev", stddev, self.renorm_momentum)
        return new


def _bounds(clipping: object) -> dict[str, float]:
    """The items of `renorm_clipping` that are not None."""
    if not isinstance(clipping, Fields):
        return {}
    given = clipping.as_dict().items()
    return {name: bound for name, bound in given if bound is not None}


def _are_bounds(clipping: object) -> bool:
    bounds = _bounds(clipping)
    known = {"rmin", "rmax", "dmax"}
    if not isinstance(clipping, Fields | None) or set(bounds) - known:
        return False
    rmin = bounds.get("rmin", -math.inf)
    rmax = bounds.get("rmax", math.inf)
    return rmin <= rmax and bounds.get("dmax", 0) >= 0


class _Moments(NamedTuple):
    """Statistics of each channel, each of shape (channels,)."""

    center: Array  # a value near the mean, without a gradient
    offset: Array  # mean - center
    variance: Array  # biased


def _moments(
    x: Array,
    axis: int,
    valid: Array | None,
) -> _Moments:
    """Mean and variance of the valid entries over all axes but `axis`, in one pass.

    mean(x^2) - mean(x)^2 would lose all digits if the mean is large. Values are therefore centered
    at the mean of the first of n examples: that loses at most n roundings, since an example far
    from the others makes the variance large too.
    """
    axes = tuple(i for i in range(x.ndim) if i != axis)
    index = [slice(None)] * x.ndim
    for i in axes[:1]:
        index[i] = slice(0, 1)
    first = tuple(index)

    def mean_of_first() -> Array:
        return x[first].mean(axes)

    def mean_of_all() -> Array:
        return mean(zeros_elsewhere(x, valid), axes, valid, False)

    # The mean needs a pass of its own if part of the first example is padding, or if the examples
    # are divided over several devices of a mesh of explicit axes.
    if used_by(spec_of(x)):
        center = mean_of_all()
    elif valid is None:
        center = mean_of_first()
    else:
        center = lax.cond(valid[first].all(), mean_of_first, mean_of_all)
    center = lax.stop_gradient(center)  # (channels,)
    centered = x - along(center, x.ndim, axis)  # the shape of x
    centered = zeros_elsewhere(centered, valid)
    offset = mean(centered, axes, valid, False)  # (channels,)
    square = mean(jnp.square(centered), axes, valid, False)
    variance = jnp.maximum(square - jnp.square(offset), 0)
    return _Moments(center, offset, variance)
