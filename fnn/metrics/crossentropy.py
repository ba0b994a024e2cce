"""Metrics that are the mean of a crossentropy or of a divergence."""

from __future__ import annotations

from typing import ClassVar

from fnn.metrics.losses import _MeanOfLoss


class BinaryCrossentropy(_MeanOfLoss):
    """The mean of -t log p - (1 - t) log(1 - p).

    >>> metric = BinaryCrossentropy(from_logits=True)
    >>> metric.update_state([1.0, 0.0], [0.0, 0.0])
    >>> round(metric.result().item(), 4)  # a logit of 0 is a half
    0.6931
    """

    loss: ClassVar[str] = "binary_crossentropy"

    from_logits: bool = False
    label_smoothing: float = 0


class CategoricalCrossentropy(_MeanOfLoss):
    """The mean of -sum(t log p), for one-hot targets.

    >>> metric = CategoricalCrossentropy()
    >>> metric.update_state([[0.0, 1.0]], [[0.75, 0.25]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

    loss: ClassVar[str] = "categorical_crossentropy"

    from_logits: bool = False
    label_smoothing: float = 0
    axis: int = -1


class SparseCategoricalCrossentropy(_MeanOfLoss):
    """The mean of -log p of the class whose number is given; `ignore_class` does not count.

    >>> metric = SparseCategoricalCrossentropy(ignore_class=-1)
    >>> metric.update_state([1, -1], [[0.75, 0.25], [0.5, 0.5]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

    loss: ClassVar[str] = "sparse_categorical_crossentropy"

    from_logits: bool = False
    ignore_class: int | None = None
    axis: int = -1


class KLDivergence(_MeanOfLoss):
    """The mean of sum(t log(t / y)): 0 where y is t.   (..., classes) twice -> ()

    >>> metric = KLDivergence()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.5]])
    >>> round(metric.result().item(), 4)
    0.6931
    """

    loss: ClassVar[str] = "kl_divergence"
