"""Regression metrics other than mean losses: RMSE, R2 score, correlations."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import one_of
from fnn.core.tree import SpecTree, Tree
from fnn.losses.targets import Shape
from fnn.metrics import exact
from fnn.metrics.metric import Metric, Sums, add, divide, weights_like


def pearson_correlation(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    axis: int = -1,
) -> Array:
    """cov(t, y) / (std(t) std(y)) along `axis`; 0 if t or y is constant (Keras: NaN).

    >>> t = jnp.array([[1.0, 2.0, 3.0]])
    >>> [round(pearson_correlation(t, y).item(), 4) for y in (10 * t + 5, -t, jnp.ones((1, 3)))]
    [1.0, -1.0, 0.0]
    """
    t = _centered(y_true, axis)
    y = _centered(y_pred, axis)
    # Without the axis from here on.
    variance_t = jnp.square(t).mean(axis)
    variance_y = jnp.square(y).mean(axis)
    deviations = jnp.sqrt(variance_t * variance_y)
    return divide((t * y).mean(axis), deviations)


def concordance_correlation(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    axis: int = -1,
) -> Array:
    """2 cov(t, y) / (var(t) + var(y) + (mean(t) - mean(y)) ** 2) along `axis`.

    Source: Lin 1989, A Concordance Correlation Coefficient to Evaluate Reproducibility.

    >>> t = jnp.array([[-1.0, 1.0]])
    >>> [round(concordance_correlation(t, y).item(), 4) for y in (t, 2 * t, t + 2)]
    [1.0, 0.8, 0.3333]
    """
    t = jnp.asarray(y_true)
    y = jnp.asarray(y_pred)
    bias = (t - y).mean(axis)
    bias = jnp.square(bias)
    t = _centered(t, axis)
    y = _centered(y, axis)
    variance_t = jnp.square(t).mean(axis)
    variance_y = jnp.square(y).mean(axis)
    covariance = (t * y).mean(axis)
    return 2 * covariance / (variance_t + variance_y + bias + 1e-7)


def _centered(x: ArrayLike, axis: int) -> Array:
    """x minus its mean."""
    x = jnp.asarray(x)
    # The second pass removes the rounding error of the first, for x far from 0.
    for _ in range(2):
        mean = x.mean(axis, keepdims=True)
        x = x - mean
    return x


class RootMeanSquaredError(Metric):
    """The square root of the mean of (t - y) ** 2 over all batches, not a mean of roots.

    >>> metric = RootMeanSquaredError()
    >>> metric.result(metric.update(metric.init(), jnp.zeros(2), jnp.full(2, 3.0))).item()
    3.0
    """

    targets = "elementwise"
    direction = "min"

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return jnp.square(y_true - y_pred)

    def result(self, sums: Sums) -> Array:
        mean = divide(sums["total"], sums["count"])
        return jnp.sqrt(mean)


class PearsonCorrelation(Metric):
    """The mean correlation of each example's t and y along `axis`.   (batch, n), (batch, n) -> ()

    It is computed within each example, not across examples; it is 0 if t or y is constant.

    >>> metric = PearsonCorrelation()
    >>> metric.update_state([[1.0, 2.0, 3.0]], [[20.0, 40.0, 60.0]])
    >>> round(metric.result().item(), 4)  # scale and offset do not matter
    1.0
    """

    targets = "classes"
    direction = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return pearson_correlation(y_true, y_pred, self.axis)


class ConcordanceCorrelation(Metric):
    """The mean concordance of each example's t and y along `axis`; their scale matters too.

    See `concordance_correlation`. It is computed within each example, not across examples.

    >>> metric = ConcordanceCorrelation()
    >>> metric.update_state([[-1.0, 1.0]], [[-2.0, 2.0]])
    >>> round(metric.result().item(), 4)  # 2 * 2 / (1 + 4)
    0.8
    """

    targets = "classes"
    direction = "max"

    name: str | None = None
    dtype: str | None = None
    axis: int = -1

    def values(self, y_true: Array, y_pred: Array) -> Array:
        return concordance_correlation(y_true, y_pred, self.axis)


class R2Score(Metric):
    """1 - sum((t - y) ** 2) / sum((t - mean(t)) ** 2), for each output over all examples.

    (batch,) or (batch, outputs) -> (), or (outputs,) with `class_aggregation=None`.
    "uniform_average" is the mean over outputs, "variance_weighted_average" the mean weighted by the
    variance of the targets. An output with constant targets scores 1 if all predictions are exact,
    else 0. `num_regressors` adjusts the score for that many inputs, if there are enough examples.
    Targets may lie far from 0 (years, Kelvin): they are summed without rounding errors.

    >>> y_true, y_pred = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]])
    >>> metric = R2Score()
    >>> sums = jax.jit(metric.update)(metric.init(y_true, y_pred), y_true, y_pred)
    >>> round(jax.jit(metric.result)(sums).item(), 4)  # 1 - 1 / 2; below 0 if worse than the mean
    0.5
    """

    targets = "classes"
    direction = "max"

    class_aggregation: str | None = one_of(
        (None, "uniform_average", "variance_weighted_average"),
        default="uniform_average",
    )
    num_regressors: int = 0

    def validate(self) -> None:
        given = self.num_regressors
        if not isinstance(given, int) or given < 0:
            raise wrong(self, "num_regressors", "to be an integer from 0", given)

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        shape: Shape = ()
        digits_shape: Shape = ()
        if y_pred is not None:
            # One for predictions (batch,).
            shape = y_pred.shape[1:][-1:] or (1,)
            digits_shape = (exact.DIGITS, *shape)
        digits = jnp.zeros(digits_shape, "int32")
        return {
            "count": digits,
            "entries": jnp.zeros(()),
            "residual": jnp.zeros(shape),
            "squared": digits,
            "total": digits,
        }

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        t, y, weight = self.prepare(y_true, y_pred, weight)
        if y.ndim == 1:
            t = t[:, None]  # (batch, 1)
            y = y[:, None]  # (batch, 1)
        weights = weights_like(y, weight)
        axes = tuple(range(y.ndim - 1))
        moments = exact.moments(t, weights, axes)
        squared_error = weights * jnp.square(t - y)
        entries = (weights != 0).sum()
        more = {
            "count": moments.weight,
            "entries": entries.astype("float32"),
            "residual": squared_error.sum(axes),
            "squared": moments.squared,
            "total": moments.total,
        }
        return add(sums, more)

    def result(self, sums: Sums) -> Array:
        residual = sums["residual"]
        # Scalar zeros: nothing was added yet.
        if not residual.ndim:
            return jnp.zeros(())
        variance = exact.variation(
            sums["count"],
            sums["total"],
            sums["squared"],
        )
        # Constant targets have no variance to explain.
        of_constant = jnp.where(residual == 0, 1.0, 0.0)
        score = 1 - divide(residual, variance)
        scores = jnp.where(variance == 0, of_constant, score)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            weighted = (scores * variance).sum()
            scores = divide(weighted, variance.sum())
        if not self.num_regressors:
            return scores
        freedom = sums["entries"] - self.num_regressors - 1
        unexplained = (1 - scores) * (sums["entries"] - 1)
        adjusted = 1 - unexplained / jnp.maximum(freedom, 1)
        return jnp.where(freedom > 0, adjusted, scores)
