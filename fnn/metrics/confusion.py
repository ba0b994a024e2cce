"""Counts of true and false positives and negatives at thresholds; precision, recall."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.core.tree import SpecTree, Tree
from fnn.metrics.metric import Metric, Sums, add, divide, weights_like

COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
Thresholds = float | tuple[float, ...] | None
# Below all scores: with `top_k` alone every score that is not -inf is positive.
_LOWEST_THRESHOLD = -1e10


def confusion(
    y_true: Array,
    y_pred: Array,
    weights: Array,
    thresholds: np.ndarray,
) -> Sums:
    """The four weighted counts at each threshold; scores above it are positive.

    Arrays of one shape -> four of (thresholds,). Each score is put into the bucket between two
    thresholds, so that the work does not grow with the number of thresholds.
    """
    order = np.argsort(thresholds, kind="stable")
    edges = jnp.asarray(thresholds[order], "float32")
    buckets = jnp.searchsorted(edges, y_pred.reshape(-1))

    def above(weights: Array) -> tuple[Array, Array]:
        """The weight above each threshold, and the weight of all scores."""
        empty = jnp.zeros(len(thresholds) + 1)
        weights = weights.reshape(-1)
        histogram = empty.at[buckets].add(weights)
        from_the_top = jnp.cumsum(histogram[::-1])
        counts = from_the_top[::-1]
        return counts[1:][np.argsort(order)], counts[0]

    positive = y_true != 0
    positive_weights = jnp.where(positive, weights, 0)
    negative_weights = jnp.where(positive, 0, weights)
    hits, positives = above(positive_weights)
    false_alarms, negatives = above(negative_weights)
    return {
        "true_positives": hits,
        "false_positives": false_alarms,
        "true_negatives": negatives - false_alarms,
        "false_negatives": positives - hits,
    }


class ConfusionMetric(Metric, loadable=False):
    """The base class of the metrics computed from the four counts at thresholds.

    By default it computes the one count that a subclass names in `counts`.
    """

    gathers = True
    targets = "classes"
    counts: ClassVar[tuple[str, ...]] = COUNTS

    @property
    def thresholds(self) -> Thresholds:
        """The field of this name, for metrics that have it."""
        return None

    @property
    def top_k(self) -> int | None:
        """The field of this name, for metrics that have it."""
        return None

    @property
    def class_id(self) -> int | None:
        """The field of this name, for metrics that have it."""
        return None

    def validate(self) -> None:
        thresholds = self.thresholds
        if thresholds is not None and not within_0_and_1(thresholds):
            raise wrong(self, "thresholds", "to lie in [0, 1]", thresholds)
        class_id = self.class_id
        if class_id is None:
            return
        if not isinstance(class_id, int) or class_id < 0:
            raise wrong(self, "class_id", "to be an integer from 0", class_id)

    def cutoffs(self) -> np.ndarray:
        """All thresholds as an array; the default is 0.5, or the lowest score with `top_k`."""
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = 0.5
            if self.top_k is not None:
                thresholds = _LOWEST_THRESHOLD
        values = np.asarray(thresholds, "float64")
        return np.atleast_1d(values)

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        thresholds = len(self.cutoffs())
        return {name: jnp.zeros(thresholds) for name in self.counts}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        weights = weights_like(y, weight)
        if self.top_k is not None:
            y = only_top(y, self.top_k)
        if self.class_id is not None:
            t = t[..., self.class_id]
            y = y[..., self.class_id]
            weights = weights[..., self.class_id]
        more = confusion(t, y, weights, self.cutoffs())
        return add(sums, more)

    def result(self, sums: Sums) -> Array:
        (count,) = self.counts
        return self.per_threshold(sums[count])

    def per_threshold(self, values: Array) -> Array:
        """One value for each threshold; a single number if there is one threshold."""
        several = isinstance(self.thresholds, tuple) and len(values) > 1
        if several:
            return values
        return values[0]

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        super().check(y_true, y_pred)
        class_id = self.class_id
        if class_id is None:
            return
        shape = y_pred.shape
        if len(shape) < 2 or class_id >= shape[-1]:
            expected = f"to be a class of predictions {shape}"
            raise wrong(self, "class_id", expected, class_id)


def within_0_and_1(thresholds: float | tuple[float, ...]) -> bool:
    """Whether all thresholds lie in [0, 1]."""
    values = np.atleast_1d(np.asarray(thresholds))
    return all(0 <= t <= 1 for t in values)


def only_top(y_pred: Array, k: int) -> Array:
    """The predictions with -inf in place of all but the k largest of the last axis."""
    classes = y_pred.shape[-1]
    indices = jax.lax.top_k(y_pred, k)[1]  # (..., k)
    one_hot = jax.nn.one_hot(indices, classes, dtype=bool)  # (..., k, classes)
    kept = one_hot.any(-2)  # (..., classes)
    return jnp.where(kept, y_pred, -jnp.inf)


class TruePositives(ConfusionMetric):
    """The number of positives above the threshold.

    >>> metric = TruePositives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the second
    1.0
    """

    counts = ("true_positives",)
    direction = "max"

    thresholds: Thresholds = None


class FalsePositives(ConfusionMetric):
    """The number of negatives above the threshold.

    >>> metric = FalsePositives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the third
    1.0
    """

    counts = ("false_positives",)
    direction = "min"

    thresholds: Thresholds = None


class TrueNegatives(ConfusionMetric):
    """The number of negatives not above the threshold.

    >>> metric = TrueNegatives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # 0.5 is not above 0.5
    2.0
    """

    counts = ("true_negatives",)
    direction = "max"

    thresholds: Thresholds = None


class FalseNegatives(ConfusionMetric):
    """The number of positives not above the threshold.

    >>> metric = FalseNegatives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the first
    1.0
    """

    counts = ("false_negatives",)
    direction = "min"

    thresholds: Thresholds = None


class Precision(ConfusionMetric):
    """tp / (tp + fp): the fraction of predicted positives that are true; 0 if there are none.

    A prediction is positive if it is above the threshold (0.5 if None; 0.5 itself is negative) or,
    with `top_k`, among the k largest of the last axis. `class_id` selects one entry of that axis.
    Several thresholds give an array. Targets are 0 and 1, so class numbers must be one-hot.

    >>> metric = Precision()
    >>> sums = metric.update(metric.init(), jnp.array([1, 0, 1]), jnp.array([0.9, 0.8, 0.1]))
    >>> metric.result(sums).item()
    0.5
    """

    counts = ("true_positives", "false_positives")
    direction = "max"

    thresholds: Thresholds = None
    top_k: int | None = positive(default=None)
    class_id: int | None = None

    def result(self, sums: Sums) -> Array:
        return self.per_threshold(precision(sums))


class Recall(ConfusionMetric):
    """tp / (tp + fn): the fraction of positives that are found; 0 if there are none.

    It has the arguments of `Precision`.

    >>> metric = Recall(thresholds=[0.25, 0.5])
    >>> metric.update_state([1, 1, 0], [0.9, 0.5, 0.8])
    >>> metric.result().tolist()  # 0.5 is above 0.25, not above 0.5
    [1.0, 0.5]
    """

    counts = ("true_positives", "false_negatives")
    direction = "max"

    thresholds: Thresholds = None
    top_k: int | None = positive(default=None)
    class_id: int | None = None

    def result(self, sums: Sums) -> Array:
        return self.per_threshold(recall(sums))


def precision(sums: Sums) -> Array:
    """tp / (tp + fp)."""
    hits = sums["true_positives"]
    return divide(hits, hits + sums["false_positives"])


def recall(sums: Sums) -> Array:
    """tp / (tp + fn)."""
    hits = sums["true_positives"]
    return divide(hits, hits + sums["false_negatives"])


def specificity(sums: Sums) -> Array:
    """tn / (tn + fp)."""
    rejected = sums["true_negatives"]
    return divide(rejected, rejected + sums["false_positives"])
