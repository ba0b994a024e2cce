"""Losses of numbers and vectors: squared, absolute, relative errors, cosine, KL, Poisson, hinge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.logits import Form
from fnn.losses import checks
from fnn.losses.loss import Loss, Targets
from fnn.losses.pair import EPSILON, pair


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """mean((t - y) ** 2) over the last axis."""
    t, y = pair(y_true, y_pred)
    return jnp.square(t - y).mean(-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """mean(|t - y|) over the last axis."""
    t, y = pair(y_true, y_pred)
    return jnp.abs(t - y).mean(-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """100 mean(|t - y| / max(|t|, 1e-7)) over the last axis."""
    t, y = pair(y_true, y_pred)
    return 100 * jnp.abs((t - y) / jnp.maximum(jnp.abs(t), EPSILON)).mean(-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """mean((log(1 + t) - log(1 + y)) ** 2) over the last axis; both are at least 1e-7."""
    t, y = pair(y_true, y_pred)
    t, y = jnp.maximum(t, EPSILON), jnp.maximum(y, EPSILON)
    return jnp.square(jnp.log(y + 1) - jnp.log(t + 1)).mean(-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """mean(e ** 2 / 2) where |e| <= delta, delta (|e| - delta / 2) beyond: straight for outliers.

    Source: Huber 1964, Robust Estimation of a Location Parameter.
    """
    t, y = pair(y_true, y_pred)
    error = jnp.abs(y - t)
    near = jnp.square(y - t) / 2
    return jnp.where(error <= delta, near, delta * error - delta**2 / 2).mean(-1)


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """mean(log(cosh(y - t))) over the last axis: squared near 0, absolute far away."""
    t, y = pair(y_true, y_pred)
    error = y - t
    return (error + jax.nn.softplus(-2 * error) - math.log(2)).mean(-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """-cos of the angle between t and y: -1 for one direction, 1 for opposite ones.

    The metric of this name has the other sign.
    """
    t, y = pair(y_true, y_pred)
    return -jnp.sum(_unit(t, axis) * _unit(y, axis), axis)


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """sum(t log(t / y)) over the last axis; both are kept within [1e-7, 1]."""
    t, y = pair(y_true, y_pred)
    t, y = jnp.clip(t, EPSILON, 1), jnp.clip(y, EPSILON, 1)
    return jnp.sum(t * jnp.log(t / y), -1)


def poisson(y_true: Any, y_pred: Any) -> Array:
    """mean(y - t log(y + 1e-7)) over the last axis, for counts t."""
    t, y = pair(y_true, y_pred)
    return (y - t * jnp.log(y + EPSILON)).mean(-1)


def hinge(y_true: Any, y_pred: Any) -> Array:
    """mean(max(1 - t y, 0)) over the last axis, t being -1 or 1 (0 or 1 are taken as such)."""
    t, y = pair(y_true, y_pred)
    return jnp.maximum(1 - _signs(t) * y, 0).mean(-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """mean(max(1 - t y, 0) ** 2) over the last axis, t being -1 or 1 (0 or 1 are taken as such)."""
    t, y = pair(y_true, y_pred)
    return jnp.square(jnp.maximum(1 - _signs(t) * y, 0)).mean(-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """max(1 + max of the wrong - the right, 0) for one-hot t.   (..., classes) -> (...)"""
    t, y = pair(y_true, y_pred)
    right = jnp.sum(t * y, -1)
    wrong = jnp.max((1 - t) * y, -1)
    return jnp.maximum(wrong - right + 1, 0)


def _unit(x: Array, axis: int) -> Array:
    """x divided by its length, zeros staying zeros (and their slope finite)."""
    squared = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def _signs(t: Array) -> Array:
    """Targets 0 and 1 as -1 and 1, if there are no others."""
    return jnp.where(jnp.all((t == 0) | (t == 1)), 2 * t - 1, t)


class MeanSquaredError(Loss):
    """mean((t - y) ** 2).   (..., n), (..., n) -> (...)

    >>> MeanSquaredError()(jnp.zeros((2, 1)), jnp.array([[1.0], [2.0]])).item()
    2.5
    """

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_squared_error(y_true, y_pred)


class MeanAbsoluteError(Loss):
    """mean(|t - y|).   (..., n), (..., n) -> (...)"""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_absolute_error(y_true, y_pred)


class MeanAbsolutePercentageError(Loss):
    """100 mean(|t - y| / |t|).   (..., n), (..., n) -> (...)   Targets near 0 dominate it."""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_absolute_percentage_error(y_true, y_pred)


class MeanSquaredLogarithmicError(Loss):
    """mean((log(1 + t) - log(1 + y)) ** 2).   (..., n) -> (...)   Below 0 all counts as 0."""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return mean_squared_logarithmic_error(y_true, y_pred)


class Huber(Loss):
    """Squared error up to `delta`, straight beyond: outliers pull less.   (..., n) -> (...)

    >>> Huber(delta=1.0)(jnp.zeros((2, 1)), jnp.array([[1.0], [3.0]])).item()
    1.5
    """

    targets: ClassVar[Targets] = "elementwise"

    delta: float = 1.0

    def validate(self) -> None:
        arguments.positive(self, "delta")

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return huber(y_true, y_pred, self.delta)


class LogCosh(Loss):
    """mean(log(cosh(y - t))): squared near 0, absolute far away.   (..., n) -> (...)"""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return log_cosh(y_true, y_pred)


class CosineSimilarity(Loss):
    """-cos of the angle between t and y along `axis`: -1 is best.   (..., n) -> (...)"""

    targets: ClassVar[Targets] = "classes"

    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return cosine_similarity(y_true, y_pred, self.axis)


class KLDivergence(Loss):
    """sum(t log(t / y)), both being probabilities.   (..., classes) -> (...)"""

    targets: ClassVar[Targets] = "classes"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return kl_divergence(y_true, y_pred)

    @property
    def logits(self) -> Form | None:
        return "log" if type(self) is KLDivergence else None

    def on_logits(self) -> Loss:
        return self.as_other(_KLDivergenceOfLogs)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.not_negative(self, np.asarray(y_true))


class _KLDivergenceOfLogs(KLDivergence, loadable=False):
    """The same of log y: sum(t (log t - log y))."""

    def call(self, y_true: Array, y_pred: Array) -> Array:
        t = jnp.clip(y_true, EPSILON, 1)
        return jnp.sum(t * (jnp.log(t) - y_pred), -1)


class Poisson(Loss):
    """mean(y - t log y) for counts t; the model has to give y above 0.   (..., n) -> (...)"""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return poisson(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.not_negative(self, np.asarray(y_true))


class Hinge(Loss):
    """mean(max(1 - t y, 0)) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)"""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.signs(self, np.asarray(y_true))


class SquaredHinge(Loss):
    """mean(max(1 - t y, 0) ** 2) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)"""

    targets: ClassVar[Targets] = "elementwise"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return squared_hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.signs(self, np.asarray(y_true))


class CategoricalHinge(Loss):
    """max(1 + the best wrong score - the right one, 0) for one-hot t.   (..., classes) -> (...)"""

    targets: ClassVar[Targets] = "classes"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_hinge(y_true, y_pred)


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    huber: Huber,
    log_cosh: LogCosh,
    cosine_similarity: CosineSimilarity,
    kl_divergence: KLDivergence,
    poisson: Poisson,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
}
