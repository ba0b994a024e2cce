"""Metrics that are the mean of a crossentropy or of the KL divergence."""

from __future__ import annotations

from fnn.metrics.losses import MeanOfLoss


class BinaryCrossentropy(MeanOfLoss):
    """The mean of -t log p - (1 - t) log(1 - p).

    >>> metric = BinaryCrossentropy(from_logits=True)
    >>> metric.update_state([1.0, 0.0], [0.0, 0.0])
    >>> round(metric.result().item(), 4)  # a logit of 0 is p = 0.5
    0.6931
    """

    loss_name = "binary_crossentropy"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    label_smoothing: float = 0


class CategoricalCrossentropy(MeanOfLoss):
    """The mean of -sum(t log p), for one-hot targets.

    >>> metric = CategoricalCrossentropy()
    >>> metric.update_state([[0.0, 1.0]], [[0.75, 0.25]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

    loss_name = "categorical_crossentropy"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    label_smoothing: float = 0
    axis: int = -1


class SparseCategoricalCrossentropy(MeanOfLoss):
    """The mean of -log p of the true class, given by its number; `ignore_class` is left out.

    >>> metric = SparseCategoricalCrossentropy(ignore_class=-1)
    >>> metric.update_state([1, -1], [[0.75, 0.25], [0.5, 0.5]])
    >>> round(metric.result().item(), 4)  # -log(0.25)
    1.3863
    """

    loss_name = "sparse_categorical_crossentropy"

    name: str | None = None
    dtype: str | None = None
    from_logits: bool = False
    ignore_class: int | None = None
    axis: int = -1


class KLDivergence(MeanOfLoss):
    """The mean of sum(t log(t / y)): 0 if y equals t.   (..., classes), (..., classes) -> ()

    >>> metric = KLDivergence()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.5]])
    >>> round(metric.result().item(), 4)
    0.6931
    """

    loss_name = "kl_divergence"
