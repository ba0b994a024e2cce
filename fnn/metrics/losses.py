"""Metrics that are the mean of a loss, and means of functions of yours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.value import resolve
from fnn.losses.targets import arrays, as_float, entry_values, for_each_example
from fnn.metrics.metric import Metric, Sums, Targets, add_mean


class MeanMetricWrapper(Metric):
    """The mean of a function `fn(y_true, y_pred, **kwargs) -> values` of yours.

    Its arguments follow by their names, `MeanMetricWrapper(fn, "mine", k=3)`.
    The function should return one value for each example (and step). Where it returns one number
    for the batch, the result is the mean over batches by their size; a batch with entries of weight
    0 gets the mean of what it returns for each of the others alone.

    >>> metric = MeanMetricWrapper(lambda y_true, y_pred: abs(y_true - y_pred), name="error")
    >>> metric.name, metric.result(metric.update(metric.init(), jnp.ones(2), jnp.zeros(2))).item()
    ('error', 1.0)
    """

    fn: Callable[..., Any]
    kwargs: tuple[tuple[str, Any], ...] = field(default=(), kw_only=True)

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return jnp.asarray(self.fn(y_true, y_pred, **dict(self.kwargs)))

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        if weight is None:
            weight = jnp.ones(jax.tree.leaves(y_pred)[0].shape[:1])
        values = entry_values(self.values, y_true, y_pred, weight != 0)
        return add_mean(sums, values, weight)


FunctionMetric = MeanMetricWrapper


class _Losses(Metric, loadable=False):
    """What the metrics that are the mean of a loss share: that loss, weighed as metrics are."""

    direction: ClassVar[str | None] = "min"
    sign: ClassVar[float] = 1.0

    @property
    def goal(self) -> Any:
        """The loss, with the fields that this metric shares with it."""
        raise NotImplementedError

    @property
    def targets(self) -> Targets:  # type: ignore[override]
        """What fits the predictions, as the loss has it."""
        return self.goal.targets

    def check(self, y_true: Any, y_pred: Any) -> None:
        self.goal.check(y_true, y_pred)

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return self.sign * self.goal.values(y_true, y_pred)

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        y_pred = arrays(y_pred)
        if weight is None:
            weight = jnp.ones(len(jax.tree.leaves(y_pred)[0]))
        weight = as_float(for_each_example(weight, y_pred))
        weighed = self.goal.replace(reduction="mean_with_sample_weight")
        total, count = weighed.totals(y_true, y_pred, weight, weight != 0)
        return {
            "total": sums["total"] + self.sign * total,
            "count": sums["count"] + count,
        }


class LossMetric(_Losses):
    """The mean of any loss: what `metrics=[fnn.losses.Huber(2.0)]` stands for.

    Weights are those of a metric: the sum of the weighted values is divided by the sum of the
    weights, whatever the `reduction` of the loss.

    >>> metric = LossMetric(fnn.losses.Huber(2.0))
    >>> metric.name, metric == fnn.metrics.get(fnn.losses.Huber(2.0))
    ('huber_loss', True)
    """

    loss: Any

    def validate(self) -> None:
        if getattr(self.loss, "kind", None) != "loss" or isinstance(self.loss, type):
            raise wrong(
                self, "loss", "to be a loss", self.loss, "e.g. fnn.losses.Huber()"
            )

    @property
    def default_name(self) -> str:
        return str(self.loss.name)

    @property
    def goal(self) -> Any:
        return self.loss.replace(dtype=self.dtype or self.loss.dtype)


class _MeanOfLoss(_Losses, loadable=False):
    """The mean of the loss called `loss`, whose fields are those of the metric."""

    loss: ClassVar[str]

    name: str | None = None
    dtype: str | None = None

    @property
    def goal(self) -> Any:
        fields = {name: value for name, value in vars(self).items() if name[0] != "_"}
        return resolve("loss", self.loss).replace(**fields)


class MeanSquaredError(_MeanOfLoss):
    """The mean of (t - y) ** 2, over all entries of all batches.

    >>> metric = MeanSquaredError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0])
    >>> metric.update_state([0.0], [2.0])
    >>> round(metric.result().item(), 4)  # 14 / 3, not (5 + 4) / 2
    4.6667
    """

    loss: ClassVar[str] = "mean_squared_error"


class MeanAbsoluteError(_MeanOfLoss):
    """The mean of |t - y|.

    >>> metric = MeanAbsoluteError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0], sample_weight=[3.0, 1.0])
    >>> metric.result().item()  # by the sum of the weights; the loss divides by 2
    1.5
    """

    loss: ClassVar[str] = "mean_absolute_error"


class MeanAbsolutePercentageError(_MeanOfLoss):
    """The mean of 100 |t - y| / |t|, where |t| counts as 1e-7 at least.

    >>> metric = MeanAbsolutePercentageError()
    >>> metric.update_state([2.0, 0.5], [1.0, 1.0])
    >>> round(metric.result().item(), 4)  # 50 and 100
    75.0
    """

    loss: ClassVar[str] = "mean_absolute_percentage_error"


class MeanSquaredLogarithmicError(_MeanOfLoss):
    """The mean of (log(1 + t) - log(1 + y)) ** 2; below 0 all counts as 0.

    >>> metric = MeanSquaredLogarithmicError()
    >>> metric.update_state([9.0], [99.0])
    >>> round(metric.result().item(), 4)  # log(10) ** 2
    5.3019
    """

    loss: ClassVar[str] = "mean_squared_logarithmic_error"


class LogCoshError(_MeanOfLoss):
    """The mean of log(cosh(y - t)).

    Its name is "logcosh", as in Keras.

    >>> metric = LogCoshError()
    >>> metric.update_state([0.0], [10.0])
    >>> round(metric.result().item(), 4)  # 10 - log(2)
    9.3069
    """

    loss: ClassVar[str] = "log_cosh"
    name = "logcosh"


class Poisson(_MeanOfLoss):
    """The mean of y - t log y.

    >>> metric = Poisson()
    >>> metric.update_state([2.0], [2.0])
    >>> round(metric.result().item(), 4)  # what is right has no 0: 2 - 2 log(2)
    0.6137
    """

    loss: ClassVar[str] = "poisson"


class Hinge(_MeanOfLoss):
    """The mean of max(1 - t y, 0), t being -1 or 1 (or 0 and 1).

    >>> metric = Hinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # 0.5 and 1.5, as 0 stands for -1
    1.0
    """

    loss: ClassVar[str] = "hinge"


class SquaredHinge(_MeanOfLoss):
    """The mean of max(1 - t y, 0) ** 2, t being -1 or 1 (or 0 and 1).

    >>> metric = SquaredHinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # (0.25 + 2.25) / 2
    1.25
    """

    loss: ClassVar[str] = "squared_hinge"


class CategoricalHinge(_MeanOfLoss):
    """The mean of max(1 + the best wrong score - the right one, 0).

    >>> metric = CategoricalHinge()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.75]])
    >>> metric.result().item()
    0.75
    """

    loss: ClassVar[str] = "categorical_hinge"


class CosineSimilarity(_MeanOfLoss):
    """The mean cosine of the angle between t and y: 1 is best (the loss has the other sign).

    >>> metric = CosineSimilarity()
    >>> metric.update_state([[3.0, 4.0]], [[4.0, 3.0]])
    >>> round(metric.result().item(), 4)  # (12 + 12) / (5 * 5)
    0.96
    """

    loss: ClassVar[str] = "cosine_similarity"
    direction: ClassVar[str | None] = "max"
    sign: ClassVar[float] = -1.0

    axis: int = -1
