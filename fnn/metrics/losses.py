"""Metrics that are the mean of an error or a margin, and means of functions of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.targets import entry_values
from fnn.metrics.metric import Metric, Sums, Targets, add_mean, loss_values


class MeanMetricWrapper(Metric):
    """The mean of a function `fn(y_true, y_pred) -> values` of yours.

    The function should return one value for each example (and step). Where it returns one number
    for the batch, the result is the mean over batches by their size; a batch with entries of weight
    0 gets the mean of what it returns for each of the others alone.

    >>> metric = MeanMetricWrapper(lambda y_true, y_pred: abs(y_true - y_pred), name="error")
    >>> metric.label, metric.result(metric.update(metric.init(), jnp.ones(2), jnp.zeros(2))).item()
    ('error', 1.0)
    """

    fn: Callable[[Any, Any], Any]
    name: str | None = None
    dtype: str | None = None

    @property
    def label(self) -> str:
        return self.name or getattr(self.fn, "__name__", None) or "mean_metric_wrapper"

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return jnp.asarray(self.fn(y_true, y_pred))

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        if weight is None:
            weight = jnp.ones(jax.tree.leaves(y_pred)[0].shape[:1])
        values = entry_values(self.values, y_true, y_pred, weight != 0)
        return add_mean(sums, values, weight)


FunctionMetric = MeanMetricWrapper


class MeanSquaredError(Metric):
    """The mean of (t - y) ** 2, over all entries of all batches.

    >>> metric = MeanSquaredError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0])
    >>> metric.update_state([0.0], [2.0])
    >>> round(metric.result().item(), 4)  # 14 / 3, not (5 + 4) / 2
    4.6667
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_squared_error", y_true, y_pred)


class MeanAbsoluteError(Metric):
    """The mean of |t - y|.

    >>> metric = MeanAbsoluteError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0], sample_weight=[3.0, 1.0])
    >>> metric.result().item()  # by the sum of the weights; the loss divides by 2
    1.5
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_absolute_error", y_true, y_pred)


class MeanAbsolutePercentageError(Metric):
    """The mean of 100 |t - y| / |t|, where |t| counts as 1e-7 at least.

    >>> metric = MeanAbsolutePercentageError()
    >>> metric.update_state([2.0, 0.5], [1.0, 1.0])
    >>> round(metric.result().item(), 4)  # 50 and 100
    75.0
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_absolute_percentage_error", y_true, y_pred)


class MeanSquaredLogarithmicError(Metric):
    """The mean of (log(1 + t) - log(1 + y)) ** 2; below 0 all counts as 0.

    >>> metric = MeanSquaredLogarithmicError()
    >>> metric.update_state([9.0], [99.0])
    >>> round(metric.result().item(), 4)  # log(10) ** 2
    5.3019
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_squared_logarithmic_error", y_true, y_pred)


class LogCoshError(Metric):
    """The mean of log(cosh(y - t)).

    Its label is "logcosh", as in Keras.

    >>> metric = LogCoshError()
    >>> metric.update_state([0.0], [10.0])
    >>> round(metric.result().item(), 4)  # 10 - log(2)
    9.3069
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"
    default_label: ClassVar[str | None] = "logcosh"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("log_cosh", y_true, y_pred)


class Poisson(Metric):
    """The mean of y - t log y.

    >>> metric = Poisson()
    >>> metric.update_state([2.0], [2.0])
    >>> round(metric.result().item(), 4)  # what is right has no 0: 2 - 2 log(2)
    0.6137
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("poisson", y_true, y_pred)


class Hinge(Metric):
    """The mean of max(1 - t y, 0), t being -1 or 1 (or 0 and 1).

    >>> metric = Hinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # 0.5 and 1.5, as 0 stands for -1
    1.0
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("hinge", y_true, y_pred)


class SquaredHinge(Metric):
    """The mean of max(1 - t y, 0) ** 2, t being -1 or 1 (or 0 and 1).

    >>> metric = SquaredHinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # (0.25 + 2.25) / 2
    1.25
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("squared_hinge", y_true, y_pred)


class CategoricalHinge(Metric):
    """The mean of max(1 + the best wrong score - the right one, 0).

    >>> metric = CategoricalHinge()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.75]])
    >>> metric.result().item()
    0.75
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("categorical_hinge", y_true, y_pred)


class CosineSimilarity(Metric):
    """The mean cosine of the angle between t and y: 1 is best (the loss has the other sign).

    >>> metric = CosineSimilarity()
    >>> metric.update_state([[3.0, 4.0]], [[4.0, 3.0]])
    >>> round(metric.result().item(), 4)  # (12 + 12) / (5 * 5)
    0.96
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return -loss_values("cosine_similarity", y_true, y_pred, axis=self.axis)
