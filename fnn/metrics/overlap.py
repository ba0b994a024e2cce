"""Overlap of classes: F scores, and intersection over union of regions."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import one_of, positive
from fnn.losses.targets import class_numbers, spread
from fnn.metrics.metric import Metric, Sums, Targets, divide

_EPSILON = 1e-7


class _FScore(Metric, loadable=False):
    """What the F scores share; `beta` and `threshold` are theirs."""

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    average: str | None = one_of((None, "micro", "macro", "weighted"), default=None)

    def validate(self: Any) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise wrong(self, "threshold", "to lie above 0 and up to 1", self.threshold)

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        shape = () if y_pred is None or self.average == "micro" else (y_pred.shape[-1],)
        names = ("true_positives", "false_positives", "false_negatives", "support")
        return {name: jnp.zeros(shape) for name in names}

    def update(
        self: Any, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        weights = jnp.ones(y.shape) if weight is None else spread(weight, y.shape)
        if self.threshold is None:
            called = (y >= y.max(-1, keepdims=True)) & (jnp.abs(y) > 1e-9)
        else:
            called = y > self.threshold
        called = called.astype(t.dtype)
        axes = None if self.average == "micro" else tuple(range(y.ndim - 1))
        more = {
            "true_positives": (weights * called * t).sum(axes),
            "false_positives": (weights * called * (1 - t)).sum(axes),
            "false_negatives": (weights * (1 - called) * t).sum(axes),
            "support": (weights * t).sum(axes),
        }
        return {name: sums[name] + more[name] for name in sums}

    def result(self: Any, sums: Sums) -> Array:
        hits, square = sums["true_positives"], self.beta**2
        precision = hits / (hits + sums["false_positives"] + _EPSILON)
        recall = hits / (hits + sums["false_negatives"] + _EPSILON)
        scores = (
            (1 + square) * precision * recall / (square * precision + recall + _EPSILON)
        )
        if self.average == "weighted":
            return (scores * sums["support"]).sum() / (sums["support"].sum() + _EPSILON)
        return scores if self.average is None else scores.mean()


class FBetaScore(_FScore):
    """(1 + beta**2) precision recall / (beta**2 precision + recall), for each class.

    (..., classes) one-hot, (..., classes) -> (classes,), or () with `average`: "macro" is the mean,
    "weighted" that by how often a class is true, "micro" counts all classes together. Without
    `threshold` the largest of a row is called positive, else all above it. `beta` above 1 favours
    recall.

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

    beta: ClassVar[float] = 1.0

    threshold: float | None = None


class _Union(Metric):
    """What the metrics of intersection over union share: a table of (true, predicted) class.

    `sparse_y_true` and `sparse_y_pred` say what are class numbers, the rest scores along `axis`.
    """

    gathers = True

    direction: ClassVar[str | None] = "max"

    def classes(self) -> int:
        return self.num_classes  # type: ignore[attr-defined]

    def wanted(self) -> tuple[int, ...]:
        """The classes whose mean is the result."""
        return tuple(range(self.classes()))

    def numbers(self: Any, y: Array, sparse: bool) -> Array:
        """Class numbers of targets or predictions."""
        return class_numbers(y) if sparse else jnp.argmax(y, self.axis)

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        return {"table": jnp.zeros((self.classes(), self.classes()))}

    def update(
        self: Any, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None
    ) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        t = self.numbers(jnp.asarray(y_true), self.sparse_y_true)
        y = self.numbers(y_pred, self.sparse_y_pred).reshape(t.shape)
        weights = jnp.ones(t.shape) if weight is None else spread(weight, t.shape)
        known = (t >= 0) & (t < self.classes()) & (y >= 0) & (y < self.classes())
        if getattr(self, "ignore_class", None) is not None:
            known = known & (t != self.ignore_class)
        t, y = jnp.where(known, t, 0).reshape(-1), jnp.where(known, y, 0).reshape(-1)
        return {
            "table": sums["table"]
            .at[t, y]
            .add(jnp.where(known, weights, 0).reshape(-1))
        }

    def result(self, sums: Sums) -> Array:
        table, wanted = sums["table"], jnp.asarray(self.wanted())
        both = jnp.diagonal(table)[wanted]
        union = table.sum(0)[wanted] + table.sum(1)[wanted] - both
        present = union > 1e-9
        return divide(jnp.where(present, divide(both, union), 0).sum(), present.sum())

    def validate(self) -> None:
        outside = [c for c in self.wanted() if not 0 <= c < self.classes()]
        if outside:
            raise wrong(
                self,
                "target_class_ids",
                f"to lie in 0..{self.classes() - 1}",
                self.wanted(),
            )


class IoU(_Union):
    """The mean of intersection / union over some classes, those that never occur left out.

    Targets and predictions are class numbers, or scores along `axis` where `sparse_y_true` or
    `sparse_y_pred` is False. Entries of `ignore_class`, or of no class, do not count. Weights are
    kept as they are (Keras rounds them to integers).

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

    def wanted(self) -> tuple[int, ...]:
        return self.target_class_ids


class MeanIoU(_Union):
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


class OneHotIoU(_Union):
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

    def wanted(self) -> tuple[int, ...]:
        return self.target_class_ids


class OneHotMeanIoU(_Union):
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


class BinaryIoU(_Union):
    """`IoU` of two classes, the predictions being class 1 from `threshold` on.

    >>> metric = BinaryIoU(target_class_ids=[1])
    >>> metric.update_state([1, 1, 0], [0.9, 0.5, 0.1])
    >>> metric.result().item()  # 0.5 counts as class 1 here, unlike in Precision
    1.0
    """

    sparse_y_true: ClassVar[bool] = True
    sparse_y_pred: ClassVar[bool] = True

    target_class_ids: tuple[int, ...] = (0, 1)
    threshold: float = 0.5

    def validate(self) -> None:
        if any(c not in (0, 1) for c in self.target_class_ids):
            raise wrong(
                self, "target_class_ids", "to lie in 0..1", self.target_class_ids
            )

    def classes(self) -> int:
        return 2

    def wanted(self) -> tuple[int, ...]:
        return self.target_class_ids

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        called = (jnp.asarray(y_pred) >= self.threshold).astype("int32")
        return super().update(sums, y_true, called, weight)
