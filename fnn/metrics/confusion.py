"""Counts of hits and misses at thresholds, and what is made of them: precision, recall."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.losses.targets import spread
from fnn.metrics.metric import Metric, Sums, Targets, divide

COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
Thresholds = float | tuple[float, ...] | None


def confusion(y_true: Any, y_pred: Any, weights: Any, thresholds: np.ndarray) -> Sums:
    """The four weighted counts at each threshold; positive is what lies above it.

    Each score goes into the bucket between two thresholds, so the work does not grow with their
    number. Arrays of one shape -> four of (thresholds,).
    """
    order = np.argsort(thresholds, kind="stable")
    buckets = jnp.searchsorted(
        jnp.asarray(thresholds[order], "float32"), y_pred.reshape(-1)
    )

    def above(weights: Array) -> tuple[Array, Array]:
        histogram = jnp.zeros(len(thresholds) + 1).at[buckets].add(weights.reshape(-1))
        counts = jnp.cumsum(histogram[::-1])[::-1]
        return counts[1:][np.argsort(order)], counts[0]

    positive = y_true != 0
    hits, positives = above(jnp.where(positive, weights, 0))
    alarms, negatives = above(jnp.where(positive, 0, weights))
    return dict(
        zip(COUNTS, (hits, alarms, negatives - alarms, positives - hits), strict=True)
    )


class ConfusionMetric(Metric, loadable=False):
    """What the metrics of this file share: their counts, as sums."""

    gathers = True

    targets: ClassVar[Targets] = "classes"
    counts: ClassVar[tuple[str, ...]] = COUNTS

    def cutoffs(self) -> np.ndarray:
        """The thresholds: those given, or 0.5, or none at all beside `top_k`."""
        given = getattr(self, "thresholds", None)
        if given is None:
            given = 0.5 if getattr(self, "top_k", None) is None else -1e10
        return np.atleast_1d(np.asarray(given, "float64"))

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        return {name: jnp.zeros(len(self.cutoffs())) for name in self.counts}

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        weights = (
            jnp.ones(y_pred.shape) if weight is None else spread(weight, y_pred.shape)
        )
        if getattr(self, "top_k", None) is not None:
            y_pred = only_top(y_pred, self.top_k)  # type: ignore[attr-defined]
        class_id = getattr(self, "class_id", None)
        if class_id is not None:
            y_true, y_pred, weights = (
                x[..., class_id] for x in (y_true, y_pred, weights)
            )
        more = confusion(y_true, y_pred, weights, self.cutoffs())
        return {name: sums[name] + more[name] for name in sums}

    def check(self, y_true: Any, y_pred: Any) -> None:
        super().check(y_true, y_pred)
        class_id = getattr(self, "class_id", None)
        if class_id is not None and (
            len(y_pred.shape) < 2 or class_id >= y_pred.shape[-1]
        ):
            raise wrong(
                self,
                "class_id",
                f"to be a class of predictions {y_pred.shape}",
                class_id,
            )


def only_top(y_pred: Array, k: int) -> Array:
    """The predictions with all but the k largest of the last axis at -inf."""
    kept = jax.lax.top_k(y_pred, k)[1]
    chosen = jax.nn.one_hot(kept, y_pred.shape[-1], dtype=bool).any(-2)
    return jnp.where(chosen, y_pred, -jnp.inf)


def _check_thresholds(metric: Any) -> None:
    given = metric.thresholds
    if given is not None and any(
        not 0 <= t <= 1 for t in np.atleast_1d(np.asarray(given))
    ):
        raise wrong(metric, "thresholds", "to lie in [0, 1]", given)
    check_class(metric)


def check_class(metric: Any) -> None:
    """Checks the field `class_id`."""
    class_id = getattr(metric, "class_id", None)
    if class_id is not None and (not isinstance(class_id, int) or class_id < 0):
        raise wrong(metric, "class_id", "to be an integer from 0", class_id)


def _per_threshold(metric: Any, values: Array) -> Array:
    return values[0] if np.ndim(metric.thresholds) == 0 or len(values) == 1 else values


class _Count(ConfusionMetric):
    """One of the four counts, at `thresholds` (0.5 if None); a number, or one for each of them."""

    thresholds: Thresholds = None

    def validate(self) -> None:
        _check_thresholds(self)

    def result(self, sums: Sums) -> Array:
        return _per_threshold(self, sums[self.counts[0]])


class TruePositives(_Count):
    """How many positives lie above the threshold.

    >>> metric = TruePositives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the second
    1.0
    """

    counts: ClassVar[tuple[str, ...]] = ("true_positives",)
    direction: ClassVar[str | None] = "max"


class FalsePositives(_Count):
    """How many negatives lie above the threshold.

    >>> metric = FalsePositives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the third
    1.0
    """

    counts: ClassVar[tuple[str, ...]] = ("false_positives",)
    direction: ClassVar[str | None] = "min"


class TrueNegatives(_Count):
    """How many negatives do not lie above the threshold.

    >>> metric = TrueNegatives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # 0.5 is not above 0.5
    2.0
    """

    counts: ClassVar[tuple[str, ...]] = ("true_negatives",)
    direction: ClassVar[str | None] = "max"


class FalseNegatives(_Count):
    """How many positives do not lie above the threshold.

    >>> metric = FalseNegatives()
    >>> metric.update_state([1, 1, 0, 0, 0], [0.1, 0.9, 0.9, 0.5, 0.1])
    >>> metric.result().item()  # the first
    1.0
    """

    counts: ClassVar[tuple[str, ...]] = ("false_negatives",)
    direction: ClassVar[str | None] = "min"


class Precision(ConfusionMetric):
    """tp / (tp + fp): the share of what is called positive that is so; 0 if nothing is.

    Positive is what lies above the threshold (0.5 if None; 0.5 itself does not), or, with `top_k`,
    among the k largest of the last axis. `class_id` looks at one entry of that axis only. Several
    thresholds give an array. Targets are 0 and 1, so class numbers must be one-hot.

    >>> metric = Precision()
    >>> sums = metric.update(metric.init(), jnp.array([1, 0, 1]), jnp.array([0.9, 0.8, 0.1]))
    >>> metric.result(sums).item()
    0.5
    """

    counts: ClassVar[tuple[str, ...]] = ("true_positives", "false_positives")
    direction: ClassVar[str | None] = "max"

    thresholds: Thresholds = None
    top_k: int | None = positive(default=None)
    class_id: int | None = None

    def validate(self) -> None:
        _check_thresholds(self)

    def result(self, sums: Sums) -> Array:
        return _per_threshold(self, precision(sums))


class Recall(ConfusionMetric):
    """tp / (tp + fn): the share of the positives that is found; 0 if there are none.

    Arguments as of `Precision`.

    >>> metric = Recall(thresholds=[0.25, 0.5])
    >>> metric.update_state([1, 1, 0], [0.9, 0.5, 0.8])
    >>> metric.result().tolist()  # 0.5 is above 0.25, not above 0.5
    [1.0, 0.5]
    """

    counts: ClassVar[tuple[str, ...]] = ("true_positives", "false_negatives")
    direction: ClassVar[str | None] = "max"

    thresholds: Thresholds = None
    top_k: int | None = positive(default=None)
    class_id: int | None = None

    def validate(self) -> None:
        _check_thresholds(self)

    def result(self, sums: Sums) -> Array:
        return _per_threshold(self, recall(sums))


def precision(sums: Sums) -> Array:
    """tp / (tp + fp)."""
    return divide(
        sums["true_positives"], sums["true_positives"] + sums["false_positives"]
    )


def recall(sums: Sums) -> Array:
    """tp / (tp + fn)."""
    return divide(
        sums["true_positives"], sums["true_positives"] + sums["false_negatives"]
    )


def specificity(sums: Sums) -> Array:
    """tn / (tn + fp)."""
    return divide(
        sums["true_negatives"], sums["true_negatives"] + sums["false_positives"]
    )
