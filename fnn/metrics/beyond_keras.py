"""Metrics that Keras lacks: calibration error, multi-label accuracy, perplexity."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import one_of, positive
from fnn.core.tree import SpecTree, Tree
from fnn.losses.targets import align, class_numbers
from fnn.metrics.crossentropy import SparseCategoricalCrossentropy
from fnn.metrics.metric import Metric, Sums, divide, weights_like


class _Judged(NamedTuple):
    """The confidence of each prediction, and 1 for each that is right, else 0."""

    confidence: Array
    hits: Array


class ExpectedCalibrationError(Metric):
    """The mean of |accuracy - confidence| over bins, weighted by their size.

    The confidence of a prediction is its largest probability. Predictions are sorted by it into
    `num_bins` bins, which include their upper edge. Targets are class numbers, one-hot in the
    shape of the predictions, or 0 and 1 for predictions of one probability (batch, 1).
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2.

    >>> metric = ExpectedCalibrationError()
    >>> sums = jax.jit(metric.update)(metric.init(), jnp.array([1, 0]), jnp.array([[0.8], [0.8]]))
    >>> round(jax.jit(metric.result)(sums).item(), 4)
    0.3
    """

    gathers = True
    direction = "min"

    num_bins: int = positive(default=15)
    from_logits: bool = False

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        names = ("count", "hits", "confidence")
        return {name: jnp.zeros(self.num_bins) for name in names}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        judged = self._judge(t, y.astype("float32"))
        weights = weights_like(judged.hits, weight)
        # Bin i holds confidences in (i / bins, (i + 1) / bins].
        last = self.num_bins - 1
        upper = jnp.ceil(judged.confidence * self.num_bins)
        bins = jnp.clip(upper - 1, 0, last)
        index = bins.astype("int32").reshape(-1)

        def add(old: Array, values: Array) -> Array:
            weighted = values * weights
            return old.at[index].add(weighted.reshape(-1))

        ones = jnp.ones(judged.hits.shape)
        return {
            "count": add(sums["count"], ones),
            "hits": add(sums["hits"], judged.hits),
            "confidence": add(sums["confidence"], judged.confidence),
        }

    def _judge(self, y_true: Array, y_pred: Array) -> _Judged:
        if y_pred.shape[-1] == 1:
            # (batch, 1): the probability of class 1.
            truth = align(y_true, y_pred)
            return self._judge_binary(truth[..., 0], y_pred)
        probabilities = y_pred
        if self.from_logits:
            probabilities = jax.nn.softmax(y_pred)
        if y_true.shape == y_pred.shape:
            labels = jnp.argmax(y_true, -1)
        else:
            labels = class_numbers(align(y_true, y_pred, sparse=True))
        hits = labels == jnp.argmax(probabilities, -1)  # (...)
        confidence = probabilities.max(-1)  # (...)
        return _Judged(confidence, hits.astype("float32"))

    def _judge_binary(self, truth: Array, y_pred: Array) -> _Judged:
        if self.from_logits:
            y_pred = jax.nn.sigmoid(y_pred)
        p = y_pred[..., 0]
        hits = (p > 0.5) == (truth > 0.5)
        confidence = jnp.maximum(p, 1 - p)
        return _Judged(confidence, hits.astype("float32"))

    def result(self, sums: Sums) -> Array:
        gaps = jnp.abs(sums["hits"] - sums["confidence"])
        count = sums["count"].sum()
        return divide(gaps.sum(), count)


class MultiLabelAccuracy(Metric):
    """How well sets of labels agree, averaged over examples.   (batch, labels) both -> ()

    A label is predicted if its probability is above `threshold`. `criterion` "exact_match" is the
    fraction of examples with all labels right, "hamming" the fraction of right labels, "jaccard"
    the size of the intersection divided by that of the union (1 if both sets are empty).

    >>> metrics = [MultiLabelAccuracy(criterion=c) for c in ("exact_match", "hamming", "jaccard")]
    >>> t = np.array([[1, 1, 0, 0]])  # labels {0, 1}
    >>> y = np.array([[0.9, 0.1, 0.9, 0.1]])  # predicted {0, 2}
    >>> [round(m.result(jax.jit(m.update)(m.init(), t, y)).item(), 4) for m in metrics]
    [0.0, 0.5, 0.3333]
    """

    targets = "classes"
    direction = "max"

    threshold: float = 0.5
    criterion: str = one_of(
        ("exact_match", "hamming", "jaccard"),
        default="exact_match",
    )

    def validate(self) -> None:
        given = self.threshold
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise wrong(self, "threshold", "to be a number", given)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        true = y_true > 0.5
        predicted = y_pred > self.threshold
        equal = true == predicted  # (batch, labels)
        if self.criterion == "exact_match":
            return equal.all(-1).astype("float32")
        if self.criterion == "hamming":
            return equal.astype("float32").mean(-1)
        union = (true | predicted).sum(-1)  # (batch,)
        intersection = (true & predicted).sum(-1)  # (batch,)
        ratio = intersection / jnp.maximum(union, 1)
        ratio = jnp.where(union == 0, 1, ratio)
        return ratio.astype("float32")


class Perplexity(Metric):
    """exp of the mean crossentropy over all unmasked tokens, not a mean of exponentials.

    Targets are class numbers; tokens of `ignore_class` are left out.

    >>> metric = Perplexity()
    >>> y_true, y_pred = jnp.array([0, 1]), jnp.full((2, 4), 0.25)
    >>> sums = jax.jit(metric.update)(metric.init(), y_true, y_pred)
    >>> round(metric.result(sums).item(), 4)
    4.0
    """

    targets = "labels"
    direction = "min"

    from_logits: bool = False
    ignore_class: int | None = None

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        crossentropy = SparseCategoricalCrossentropy(
            from_logits=self.from_logits,
            ignore_class=self.ignore_class,
        )
        return crossentropy.update(sums, y_true, y_pred, weight)

    def result(self, sums: Sums) -> Array:
        mean = divide(sums["total"], sums["count"])
        return jnp.exp(mean)
