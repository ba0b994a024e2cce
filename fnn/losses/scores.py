"""Losses of scores and vectors: cosine similarity, KL divergence, hinge losses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.tree import SpecTree
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.loss import Functions, Loss, pair
from fnn.runtime.arithmetic import unit_length
from fnn.runtime.settings import epsilon


def cosine_similarity(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    axis: int = -1,
) -> Array:
    """-cos of the angle between t and y: -1 for the same direction, 1 for opposite ones.

    The metric of this name has the opposite sign.

    >>> values = cosine_similarity([[1.0, 0.0], [1.0, 0.0]], [[5.0, 0.0], [-5.0, 0.0]])
    >>> [round(v, 4) for v in values.tolist()]
    [-1.0, 1.0]
    """
    t, y = pair(y_true, y_pred)
    t = unit_length(t, axis)
    y = unit_length(y, axis)
    return -jnp.sum(t * y, axis)  # (...)


def kl_divergence(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """sum(t log(t / y)) over the last axis; t and y are clipped to [1e-7, 1].

    >>> even, sure = [[0.5, 0.5]], [[0.9, 0.1]]
    >>> round(kl_divergence(even, sure).item(), 4), round(kl_divergence(sure, even).item(), 4)
    (0.5108, 0.3681)
    """
    t, y = pair(y_true, y_pred)
    t = jnp.clip(t, epsilon(), 1)
    y = jnp.clip(y, epsilon(), 1)
    return jnp.sum(t * jnp.log(t / y), -1)  # (...)


def hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean(max(1 - t y, 0)) over the last axis, for t of -1 and 1 (or 0 and 1: 0 means -1).

    >>> hinge([[1], [1], [0]], [[2.0], [0.25], [0.25]]).tolist()
    [0.0, 0.75, 1.25]
    """
    t, y = pair(y_true, y_pred)
    margin = 1 - _signs(t) * y
    return jnp.maximum(margin, 0).mean(-1)  # (...)


def squared_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """mean(max(1 - t y, 0) ** 2) over the last axis, for t of -1 and 1 (or 0 and 1: 0 means -1).

    >>> squared_hinge([[1], [1], [0]], [[2.0], [0.25], [0.25]]).tolist()
    [0.0, 0.5625, 1.5625]
    """
    t, y = pair(y_true, y_pred)
    margin = 1 - _signs(t) * y
    values = jnp.square(jnp.maximum(margin, 0))
    return values.mean(-1)  # (...)


def categorical_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """max(1 + best wrong score - right score, 0) for one-hot t.   (..., classes) -> (...)

    >>> categorical_hinge([[0.0, 1.0, 0.0]], [[0.5, 2.0, 1.25]]).tolist()  # 1 + 1.25 - 2
    [0.25]
    """
    t, y = pair(y_true, y_pred)
    right = jnp.sum(t * y, -1)  # (...)
    wrong = jnp.max((1 - t) * y, -1)  # (...)
    return jnp.maximum(wrong - right + 1, 0)


def _signs(t: Array) -> Array:
    """Targets as -1 and 1, converted if all of them are 0 or 1."""
    zeros_and_ones = jnp.all((t == 0) | (t == 1))
    return jnp.where(zeros_and_ones, 2 * t - 1, t)


class CosineSimilarity(Loss):
    """-cos of the angle between t and y along `axis`; -1 is best.   (..., n) -> (...)

    >>> round(CosineSimilarity()([[3.0, 4.0]], [[4.0, 3.0]]).item(), 4)  # -(12 + 12) / (5 * 5)
    -0.96
    """

    targets = "classes"

    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self, self.axis)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return cosine_similarity(y_true, y_pred, self.axis)


class KLDivergence(Loss):
    """sum(t log(t / y)) for probabilities t and y.   (..., classes) -> (...)

    It is not symmetric: the logarithms are weighted by t. For one-hot t it equals crossentropy.

    >>> round(KLDivergence()([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """

    targets = "classes"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return kl_divergence(y_true, y_pred)

    @property
    def logits(self) -> Form | None:
        if type(self) is KLDivergence:
            return "log"
        return None

    def on_logits(self) -> Loss:
        return self.as_other(_KLDivergenceOfLogs)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.not_negative(self, np.asarray(y_true))


class _KLDivergenceOfLogs(KLDivergence, loadable=False):
    """The same loss of log y: sum(t (log t - log y))."""

    def call(self, y_true: Array, y_pred: Array) -> Array:
        t = jnp.clip(y_true, epsilon(), 1)
        ratio = jnp.log(t) - y_pred
        return jnp.sum(t * ratio, -1)


class Hinge(Loss):
    """mean(max(1 - t y, 0)) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)

    The predictions are scores, positive for class 1, so the model ends without a sigmoid. Raises
    ValueError in `fit` for other targets.

    >>> Hinge()([[1.0]], [[1.0]]).item(), Hinge()([[0.0]], [[0.0]]).item()  # 0 means -1
    (0.0, 1.0)
    """

    targets = "elementwise"
    two_classes = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.signs(self, np.asarray(y_true))


class SquaredHinge(Loss):
    """mean(max(1 - t y, 0) ** 2) for t of -1 and 1, or 0 and 1.   (..., n) -> (...)

    >>> SquaredHinge()([[1.0]], [[-1.0]]).item()
    4.0
    """

    targets = "elementwise"
    two_classes = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return squared_hinge(y_true, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.signs(self, np.asarray(y_true))


class CategoricalHinge(Loss):
    """max(1 + best wrong score - right score, 0) for one-hot t.   (..., classes) -> (...)

    Wrong scores below 0 are taken as 0, as in Keras.

    >>> CategoricalHinge()([[0.0, 1.0]], [[-9.0, 0.5]]).item()  # 1 + 0 - 0.5
    0.5
    """

    targets = "classes"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_hinge(y_true, y_pred)


FUNCTIONS: Functions = {
    cosine_similarity: CosineSimilarity,
    kl_divergence: KLDivergence,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
}
