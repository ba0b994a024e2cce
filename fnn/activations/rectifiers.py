"""Activations without an upper bound: relu, its smooth and its leaky variants."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, nn

from fnn.activations.naming import activation


@activation()
def linear(x: Array) -> Array:
    """x itself, as with `activation=None`.

    >>> linear(jnp.array([-2.0, 3.0])).tolist()
    [-2.0, 3.0]
    """
    return x


@activation()
def relu(
    x: Array,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Array:
    """max(x, 0); above `threshold` min(x, max_value), else negative_slope * (x - threshold).

    The derivative at `threshold` itself is `negative_slope`.

    >>> relu(jnp.array([-4.0, 1.0, 9.0]), negative_slope=0.5, max_value=6).tolist()
    [-2.0, 1.0, 6.0]
    """
    # The comparisons are False for NaN, which therefore stays NaN.
    if negative_slope:
        below = negative_slope * (x - threshold)
        y = jnp.where(x <= threshold, below, x)
    elif threshold:
        y = jnp.where(x <= threshold, jnp.zeros_like(x), x)
    else:
        # XLA fuses a maximum with the products around it, but not a `where`.
        y = nn.relu(x)
    if max_value is not None:
        y = jnp.minimum(y, max_value)
    return y


@activation()
def leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    """x above 0, negative_slope * x below. The layer `LeakyReLU` has slope 0.3 (both as in Keras).

    >>> leaky_relu(jnp.array([-5.0, 5.0])).tolist()
    [-1.0, 5.0]
    """
    return nn.leaky_relu(x, negative_slope)


@activation()
def relu6(x: Array) -> Array:
    """min(max(x, 0), 6).

    >>> relu6(jnp.array([-1.0, 4.0, 9.0])).tolist()
    [0.0, 4.0, 6.0]
    """
    return nn.relu6(x)


@activation()
def elu(x: Array, alpha: float = 1.0) -> Array:
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2016).

    >>> elu(jnp.array([-50.0, 0.0, 2.0]), alpha=0.5).tolist()  # it falls to -alpha
    [-0.5, 0.0, 2.0]
    """
    return nn.elu(x, alpha)


@activation()
def celu(x: Array, alpha: float = 1.0) -> Array:
    """x above 0, alpha * (exp(x / alpha) - 1) below: smooth for every alpha (Barron 2017).

    The slope below 0 is exp(x / alpha), which is 1 at 0 for every `alpha`; that of `elu` is alpha.

    >>> slope = lambda f: jax.grad(lambda x: f(x, alpha=0.5))(-1e-6)
    >>> round(float(slope(celu)), 3), round(float(slope(elu)), 3)
    (1.0, 0.5)
    """
    return nn.celu(x, alpha)


@activation()
def selu(x: Array) -> Array:
    """1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017).

    It needs `lecun_normal` kernels, and `AlphaDropout` instead of `Dropout`.

    >>> [round(v, 4) for v in selu(jnp.array([-50.0, 1.0])).tolist()]
    [-1.7581, 1.0507]
    """
    return nn.selu(x)


@activation()
def gelu(x: Array, approximate: bool = False) -> Array:
    """x * P(N(0, 1) <= x), exact or approximated by tanh (Hendrycks and Gimpel 2016).

    The exact form is the default as in Keras; that of `jax.nn.gelu` is the approximation.

    >>> round(float(gelu(2.0)), 4), round(float(gelu(2.0, approximate=True)), 4)
    (1.9545, 1.9546)
    """
    return nn.gelu(x, approximate)


@activation("swish")
def silu(x: Array) -> Array:
    """x * sigmoid(x) (Ramachandran et al. 2017).

    >>> [round(v, 4) for v in silu(jnp.array([-1.0, 0.0, 20.0])).tolist()]  # it dips below 0
    [-0.2689, 0.0, 20.0]
    """
    return nn.silu(x)


@activation("hard_swish")
def hard_silu(x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019).

    >>> [round(v, 4) for v in hard_silu(jnp.array([-1.5, 0.0, 3.0])).tolist()]
    [-0.375, 0.0, 3.0]
    """
    return nn.hard_silu(x)


@activation()
def mish(x: Array) -> Array:
    """x * tanh(softplus(x)) (Misra 2019).

    >>> [round(v, 4) for v in mish(jnp.array([-1.0, 0.0, 20.0])).tolist()]
    [-0.3034, 0.0, 20.0]
    """
    return nn.mish(x)


@activation()
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow.

    >>> round(float(softplus(0.0)), 4), float(softplus(1000.0))  # log(2), and no infinity
    (0.6931, 1000.0)
    """
    return nn.softplus(x)


@activation()
def squareplus(x: Array, b: float = 4) -> Array:
    """(x + sqrt(x**2 + b)) / 2: like `softplus`, without exponentials (Barron 2021).

    >>> [round(v, 4) for v in squareplus(jnp.array([0.0, 1.5])).tolist()]  # sqrt(2.25 + 4) is 2.5
    [1.0, 2.0]
    """
    return nn.squareplus(x, b)


@activation()
def sparse_plus(x: Array) -> Array:
    """0 below -1, x above 1, (x + 1)**2 / 4 between (Blondel et al. 2019).

    >>> sparse_plus(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [0.0, 0.25, 3.0]
    """
    return nn.sparse_plus(x)


@activation()
def exponential(x: Array) -> Array:
    """exp(x): for outputs that must be above 0.

    >>> round(float(exponential(1.0)), 4), float(exponential(100.0))  # float32 ends at exp(88)
    (2.7183, inf)
    """
    return jnp.exp(x)
