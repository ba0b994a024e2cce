"""Ranking: binned scores of two classes, from which the exact area under a curve is computed."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.metrics.metric import Sums, divide

BUCKETS = 2**18
PARTS = ("positives", "negatives", "positive_places", "negative_places")
# Floating-point numbers that are not negative have the same order as their bits.
_HALF = np.float32(0.5).view(np.int32)


@functools.cache
def _edges() -> np.ndarray:
    """The smallest key of each bucket; buckets are finer near 0 and near 1."""
    roots = np.linspace(0, 0.5**0.25, BUCKETS // 2, endpoint=False)
    scores = (roots**4).astype("float32")
    below = scores.view(np.int32)
    above = 2 * _HALF - below[::-1]
    return np.concatenate([below, above]).astype("int32")


def keys(scores: Array, from_logits: bool) -> Array:
    """Integers in the order of the scores, with full precision near 0 and near 1."""
    # The distance to the nearer of 0 and 1 loses no digits.
    if from_logits:
        upper = scores > 0
        distance = jax.nn.sigmoid(-jnp.abs(scores))
    else:
        upper = scores > 0.5
        distance = jnp.minimum(scores, 1 - scores)
    distance = distance.astype("float32")
    bits = jax.lax.bitcast_convert_type(distance, jnp.int32)
    return jnp.where(upper, 2 * _HALF - bits, bits)


def histogram(
    y_true: Array,
    key: Array,
    weights: Array,
) -> Sums:
    """For each class, the weight and the weighted places in each bucket.   -> (buckets,) each"""
    key = key.reshape(-1)
    weights = weights.reshape(-1)
    positive = y_true.reshape(-1) != 0
    edges = jnp.asarray(_edges())
    bucket = jnp.searchsorted(edges, key, side="right") - 1
    place = (key - edges[bucket]).astype("float32")

    def add(values: Array) -> Array:
        empty = jnp.zeros(BUCKETS)
        return empty.at[bucket].add(values)

    positives = jnp.where(positive, weights, 0)
    negatives = jnp.where(positive, 0, weights)
    return {
        "positives": add(positives),
        "negatives": add(negatives),
        "positive_places": add(positives * place),
        "negative_places": add(negatives * place),
    }


def counts(sums: Sums) -> Sums:
    """The four counts at thresholds below and within each bucket, and above all of them.

    Within a bucket the class with the higher mean place is counted first. That is exact as long as
    each class has one score in the bucket; equal scores are counted together.
    """
    p = sums["positives"]  # (buckets,)
    n = sums["negatives"]  # (buckets,)
    mean_p = divide(sums["positive_places"], p)
    mean_n = divide(sums["negative_places"], n)
    gap = mean_p - mean_n
    # Differences up to the rounding error of the means are ties.
    slack = 0.25 + 1e-5 * jnp.maximum(mean_p, mean_n)
    lower_p = jnp.where(gap > slack, 0, p)
    hits = _from_the_top(lower_p, p)
    lower_n = jnp.where(gap < -slack, 0, n)
    false_alarms = _from_the_top(lower_n, n)
    return {
        "true_positives": hits,
        "false_positives": false_alarms,
        "true_negatives": false_alarms[:1] - false_alarms,
        "false_negatives": hits[:1] - hits,
    }


def _from_the_top(lower: Array, whole: Array) -> Array:
    """Cumulative sums over half buckets, from the top; `lower` are the weights of lower halves."""
    halves = jnp.stack([lower, whole - lower], 1)  # (buckets, 2, ...)
    rest = whole.shape[1:]
    steps = halves.reshape(2 * len(whole), *rest)  # (2 * buckets, ...)
    sums = jnp.cumsum(steps[::-1], 0)
    sums = sums[::-1]
    above_all = jnp.zeros_like(sums[:1])
    return jnp.concatenate([sums, above_all])
