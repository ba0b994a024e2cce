"""Overlap of classes: F scores, and intersection over union of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import one_of, positive
from fnn.core.tree import SpecTree, Tree
from fnn.losses.targets import Shape, class_numbers
from fnn.metrics.metric import Metric, Sums, add, divide, weights_like
from fnn.runtime.settings import epsilon


class _FScore(Metric, loadable=False):
    """The base class of the F scores."""

    targets = "classes"
    direction = "max"

    average: str | None = one_of(
        (None, "micro", "macro", "weighted"),
        default=None,
    )

    @property
    def beta(self) -> float:
        """The weight of recall; a field of `FBetaScore`."""
        return 1.0

    @property
    def threshold(self) -> float | None:
        """The field of this name."""
        return None

    def validate(self) -> None:
        threshold = self.threshold
        if threshold is not None and not 0 < threshold <= 1:
            raise wrong(self, "threshold", "to lie above 0 and up to 1", threshold)

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        shape: Shape = ()
        if y_pred is not None and self.average != "micro":
            shape = (y_pred.shape[-1],)
        names = ("true_positives", "false_positives", "false_negatives", "support")
        return {name: jnp.zeros(shape) for name in names}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        weights = weights_like(y, weight)
        if self.threshold is None:
            # All of several largest, but not zeros, as in Keras.
            largest = y >= y.max(-1, keepdims=True)
            positive = largest & (jnp.abs(y) > 1e-9)
        else:
            positive = y > self.threshold
        positive = positive.astype(t.dtype)
        axes = tuple(range(y.ndim - 1))
        if self.average == "micro":
            axes = tuple(range(y.ndim))
        hits = weights * positive * t
        false_alarms = weights * positive * (1 - t)
        misses = weights * (1 - positive) * t
        support = weights * t
        more = {
            "true_positives": hits.sum(axes),
            "false_positives": false_alarms.sum(axes),
            "false_negatives": misses.sum(axes),
            "support": support.sum(axes),
        }
        return add(sums, more)

    def result(self, sums: Sums) -> Array:
        hits = sums["true_positives"]
        support = sums["support"]
        square = self.beta**2
        precision = hits / (hits + sums["false_positives"] + epsilon())
        recall = hits / (hits + sums["false_negatives"] + epsilon())
        product = (1 + square) * precision * recall
        scores = product / (square * precision + recall + epsilon())
        if self.average == "weighted":
            weighted = (scores * support).sum()
            return weighted / (support.sum() + epsilon())
        if self.average is None:
            return scores
        return scores.mean()


class FBetaScore(_FScore):
    """(1 + beta**2) precision recall / (beta**2 precision + recall), for each class.

    (..., classes) one-hot, (..., classes) -> (classes,), or () with `average`: "macro" is the mean,
    "weighted" the mean weighted by the frequency of the classes, "micro" counts all classes
    together. Predictions above `threshold` are positive; without it the largest prediction of each
    example is. `beta` above 1 favors recall.

    >>> metric = FBetaScore(beta=2.0, threshold=0.5)
    >>> metric.update_state([[1], [1], [0]], [[0.9], [0.1], [0.1]])
    >>> [round(v, 4) for v in metric.result().tolist()]  # precision 1, recall 1/2
    [0.5556]
    """

    name = "fbeta_score"

    beta: float = positive(default=1.0)
    threshold: float | None = None


class F1Score(_FScore):
    """2 precision recall / (precision + recall), for each class: `FBetaScore` with beta 1.

    >>> metric = F1Score(average="macro")
    >>> y = jnp.eye(2)
    >>> round(metric.result(metric.update(metric.init(y, y), y, y)).item(), 4)
    1.0
    """

    threshold: float | None = None


class _IoU(Metric):
    """The base class of the metrics of intersection over union: a table (true, predicted class).

    Targets (or predictions) are class numbers if `sparse_y_true` (`sparse_y_pred`) is True, else
    scores along `axis`.
    """

    gathers = True
    direction = "max"

    @property
    def sparse_y_true(self) -> bool:
        """The field of this name, for metrics that have it."""
        return True

    @property
    def sparse_y_pred(self) -> bool:
        """The field of this name, for metrics that have it."""
        return True

    @property
    def ignore_class(self) -> int | None:
        """The field of this name, for metrics that have it."""
        return None

    @property
    def axis(self) -> int:
        """The field of this name, for metrics that have it."""
        return -1

    def classes(self) -> int:
        """The number of classes."""
        raise NotImplementedError

    def selected(self) -> Sequence[int]:
        """The classes over which the mean is taken."""
        return range(self.classes())

    def _class_numbers(self, y: Array, sparse: bool) -> Array:
        if sparse:
            return class_numbers(y)
        return jnp.argmax(y, self.axis)

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        classes = self.classes()
        return {"table": jnp.zeros((classes, classes))}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        t = self._class_numbers(jnp.asarray(y_true), self.sparse_y_true)
        y = self._class_numbers(y_pred, self.sparse_y_pred)
        y = y.reshape(t.shape)
        weights = weights_like(t, weight)
        classes = self.classes()
        # Class numbers out of range are left out.
        counted = (t >= 0) & (t < classes)
        counted = counted & (y >= 0) & (y < classes)
        if self.ignore_class is not None:
            counted = counted & (t != self.ignore_class)
        t = jnp.where(counted, t, 0)
        y = jnp.where(counted, y, 0)
        weights = jnp.where(counted, weights, 0)
        cells = sums["table"].at[t.reshape(-1), y.reshape(-1)]
        return {"table": cells.add(weights.reshape(-1))}

    def result(self, sums: Sums) -> Array:
        table = sums["table"]  # (classes, classes)
        selected = jnp.asarray(self.selected())
        both = jnp.diagonal(table)[selected]  # (selected,)
        predicted = table.sum(0)[selected]
        true = table.sum(1)[selected]
        union = predicted + true - both
        # Classes that never occur are left out.
        present = union > 1e-9
        ratios = divide(both, union)
        ratios = jnp.where(present, ratios, 0)
        return divide(ratios.sum(), present.sum())

    def validate(self) -> None:
        selected = self.selected()
        classes = self.classes()
        if isinstance(selected, range):
            return  # all of them
        if any(not 0 <= c < classes for c in selected):
            expected = f"to lie in 0..{classes - 1}"
            raise wrong(self, "target_class_ids", expected, selected)


class IoU(_IoU):
    """The mean of intersection / union over the given classes, except classes that never occur.

    Targets and predictions are class numbers, or scores along `axis` if `sparse_y_true` or
    `sparse_y_pred` is False. Entries of `ignore_class`, or out of range, do not count. Weights are
    not rounded (Keras rounds them to integers).

    >>> metric = IoU(num_classes=2, target_class_ids=[0])
    >>> y_true, y_pred = jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])
    >>> round(metric.result(metric.update(metric.init(), y_true, y_pred)).item(), 4)
    0.3333
    """

    num_classes: int = positive()
    target_class_ids: tuple[int, ...]
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    ignore_class: int | None = None
    sparse_y_true: bool = True
    sparse_y_pred: bool = True
    axis: int = -1

    def classes(self) -> int:
        return self.num_classes

    def selected(self) -> tuple[int, ...]:
        return self.target_class_ids


class MeanIoU(_IoU):
    """The mean of intersection / union over all classes that occur.   See `IoU`.

    >>> metric = MeanIoU(num_classes=3)
    >>> metric.update_state([0, 0, 1, 1], [0, 1, 1, 1])
    >>> round(metric.result().item(), 4)  # (1/2 + 2/3) / 2: class 2 does not occur
    0.5833
    """

    num_classes: int = positive()
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    ignore_class: int | None = None
    sparse_y_true: bool = True
    sparse_y_pred: bool = True
    axis: int = -1

    def classes(self) -> int:
        return self.num_classes


class OneHotIoU(_IoU):
    """`IoU` of one-hot targets and of scores, along `axis`.

    >>> metric = OneHotIoU(num_classes=2, target_class_ids=[1])
    >>> metric.update_state([[1, 0], [0, 1]], [[0.2, 0.8], [0.4, 0.6]])
    >>> metric.result().item()
    0.5
    """

    sparse_y_true: ClassVar[bool] = False

    num_classes: int = positive()
    target_class_ids: tuple[int, ...]
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    ignore_class: int | None = None
    sparse_y_pred: bool = False
    axis: int = -1

    def classes(self) -> int:
        return self.num_classes

    def selected(self) -> tuple[int, ...]:
        return self.target_class_ids


class OneHotMeanIoU(_IoU):
    """`MeanIoU` of one-hot targets and of scores, along `axis`.

    >>> metric = OneHotMeanIoU(num_classes=2)
    >>> metric.update_state([[1, 0], [0, 1]], [[0.2, 0.8], [0.4, 0.6]])
    >>> metric.result().item()  # (0 + 1/2) / 2
    0.25
    """

    sparse_y_true: ClassVar[bool] = False

    num_classes: int = positive()
    name: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    ignore_class: int | None = None
    sparse_y_pred: bool = False
    axis: int = -1

    def classes(self) -> int:
        return self.num_classes


class BinaryIoU(_IoU):
    """`IoU` of two classes; predictions of at least `threshold` are class 1.

    >>> metric = BinaryIoU(target_class_ids=[1])
    >>> metric.update_state([1, 1, 0], [0.9, 0.5, 0.1])
    >>> metric.result().item()  # 0.5 counts as class 1 here, unlike in Precision
    1.0
    """

    target_class_ids: tuple[int, ...] = (0, 1)
    threshold: float = 0.5

    def validate(self) -> None:
        given = self.target_class_ids
        if any(c not in (0, 1) for c in given):
            raise wrong(self, "target_class_ids", "to lie in 0..1", given)

    def classes(self) -> int:
        return 2

    def selected(self) -> tuple[int, ...]:
        return self.target_class_ids

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        positive = jnp.asarray(y_pred) >= self.threshold
        y_pred = positive.astype("int32")
        return super().update(sums, y_true, y_pred, weight)
