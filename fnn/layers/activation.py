"""Activation layers: any activation as a layer, and activations with arguments or weights."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

from fnn.activations import relu
from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, combine_masks, leading
from fnn.core.fields import not_negative
from fnn.core.layer import Activation as ActivationLike
from fnn.core.layer import (
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.tree import SpecTree, Tree
from fnn.layers.shared.statistics import HAS_AXES, NAMES_AXES
from fnn.runtime.arithmetic import exactly, finfo


class Activation(Layer):
    """activation(x).   same shape -> same shape

    `activation` is a name, a function of one array, or None for the identity.

    >>> init, apply = Activation("relu")
    >>> apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
    [[0.0, 2.0]]
    """

    masking = "pass"

    activation: ActivationLike

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
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
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return relu(x, self.negative_slope, self.max_value, self.threshold), state


class LeakyReLU(Layer):
    """x above 0, negative_slope * x below.   same shape -> same shape

    The default slope is 0.3 as in Keras; that of the function `leaky_relu` is 0.2.
    Raises ValueError for a slope below 0.

    >>> init, apply = LeakyReLU(0.5)
    >>> apply({}, {}, jnp.array([[-1.0, 2.0]]))[0].tolist()
    [[-0.5, 2.0]]
    """

    masking = "pass"

    negative_slope: float = not_negative(default=0.3)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return jax.nn.leaky_relu(x, self.negative_slope), state


def _has_shared_axes(layer: PReLU, x: SpecTree) -> bool:
    ndim = len(x.shape)
    return all(axis != 0 and -ndim < axis < ndim for axis in layer._shared())


class PReLU(Layer):
    """x above 0, alpha * x below, with a learned alpha (He et al. 2015).

    Weights: `alpha`, one number for each position of an example. Along `shared_axes` (the batch is
    axis 0) all positions share one: with `(1, 2)` each channel of an image has one alpha.
    Raises ValueError for axes that the inputs do not have.

    >>> params, _ = PReLU(shared_axes=(1, 2)).init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    >>> params["alpha"].shape
    (1, 1, 3)
    """

    masking = "pass"
    input_layout = "(batch, features, ...)"
    input_rules = (
        Rule(
            "shared_axes",
            _has_shared_axes,
            "to be axes of the inputs {x.shape} other than the batch, 0",
        ),
    )

    alpha_initializer: Initializer = "Zeros"
    alpha_regularizer: Regularizer = None
    alpha_constraint: Constraint = None
    shared_axes: int | tuple[int, ...] | None = None

    def cache(
        self,
        params: Params,
        batch: int,
        length: int,
    ) -> State:
        """An empty state. Raises ValueError if each step has its own alpha."""
        if params["alpha"].ndim > 1 and 1 not in self._shared():
            expected = "to hold 1, since otherwise each step has its own alpha"
            raise arguments.wrong(self, "shared_axes", expected, self.shared_axes)
        return {}

    def is_example(self, params: Params, x: Tree) -> bool:
        alpha: Array = params["alpha"]
        return len(getattr(x, "shape", ())) == alpha.ndim

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = list(x.shape)
        for axis in self._shared():
            shape[axis] = 1
        alpha = self.weight("alpha", key, tuple(shape[1:]))  # without the batch
        return {"alpha": alpha}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        alpha = params["alpha"]
        if not self.is_example(params, x):
            alpha = alpha[None]  # (1, ...)
        # x above 0 and alpha * x below, without a comparison.
        above = jax.nn.relu(x)
        below = jax.nn.relu(-x)
        y = above - alpha * below
        return y, state

    def _shared(self) -> tuple[int, ...]:
        """`shared_axes` as a tuple."""
        if self.shared_axes is None:
            return ()
        if isinstance(self.shared_axes, tuple):
            return self.shared_axes
        return (self.shared_axes,)


class ELU(Layer):
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2016).

    >>> init, apply = ELU()
    >>> apply({}, {}, jnp.array([[0.0, 2.0]]))[0].tolist()
    [[0.0, 2.0]]
    """

    masking = "pass"

    alpha: float = 1.0

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return jax.nn.elu(x, self.alpha), state


def _arrays(x: Tree) -> tuple[Array, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _broadcasts(x: Array, mask: Array | None = None) -> bool:
    if mask is None:
        return True
    if len(mask.shape) > len(x.shape):
        return False
    pairs = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    return all(m in (1, n) for m, n in pairs)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along `axis`, one or several.   same shape -> same shape

    Takes `x` or `(x, mask)`; the mask broadcasts to x as in NumPy. Masked entries (False) have
    probability 0, and if all entries are masked all probabilities are 0. A mask of a sequence,
    `(batch, time)`, is used too.
    Raises ValueError in `init` for axes that x does not have and for a mask that does not
    broadcast.

    >>> init, apply = Softmax()
    >>> apply({}, {}, (jnp.zeros((1, 3)), jnp.array([[True, True, False]])))[0].tolist()
    [[0.5, 0.5, 0.0]]
    """

    masking = "pass"
    input_names = ("inputs", "mask")
    input_layout = "(batch, ...)"
    field_rules = (NAMES_AXES,)
    input_rules = (
        lambda layer, x: HAS_AXES(layer, _arrays(x)[0]),
        Rule(
            "inputs",
            lambda layer, x: _broadcasts(*_arrays(x)),
            "with a mask that broadcasts to inputs of shape {x[0].shape}",
            "give each axis of the mask its size or 1",
        ),
    )

    axis: int | tuple[int, ...] = -1

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        valid = None
        if isinstance(x, (tuple, list)):
            x, mask = x
            valid = _expanded(mask, x.ndim)
        steps = ctx.mask
        if isinstance(steps, tuple):
            steps = combine_masks(steps)
        if steps is not None:
            steps = leading(steps, x.ndim)  # (batch, time, 1, ...)
            if valid is not None:
                steps = valid & steps
            valid = steps
        softmax = functools.partial(jax.nn.softmax, axis=self.axis)
        if valid is None:
            return exactly(softmax, x), state
        # The lowest finite number, not -inf: if all is masked, the gradient is 0 and not NaN.
        lowest = finfo(x.dtype).min
        logits = jnp.where(valid, x, lowest)
        y = exactly(softmax, logits)
        return jnp.where(valid, y, 0), state


def _expanded(mask: Array, ndim: int) -> Array:
    """A mask as booleans, with new axes of size 1 in front up to `ndim` axes."""
    if mask.dtype != bool:
        mask = mask > 0.5
    new_axes = (1,) * (ndim - mask.ndim)
    return mask.reshape(new_axes + mask.shape)  # (1, ..., *mask axes)
