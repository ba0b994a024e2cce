"""Accuracies: the fraction of predictions that are right."""

from __future__ import annotations

from dataclasses import field

import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.losses.targets import align, class_numbers
from fnn.metrics.metric import Metric


def accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """1 where both are equal.   (...), (...) -> (...)

    >>> accuracy([1, 2], jnp.array([1, 3])).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    aligned: Array = align(jnp.asarray(y_true), y_pred)
    return (aligned == y_pred).astype("float32")


def binary_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    threshold: float = 0.5,
) -> Array:
    """1 where the target is `y_pred > threshold`.   (...), (...) -> (...)

    >>> binary_accuracy([1, 0, 1], jnp.array([0.75, 0.5, 0.5])).tolist()  # 0.5 is class 0
    [1.0, 1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    aligned: Array = align(jnp.asarray(y_true), y_pred)
    return (aligned == (y_pred > threshold)).astype("float32")


def categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """1 where the largest entries have the same index.   (..., classes), (..., classes) -> (...)

    >>> categorical_accuracy([[0, 1], [0, 1]], [[0.25, 0.75], [0.5, 0.5]]).tolist()  # tie: class 0
    [1.0, 0.0]
    """
    true = jnp.argmax(jnp.asarray(y_true), -1)  # (...)
    predicted = jnp.argmax(jnp.asarray(y_pred), -1)  # (...)
    return (true == predicted).astype("float32")


def sparse_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """1 where the largest prediction is that of the true class.   (...), (..., classes) -> (...)

    >>> sparse_categorical_accuracy([1, 0], [[0.25, 0.75], [0.25, 0.75]]).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    labels: Array = align(class_numbers(y_true), y_pred, sparse=True)
    predicted = jnp.argmax(y_pred, -1)  # (...)
    return (labels == predicted).astype("float32")


def top_k_categorical_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    k: int = 5,
) -> Array:
    """1 where the true class is in the top k.   (..., classes), (..., classes) -> (...)

    >>> top_k_categorical_accuracy([[1, 0, 0]], [[0.25, 0.5, 0.125]], k=2).tolist()
    [1.0]
    """
    labels = jnp.argmax(jnp.asarray(y_true), -1)  # (...)
    return sparse_top_k_categorical_accuracy(labels, y_pred, k)


def sparse_top_k_categorical_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    k: int = 5,
    from_sorted_ids: bool = False,
) -> Array:
    """1 where fewer than k classes score higher than the true one (ties count as right).

    (...), (..., classes) -> (...)   With `from_sorted_ids` the predictions are class numbers, best
    first, and the first k of them are used.

    >>> sparse_top_k_categorical_accuracy([0, 2], [[0.25, 0.5, 0.125]] * 2, k=2).tolist()
    [1.0, 0.0]
    """
    y_pred = jnp.asarray(y_pred)
    labels: Array = align(class_numbers(y_true), y_pred, sparse=True)
    labels = labels[..., None]  # (..., 1)
    if from_sorted_ids:
        among_first = labels == y_pred[..., :k]  # (..., k)
        return among_first.any(-1).astype("float32")
    classes = y_pred.shape[-1]
    in_range = (labels >= 0) & (labels < classes)
    index = jnp.where(in_range, labels, 0)
    own = jnp.take_along_axis(y_pred, index, -1)  # (..., 1)
    valid = in_range & jnp.isfinite(own)
    higher = (y_pred > own).sum(-1)  # (...)
    hit = valid[..., 0] & (higher < k)
    return hit.astype("float32")


class Accuracy(Metric):
    """The fraction of predictions that equal their target: for class numbers, not probabilities.

    >>> metric = Accuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([1, 2]), jnp.array([1, 3]))).item()
    0.5
    """

    targets = "elementwise"
    direction = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return accuracy(y_true, y_pred)


class BinaryAccuracy(Metric):
    """The fraction of outputs on the right side of `threshold`; the threshold itself is class 0.

    Logits need `threshold=0`.

    >>> metric = BinaryAccuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([1, 0]), jnp.array([0.7, 0.5]))).item()
    1.0
    """

    targets = "elementwise"
    direction = "max"

    name: str | None = None
    dtype: str | None = None
    threshold: float = 0.5

    def validate(self) -> None:
        if not isinstance(self.threshold, (int, float)):
            raise wrong(self, "threshold", "to be a number", self.threshold)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return binary_accuracy(y_true, y_pred, self.threshold)


class CategoricalAccuracy(Metric):
    """The fraction of examples whose largest output is that of their one-hot target.

    Predictions may be logits or probabilities; in a tie the first class is taken.

    >>> metric = CategoricalAccuracy()
    >>> metric.update_state([[0, 1], [1, 0]], [[0.1, 0.2], [0.1, 0.2]])
    >>> metric.result().item()
    0.5
    """

    targets = "classes"
    direction = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_accuracy(y_true, y_pred)


class SparseCategoricalAccuracy(Metric):
    """The fraction of examples whose largest output is that of their class number.

    >>> metric = SparseCategoricalAccuracy()
    >>> metric.result(metric.update(metric.init(), jnp.array([0, 0]), jnp.eye(2))).item()
    0.5
    """

    targets = "labels"
    direction = "max"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_categorical_accuracy(y_true, y_pred)


class TopKCategoricalAccuracy(Metric):
    """The fraction of examples whose one-hot class is among the k largest outputs.

    `k` is 5 by default, so that with five classes every prediction is right.

    >>> metric = TopKCategoricalAccuracy(k=2)
    >>> metric.update_state([[1, 0, 0], [0, 0, 1]], [[0.25, 0.5, 0.125]] * 2)
    >>> metric.result().item()
    0.5
    """

    targets = "classes"
    direction = "max"

    k: int = positive(default=5)

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return top_k_categorical_accuracy(y_true, y_pred, self.k)


class SparseTopKCategoricalAccuracy(Metric):
    """The fraction of examples whose class number is among the k largest outputs.

    With `from_sorted_ids` the predictions are class numbers, best first.

    >>> metric = SparseTopKCategoricalAccuracy(k=2)
    >>> metric.update_state([0, 2], [[0.25, 0.5, 0.125]] * 2)
    >>> metric.result().item()
    0.5
    """

    targets = "labels"
    direction = "max"

    k: int = positive(default=5)
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    from_sorted_ids: bool = False

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_top_k_categorical_accuracy(
            y_true, y_pred, self.k, self.from_sorted_ids
        )
