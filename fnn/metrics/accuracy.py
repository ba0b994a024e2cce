"""Accuracies: the share of predictions that hit."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.losses.targets import align, class_numbers
from fnn.metrics.metric import Metric, Targets


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where both are equal.   (...), (...) -> (...)

    >>> accuracy([1, 2], jnp.array([1, 3])).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    return (align(jnp.asarray(y_true), y_pred) == y_pred).astype("float32")


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where the target is `y_pred > threshold`.   (...), (...) -> (...)

    >>> binary_accuracy([1, 0, 1], jnp.array([0.75, 0.5, 0.5])).tolist()  # 0.5 is class 0
    [1.0, 1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    return (align(jnp.asarray(y_true), y_pred) == (y_pred > threshold)).astype(
        "float32"
    )


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest entries are in one place.   (..., classes), (..., classes) -> (...)

    >>> categorical_accuracy([[0, 1], [0, 1]], [[0.25, 0.75], [0.5, 0.5]]).tolist()  # a tie: 0
    [1.0, 0.0]
    """
    hit = jnp.argmax(jnp.asarray(y_true), -1) == jnp.argmax(jnp.asarray(y_pred), -1)
    return hit.astype("float32")


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest prediction is that of the class.   (...), (..., classes) -> (...)

    >>> sparse_categorical_accuracy([1, 0], [[0.25, 0.75], [0.25, 0.75]]).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    labels = align(class_numbers(y_true), y_pred, sparse=True)
    return (labels == jnp.argmax(y_pred, -1)).astype("float32")


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the true class is among the k best.   (..., classes), (..., classes) -> (...)

    >>> top_k_categorical_accuracy([[1, 0, 0]], [[0.25, 0.5, 0.125]], k=2).tolist()
    [1.0]
    """
    return sparse_top_k_categorical_accuracy(
        jnp.argmax(jnp.asarray(y_true), -1), y_pred, k
    )


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Array:
    """1 where fewer than k classes are above the true one (a tie is a hit).

    (...), (..., classes) -> (...)   With `from_sorted_ids` the predictions are class numbers, best
    first, and the first k of them are looked at.

    >>> sparse_top_k_categorical_accuracy([0, 2], [[0.25, 0.5, 0.125]] * 2, k=2).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    labels = align(class_numbers(y_true), y_pred, sparse=True)[..., None]
    if from_sorted_ids:
        return (labels == y_pred[..., :k]).any(-1).astype("float32")
    known = (labels >= 0) & (labels < y_pred.shape[-1])
    own = jnp.take_along_axis(y_pred, jnp.where(known, labels, 0), -1)
    hit = known[..., 0] & jnp.isfinite(own[..., 0]) & ((y_pred > own).sum(-1) < k)
    return hit.astype("float32")


class Accuracy(Metric):
    """The share of predictions that equal their target: of class numbers, not of probabilities.

    >>> metric = Accuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([1, 2]), jnp.array([1, 3]))).item()
    0.5
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return accuracy(y_true, y_pred)


class BinaryAccuracy(Metric):
    """The share of outputs on the right side of `threshold`; the threshold itself is class 0.

    Logits need `threshold=0`.

    >>> metric = BinaryAccuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([1, 0]), jnp.array([0.7, 0.5]))).item()
    1.0
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "max"

    name: str | None = None
    dtype: str | None = None
    threshold: float = 0.5

    def validate(self) -> None:
        if not isinstance(self.threshold, (int, float)):
            raise wrong(self, "threshold", "to be a number", self.threshold)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return binary_accuracy(y_true, y_pred, self.threshold)


class CategoricalAccuracy(Metric):
    """The share of examples whose largest output is that of their one-hot target.

    Logits do as well as probabilities; at a tie the first class counts.

    >>> metric = CategoricalAccuracy()
    >>> metric.update_state([[0, 1], [1, 0]], [[0.1, 0.2], [0.1, 0.2]])
    >>> metric.result().item()
    0.5
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_accuracy(y_true, y_pred)


class SparseCategoricalAccuracy(Metric):
    """The share of examples whose largest output is that of their class number.

    >>> metric = SparseCategoricalAccuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([0, 0]), jnp.eye(2))).item()
    0.5
    """

    targets: ClassVar[Targets] = "labels"
    direction: ClassVar[str | None] = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_categorical_accuracy(y_true, y_pred)


class TopKCategoricalAccuracy(Metric):
    """The share of examples whose one-hot class is among the k largest outputs.

    `k` is 5 by default, so that with five classes all is right.

    >>> metric = TopKCategoricalAccuracy(k=2)
    >>> metric.update_state([[1, 0, 0], [0, 0, 1]], [[0.25, 0.5, 0.125]] * 2)
    >>> metric.result().item()
    0.5
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    k: int = positive(default=5)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return top_k_categorical_accuracy(y_true, y_pred, self.k)


class SparseTopKCategoricalAccuracy(Metric):
    """The share of examples whose class number is among the k largest outputs.

    With `from_sorted_ids` the predictions are class numbers, best first.

    >>> metric = SparseTopKCategoricalAccuracy(k=2)
    >>> metric.update_state([0, 2], [[0.25, 0.5, 0.125]] * 2)
    >>> metric.result().item()
    0.5
    """

    targets: ClassVar[Targets] = "labels"
    direction: ClassVar[str | None] = "max"

    k: int = positive(default=5)
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    from_sorted_ids: bool = False

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_top_k_categorical_accuracy(
            y_true, y_pred, self.k, self.from_sorted_ids
        )
