"""Metrics that Keras lacks: calibration, several labels at once, perplexity."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import one_of, positive
from fnn.losses.targets import align, class_numbers, spread
from fnn.metrics.crossentropy import SparseCategoricalCrossentropy
from fnn.metrics.metric import Metric, Sums, Targets, divide


class ExpectedCalibrationError(Metric):
    """How far confidence is from accuracy: the mean of |accuracy - confidence| by bin, by size.

    The confidence of a prediction is its largest probability; predictions are put into `num_bins`
    bins by it, each from above its lower to its upper edge. Targets are class numbers, or one-hot
    in the shape of the predictions, or 0 and 1 for predictions of one probability (batch, 1).
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2.

    >>> metric = ExpectedCalibrationError()
    >>> sums = metric.update(metric.init(), jnp.array([1, 0]), jnp.array([[0.8], [0.8]]))
    >>> round(metric.result(sums).item(), 4)
    0.3
    """

    gathers = True

    direction: ClassVar[str | None] = "min"

    num_bins: int = positive(default=15)
    from_logits: bool = False

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        return {
            name: jnp.zeros(self.num_bins) for name in ("count", "hits", "confidence")
        }

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        confidence, hits = self._judged(y_true, y_pred.astype("float32"))
        weights = jnp.ones(hits.shape) if weight is None else spread(weight, hits.shape)
        bins = jnp.clip(jnp.ceil(confidence * self.num_bins) - 1, 0, self.num_bins - 1)
        place = bins.astype("int32").reshape(-1)
        add = lambda old, values: old.at[place].add((values * weights).reshape(-1))
        return {
            "count": add(sums["count"], jnp.ones(hits.shape)),
            "hits": add(sums["hits"], hits),
            "confidence": add(sums["confidence"], confidence),
        }

    def _judged(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """The confidence of each prediction, and 1 where it hits."""
        if y_pred.shape[-1] == 1:
            positive = (jax.nn.sigmoid(y_pred) if self.from_logits else y_pred)[..., 0]
            truth = align(y_true, y_pred)[..., 0]
            hits = (positive > 0.5) == (truth > 0.5)
            return jnp.maximum(positive, 1 - positive), hits.astype("float32")
        shares = jax.nn.softmax(y_pred) if self.from_logits else y_pred
        if y_true.shape == y_pred.shape:
            labels = jnp.argmax(y_true, -1)
        else:
            labels = class_numbers(align(y_true, y_pred, sparse=True))
        return shares.max(-1), (labels == jnp.argmax(shares, -1)).astype("float32")

    def result(self, sums: Sums) -> Array:
        gaps = jnp.abs(sums["hits"] - sums["confidence"]).sum()
        return divide(gaps, sums["count"].sum())


class MultiLabelAccuracy(Metric):
    """How well the sets of labels agree, a mean over examples.   (batch, labels) twice -> ()

    A label is predicted where its probability is above `threshold`. `criterion` "exact_match"
    counts the examples with all labels right, "hamming" the share of right labels, "jaccard" the
    share of labels in both sets among those in either (1 where both are empty).

    >>> metrics = [MultiLabelAccuracy(criterion=c) for c in ("exact_match", "hamming", "jaccard")]
    >>> t, y = [[1, 1, 0, 0]], [[0.9, 0.1, 0.9, 0.1]]  # labels {0, 1}, called {0, 2}
    >>> [round(m.result(m.update(m.init(), t, y)).item(), 4) for m in metrics]
    [0.0, 0.5, 0.3333]
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    threshold: float = 0.5
    criterion: str = one_of(
        ("exact_match", "hamming", "jaccard"), default="exact_match"
    )

    def validate(self) -> None:
        if isinstance(self.threshold, bool) or not isinstance(
            self.threshold, (int, float)
        ):
            raise wrong(self, "threshold", "to be a number", self.threshold)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        true, called = y_true > 0.5, y_pred > self.threshold
        if self.criterion == "exact_match":
            return (true == called).all(-1).astype("float32")
        if self.criterion == "hamming":
            return (true == called).astype("float32").mean(-1)
        either = (true | called).sum(-1)
        share = (true & called).sum(-1) / jnp.maximum(either, 1)
        return jnp.where(either == 0, 1, share).astype("float32")


class Perplexity(Metric):
    """exp of the mean crossentropy over all real tokens, not a mean of exponentials.

    Targets are class numbers; `ignore_class` does not count.

    >>> metric = Perplexity()
    >>> sums = metric.update(metric.init(), jnp.array([0, 1]), jnp.full((2, 4), 0.25))
    >>> round(metric.result(sums).item(), 4)
    4.0
    """

    targets: ClassVar[Targets] = "labels"
    direction: ClassVar[str | None] = "min"

    from_logits: bool = False
    ignore_class: int | None = None

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        mean = SparseCategoricalCrossentropy(
            from_logits=self.from_logits, ignore_class=self.ignore_class
        )
        return mean.update(sums, y_true, y_pred, weight)

    def result(self, sums: Sums) -> Array:
        return jnp.exp(divide(sums["total"], sums["count"]))
