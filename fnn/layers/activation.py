"""Activation layers: an activation as a layer of its own, and those with arguments or weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.activations import relu
from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import not_negative
from fnn.core.layer import (
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.masking import combine_masks, leading
from fnn.layers.shared.statistics import axes_of, check_axis_and_epsilon


class Activation(Layer):
    """activation(x).   same shape -> same shape

    `activation` is a name, a function of one array, or None for x itself.

    >>> init, apply = Activation("relu")
    >>> apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
    [[0.0, 2.0]]
    """

    masking = "pass"

    activation: Any

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return activate(self.activation, x), state


class ReLU(Layer):
    """max(x, 0); above `threshold` min(x, max_value), else negative_slope * (x - threshold).

    Raises ValueError for an argument below 0.

    >>> init, apply = ReLU(max_value=1.0)
    >>> apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
    [[0.0, 1.0]]
    """

    masking = "pass"

    max_value: float | None = not_negative(default=None)
    negative_slope: float = not_negative(default=0.0)
    threshold: float = not_negative(default=0.0)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return relu(x, self.negative_slope, self.max_value, self.threshold), state


class LeakyReLU(Layer):
    """x above 0, negative_slope * x below.   same shape -> same shape

    The slope is 0.3 and not the 0.2 of the function `leaky_relu`, as in Keras.
    Raises ValueError for a slope below 0.

    >>> init, apply = LeakyReLU(0.5)
    >>> apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
    [[-0.5, 2.0]]
    """

    masking = "pass"

    negative_slope: float = not_negative(default=0.3)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return jax.nn.leaky_relu(x, self.negative_slope), state


class PReLU(Layer):
    """x above 0, alpha * x below, with a learned alpha (He et al. 2015).

    Weights: `alpha`, one for each position of an example. `shared_axes` names axes (the batch is
    0) along which there is but one: `(1, 2)` gives one a channel to images.
    Raises ValueError for axes that the inputs do not have.

    >>> params, _ = PReLU(shared_axes=(1, 2)).init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    >>> params["alpha"].shape
    (1, 1, 3)
    """

    masking = "pass"

    alpha_initializer: Initializer = "Zeros"
    alpha_regularizer: Regularizer = None
    alpha_constraint: Constraint = None
    shared_axes: int | tuple[int, ...] | None = None

    def cache(self, params: Params, batch: int, length: int) -> State:
        """Nothing; raises ValueError where each step has an alpha of its own."""
        shared = (
            self.shared_axes
            if isinstance(self.shared_axes, tuple)
            else (self.shared_axes,)
        )
        if params["alpha"].ndim > 1 and 1 not in shared:
            expected = "to hold 1, since each step has an alpha of its own without it"
            raise arguments.wrong(self, "shared_axes", expected, self.shared_axes)
        return {}

    def is_example(self, params: Params, x: Any) -> bool:
        return len(getattr(x, "shape", ())) == params["alpha"].ndim

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 2, "(batch, ...)")
        axes = (
            self.shared_axes
            if isinstance(self.shared_axes, tuple)
            else (self.shared_axes,)
        )
        shape = list(x.shape)
        for axis in () if self.shared_axes is None else axes:
            if (
                not isinstance(axis, int)
                or not -len(shape) < axis < len(shape)
                or axis == 0
            ):
                expected = (
                    f"to be axes of the inputs {tuple(x.shape)} other than the batch, 0"
                )
                raise arguments.wrong(self, "shared_axes", expected, self.shared_axes)
            shape[axis] = 1
        return {"alpha": self.weight("alpha", key, tuple(shape[1:]))}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        alpha = params["alpha"]
        if not self.is_example(params, x):
            alpha = alpha[None]  # (1, ...)
        return jax.nn.relu(x) - alpha * jax.nn.relu(-x), state


class ELU(Layer):
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2016).

    >>> init, apply = ELU()
    >>> apply({}, {}, jnp.array([[0.0, 2.0]]))[0].tolist()
    [[0.0, 2.0]]
    """

    masking = "pass"

    alpha: float = 1.0

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return jax.nn.elu(x, self.alpha), state


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along `axis`, one or several.   same shape -> same shape

    Takes `x` or `(x, mask)`, where the mask spreads over x as in NumPy; False gets the share 0,
    and where all is False all shares are 0. The mask of a sequence, `(batch, time)`, counts too.
    Raises ValueError in `init` for axes that are not there and for a mask of another shape.

    >>> init, apply = Softmax()
    >>> apply({}, {}, (jnp.zeros((1, 3)), jnp.array([[True, True, False]])))[0].tolist()
    [[0.5, 0.5, 0.0]]
    """

    masking = "pass"
    input_names = ("inputs", "mask")

    axis: int | tuple[int, ...] = -1

    def validate(self) -> None:
        check_axis_and_epsilon(self)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        if isinstance(x, (tuple, list)):
            x, mask = x
            _require_spreading(mask.shape, x.shape)
        axes_of(self, x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        real = None
        if isinstance(x, (tuple, list)):
            x, real = x
            _require_spreading(real.shape, x.shape)
            real = (real if real.dtype == bool else real > 0.5).reshape(
                (1,) * (x.ndim - real.ndim) + real.shape
            )
        steps = combine_masks(ctx.mask) if isinstance(ctx.mask, tuple) else ctx.mask
        if steps is not None:
            steps = leading(steps, x.ndim)
            real = steps if real is None else real & steps
        if real is None:
            return jax.nn.softmax(x, self.axis), state
        # The lowest finite number and not -inf: where all is masked, the gradient is 0, not NaN.
        y = jax.nn.softmax(jnp.where(real, x, jnp.finfo(x.dtype).min), self.axis)
        return jnp.where(real, y, 0), state


def _require_spreading(mask: tuple[int, ...], inputs: tuple[int, ...]) -> None:
    pairs = zip(reversed(mask), reversed(inputs), strict=False)
    if len(mask) > len(inputs) or any(m not in (1, n) for m, n in pairs):
        raise ValueError(
            f"Softmax: expected a mask that spreads over inputs of shape {tuple(inputs)}, "
            f"received shape {tuple(mask)}; give each axis its size or 1"
        )
