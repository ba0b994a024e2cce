"""Metrics of curves over all thresholds: the area under a curve, and its best points."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, one_of, positive
from fnn.core.tree import SpecTree, Tree
from fnn.losses.targets import Shape
from fnn.metrics import ranking
from fnn.metrics.confusion import (
    COUNTS,
    ConfusionMetric,
    confusion,
    precision,
    recall,
    specificity,
    within_0_and_1,
)
from fnn.metrics.metric import Metric, Sums, add, divide, weights_like

_CURVES = ("ROC", "roc", "PR", "pr", "PRGAIN", "prgain")
_METHODS = (
    "interpolation",
    "Interpolation",
    "majoring",
    "Majoring",
    "minoring",
    "Minoring",
)


class AUC(Metric):
    """The area under the ROC curve, or under precision over recall (`curve="PR"`).

    It is computed from `num_thresholds` evenly spaced thresholds in [0, 1], or from `thresholds`
    with 0 and 1. Scores between two thresholds count as ties, so more thresholds are more exact.
    Predictions are probabilities, or logits with `from_logits`. With `multi_label` each column has
    its own area, and the result is their mean, weighted by `label_weights`.
    `summation_method` "interpolation" uses trapezoids (for PR the curve of Davis and Goadrich
    2006); "majoring" and "minoring" use the higher or the lower end of each step. For ROC the exact
    area lies between these two.

    `exact=True` uses a threshold at each score instead. It keeps four numbers for each of 2**18
    buckets, 4 MiB per label. In a bucket the scores of the two classes are compared by their means.
    The area is exact (equal scores are ties) unless a bucket holds different scores of one class
    together with scores of the other class. The error is at most the fraction of such pairs: 1e-6
    for scores that are spread out, 1e-3 for thousands of scores within 0.001. A step takes about a
    millisecond more.
    Raises ValueError for wrong arguments.

    >>> y_true, y_pred = np.array([0, 0, 1, 1]), np.array([0.1, 0.401, 0.4, 0.8], "float32")
    >>> area = lambda metric: metric.result(metric.update(metric.init(), y_true, y_pred))
    >>> areas = jax.jit(lambda: (area(AUC()), area(AUC(exact=True))))()
    >>> [round(area.item(), 4) for area in areas]
    [0.875, 0.75]
    """

    gathers = True
    targets = "classes"
    direction = "max"

    num_thresholds: int = positive(default=200)
    curve: str = one_of(_CURVES, default="ROC")
    summation_method: str = one_of(_METHODS, default="interpolation")
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    thresholds: tuple[float, ...] | None = None
    multi_label: bool = False
    num_labels: int | None = None
    label_weights: tuple[float, ...] | None = None
    from_logits: bool = False
    exact: bool = field(default=False, kw_only=True)

    def validate(self) -> None:
        thresholds = self.thresholds
        if self.exact and thresholds is not None:
            raise wrong(self, "thresholds", "to be None with exact=True", thresholds)
        if self.num_thresholds < 2:
            raise wrong(self, "num_thresholds", "to be above 1", self.num_thresholds)
        if thresholds is not None and not within_0_and_1(thresholds):
            raise wrong(self, "thresholds", "to lie in [0, 1]", thresholds)
        if self.num_labels is not None and not self.multi_label:
            expected = "to be None without multi_label=True"
            raise wrong(self, "num_labels", expected, self.num_labels)

    def cutoffs(self) -> np.ndarray:
        """The thresholds, from just below 0 to just above 1."""
        if self.thresholds is None:
            steps = self.num_thresholds - 1
            inner = np.arange(1, steps) / steps
        else:
            inner = np.sort(self.thresholds)
        margin = 1e-7
        return np.concatenate([[-margin], inner, [1 + margin]])

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        names = COUNTS
        shape: Shape = (len(self.cutoffs()),)
        if self.exact:
            names = ranking.PARTS
            shape = (ranking.BUCKETS,)
        if self.multi_label:
            labels = self.num_labels
            if not labels and y_pred is not None:
                labels = y_pred.shape[-1]
            if labels is None:
                return {name: jnp.zeros(()) for name in names}
            shape = (*shape, labels)
        return {name: jnp.zeros(shape) for name in names}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        weights = weights_like(y, weight)
        if self.multi_label:
            # (entries, labels)
            shape = (-1, y.shape[-1])
            t = t.reshape(shape)
            y = y.reshape(shape)
            weights = weights.reshape(shape)
            count_columns = jax.vmap(self._count, in_axes=1, out_axes=1)
            return add(sums, count_columns(t, y, weights))
        if self.label_weights is not None:
            # All labels are counted together, each with its weight.
            by_label = jnp.asarray(self.label_weights, "float32")
            # (1, ..., labels)
            leading = (1,) * (weights.ndim - 1)
            weights = weights * by_label.reshape(*leading, -1)
        return add(sums, self._count(t, y, weights))

    def _count(
        self,
        t: Array,
        p: Array,
        weights: Array,
    ) -> Sums:
        if not self.from_logits:
            p = jnp.clip(p, 0, 1)
        if self.exact:
            keys = ranking.keys(p, self.from_logits)
            return ranking.histogram(t, keys, weights)
        if self.from_logits:
            # The thresholds are probabilities.
            p = jax.nn.sigmoid(p)
        return confusion(t, p, weights, self.cutoffs())

    def result(self, sums: Sums) -> Array:
        areas = self._areas(sums)  # () or (labels,)
        if not self.multi_label or self.label_weights is None:
            return areas.mean()
        weights = jnp.asarray(self.label_weights, "float32")
        weighted = areas * weights
        return divide(weighted.sum(), weights.sum())

    def _areas(self, sums: Sums) -> Array:
        if self.exact:
            sums = ranking.counts(sums)
        name = self.curve.upper()
        method = self.summation_method.lower()
        if name == "PR" and method == "interpolation":
            return _interpolated(sums)
        curve = _curve(name, sums)
        left = curve.y[:-1]
        right = curve.y[1:]
        if method == "interpolation":
            heights = (left + right) / 2
        elif method == "minoring":
            heights = jnp.minimum(left, right)
        else:
            heights = jnp.maximum(left, right)
        # x falls from one threshold to the next.
        widths = curve.x[:-1] - curve.x[1:]
        areas = widths * heights
        return areas.sum(0)


class _Curve(NamedTuple):
    """The points of a curve, one for each threshold."""

    x: Array
    y: Array


def _curve(name: str, sums: Sums) -> _Curve:
    tp, fp, tn, fn = (sums[count] for count in COUNTS)
    if name == "ROC":
        false_positive_rate = divide(fp, fp + tn)
        return _Curve(false_positive_rate, recall(sums))
    if name == "PR":
        return _Curve(recall(sums), precision(sums))
    # Precision and recall on the scale of gain: Flach and Kull 2015, section 4.
    odds = divide(tp + fn, tn + fp)
    recall_gain = 1 - odds * divide(fn, tp)
    recall_gain = jnp.where(tp == 0, 0, recall_gain)
    precision_gain = 1 - odds * divide(fp, tp)
    precision_gain = jnp.where(tp == 0, 1, precision_gain)
    recall_gain = jnp.maximum(recall_gain, 0)
    return _Curve(recall_gain, precision_gain)


def _interpolated(sums: Sums) -> Array:
    """The area under precision over recall, interpolated as Davis and Goadrich 2006 do."""
    tp, fp, _, fn = (sums[count] for count in COUNTS)
    predicted = tp + fp
    left = predicted[:-1]
    right = predicted[1:]
    gained = tp[:-1] - tp[1:]
    steps = jnp.maximum(left - right, 0)
    slope = divide(gained, steps)
    intercept = tp[1:] - slope * right
    both = (left > 0) & (right > 0)
    ratio = divide(left, right)
    ratio = jnp.where(both, ratio, 1)
    gain = slope * (gained + intercept * jnp.log(ratio))
    positives = tp[1:] + fn[1:]
    return divide(gain, positives).sum(0)


class SensitivityAtSpecificity(ConfusionMetric):
    """The best recall at a threshold whose specificity is at least the given one.

    0 if there is none. Thresholds are evenly spaced; scores between two of them count as ties.

    >>> metric = SensitivityAtSpecificity(1.0)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> metric.result().item()  # above 0.6: no negatives, half of the positives
    0.5
    """

    direction = "max"

    specificity: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def cutoffs(self) -> np.ndarray:
        return evenly_spaced(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        feasible = specificity(sums) >= self.specificity
        return best(recall(sums), feasible)


class SpecificityAtSensitivity(ConfusionMetric):
    """The best specificity at a threshold whose recall is at least the given one.

    0 if there is none. Thresholds are evenly spaced; scores between two of them count as ties.

    >>> metric = SpecificityAtSensitivity(1.0)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> metric.result().item()  # below 0.4: no positives, half of the negatives
    0.5
    """

    direction = "max"

    sensitivity: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def cutoffs(self) -> np.ndarray:
        return evenly_spaced(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        feasible = recall(sums) >= self.sensitivity
        return best(specificity(sums), feasible)


class PrecisionAtRecall(ConfusionMetric):
    """The best precision at a threshold whose recall is at least the given one.

    0 if there is none. Thresholds are evenly spaced; scores between two of them count as ties.

    >>> metric, y_true = PrecisionAtRecall(1.0), np.array([0, 1, 0, 1])
    >>> y_pred = np.array([0.2, 0.4, 0.6, 0.8])
    >>> sums = jax.jit(metric.update)(metric.init(y_true, y_pred), y_true, y_pred)
    >>> round(jax.jit(metric.result)(sums).item(), 4)  # above 0.2: 3 scores, 2 of them positives
    0.6667
    """

    direction = "max"

    recall: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def cutoffs(self) -> np.ndarray:
        return evenly_spaced(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        feasible = recall(sums) >= self.recall
        return best(precision(sums), feasible)


class RecallAtPrecision(ConfusionMetric):
    """The best recall at a threshold whose precision is at least the given one.

    0 if there is none. Thresholds are evenly spaced; scores between two of them count as ties.

    >>> metric, y_true = RecallAtPrecision(0.9), np.array([0, 1, 0, 1])
    >>> y_pred = np.array([0.2, 0.4, 0.6, 0.8])
    >>> sums = jax.jit(metric.update)(metric.init(y_true, y_pred), y_true, y_pred)
    >>> jax.jit(metric.result)(sums).item()  # above 0.6: only positives, half of them
    0.5
    """

    direction = "max"

    precision: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def cutoffs(self) -> np.ndarray:
        return evenly_spaced(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        feasible = precision(sums) >= self.precision
        return best(recall(sums), feasible)


def evenly_spaced(number: int) -> np.ndarray:
    """`number` thresholds from 0 to 1; 0.5 if it is one."""
    if number == 1:
        return np.array([0.5])
    return np.arange(number) / (number - 1)


def best(values: Array, feasible: Array) -> Array:
    """The largest of the feasible values; 0 if there is none."""
    values = jnp.where(feasible, values, 0)
    return jnp.max(values, initial=0)
