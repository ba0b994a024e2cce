"""Normalization layers: over the batch, over an example, over groups of channels."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arithmetic import along
from fnn.core.config import Fields
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State


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
    momentum: float = 0.99
    epsilon: float = 1e-3
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
    renorm_momentum: float = 0.99
    synchronized: bool = False

    def validate(self) -> None:
        _check(self, several=False)
        arguments.fraction(self, "momentum")
        arguments.fraction(self, "renorm_momentum")
        _check_clipping(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        (axis,) = _axes(self, x)
        shape = (x.shape[axis],)
        mean = self.weight("moving_mean", key, shape)
        variance = self.weight("moving_variance", key, shape)
        state = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:
            stddev = jnp.sqrt(variance)
            state |= {"moving_stddev": stddev, "renorm_mean": mean, "renorm_stddev": stddev}
        return _gamma_beta(self, key, shape), state

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        (axis,) = _axes(self, x)
        values = _at_least_float32(x)
        if not ctx.train or ctx.frozen or not self.trainable:
            mean, variance = state["moving_mean"], state["moving_variance"]
            y = _normalize(values, along(mean, x.ndim, axis), along(variance, x.ndim, axis), self)
        else:
            if ctx.rows is not None:  # whatever the padding holds, it must stay finite
                values = jnp.where(_leading(ctx.rows, x.ndim), values, 0)
            mean, variance = _moments(values, axis, _real(ctx, x.ndim))
            y = _normalize(values, along(mean, x.ndim, axis), along(variance, x.ndim, axis), self)
            mean, variance = lax.stop_gradient((mean, variance))
            if self.renorm:
                r, d = self._correction(state, mean, variance)
                y = y * along(r, x.ndim, axis) + along(d, x.ndim, axis)
            state = self._moved(state, mean, variance)
        return _scale_shift(y, params, (axis,)).astype(_output_dtype(x)), state

    def _correction(self, state: State, mean: Array, variance: Array) -> tuple[Array, Array]:
        """The r and d that carry the batch's normalization over to the running one."""
        bounds = _bounds(self)
        running = jnp.maximum(state["renorm_stddev"], self.epsilon**0.5)
        r = jnp.sqrt(variance + self.epsilon) / running
        d = (mean - state["renorm_mean"]) / running
        dmax = bounds.get("dmax", math.inf)
        return jnp.clip(r, bounds.get("rmin"), bounds.get("rmax")), jnp.clip(d, -dmax, dmax)

    def _moved(self, state: State, mean: Array, variance: Array) -> State:
        """The running averages after this batch."""

        def moved(name: str, batch: Array, momentum: float) -> Array:
            return (momentum * state[name] + (1 - momentum) * batch).astype(state[name].dtype)

        new = {"moving_mean": moved("moving_mean", mean, self.momentum)}
        if not self.renorm:
            return new | {"moving_variance": moved("moving_variance", variance, self.momentum)}
        batch = jnp.sqrt(variance + self.epsilon)
        stddev = moved("moving_stddev", batch, self.momentum)
        return new | {
            "moving_variance": jnp.maximum(jnp.square(stddev) - self.epsilon, 0),
            "moving_stddev": stddev,
            "renorm_mean": moved("renorm_mean", mean, self.renorm_momentum),
            "renorm_stddev": moved("renorm_stddev", batch, self.renorm_momentum),
        }


class LayerNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, each example by itself.

    Mean and variance are over `axis`, one or several; the weights have the sizes of these axes.
    `rms_scaling` is Keras's old form gamma * x / sqrt(variance + epsilon): the mean stays, the
    root mean square is that of `RMSNormalization`. Computed in float32 at least.
    Raises ValueError for wrong arguments, and in `init` for axes that are not there
    (Ba et al. 2016).

    >>> init, apply = LayerNormalization()
    >>> x = jnp.array([[1.0, 3.0]])
    >>> apply(*init(jax.random.key(0), x), x)[0].round(2).tolist()
    [[-1.0, 1.0]]
    """

    masking = "pass"

    axis: int | tuple[int, ...] = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    rms_scaling: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shape = tuple(x.shape[axis] for axis in _axes(self, x))
        if self.rms_scaling:
            return {"gamma": self.weight("gamma", key, shape)}, {}
        return _gamma_beta(self, key, shape), {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        axes, values = _axes(self, x), _at_least_float32(x)
        mean = values.mean(axes, keepdims=True)
        variance = values.var(axes, keepdims=True)
        y = _normalize(values, jnp.zeros_like(mean) if self.rms_scaling else mean, variance, self)
        return _scale_shift(y, params, axes).astype(_output_dtype(x)), state


class GroupNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, over groups of channels.

    The channels, at `axis`, fall into `groups` of neighbours; mean and variance are over a group
    and all axes but the batch. -1 makes each channel a group of its own (instance normalization),
    1 takes all together. Computed in float32 at least.
    Raises ValueError for wrong arguments, and in `init` unless the channels can be so divided
    (Wu and He 2018).

    >>> init, apply = GroupNormalization(groups=2)
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> apply(*init(jax.random.key(0), x), x)[0].round(2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    masking = "pass"

    groups: int = 32
    axis: int = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None

    def validate(self) -> None:
        if self.groups != -1:
            arguments.positive_int(self, "groups")
        _check(self, several=False)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        (axis,) = _axes(self, x)
        channels = x.shape[axis]
        if axis == 0:
            expected = "to be that of the channels and not of the batch, 0"
            raise arguments.wrong(self, "axis", expected, self.axis)
        if self.groups != -1 and channels % self.groups:
            advice = "do take fewer groups, or -1 for one a channel"
            expected = f"to divide the {channels} channels of the inputs"
            raise arguments.wrong(self, "groups", expected, self.groups, advice)
        return _gamma_beta(self, key, (channels,)), {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        (axis,) = _axes(self, x)
        groups = x.shape[axis] if self.groups == -1 else self.groups
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        values = _at_least_float32(x).reshape(*before, groups, x.shape[axis] // groups, *after)
        axes = tuple(i for i in range(1, values.ndim) if i != axis)
        mean, variance = values.mean(axes, keepdims=True), values.var(axes, keepdims=True)
        y = _normalize(values, mean, variance, self).reshape(x.shape)
        return _scale_shift(y, params, (axis,)).astype(_output_dtype(x)), state


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

    axis: int | tuple[int, ...] = -1
    epsilon: float = 1e-6

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shape = tuple(x.shape[axis] for axis in _axes(self, x))
        return {"scale": jnp.ones(shape, self.weight_dtype)}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        axes, values = _axes(self, x), _at_least_float32(x)
        square = jnp.square(values).mean(axes, keepdims=True)
        y = _scale_shift(values * lax.rsqrt(square + self.epsilon), params, axes, "scale")
        return y.astype(_output_dtype(x)), state


class UnitNormalization(Layer):
    """x / the L2 norm of x along `axis`, one or several.   same shape -> same shape

    Zeros stay zeros. Raises ValueError for wrong arguments, and in `init` for axes that are not
    there.

    >>> init, apply = UnitNormalization()
    >>> y, _ = apply({}, {}, jnp.array([[3.0, 4.0]]))
    >>> [round(v, 3) for v in y[0].tolist()]
    [0.6, 0.8]
    """

    masking = "pass"

    axis: int | tuple[int, ...] = -1

    def validate(self) -> None:
        _check(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        _axes(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        values = _at_least_float32(x)
        square = jnp.square(values).sum(_axes(self, x), keepdims=True)
        y = values * lax.rsqrt(jnp.maximum(square, 1e-24))
        return y.astype(_output_dtype(x)), state


def _gamma_beta(layer: Any, key: Array, shape: tuple[int, ...]) -> Params:
    names = [name for name, on in (("gamma", layer.scale), ("beta", layer.center)) if on]
    return {name: layer.weight(name, key, shape) for name in names}


def _normalize(x: Array, mean: Array, variance: Array, layer: Any) -> Array:
    return (x - mean) * lax.rsqrt(variance + layer.epsilon)


def _scale_shift(y: Array, params: Params, axes: tuple[int, ...], scale: str = "gamma") -> Array:
    """y * gamma + beta, as far as there are such, their axes laid along `axes` of y."""
    shape = [n if axis in axes else 1 for axis, n in enumerate(y.shape)]
    if scale in params:
        y = y * params[scale].reshape(shape)
    return y + params["beta"].reshape(shape) if "beta" in params else y


def _moments(x: Array, axis: int, real: Array | None) -> tuple[Array, Array]:
    """Mean and biased variance over all axes but one, of the entries that are real."""
    axes = tuple(i for i in range(x.ndim) if i != axis)
    if real is None:
        return x.mean(axes), x.var(axes)
    real = jnp.broadcast_to(real, x.shape)
    count = jnp.maximum(real.sum(axes), 1)
    mean = jnp.where(real, x, 0).sum(axes) / count
    difference = jnp.where(real, x - along(mean, x.ndim, axis), 0)
    return mean, jnp.square(difference).sum(axes) / count


def _real(ctx: Context, ndim: int) -> Array | None:
    """Which entries are neither padding nor masked, to spread over the inputs."""
    given = [_leading(m, ndim) for m in (ctx.rows, ctx.mask) if m is not None]
    return given[0] if len(given) == 1 else given[0] & given[1] if given else None


def _leading(mask: Array, ndim: int) -> Array:
    """A mask over the first axes, with further axes of 1."""
    return mask.astype(bool).reshape(mask.shape + (1,) * (ndim - mask.ndim))


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _output_dtype(x: Array) -> Any:
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32


def _axes(layer: Any, x: Any) -> tuple[int, ...]:
    """The axes of the layer counted from the front, in their order in x."""
    arguments.minimum_rank(layer, x, 1, "(batch, ...)")
    given = layer.axis if isinstance(layer.axis, tuple) else (layer.axis,)
    ndim = len(x.shape)
    axes = tuple(sorted({axis % ndim for axis in given if -ndim <= axis < ndim}))
    if len(axes) != len(given):
        expected = f"to be axes of the inputs, which have shape {tuple(x.shape)}, each once"
        raise arguments.wrong(layer, "axis", expected, layer.axis)
    return axes


def _check(layer: Any, several: bool = True) -> None:
    """Raises ValueError for a wrong axis or epsilon."""
    axes = layer.axis if several and isinstance(layer.axis, tuple) else (layer.axis,)
    if not axes or any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
        expected = "to be a whole number" + (" or a tuple of such" if several else "")
        raise arguments.wrong(layer, "axis", expected, layer.axis)
    epsilon = getattr(layer, "epsilon", 0)
    if not isinstance(epsilon, (int, float)) or not epsilon >= 0:
        raise arguments.wrong(layer, "epsilon", "to be a number not below 0", epsilon)


def _bounds(layer: Any) -> dict[str, float]:
    """The clipping of `renorm` that is given."""
    given = layer.renorm_clipping.as_dict() if layer.renorm_clipping is not None else {}
    return {name: bound for name, bound in given.items() if bound is not None}


def _check_clipping(layer: Any) -> None:
    given = isinstance(layer.renorm_clipping, Fields | None)
    bounds = _bounds(layer) if given else {"": 0.0}
    ordered = bounds.get("rmin", -math.inf) <= bounds.get("rmax", math.inf)
    if not set(bounds) <= {"rmin", "rmax", "dmax"} or not ordered or bounds.get("dmax", 0) < 0:
        expected = 'to be a dict of "rmin" <= "rmax" and "dmax" >= 0'
        raise arguments.wrong(layer, "renorm_clipping", expected, layer.renorm_clipping)
