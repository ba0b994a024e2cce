"""Metrics of regression beyond mean errors: root, share of variance explained, correlations."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import one_of
from fnn.losses.targets import spread
from fnn.metrics import exact
from fnn.metrics.metric import Metric, Sums, Targets, divide


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """cov(t, y) / (std(t) std(y)) along `axis`; 0 where either is constant (Keras: NaN).

    >>> t = jnp.array([[1.0, 2.0, 3.0]])
    >>> [round(pearson_correlation(t, y).item(), 4) for y in (10 * t + 5, -t, jnp.ones((1, 3)))]
    [1.0, -1.0, 0.0]
    """
    t, y = _centred(y_true, axis), _centred(y_pred, axis)
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
    apart = jnp.square((t - y).mean(axis))
    t, y = _centred(t, axis), _centred(y, axis)
    spread_of_both = jnp.square(t).mean(axis) + jnp.square(y).mean(axis)
    return 2 * (t * y).mean(axis) / (spread_of_both + apart + 1e-7)


def _centred(x: Any, axis: int) -> Array:
    """x minus its mean, and minus what rounding left of that where x lies far from 0."""
    x = jnp.asarray(x)
    for _ in range(2):
        x = x - x.mean(axis, keepdims=True)
    return x


class RootMeanSquaredError(Metric):
    """The root of the mean of (t - y) ** 2 over all batches, not a mean of roots.

    >>> metric = RootMeanSquaredError()
    >>> metric.result(metric.update(metric.init(), jnp.zeros(2), jnp.full(2, 3.0))).item()
    3.0
    """

    targets: ClassVar[Targets] = "elementwise"
    direction: ClassVar[str | None] = "min"

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
    that many inputs, where there are more examples. Targets may lie far from 0 (years, Kelvin):
    their sums are exact integers.

    >>> metric = R2Score()
    >>> metric.update_state([[1.0], [2.0], [3.0]], [[1.0], [2.0], [4.0]])
    >>> round(metric.result().item(), 4)  # 1 - 1 / 2; below 0 for what is worse than the mean
    0.5
    """

    targets: ClassVar[Targets] = "classes"
    direction: ClassVar[str | None] = "max"

    class_aggregation: str | None = one_of(
        (None, "uniform_average", "variance_weighted_average"),
        default="uniform_average",
    )
    num_regressors: int = 0

    def validate(self) -> None:
        if not isinstance(self.num_regressors, int) or self.num_regressors < 0:
            raise wrong(self, "num_regressors", "to be an integer", self.num_regressors)

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        shape = (
            ()
            if y_pred is None
            else (y_pred.shape[-1] if len(y_pred.shape) > 1 else 1,)
        )
        whole = jnp.zeros(shape and (exact.DIGITS, *shape), "int32")
        return {
            "count": whole,
            "entries": jnp.zeros(()),
            "residual": jnp.zeros(shape),
            "squared": whole,
            "total": whole,
        }

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        if y.ndim == 1:
            t, y = t[:, None], y[:, None]
        weights = jnp.ones(y.shape) if weight is None else spread(weight, y.shape)
        axes = tuple(range(y.ndim - 1))
        count, total, squared = exact.moments(t, weights, axes)
        more = {
            "count": count,
            "entries": (weights != 0).sum().astype("float32"),
            "residual": (weights * jnp.square(t - y)).sum(axes),
            "squared": squared,
            "total": total,
        }
        return {name: sums[name] + more[name] for name in sums}

    def result(self, sums: Sums) -> Array:
        if not sums["residual"].ndim:  # nothing was added yet
            return jnp.zeros(())
        variance = exact.variation(sums["count"], sums["total"], sums["squared"])
        constant = jnp.where(sums["residual"] == 0, 1.0, 0.0)
        scores = jnp.where(
            variance == 0, constant, 1 - divide(sums["residual"], variance)
        )
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = divide((scores * variance).sum(), variance.sum())
        if self.num_regressors:
            freedom = sums["entries"] - self.num_regressors - 1
            adjusted = 1 - (1 - scores) * (sums["entries"] - 1) / jnp.maximum(
                freedom, 1
            )
            scores = jnp.where(freedom > 0, adjusted, scores)
        return scores
