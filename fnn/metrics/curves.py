"""What is read off a curve over all thresholds: the area under it, and its best points."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, one_of, positive
from fnn.losses.targets import spread
from fnn.metrics import ranking
from fnn.metrics.confusion import (
    COUNTS,
    ConfusionMetric,
    check_class,
    confusion,
    precision,
    recall,
    specificity,
)
from fnn.metrics.metric import Metric, Sums, Targets, divide

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
    """The area under the ROC curve, or that of precision over recall (`curve="PR"`).

    It is summed at `num_thresholds` even thresholds in [0, 1], or at 0, 1 and those given, so
    scores crowded within one step count as ties: more thresholds, more exact. Predictions are
    probabilities, or logits with `from_logits`. With `multi_label` each column has its own area,
    and the result is their mean, by `label_weights`.
    `summation_method` "interpolation" takes the trapezoid (for PR the curve of Davis and Goadrich
    2006), "majoring" and "minoring" the higher or lower end of each step: under ROC the exact area
    lies between these two.

    `exact=True` has a threshold at each score instead. It keeps four numbers for each of 2**18
    buckets, 4 MiB a label, in which scores of either class are told apart by their mean: exact
    (equal scores being ties) as long as no bucket holds different scores of one class beside the
    other class, else off by less than the share of such pairs: 1e-6 for scores that are spread
    out, 1e-3 for thousands of scores within 0.001. A step costs about a millisecond more.
    Raises ValueError for wrong arguments.

    >>> y_true, y_pred = np.array([0, 0, 1, 1]), np.array([0.1, 0.401, 0.4, 0.8], "float32")
    >>> area = lambda metric: metric.result(metric.update(metric.init(), y_true, y_pred)).item()
    >>> round(area(AUC()), 4), round(area(AUC(exact=True)), 4)
    (0.875, 0.75)
    """

    gathers = True

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

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
        if self.exact and self.thresholds is not None:
            raise wrong(
                self, "thresholds", "to be None with exact=True", self.thresholds
            )
        if self.num_thresholds < 2:
            raise wrong(self, "num_thresholds", "to be above 1", self.num_thresholds)
        if self.thresholds is not None and any(
            not 0 <= t <= 1 for t in self.thresholds
        ):
            raise wrong(self, "thresholds", "to lie in [0, 1]", self.thresholds)
        if self.num_labels is not None and not self.multi_label:
            raise wrong(
                self,
                "num_labels",
                "to be None without multi_label=True",
                self.num_labels,
            )

    def cutoffs(self) -> np.ndarray:
        """The thresholds, from just below 0 to just above 1."""
        inner = np.arange(1, self.num_thresholds - 1) / (self.num_thresholds - 1)
        if self.thresholds is not None:
            inner = np.sort(self.thresholds)
        return np.concatenate([[-1e-7], inner, [1 + 1e-7]])

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        names = ranking.PARTS if self.exact else COUNTS
        shape: tuple[int, ...] = (
            ranking.BUCKETS if self.exact else len(self.cutoffs()),
        )
        if self.multi_label:
            labels = self.num_labels or (None if y_pred is None else y_pred.shape[-1])
            shape = () if labels is None else (*shape, labels)
        return {name: jnp.zeros(shape) for name in names}

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        weights = (
            jnp.ones(y_pred.shape) if weight is None else spread(weight, y_pred.shape)
        )

        def count(t: Array, p: Array, w: Array) -> Sums:
            p = p if self.from_logits else jnp.clip(p, 0, 1)
            if self.exact:
                return ranking.histogram(t, ranking.keys(p, self.from_logits), w)
            return confusion(
                t, jax.nn.sigmoid(p) if self.from_logits else p, w, self.cutoffs()
            )

        if self.multi_label:
            columns = (
                x.reshape(-1, y_pred.shape[-1]) for x in (y_true, y_pred, weights)
            )
            more = jax.vmap(count, in_axes=1, out_axes=1)(*columns)
        else:
            if self.label_weights is not None:
                by_label = jnp.asarray(self.label_weights, "float32")
                weights = weights * by_label.reshape(*(1,) * (weights.ndim - 1), -1)
            more = count(y_true, y_pred, weights)
        return {name: sums[name] + more[name] for name in sums}

    def result(self, sums: Sums) -> Array:
        areas = self._areas(sums)  # () or (labels,)
        if not self.multi_label or self.label_weights is None:
            return areas.mean()
        weights = jnp.asarray(self.label_weights, "float32")
        return divide((areas * weights).sum(), weights.sum())

    def _areas(self, sums: Sums) -> Array:
        sums = ranking.counts(sums) if self.exact else sums
        curve, method = self.curve.upper(), self.summation_method.lower()
        if curve == "PR" and method == "interpolation":
            return _interpolated(sums)
        x, y = _curve(curve, sums)
        if method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2
        else:
            heights = (jnp.minimum if method == "minoring" else jnp.maximum)(
                y[:-1], y[1:]
            )
        return ((x[:-1] - x[1:]) * heights).sum(0)


def _curve(curve: str, sums: Sums) -> tuple[Array, Array]:
    tp, fp, tn, fn = (sums[name] for name in COUNTS)
    if curve == "ROC":
        return divide(fp, fp + tn), recall(sums)
    if curve == "PR":
        return recall(sums), precision(sums)
    # precision and recall on the scale of gain: Flach and Kull 2015, section 4
    odds = divide(tp + fn, tn + fp)
    recall_gain = jnp.where(tp == 0, 0, 1 - odds * divide(fn, tp))
    precision_gain = jnp.where(tp == 0, 1, 1 - odds * divide(fp, tp))
    return jnp.maximum(recall_gain, 0), precision_gain


def _interpolated(sums: Sums) -> Array:
    """The area under precision over recall, precision being curved between two thresholds."""
    tp, fp, _, fn = (sums[name] for name in COUNTS)
    called = tp + fp
    gained = tp[:-1] - tp[1:]
    slope = divide(gained, jnp.maximum(called[:-1] - called[1:], 0))
    intercept = tp[1:] - slope * called[1:]
    both = (called[:-1] > 0) & (called[1:] > 0)
    ratio = jnp.where(both, divide(called[:-1], called[1:]), 1)
    area = divide(slope * (gained + intercept * jnp.log(ratio)), tp[1:] + fn[1:])
    return area.sum(0)


class SensitivityAtSpecificity(ConfusionMetric):
    """The best recall at a threshold whose specificity is at least that given.

    0 if there is none. The thresholds are even, so scores within one step between two are ties.

    >>> metric = SensitivityAtSpecificity(1.0)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> metric.result().item()  # above 0.6 lies no 0 and half of the ones
    0.5
    """

    direction: ClassVar[str | None] = "max"

    specificity: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def validate(self) -> None:
        check_class(self)

    def cutoffs(self) -> np.ndarray:
        return even(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        return best(recall(sums), specificity(sums) >= self.specificity)


class SpecificityAtSensitivity(ConfusionMetric):
    """The best specificity at a threshold whose recall is at least that given.

    0 if there is none. The thresholds are even, so scores within one step between two are ties.

    >>> metric = SpecificityAtSensitivity(1.0)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> metric.result().item()  # below 0.4 lies no 1 and half of the zeros
    0.5
    """

    direction: ClassVar[str | None] = "max"

    sensitivity: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def validate(self) -> None:
        check_class(self)

    def cutoffs(self) -> np.ndarray:
        return even(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        return best(specificity(sums), recall(sums) >= self.sensitivity)


class PrecisionAtRecall(ConfusionMetric):
    """The best precision at a threshold whose recall is at least that given.

    0 if there is none. The thresholds are even, so scores within one step between two are ties.

    >>> metric = PrecisionAtRecall(1.0)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> round(metric.result().item(), 4)  # above 0.2 lie 3, of which 2 are ones
    0.6667
    """

    direction: ClassVar[str | None] = "max"

    recall: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def validate(self) -> None:
        check_class(self)

    def cutoffs(self) -> np.ndarray:
        return even(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        return best(precision(sums), recall(sums) >= self.recall)


class RecallAtPrecision(ConfusionMetric):
    """The best recall at a threshold whose precision is at least that given.

    0 if there is none. The thresholds are even, so scores within one step between two are ties.

    >>> metric = RecallAtPrecision(0.9)
    >>> metric.update_state([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])
    >>> metric.result().item()  # above 0.6 all is right, that is half of the ones
    0.5
    """

    direction: ClassVar[str | None] = "max"

    precision: float = fraction()
    num_thresholds: int = positive(default=200)
    class_id: int | None = None

    def validate(self) -> None:
        check_class(self)

    def cutoffs(self) -> np.ndarray:
        return even(self.num_thresholds)

    def result(self, sums: Sums) -> Array:
        return best(recall(sums), precision(sums) >= self.precision)


def even(number: int) -> np.ndarray:
    """That many thresholds from 0 to 1; 0.5 for one."""
    return np.array([0.5]) if number == 1 else np.arange(number) / (number - 1)


def best(values: Array, feasible: Array) -> Array:
    """The largest of the values that are feasible; 0 if none is."""
    return jnp.max(jnp.where(feasible, values, 0), initial=0)
