"""Scores of two classes in order, as sums that add: buckets, and where in them each class lies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.metrics.confusion import COUNTS
from fnn.metrics.metric import Sums, divide

BUCKETS = 2**18
PARTS = ("positives", "negatives", "positive_places", "negative_places")
_HALF = np.float32(0.5).view(
    np.int32
)  # float32 numbers from 0 on are ordered like their bits


@functools.cache
def _edges() -> np.ndarray:
    """The key at which each bucket begins, finer the nearer to 0 and 1."""
    roots = np.linspace(0, 0.5**0.25, BUCKETS // 2, endpoint=False)
    below = (roots**4).astype("float32").view(np.int32)
    return np.concatenate([below, 2 * _HALF - below[::-1]]).astype("int32")


def keys(scores: Array, from_logits: bool) -> Array:
    """Integers in the order of the scores, that keep apart what is near 0 and near 1."""
    upper = scores > (0 if from_logits else 0.5)
    rest = (
        jax.nn.sigmoid(-jnp.abs(scores))
        if from_logits
        else jnp.minimum(scores, 1 - scores)
    )
    bits = jax.lax.bitcast_convert_type(rest.astype("float32"), jnp.int32)
    return jnp.where(upper, 2 * _HALF - bits, bits)


def histogram(y_true: Array, key: Array, weights: Array) -> Sums:
    """The weight of each class in each bucket, and that times the place in it.   -> (buckets,)"""
    key, weights, positive = (
        key.reshape(-1),
        weights.reshape(-1),
        y_true.reshape(-1) != 0,
    )
    edges = jnp.asarray(_edges())
    bucket = jnp.searchsorted(edges, key, side="right") - 1
    place = (key - edges[bucket]).astype("float32")
    add = lambda values: jnp.zeros(BUCKETS).at[bucket].add(values)
    of = {True: jnp.where(positive, weights, 0), False: jnp.where(positive, 0, weights)}
    weighted = (of[True], of[False], of[True] * place, of[False] * place)
    return dict(zip(PARTS, map(add, weighted), strict=True))


def counts(sums: Sums) -> Sums:
    """The four counts at a threshold below and within each bucket, and above all.

    Within a bucket the class whose mean place is higher is called first. That is exact as long as
    each class has one score there; scores of one place are called together.
    """
    p, n, place_p, place_n = (sums[name] for name in PARTS)
    places = divide(place_p, p), divide(place_n, n)
    gap, slack = places[0] - places[1], 0.25 + 1e-5 * jnp.maximum(*places)
    steps_p = _steps(jnp.where(gap > slack, 0, p), p)
    steps_n = _steps(jnp.where(gap < -slack, 0, n), n)
    hits, alarms = (_from_the_top(steps) for steps in (steps_p, steps_n))
    misses, rejected = hits[:1] - hits, alarms[:1] - alarms
    return dict(zip(COUNTS, (hits, alarms, rejected, misses), strict=True))


def _steps(lower: Array, whole: Array) -> Array:
    return jnp.stack([lower, whole - lower], 1).reshape(
        2 * len(whole), *whole.shape[1:]
    )


def _from_the_top(steps: Array) -> Array:
    sums = jnp.cumsum(steps[::-1], 0)[::-1]
    return jnp.concatenate([sums, jnp.zeros_like(sums[:1])])
