"""Activations: functions of an array, by Keras's names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, nn

from fnn.core.arithmetic import along
from fnn.core.config import resolve
from fnn.core.node import Node
from fnn.core.registry import lookup, register


def _activation(*names: str) -> Callable[[Any], Any]:
    """Registers a function, and lets it make a node of a node, as Keras's functions do."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def activation(x: Any, *args: Any, **named: Any) -> Any:
            if not isinstance(x, Node):
                return function(x, *args, **named)
            _, *further = inspect.signature(function).bind(x, *args, **named).arguments.items()
            if further:
                return lookup("layer", "Lambda")(activation, arguments=dict(further))(x)
            return lookup("layer", "Activation")(activation)(x)

        return register(activation, *names, kind="activation")

    return decorate


def get(identifier: Any) -> Any:
    """The activation behind a name; a function stays as it is and None is `linear`.

    Raises ValueError for an unknown name and TypeError for what is neither name nor function.

    >>> get("relu")(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return linear if identifier is None else resolve("activation", identifier)


@_activation()
def linear(x: Array) -> Array:
    """x."""
    return x


@_activation()
def relu(
    x: Array, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    """max(x, 0); above `threshold` min(x, max_value), else negative_slope * (x - threshold).

    The derivative at `threshold` itself is `negative_slope`.

    >>> relu(jnp.array([-4.0, 1.0, 9.0]), negative_slope=0.5, max_value=6).tolist()
    [-2.0, 1.0, 6.0]
    """
    below = negative_slope * (x - threshold) if negative_slope else jnp.zeros_like(x)
    y = jnp.where(x <= threshold, below, x)  # in this order a NaN stays a NaN
    return y if max_value is None else jnp.minimum(y, max_value)


@_activation()
def leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    """x above 0, negative_slope * x below. The layer `LeakyReLU` has slope 0.3, as in Keras."""
    return nn.leaky_relu(x, negative_slope)


@_activation()
def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return nn.relu6(x)


@_activation()
def elu(x: Array, alpha: float = 1.0) -> Array:
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2016)."""
    return nn.elu(x, alpha)


@_activation()
def celu(x: Array, alpha: float = 1.0) -> Array:
    """x above 0, alpha * (exp(x / alpha) - 1) below: smooth for every alpha (Barron 2017)."""
    return nn.celu(x, alpha)


@_activation()
def selu(x: Array) -> Array:
    """1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017).

    It does so with `lecun_normal` kernels, and with `AlphaDropout` in the place of `Dropout`.
    """
    return nn.selu(x)


@_activation()
def gelu(x: Array, approximate: bool = False) -> Array:
    """x * P(N(0, 1) <= x), exact; `approximate` takes its tanh form (Hendrycks and Gimpel 2016).

    `jax.nn.gelu` differs: there the tanh form is the default.
    """
    return nn.gelu(x, approximate)


@_activation("swish")
def silu(x: Array) -> Array:
    """x * sigmoid(x) (Ramachandran et al. 2017)."""
    return nn.silu(x)


@_activation("hard_swish")
def hard_silu(x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019)."""
    return nn.hard_silu(x)


@_activation()
def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra 2019)."""
    return nn.mish(x)


@_activation()
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return nn.softplus(x)


@_activation()
def squareplus(x: Array, b: float = 4) -> Array:
    """(x + sqrt(x**2 + b)) / 2 (Barron 2021)."""
    return nn.squareplus(x, b)


@_activation()
def sparse_plus(x: Array) -> Array:
    """0 below -1, x above 1, (x + 1)**2 / 4 between."""
    return nn.sparse_plus(x)


@_activation()
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return nn.sigmoid(x)


@_activation()
def hard_sigmoid(x: Array) -> Array:
    """min(max(x + 3, 0), 6) / 6."""
    return nn.hard_sigmoid(x)


@_activation()
def sparse_sigmoid(x: Array) -> Array:
    """min(max(x + 1, 0), 2) / 2: the derivative of `sparse_plus` (Blondel et al. 2019)."""
    return nn.sparse_sigmoid(x)


@_activation()
def log_sigmoid(x: Array) -> Array:
    """log(sigmoid(x)), without underflow."""
    return nn.log_sigmoid(x)


@_activation()
def softsign(x: Array) -> Array:
    """x / (1 + abs(x))."""
    return nn.soft_sign(x)


@_activation()
def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return jnp.tanh(x)


@_activation()
def hard_tanh(x: Array) -> Array:
    """min(max(x, -1), 1)."""
    return nn.hard_tanh(x)


@_activation()
def tanh_shrink(x: Array) -> Array:
    """x - tanh(x)."""
    return x - jnp.tanh(x)


@_activation()
def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x where abs(x) > threshold, else 0."""
    return jnp.where(jnp.abs(x) <= threshold, 0, x)


@_activation()
def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x moved towards 0 by `threshold`, and 0 within it."""
    return x - jnp.clip(x, -threshold, threshold)


@_activation()
def threshold(x: Array, threshold: float, default_value: float) -> Array:
    """x where x > threshold, else default_value.

    To use it in a layer, fix the two numbers: `functools.partial(threshold, threshold=0.1,
    default_value=0.0)`.
    """
    return jnp.where(x <= threshold, default_value, x)


@_activation()
def exponential(x: Array) -> Array:
    """exp(x)."""
    return jnp.exp(x)


@_activation()
def softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`.

    >>> softmax(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return nn.softmax(x, axis)


@_activation()
def log_softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """log(softmax(x)) along `axis`, without underflow."""
    return nn.log_softmax(x, axis)


@_activation()
def sparsemax(x: Array, axis: int = -1) -> Array:
    """The point of the probability simplex nearest to x, along `axis`: max(x - tau, 0).

    Unlike softmax it gives exact zeros (Martins and Astudillo 2016, algorithm 1).

    >>> sparsemax(jnp.array([1.0, 1.0, -1.0])).tolist()
    [0.5, 0.5, 0.0]
    """
    descending = -jnp.sort(-x, axis=axis)
    count = along(jnp.arange(1, x.shape[axis] + 1, dtype=x.dtype), x.ndim, axis)
    # The largest `size` values stay above zero, and tau makes them sum to one.
    support = 1 + count * descending > jnp.cumsum(descending, axis=axis)
    size = support.sum(axis=axis, keepdims=True)
    tau = (jnp.where(support, descending, 0).sum(axis=axis, keepdims=True) - 1) / size
    return jax.nn.relu(x - tau.astype(x.dtype))


@_activation()
def glu(x: Array, axis: int = -1) -> Array:
    """a * sigmoid(b), where a and b are the halves of x along `axis` (Dauphin et al. 2017).

    Halves the axis; raises an error where its size is odd.
    """
    return nn.glu(x, axis)


swish = silu
hard_swish = hard_silu
