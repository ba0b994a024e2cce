"""Losses of scores and vectors: directions, distributions, margins between classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arithmetic import unit_length
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.loss import EPSILON, Loss, Targets, pair


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """-cos of the angle between t and y: -1 for one direction, 1 for opposite ones.

    The metric of this name has the other sign.

    >>> values = cosine_similarity([[1.0, 0.0], [1.0, 0.0]], [[5.0, 0.0], [-5.0, 0.0]])
    >>> [round(v, 4) for v in values.tolist()]
    [-1.0, 1.0]
    """
    t, y = pair(y_true, y_pred)
    return -jnp.sum(unit_length(t, axis) * unit_length(y, axis), axis)


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """sum(t log(t / y)) over the last axis; both are kept within [1e-7, 1].

    >>> even, sure = [[0.5, 0.5]], [[0.9, 0.1]]
    >>> round(kl_divergence(even, sure).item(), 4), round(kl_divergence(sure, even).item(), 4)
    (0.5108, 0.3681)
    """
    t, y = pair(y_true, y_pred)
    t, y = jnp.clip(t, EPSILON, 1), jnp.clip(y, EPSILON, 1)
    return jnp.sum(t * jnp.log(t / y), -1)


def hinge(y_true: Any, y_pred: Any) -> Array:
    """mean(max(1 - t y, 0)) over the last axis, t being -1 or 1 (0 or 1 are taken as such).

    >>> hinge([[1], [1], [0]], [[2.0], [0.25], [0.25]]).tolist()
    [0.0, 0.75, 1.25]
    """
    t, y = pair(y_true, y_pred)
    return jnp.maximum(1 - _signs(t) * y, 0).mean(-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """mean(max(1 - t y, 0) ** 2) over the last axis, t being -1 or 1 (0 or 1 are taken as such).

    >>> squared_hinge([[1], [1], [0]], [[2.0], [0.25], [0.25]]).tolist()
    [0.0, 0.5625, 1.5625]
    """
    t, y = pair(y_true, y_pred)
    return jnp.square(jnp.maximum(1 - _signs(t) * y, 0)).mean(-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """max(1 + max of the wrong - the right, 0) for one-hot t.   (..., classes) -> (...)

    >>> categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 2.0, 1.25]]).tolist()  # 1 + 1.25 - 2
    [0.25]
    """
    t, y = pair(y_true, y_pred)
    right = jnp.sum(t * y, -1)
    wrong = jnp.max((1 - t) * y, -1)
    return jnp.maximum(wrong - right + 1, 0)


def _signs(t: Array) -> Array:
    """Targets 0 and 1 as -1 and 1, if there are no others."""
    return jnp.where(jnp.all((t == 0) | (t == 1)), 2 * t - 1, t)


class CosineSimilarity(Loss):
    """-cos of the angle between t and y along `axis`: -1 is best.   (..., n) -> (...)

    >>> round(CosineSimilarity()([[3.0, 4.0]], [[4.0, 3.0]]).item(), 4)  # -(12 + 12) / (5 * 5)
    -0.96
    """

    targets: ClassVar[Targets] = "classes"

    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return cosine_similarity(y_true, y_pred, self.axis)


class KLDivergence(Loss):
    """sum(t log(t / y)), both being probabilities.   (..., classes) -> (...)

    It has two directions: t weighs. For one-hot t it is crossentropy.

    >>> round(KLDivergence()([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """

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


class Hinge(Loss):
    """mean(max(1 - t y, 0)) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)

    The predictions are scores on both sides of 0, so the model ends without a sigmoid. Raises
    ValueError in `fit` for other targets.

    >>> Hinge()([[1.0]], [[1.0]]).item(), Hinge()([[0.0]], [[0.0]]).item()  # 0 stands for -1
    (0.0, 1.0)
    """

    targets: ClassVar[Targets] = "elementwise"
    two_classes: ClassVar[bool] = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.signs(self, np.asarray(y_true))


class SquaredHinge(Loss):
    """mean(max(1 - t y, 0) ** 2) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)

    >>> SquaredHinge()([[1.0]], [[-1.0]]).item()
    4.0
    """

    targets: ClassVar[Targets] = "elementwise"
    two_classes: ClassVar[bool] = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return squared_hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.signs(self, np.asarray(y_true))


class CategoricalHinge(Loss):
    """max(1 + the best wrong score - the right one, 0) for one-hot t.   (..., classes) -> (...)

    A wrong score below 0 counts as 0, as in Keras.

    >>> CategoricalHinge()([[0.0, 1.0]], [[-9.0, 0.5]]).item()  # 1 + 0 - 0.5
    0.5
    """

    targets: ClassVar[Targets] = "classes"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_hinge(y_true, y_pred)


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    cosine_similarity: CosineSimilarity,
    kl_divergence: KLDivergence,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
}
