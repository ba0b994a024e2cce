"""Bounded activations (sigmoid, tanh and variants), and activations that shrink towards 0."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, nn

from fnn.activations.naming import activation


@activation()
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)): between 0 and 1.

    >>> [round(v, 4) for v in sigmoid(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [0.2689, 0.5, 0.7311]
    """
    return nn.sigmoid(x)


@activation()
def hard_sigmoid(x: Array) -> Array:
    """min(max(x + 3, 0), 6) / 6.

    It is 0 below -3 and 1 above 3, with a slope of 1/6 between (0.2 in some other libraries).

    >>> [round(v, 4) for v in hard_sigmoid(jnp.array([-3.0, 0.0, 1.5])).tolist()]
    [0.0, 0.5, 0.75]
    """
    return nn.hard_sigmoid(x)


@activation()
def sparse_sigmoid(x: Array) -> Array:
    """min(max(x + 1, 0), 2) / 2: the derivative of `sparse_plus` (Blondel et al. 2019).

    >>> sparse_sigmoid(jnp.array([-1.0, 0.0, 0.5])).tolist()
    [0.0, 0.5, 0.75]
    """
    return nn.sparse_sigmoid(x)


@activation()
def log_sigmoid(x: Array) -> Array:
    """log(sigmoid(x)), without underflow.

    >>> round(float(log_sigmoid(0.0)), 4), float(log_sigmoid(-1000.0))  # of a sigmoid that is 0.0
    (-0.6931, -1000.0)
    """
    return nn.log_sigmoid(x)


@activation()
def softsign(x: Array) -> Array:
    """x / (1 + abs(x)).

    >>> softsign(jnp.array([-1.0, 0.0, 3.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    return nn.soft_sign(x)


@activation()
def tanh(x: Array) -> Array:
    """The hyperbolic tangent, between -1 and 1: 2 sigmoid(2 x) - 1.

    >>> [round(v, 4) for v in tanh(jnp.array([-1.0, 0.0, 1.0])).tolist()]
    [-0.7616, 0.0, 0.7616]
    """
    return jnp.tanh(x)


@activation()
def hard_tanh(x: Array) -> Array:
    """min(max(x, -1), 1).

    >>> hard_tanh(jnp.array([-3.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    return nn.hard_tanh(x)


@activation()
def tanh_shrink(x: Array) -> Array:
    """x - tanh(x).

    >>> round(float(tanh_shrink(1.0)), 4)  # 1 - 0.7616
    0.2384
    """
    return x - jnp.tanh(x)


@activation()
def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x where abs(x) > threshold, else 0.

    >>> hard_shrink(jnp.array([-2.0, 0.5, 0.75])).tolist()  # the threshold itself goes to 0
    [-2.0, 0.0, 0.75]
    """
    return jnp.where(jnp.abs(x) <= threshold, 0, x)


@activation()
def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x moved towards 0 by `threshold`; 0 where abs(x) <= threshold.

    >>> soft_shrink(jnp.array([-2.0, 0.5, 0.75])).tolist()
    [-1.5, 0.0, 0.25]
    """
    return x - jnp.clip(x, -threshold, threshold)


@activation()
def threshold(x: Array, threshold: float, default_value: float) -> Array:
    """x where x > threshold, else default_value.

    To use it in a layer, fix both arguments: `functools.partial(threshold, threshold=0.1,
    default_value=0.0)`.

    >>> threshold(jnp.array([0.0, 1.0, 2.0]), threshold=1.0, default_value=-1.0).tolist()
    [-1.0, -1.0, 2.0]
    """
    return jnp.where(x <= threshold, default_value, x)
