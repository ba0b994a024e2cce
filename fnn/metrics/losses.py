"""Metrics that are the mean of a loss, and means of functions of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.targets import entry_values, spread
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


class MeanAbsolutePercentageError(Metric):
    """The mean of 100 |t - y| / |t|."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_absolute_percentage_error", y_true, y_pred)


class MeanSquaredLogarithmicError(Metric):
    """The mean of (log(1 + t) - log(1 + y)) ** 2."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("mean_squared_logarithmic_error", y_true, y_pred)


class LogCoshError(Metric):
    """The mean of log(cosh(y - t))."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"
    default_label: ClassVar[str | None] = "logcosh"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("log_cosh", y_true, y_pred)


class Poisson(Metric):
    """The mean of y - t log y."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("poisson", y_true, y_pred)


class KLDivergence(Metric):
    """The mean of sum(t log(t / y))."""

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("kl_divergence", y_true, y_pred)


class Hinge(Metric):
    """The mean of max(1 - t y, 0), t being -1 or 1 (or 0 and 1)."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("hinge", y_true, y_pred)


class SquaredHinge(Metric):
    """The mean of max(1 - t y, 0) ** 2, t being -1 or 1 (or 0 and 1)."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("squared_hinge", y_true, y_pred)


class CategoricalHinge(Metric):
    """The mean of max(1 + the best wrong score - the right one, 0)."""

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("categorical_hinge", y_true, y_pred)


class BinaryCrossentropy(Metric):
    """The mean of -t log p - (1 - t) log(1 - p)."""

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    label_smoothing: float = 0

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values(
            "binary_crossentropy",
            y_true,
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
        )


class CategoricalCrossentropy(Metric):
    """The mean of -sum(t log p), for one-hot targets."""

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    label_smoothing: float = 0
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values(
            "categorical_crossentropy",
            y_true,
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
            axis=self.axis,
        )


class SparseCategoricalCrossentropy(Metric):
    """The mean of -log p of the class whose number is given; `ignore_class` does not count."""

    targets: ClassVar[Targets] = "labels"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    ignore_class: int | None = None
    axis: int = -1

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_pred = jnp.moveaxis(jnp.asarray(y_pred), self.axis, -1)
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        values = self.values(y_true, y_pred)
        if self.ignore_class is not None:
            counts = (y_true != self.ignore_class).astype(values.dtype)
            weight = counts if weight is None else spread(weight, values.shape) * counts
        return add_mean(sums, values, weight)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        fields = {"from_logits": self.from_logits, "ignore_class": self.ignore_class}
        return loss_values("sparse_categorical_crossentropy", y_true, y_pred, **fields)


class CosineSimilarity(Metric):
    """The mean cosine of the angle between t and y: 1 is best (the loss has the other sign)."""

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return -loss_values("cosine_similarity", y_true, y_pred, axis=self.axis)
