"""Metrics that are the mean of a crossentropy or of a divergence."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.targets import spread
from fnn.metrics.metric import Metric, Sums, Targets, add_mean, loss_values


class BinaryCrossentropy(Metric):
    """The mean of -t log p - (1 - t) log(1 - p).

    >>> metric = BinaryCrossentropy(from_logits=True)
    >>> metric.update_state([1.0, 0.0], [0.0, 0.0])
    >>> round(metric.result().item(), 4)  # a logit of 0 is a half
    0.6931
    """

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
    """The mean of -sum(t log p), for one-hot targets.

    >>> metric = CategoricalCrossentropy()
    >>> metric.update_state([[0.0, 1.0]], [[0.75, 0.25]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

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
    """The mean of -log p of the class whose number is given; `ignore_class` does not count.

    >>> metric = SparseCategoricalCrossentropy(ignore_class=-1)
    >>> metric.update_state([1, -1], [[0.75, 0.25], [0.5, 0.5]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

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


class KLDivergence(Metric):
    """The mean of sum(t log(t / y)): 0 where y is t.   (..., classes) twice -> ()

    >>> metric = KLDivergence()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.5]])
    >>> round(metric.result().item(), 4)
    0.6931
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return loss_values("kl_divergence", y_true, y_pred)
