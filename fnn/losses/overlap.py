"""Losses of regions: by how much the predicted one overlaps with the true one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core.fields import not_negative
from fnn.losses.loss import EPSILON, Loss, Targets, pair

Axis = int | tuple[int, ...] | None


def dice(y_true: Any, y_pred: Any, axis: Axis = None) -> Array:
    """1 - 2 sum(t p) / (sum(t) + sum(p)) over `axis`; over the whole batch by default.

    Source: Milletari et al. 2016, V-Net, section 3.

    >>> round(dice([[1.0, 1.0]], [[1.0, 0.0]]).item(), 4)  # 1 - 2 / 3
    0.3333
    >>> dice([[0.0, 0.0]], [[0.0, 0.0]]).item()  # nothing there and nothing found is no success
    1.0
    """
    t, p = pair(y_true, y_pred)
    return 1 - 2 * jnp.sum(t * p, axis) / (
        jnp.sum(t, axis) + jnp.sum(p, axis) + EPSILON
    )


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Axis = None
) -> Array:
    """1 - tp / (tp + alpha fp + beta fn) over `axis`; over the whole batch by default.

    `alpha` weighs false positives, sum((1 - t) p), and `beta` false negatives, sum(t (1 - p)), as
    in the paper and in Keras's documentation; Keras 3.15.1 computes them the other way round.
    Source: Salehi et al. 2017, Tversky loss function, section 2.

    >>> t, p = [[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0, 1.0]]  # 1 right, 2 false, 1 missed
    >>> round(tversky(t, p, alpha=1.0, beta=0.0).item(), 4)  # 1 - 1 / (1 + 2)
    0.6667
    """
    t, p = pair(y_true, y_pred)
    both = jnp.sum(t * p, axis)
    false_positives, false_negatives = (
        jnp.sum((1 - t) * p, axis),
        jnp.sum(t * (1 - p), axis),
    )
    return 1 - both / (
        both + alpha * false_positives + beta * false_negatives + EPSILON
    )


class Dice(Loss):
    """1 - 2 |both| / (|true| + |predicted|), of regions.   See `dice`.

    One number for the whole batch; `axis=(1, 2, 3)` gives one for each image.

    >>> round(Dice()(jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]])).item(), 4)
    0.3333
    """

    targets: ClassVar[Targets] = "classes"
    blank_prediction: ClassVar[float] = 0.0

    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    axis: Axis = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return dice(y_true, y_pred, self.axis)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return self.values(y_true, y_pred)  # what is blank adds nothing to the sums


class Tversky(Loss):
    """Dice, false positives weighing `alpha` and false negatives `beta`.   See `tversky`.

    Raises ValueError for a factor below 0.

    >>> loss = Tversky(alpha=0.2, beta=0.8)
    >>> round(loss([[1.0, 1.0]], [[1.0, 0.0]]).item(), 4)  # one missed: 1 - 1 / 1.8
    0.4444
    >>> round(loss([[1.0, 0.0]], [[1.0, 1.0]]).item(), 4)  # one false: 1 - 1 / 1.2
    0.1667
    """

    targets: ClassVar[Targets] = "classes"
    blank_prediction: ClassVar[float] = 0.0

    alpha: float = not_negative(default=0.5)
    beta: float = not_negative(default=0.5)
    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    axis: Axis = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return tversky(y_true, y_pred, self.alpha, self.beta, self.axis)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return self.values(y_true, y_pred)  # what is blank adds nothing to the sums


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    dice: Dice,
    tversky: Tversky,
}
