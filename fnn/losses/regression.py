"""Regression losses: squared, absolute, relative, Huber-type, Poisson."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.fields import positive
from fnn.core.tree import SpecTree
from fnn.losses import checks
from fnn.losses.loss import Functions, Loss, pair
from fnn.runtime.settings import epsilon


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean((t - y) ** 2) over the last axis.   (..., n), (..., n) -> (...)

    >>> mean_squared_error([[0.0, 0.0]], [[1.0, 3.0]]).tolist()  # one value for each example
    [5.0]
    """
    t, y = pair(y_true, y_pred)
    squared = jnp.square(t - y)
    return squared.mean(-1)  # (...)


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean(|t - y|) over the last axis.   (..., n), (..., n) -> (...)

    >>> mean_absolute_error([[0.0, 0.0]], [[1.0, 3.0]]).tolist()
    [2.0]
    """
    t, y = pair(y_true, y_pred)
    return jnp.abs(t - y).mean(-1)  # (...)


def mean_absolute_percentage_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """100 mean(|t - y| / max(|t|, 1e-7)) over the last axis.

    >>> values = mean_absolute_percentage_error([[2.0], [0.5]], [[1.0], [1.0]])
    >>> [round(v, 3) for v in values.tolist()]
    [50.0, 100.0]
    """
    t, y = pair(y_true, y_pred)
    scale = jnp.maximum(jnp.abs(t), epsilon())
    relative = (t - y) / scale
    return 100 * jnp.abs(relative).mean(-1)  # (...)


def mean_squared_logarithmic_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean((log(1 + t) - log(1 + y)) ** 2) over the last axis; t and y are clipped to 1e-7.

    >>> values = mean_squared_logarithmic_error([[9.0], [9.0]], [[99.0], [0.0]])
    >>> [round(v, 4) for v in values.tolist()]  # 1 + y is 10 times too large, then too small
    [5.3019, 5.3019]
    """
    t, y = pair(y_true, y_pred)
    t = jnp.maximum(t, epsilon())
    y = jnp.maximum(y, epsilon())
    log_y = jnp.log(y + 1)
    log_t = jnp.log(t + 1)
    return jnp.square(log_y - log_t).mean(-1)  # (...)


def huber(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    delta: float = 1.0,
) -> Array:
    """mean(e ** 2 / 2) where |e| <= delta, else delta (|e| - delta / 2): linear for outliers.

    Source: Huber 1964, Robust Estimation of a Location Parameter.

    >>> huber([[0.0], [0.0]], [[0.5], [3.0]]).tolist()
    [0.125, 2.5]
    """
    t, y = pair(y_true, y_pred)
    error = jnp.abs(y - t)
    quadratic = jnp.square(y - t) / 2
    linear = delta * error - delta**2 / 2
    values = jnp.where(error <= delta, quadratic, linear)
    return values.mean(-1)  # (...)


def log_cosh(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean(log(cosh(y - t))) over the last axis: squared near 0, absolute far away.

    >>> [round(v, 4) for v in log_cosh([[0.0], [0.0]], [[1.0], [10.0]]).tolist()]  # 10 - log(2)
    [0.4338, 9.3069]
    """
    t, y = pair(y_true, y_pred)
    error = y - t
    softplus = jax.nn.softplus(-2 * error)
    values = error + softplus - math.log(2)
    return values.mean(-1)  # (...)


def poisson(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean(y - t log(y + 1e-7)) over the last axis, for counts t.

    >>> [round(v, 4) for v in poisson([[2.0], [2.0]], [[1.0], [2.0]]).tolist()]  # smallest at y = t
    [1.0, 0.6137]
    """
    t, y = pair(y_true, y_pred)
    values = y - t * jnp.log(y + epsilon())
    return values.mean(-1)  # (...)


class MeanSquaredError(Loss):
    """mean((t - y) ** 2).   (..., n), (..., n) -> (...)

    >>> MeanSquaredError()(jnp.zeros((2, 1)), jnp.array([[1.0], [2.0]])).item()
    2.5
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_squared_error(y_true, y_pred)


class MeanAbsoluteError(Loss):
    """mean(|t - y|).   (..., n), (..., n) -> (...)

    >>> loss = MeanAbsoluteError()
    >>> loss([[0.0], [0.0]], [[1.0], [3.0]]).item()
    2.0
    >>> loss([[0.0], [0.0]], [[1.0], [3.0]], sample_weight=[1.0, 0.0]).item()  # still divided by 2
    0.5
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_absolute_error(y_true, y_pred)


class MeanAbsolutePercentageError(Loss):
    """100 mean(|t - y| / |t|).   (..., n), (..., n) -> (...)

    Targets near 0 dominate it; |t| is clipped to at least 1e-7.

    >>> round(MeanAbsolutePercentageError()([[2.0], [0.5]], [[1.0], [1.0]]).item(), 3)  # 50 and 100
    75.0
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_absolute_percentage_error(y_true, y_pred)


class MeanSquaredLogarithmicError(Loss):
    """mean((log(1 + t) - log(1 + y)) ** 2).   (..., n) -> (...)

    It measures ratios, not differences. Numbers below 0 are taken as 0, with a gradient of 0.

    >>> round(MeanSquaredLogarithmicError()([[9.0]], [[99.0]]).item(), 4)  # log(10) ** 2
    5.3019
    >>> MeanSquaredLogarithmicError()([[0.0]], [[-5.0]]).item()
    0.0
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_squared_logarithmic_error(y_true, y_pred)


class Huber(Loss):
    """Quadratic up to an error of `delta`, then linear, as for outliers.   (..., n) -> (...)

    >>> Huber(delta=1.0)(jnp.zeros((2, 1)), jnp.array([[1.0], [3.0]])).item()
    1.5
    """

    targets = "elementwise"

    name = "huber_loss"

    delta: float = positive(default=1.0)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return huber(y_true, y_pred, self.delta)


class LogCosh(Loss):
    """mean(log(cosh(y - t))): squared near 0, absolute far away.   (..., n) -> (...)

    >>> [round(LogCosh()([[0.0]], [[e]]).item(), 3) for e in (0.1, 10.0)]  # e**2 / 2, |e| - log(2)
    [0.005, 9.307]
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return log_cosh(y_true, y_pred)


class Poisson(Loss):
    """mean(y - t log y) for counts t and their predicted mean y.   (..., n) -> (...)

    Predictions must be above 0: end the model in "softplus" or "exponential". A perfect prediction
    does not give 0, since terms that do not depend on y are left out. `fit` rejects t below 0.

    >>> round(Poisson()([[2.0]], [[2.0]]).item(), 4)
    0.6137
    >>> Poisson()([[2.0]], [[-2.0]]).item()
    nan
    """

    targets = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return poisson(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.not_negative(self, np.asarray(y_true))


FUNCTIONS: Functions = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    huber: Huber,
    log_cosh: LogCosh,
    poisson: Poisson,
}
