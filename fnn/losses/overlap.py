"""Losses of regions, from the overlap of the predicted with the true one: Dice, Tversky."""

from __future__ import annotations

from dataclasses import field

import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.fields import not_negative
from fnn.losses.loss import Functions, Loss, pair
from fnn.runtime.settings import epsilon

Axis = int | tuple[int, ...] | None


def dice(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    axis: Axis = None,
) -> Array:
    """1 - 2 sum(t p) / (sum(t) + sum(p)) over `axis`; over the whole batch by default.

    Source: Milletari et al. 2016, V-Net, section 3.

    >>> round(dice([[1.0, 1.0]], [[1.0, 0.0]]).item(), 4)  # 1 - 2 / 3
    0.3333
    >>> dice([[0.0, 0.0]], [[0.0, 0.0]]).item()  # both empty: not a success
    1.0
    """
    t, p = pair(y_true, y_pred)
    both = jnp.sum(t * p, axis)
    size_t = jnp.sum(t, axis)
    size_p = jnp.sum(p, axis)
    return 1 - 2 * both / (size_t + size_p + epsilon())


def tversky(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    alpha: float = 0.5,
    beta: float = 0.5,
    axis: Axis = None,
) -> Array:
    """1 - tp / (tp + alpha fp + beta fn) over `axis`; over the whole batch by default.

    `alpha` weights false positives, sum((1 - t) p), and `beta` false negatives, sum(t (1 - p)), as
    in the paper and in Keras's documentation; Keras 3.15.1 swaps the two.
    Source: Salehi et al. 2017, Tversky loss function, section 2.

    >>> t, p = [[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0, 1.0]]  # 1 right, 2 false, 1 missed
    >>> round(tversky(t, p, alpha=1.0, beta=0.0).item(), 4)  # 1 - 1 / (1 + 2)
    0.6667
    """
    t, p = pair(y_true, y_pred)
    both = jnp.sum(t * p, axis)
    false_positives = jnp.sum((1 - t) * p, axis)
    false_negatives = jnp.sum(t * (1 - p), axis)
    total = both + alpha * false_positives + beta * false_negatives
    return 1 - both / (total + epsilon())


class Dice(Loss):
    """1 - 2 |both| / (|true| + |predicted|), of regions.   See `dice`.

    One number for the whole batch; `axis=(1, 2, 3)` gives one for each image.

    >>> round(Dice()(jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]])).item(), 4)
    0.3333
    """

    targets = "classes"
    blank_prediction = 0.0

    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    axis: Axis = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return dice(y_true, y_pred, self.axis)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        # Entries that are not valid were set to 0 and add nothing to the sums.
        return self.values(y_true, y_pred)


class Tversky(Loss):
    """Dice with weights for false positives and false negatives.   See `tversky`.

    Raises ValueError if `alpha` or `beta` is below 0.

    >>> loss = Tversky(alpha=0.2, beta=0.8)
    >>> round(loss([[1.0, 1.0]], [[1.0, 0.0]]).item(), 4)  # one missed: 1 - 1 / 1.8
    0.4444
    >>> round(loss([[1.0, 0.0]], [[1.0, 1.0]]).item(), 4)  # one false: 1 - 1 / 1.2
    0.1667
    """

    targets = "classes"
    blank_prediction = 0.0

    alpha: float = not_negative(default=0.5)
    beta: float = not_negative(default=0.5)
    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    axis: Axis = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return tversky(y_true, y_pred, self.alpha, self.beta, self.axis)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        # Entries that are not valid were set to 0 and add nothing to the sums.
        return self.values(y_true, y_pred)


FUNCTIONS: Functions = {
    dice: Dice,
    tversky: Tversky,
}
