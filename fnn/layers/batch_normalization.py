"""BatchNormalization: over the batch, with running averages for inference."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arithmetic import float_dtype
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, not_negative
from fnn.core.layer import (
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    along,
)
from fnn.core.masking import leading
from fnn.core.value import Fields
from fnn.layers.shared.statistics import (
    at_least_float32,
    axes_of,
    check_axis_and_epsilon,
    gamma_beta,
    mean,
    real_entries,
    zeros_elsewhere,
)
from fnn.runtime.placement import spec_of, used_by


class BatchNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta.   same shape -> same shape

    Mean and variance are those of the batch in training, taken over all axes but `axis`, and the
    running averages in inference and for a layer that does not learn. Padded rows (`ctx.rows`)
    and masked steps do not enter them. Computed in float32 at least, also for half precision.
    Weights: `gamma`, `beta`; state: `moving_mean`, `moving_variance` (of the biased variance),
    each of shape (channels,); moving = momentum * moving + (1 - momentum) * batch.

    `renorm` corrects the batch's numbers towards running ones, clipped by `renorm_clipping`
    ("rmin", "rmax", "dmax"; Ioffe 2017). `synchronized` changes nothing: under `jit` the batch is
    the whole batch on whatever devices it lies.
    Raises ValueError for wrong arguments, and in `init` for an axis that is not there
    (Ioffe and Szegedy 2015).

    >>> params, state = BatchNormalization().init(jax.random.key(0), jnp.ones((8, 3)))
    >>> sorted(params), sorted(state)
    (['beta', 'gamma'], ['moving_mean', 'moving_variance'])
    """

    masking = "pass"

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
    renorm_clipping: Any = None
    renorm_momentum: float = fraction(default=0.99)
    synchronized: bool = False

    def validate(self) -> None:
        check_axis_and_epsilon(self, several=False)
        _check_clipping(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        (axis,) = axes_of(self, x)
        shape = (x.shape[axis],)
        mean = self.weight("moving_mean", key, shape)
        variance = self.weight("moving_variance", key, shape)
        state = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:
            stddev = jnp.sqrt(variance)
            state |= {
                "moving_stddev": stddev,
                "renorm_mean": mean,
                "renorm_stddev": stddev,
            }
        return gamma_beta(self, key, shape), state

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        (axis,) = axes_of(self, x)
        values, offset, shift = at_least_float32(x), jnp.zeros(()), jnp.zeros(())
        if not ctx.train or ctx.frozen or not self.trainable:
            center, variance = state["moving_mean"], state["moving_variance"]
            scale = lax.rsqrt(variance + self.epsilon)
        else:
            reduced = tuple(i for i in range(x.ndim) if i != axis)
            real = real_entries(ctx, x.ndim, range(x.ndim))
            center, offset, variance = _moments(values, axis, reduced, real)
            if ctx.rows is not None:  # whatever the padding holds, it must stay finite
                values = zeros_elsewhere(values, leading(ctx.rows, x.ndim))
            scale = lax.rsqrt(variance + self.epsilon)
            batch = lax.stop_gradient((center + offset, variance))
            if self.renorm:
                r, shift = self._correction(state, *batch)
                scale = scale * r
            state = self._moved(state, *batch)
        # What there is one of for each channel comes first: the array is gone through once.
        scale, shift = (part * params.get("gamma", 1) for part in (scale, shift))
        shift = shift + params.get("beta", 0) - offset * scale
        y = (values - along(center, x.ndim, axis)) * along(scale, x.ndim, axis)
        return (y + along(shift, x.ndim, axis)).astype(float_dtype(x)), state

    def _correction(
        self, state: State, mean: Array, variance: Array
    ) -> tuple[Array, Array]:
        """The r and d that carry the batch's normalization over to the running one."""
        bounds = _bounds(self)
        running = jnp.maximum(state["renorm_stddev"], self.epsilon**0.5)
        r = jnp.sqrt(variance + self.epsilon) / running
        d = (mean - state["renorm_mean"]) / running
        dmax = bounds.get("dmax", math.inf)
        return jnp.clip(r, bounds.get("rmin"), bounds.get("rmax")), jnp.clip(
            d, -dmax, dmax
        )

    def _moved(self, state: State, mean: Array, variance: Array) -> State:
        """The running averages after this batch."""

        def moved(name: str, batch: Array, momentum: float) -> Array:
            return (momentum * state[name] + (1 - momentum) * batch).astype(
                state[name].dtype
            )

        new = {"moving_mean": moved("moving_mean", mean, self.momentum)}
        if not self.renorm:
            return new | {
                "moving_variance": moved("moving_variance", variance, self.momentum)
            }
        batch = jnp.sqrt(variance + self.epsilon)
        stddev = moved("moving_stddev", batch, self.momentum)
        return new | {
            "moving_variance": jnp.maximum(jnp.square(stddev) - self.epsilon, 0),
            "moving_stddev": stddev,
            "renorm_mean": moved("renorm_mean", mean, self.renorm_momentum),
            "renorm_stddev": moved("renorm_stddev", batch, self.renorm_momentum),
        }


def _moments(
    x: Array, axis: int, axes: tuple[int, ...], real: Array | None
) -> tuple[Array, Array, Array]:
    """(a number near the mean, how far the mean is from it, the biased variance), by channel.

    Over `axes`, all but one, of the entries that are real. From one pass: mean(x^2) - mean(x)^2
    would lose all digits where the mean is large; about the mean of the first of n examples it
    loses no more than n roundings, as an example far off makes for a large variance itself.
    """
    first = tuple(slice(0, 1) if i in axes[:1] else slice(None) for i in range(x.ndim))
    of_first = lambda: x[first].mean(axes)
    of_all = lambda: mean(zeros_elsewhere(x, real), axes, real, False)
    # Where part of the first example is padding, or the examples lie on several devices of a mesh
    # of explicit axes, a pass of its own finds the mean.
    if used_by(spec_of(x)):
        center = of_all()
    else:
        center = (
            of_first()
            if real is None
            else lax.cond(real[first].all(), of_first, of_all)
        )
    center = lax.stop_gradient(center)
    away = zeros_elsewhere(x - along(center, x.ndim, axis), real)
    offset = mean(away, axes, real, False)
    square = mean(jnp.square(away), axes, real, False)
    return center, offset, jnp.maximum(square - jnp.square(offset), 0)


def _bounds(layer: Any) -> dict[str, float]:
    """The clipping of `renorm` that is given."""
    given = layer.renorm_clipping.as_dict() if layer.renorm_clipping is not None else {}
    return {name: bound for name, bound in given.items() if bound is not None}


def _check_clipping(layer: Any) -> None:
    given = isinstance(layer.renorm_clipping, Fields | None)
    bounds = _bounds(layer) if given else {"": 0.0}
    ordered = bounds.get("rmin", -math.inf) <= bounds.get("rmax", math.inf)
    if (
        not set(bounds) <= {"rmin", "rmax", "dmax"}
        or not ordered
        or bounds.get("dmax", 0) < 0
    ):
        expected = 'to be a dict of "rmin" <= "rmax" and "dmax" >= 0'
        raise arguments.wrong(layer, "renorm_clipping", expected, layer.renorm_clipping)
