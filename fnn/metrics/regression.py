"""Metrics of regression beyond mean errors: root, share of variance explained, correlations."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.arguments import wrong
from fnn.core.targets import spread
from fnn.metrics.metric import Metric, Sums, Targets, divide


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """cov(t, y) / (std(t) std(y)) along `axis`; 0 where either is constant (Keras: NaN).

    >>> t = jnp.array([[1.0, 2.0, 3.0]])
    >>> [round(pearson_correlation(t, y).item(), 4) for y in (10 * t + 5, -t, jnp.ones((1, 3)))]
    [1.0, -1.0, 0.0]
    """
    t, y = (x - x.mean(axis, keepdims=True) for x in (jnp.asarray(y_true), jnp.asarray(y_pred)))
    both = jnp.sqrt(jnp.square(t).mean(axis) * jnp.square(y).mean(axis))
    return divide((t * y).mean(axis), both)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """2 cov(t, y) / (var(t) + var(y) + (mean(t) - mean(y)) ** 2) along `axis`.

    Source: Lin 1989, A Concordance Correlation Coefficient to Evaluate Reproducibility.

    >>> t = jnp.array([[-1.0, 1.0]])
    >>> [round(concordance_correlation(t, y).item(), 4) for y in (t, 2 * t, t + 2)]
    [1.0, 0.8, 0.3333]
    """
    t, y = jnp.asarray(y_true), jnp.asarray(y_pred)
    mean_t, mean_y = t.mean(axis, keepdims=True), y.mean(axis, keepdims=True)
    covariance = ((t - mean_t) * (y - mean_y)).mean(axis)
    apart = jnp.square(mean_t - mean_y).mean(axis)
    return 2 * covariance / (t.var(axis) + y.var(axis) + apart + 1e-7)


class RootMeanSquaredError(Metric):
    """The root of the mean of (t - y) ** 2 over all batches, not a mean of roots.

    >>> metric = RootMeanSquaredError()
    >>> metric.result(metric.update(metric.init(), jnp.zeros(2), jnp.full(2, 3.0))).item()
    3.0
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

    name: str | None = None
    dtype: str | None = None

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return jnp.square(y_true - y_pred)

    def result(self, sums: Sums) -> Array:
        return jnp.sqrt(divide(sums["total"], sums["count"]))


class PearsonCorrelation(Metric):
    """The mean correlation of each example's t and y along `axis`.   (batch, n), (batch, n) -> ()

    It looks along the entries of an example, not over the examples; where either is constant it
    is 0.

    >>> metric = PearsonCorrelation()
    >>> metric.update_state([[1.0, 2.0, 3.0]], [[20.0, 40.0, 60.0]])
    >>> round(metric.result().item(), 4)  # scale and offset do not count
    1.0
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return pearson_correlation(y_true, y_pred, self.axis)


class ConcordanceCorrelation(Metric):
    """The mean agreement of each example's t and y along `axis`: their scale counts too.

    See `concordance_correlation`. It looks along the entries of an example, not over the examples.

    >>> metric = ConcordanceCorrelation()
    >>> metric.update_state([[-1.0, 1.0]], [[-2.0, 2.0]])
    >>> round(metric.result().item(), 4)  # 2 * 2 / (1 + 4)
    0.8
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return concordance_correlation(y_true, y_pred, self.axis)


class R2Score(Metric):
    """1 - sum((t - y) ** 2) / sum((t - mean(t)) ** 2), for each output over all examples.

    (batch,) or (batch, outputs) -> (), or (outputs,) with `class_aggregation=None`.
    "uniform_average" takes the mean over outputs, "variance_weighted_average" by their variance. An
    output whose targets are constant has 1 if all are hit, else 0. `num_regressors` adjusts for
    that many inputs, where there are more examples. The variance is a difference of float32 sums:
    targets far from 0 beside their spread lose digits, so centre them.

    >>> metric = R2Score()
    >>> metric.update_state([[1.0], [2.0], [3.0]], [[1.0], [2.0], [4.0]])
    >>> round(metric.result().item(), 4)  # 1 - 1 / 2; below 0 for what is worse than the mean
    0.5
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    class_aggregation: str | None = "uniform_average"
    num_regressors: int = 0
    name: str | None = None
    dtype: str | None = None

    def validate(self) -> None:
        choices = (None, "uniform_average", "variance_weighted_average")
        arguments.one_of(self, "class_aggregation", choices)
        if not isinstance(self.num_regressors, int) or self.num_regressors < 0:
            raise wrong(self, "num_regressors", "to be a whole number", self.num_regressors)

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        shape = () if y_pred is None else (y_pred.shape[-1] if len(y_pred.shape) > 1 else 1,)
        return {
            "count": jnp.zeros(shape),
            "entries": jnp.zeros(()),
            "residual": jnp.zeros(shape),
            "squared": jnp.zeros(shape),
            "total": jnp.zeros(shape),
        }

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        if y.ndim == 1:
            t, y = t[:, None], y[:, None]
        weights = jnp.ones(y.shape) if weight is None else spread(weight, y.shape)
        axes = tuple(range(y.ndim - 1))
        more = {
            "count": weights.sum(axes),
            "entries": (weights != 0).sum().astype("float32"),
            "residual": (weights * jnp.square(t - y)).sum(axes),
            "squared": (weights * jnp.square(t)).sum(axes),
            "total": (weights * t).sum(axes),
        }
        return {name: sums[name] + more[name] for name in sums}

    def result(self, sums: Sums) -> Array:
        variance = sums["squared"] - sums["total"] * divide(sums["total"], sums["count"])
        constant = jnp.where(sums["residual"] == 0, 1.0, 0.0)
        scores = jnp.where(variance == 0, constant, 1 - divide(sums["residual"], variance))
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = divide((scores * variance).sum(), variance.sum())
        if self.num_regressors:
            freedom = sums["entries"] - self.num_regressors - 1
            adjusted = 1 - (1 - scores) * (sums["entries"] - 1) / jnp.maximum(freedom, 1)
            scores = jnp.where(freedom > 0, adjusted, scores)
        return scores
