"""Metrics that are the mean of a loss, or of a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.registry import lookup
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import resolve
from fnn.losses import Loss
from fnn.losses.targets import as_arrays, as_float, call_on_valid, repeat_for_batch
from fnn.metrics.metric import Metric, Sums, Targets, add, add_mean


class MeanMetricWrapper(Metric):
    """The mean of a user's function `fn(y_true, y_pred, **kwargs) -> values`.

    Keyword arguments are passed on to it: `MeanMetricWrapper(fn, "mine", k=3)`.
    The function should return one value for each example (and step). If it returns one number for
    the batch, the result is the mean over batches, weighted by their size; if the batch has entries
    of weight 0, the function is called for each of the other entries alone, and the mean is taken.

    >>> metric = MeanMetricWrapper(lambda y_true, y_pred: abs(y_true - y_pred), name="error")
    >>> metric.name, metric.result(metric.update(metric.init(), jnp.ones(2), jnp.zeros(2))).item()
    ('error', 1.0)
    """

    fn: Callable[..., Any]
    kwargs: tuple[tuple[str, Any], ...] = field(default=(), kw_only=True)

    def values(self, y_true: Tree, y_pred: Tree) -> Array:
        kwargs = dict(self.kwargs)
        values = self.fn(y_true, y_pred, **kwargs)
        return jnp.asarray(values)

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        y_true, y_pred, weights = self.prepare(y_true, y_pred, weight)
        if weights is None:
            first = jax.tree.leaves(y_pred)[0]
            weights = jnp.ones(first.shape[:1])  # (batch,)
        values = call_on_valid(self.values, y_true, y_pred, weights != 0)
        return add_mean(sums, values, weights)


FunctionMetric = MeanMetricWrapper


class MeanOfLoss(Metric, loadable=False):
    """The mean of the loss named `loss_name`, which gets the fields of the metric."""

    loss_name: ClassVar[str]
    direction = "min"
    # -1 for a metric that is the negative loss.
    sign: ClassVar[float] = 1.0

    @property
    def goal(self) -> Loss:
        """The loss."""
        fields = {name: v for name, v in vars(self).items() if name[0] != "_"}
        loss: Loss = resolve("loss", self.loss_name)
        return loss.replace(**fields)

    @property
    def targets(self) -> Targets:  # type: ignore[override]
        """The targets that the loss takes."""
        loss: type[Loss] = lookup("loss", self.loss_name)
        return loss.targets

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        self.goal.check(y_true, y_pred)

    def values(self, y_true: Tree, y_pred: Tree) -> Array:
        values = self.goal.values(y_true, y_pred)
        return self.sign * values

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        y_pred = as_arrays(y_pred)
        if weight is None:
            first = jax.tree.leaves(y_pred)[0]
            weight = jnp.ones(len(first))
        weights = as_float(repeat_for_batch(weight, y_pred))
        # A metric is divided by the sum of the weights, whatever the loss is divided by.
        loss = self.goal.replace(reduction="mean_with_sample_weight")
        valid = weights != 0
        total, count = loss.totals(y_true, y_pred, weights, valid)
        more = {"total": self.sign * total, "count": count}
        return add(sums, more)


class LossMetric(MeanOfLoss):
    """The mean of any loss; `metrics=[fnn.losses.Huber(2.0)]` creates one.

    It is weighted like any metric: the sum of the weighted values is divided by the sum of the
    weights, whatever the `reduction` of the loss.

    >>> metric = LossMetric(fnn.losses.Huber(2.0))
    >>> metric.name, metric == fnn.metrics.get(fnn.losses.Huber(2.0))
    ('huber_loss', True)
    """

    loss: Loss

    def validate(self) -> None:
        kind = getattr(self.loss, "kind", None)
        if kind != "loss" or isinstance(self.loss, type):
            advice = "e.g. fnn.losses.Huber()"
            raise wrong(self, "loss", "to be a loss", self.loss, advice)

    @property
    def default_name(self) -> str:
        return str(self.loss.name)

    @property
    def targets(self) -> Targets:  # type: ignore[override]
        return self.loss.targets

    @property
    def goal(self) -> Loss:
        dtype = self.dtype or self.loss.dtype
        return self.loss.replace(dtype=dtype)


class MeanSquaredError(MeanOfLoss):
    """The mean of (t - y) ** 2, over all entries of all batches.

    >>> metric = MeanSquaredError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0])
    >>> metric.update_state([0.0], [2.0])
    >>> round(metric.result().item(), 4)  # 14 / 3, not (5 + 4) / 2
    4.6667
    """

    loss_name = "mean_squared_error"


class MeanAbsoluteError(MeanOfLoss):
    """The mean of |t - y|.

    >>> metric = MeanAbsoluteError()
    >>> metric.update_state([0.0, 0.0], [1.0, 3.0], sample_weight=[3.0, 1.0])
    >>> metric.result().item()  # (3 + 3) / (3 + 1); the loss divides by 2
    1.5
    """

    loss_name = "mean_absolute_error"


class MeanAbsolutePercentageError(MeanOfLoss):
    """The mean of 100 |t - y| / |t|, with |t| clipped to at least 1e-7.

    >>> metric = MeanAbsolutePercentageError()
    >>> metric.update_state([2.0, 0.5], [1.0, 1.0])
    >>> round(metric.result().item(), 4)  # 50 and 100
    75.0
    """

    loss_name = "mean_absolute_percentage_error"


class MeanSquaredLogarithmicError(MeanOfLoss):
    """The mean of (log(1 + t) - log(1 + y)) ** 2; numbers below 0 are taken as 0.

    >>> metric = MeanSquaredLogarithmicError()
    >>> metric.update_state([9.0], [99.0])
    >>> round(metric.result().item(), 4)  # log(10) ** 2
    5.3019
    """

    loss_name = "mean_squared_logarithmic_error"


class LogCoshError(MeanOfLoss):
    """The mean of log(cosh(y - t)).

    Its name is "logcosh", as in Keras.

    >>> metric = LogCoshError()
    >>> metric.update_state([0.0], [10.0])
    >>> round(metric.result().item(), 4)  # 10 - log(2)
    9.3069
    """

    loss_name = "log_cosh"
    name = "logcosh"


class Poisson(MeanOfLoss):
    """The mean of y - t log y.

    >>> metric = Poisson()
    >>> metric.update_state([2.0], [2.0])
    >>> round(metric.result().item(), 4)  # not 0 for a perfect prediction: 2 - 2 log(2)
    0.6137
    """

    loss_name = "poisson"


class Hinge(MeanOfLoss):
    """The mean of max(1 - t y, 0), for t of -1 and 1 (or 0 and 1).

    >>> metric = Hinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # 0.5 and 1.5, since 0 means -1
    1.0
    """

    loss_name = "hinge"


class SquaredHinge(MeanOfLoss):
    """The mean of max(1 - t y, 0) ** 2, for t of -1 and 1 (or 0 and 1).

    >>> metric = SquaredHinge()
    >>> metric.update_state([1, 0], [0.5, 0.5])
    >>> metric.result().item()  # (0.25 + 2.25) / 2
    1.25
    """

    loss_name = "squared_hinge"


class CategoricalHinge(MeanOfLoss):
    """The mean of max(1 + best wrong score - right score, 0).

    >>> metric = CategoricalHinge()
    >>> metric.update_state([[0.0, 1.0]], [[0.5, 0.75]])
    >>> metric.result().item()
    0.75
    """

    loss_name = "categorical_hinge"


class CosineSimilarity(MeanOfLoss):
    """The mean cosine of the angle between t and y; 1 is best (the loss has the opposite sign).

    >>> metric = CosineSimilarity()
    >>> metric.update_state([[3.0, 4.0]], [[4.0, 3.0]])
    >>> round(metric.result().item(), 4)  # (12 + 12) / (5 * 5)
    0.96
    """

    loss_name = "cosine_similarity"
    direction = "max"
    sign = -1.0

    name: str | None = None
    dtype: str | None = None
    axis: int = -1
