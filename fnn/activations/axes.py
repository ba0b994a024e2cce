"""Activations over all entries along an axis: softmax, log_softmax, sparsemax, glu."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, nn

from fnn.activations.naming import activation
from fnn.runtime.arithmetic import exactly
from fnn.runtime.placement import along


@activation()
def softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`.

    >>> softmax(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return exactly(functools.partial(nn.softmax, axis=axis), x)


@activation()
def log_softmax(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """log(softmax(x)) along `axis`, without underflow.

    >>> log_softmax(jnp.array([0.0, 1000.0])).tolist()  # where softmax is 0.0
    [-1000.0, 0.0]
    """
    return exactly(functools.partial(nn.log_softmax, axis=axis), x)


@activation()
def sparsemax(x: Array, axis: int = -1) -> Array:
    """The point of the probability simplex nearest to x, along `axis`: max(x - tau, 0).

    Unlike softmax it gives exact zeros (Martins and Astudillo 2016, algorithm 1).

    >>> sparsemax(jnp.array([1.0, 1.0, -1.0])).tolist()
    [0.5, 0.5, 0.0]
    """
    descending = -jnp.sort(-x, axis=axis)
    length = x.shape[axis]
    ranks = jnp.arange(1, length + 1, dtype=x.dtype)
    count = along(ranks, x.ndim, axis)  # how many values are at least this large
    # The largest `size` values stay above zero, and tau makes them sum to one.
    sums = jnp.cumsum(descending, axis=axis)
    support = 1 + count * descending > sums
    size = support.sum(axis=axis, keepdims=True)  # size 1 along `axis`
    kept = jnp.where(support, descending, 0)
    tau = (kept.sum(axis=axis, keepdims=True) - 1) / size
    return jax.nn.relu(x - tau.astype(x.dtype))


@activation()
def glu(x: Array, axis: int = -1) -> Array:
    """a * sigmoid(b), where a and b are the halves of x along `axis` (Dauphin et al. 2017).

    (..., 2 n) -> (..., n), so the layer before it needs twice the units. Raises an error for an odd
    size.

    >>> glu(jnp.array([6.0, 8.0, 0.0, 0.0])).tolist()  # sigmoid(0) is a half
    [3.0, 4.0]
    """
    return nn.glu(x, axis)
