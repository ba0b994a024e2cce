"""Metrics that are the mean of a loss, and means of functions of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.metrics.metric import Metric, Sums, Targets, divide, loss_values


class MeanSquaredError(Metric):
    """The mean of (t - y) ** 2."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_squared_error", y_true, y_pred)


class MeanAbsoluteError(Metric):
    """The mean of |t - y|."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_absolute_error", y_true, y_pred)


class RootMeanSquaredError(Metric):
    """The root of the mean of (t - y) ** 2 over all batches, not a mean of roots."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return jnp.square(y_true - y_pred)

    def result(self, sums: Sums) -> Array:
        return jnp.sqrt(divide(sums["total"], sums["count"]))


class MeanMetricWrapper(Metric):
    """The mean of a function `fn(y_true, y_pred) -> values` of yours.

    The function should return one value for each example: of one number for the whole batch the
    result is the mean over batches, padded rows included as they come.

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
        return self.fn(y_true, y_pred)


FunctionMetric = MeanMetricWrapper
