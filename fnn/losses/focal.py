"""Relatives of crossentropy: focal, for rare classes, and generalized, for wrong labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.arithmetic import floating
from fnn.core.fields import fraction, not_negative
from fnn.losses import checks
from fnn.losses.crossentropy import binary_crossentropy, log_probabilities, smooth
from fnn.losses.logits import Form
from fnn.losses.loss import EPSILON, Loss, Targets, pair
from fnn.losses.targets import class_numbers


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Binary crossentropy times (1 - p of the true class) ** gamma.   (..., n) -> (...)

    With `apply_class_balancing` class 1 weighs `alpha` and class 0 `1 - alpha`.
    Source: Lin et al. 2017, Focal Loss, section 3.

    >>> round(binary_focal_crossentropy([[1.0]], [[0.5]]).item(), 4)  # 0.5 ** 2 * log(2)
    0.1733
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, 2)
    crossentropy = binary_crossentropy(t[..., None], p[..., None], from_logits)
    p = jax.nn.sigmoid(p) if from_logits else p
    values = _power(1 - (t * p + (1 - t) * (1 - p)), gamma) * crossentropy
    if apply_class_balancing:
        values = values * (t * alpha + (1 - t) * (1 - alpha))
    return values.mean(axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """-sum(alpha (1 - p) ** gamma t log p) over the class axis.   (..., classes) -> (...)

    Source: Lin et al. 2017, Focal Loss, section 3.

    `alpha` is one factor for all classes, so the loss is a quarter of the paper's without it.

    >>> round(categorical_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)  # 0.25 * 0.1733
    0.0433
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, t.shape[axis])
    logp = log_probabilities(p, from_logits, axis)
    return -jnp.sum(alpha * _power(-jnp.expm1(logp), gamma) * t * logp, axis)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Array:
    """(1 - p ** q) / q of the class whose number is given.   (...), (..., classes) -> (...)

    Between mean absolute error (q = 1) and crossentropy (q -> 0): it holds against wrong labels.
    Source: Zhang and Sabuncu 2018, Generalized Cross Entropy Loss, section 3.

    >>> round(categorical_generalized_cross_entropy([1], [[0.75, 0.25]], q=0.5).item(), 4)
    1.0
    """
    p, labels = floating(y_pred), class_numbers(jnp.asarray(y_true))
    picked = jnp.take_along_axis(p, labels[..., None], -1)[..., 0]
    return (1 - _power(picked, q)) / q


def _power(x: Array, exponent: float) -> Array:
    """x ** exponent, whose slope at 0 is finite for small exponents too."""
    return jnp.power(jnp.maximum(x, EPSILON) if exponent < 1 else x, exponent)


class BinaryFocalCrossentropy(Loss):
    """Binary crossentropy that weighs down what is classified well.   (..., n) -> (...)

    See `binary_focal_crossentropy`. `alpha` counts only with `apply_class_balancing`.

    >>> loss = BinaryFocalCrossentropy()
    >>> [round(loss([[1.0]], [[p]]).item(), 4) for p in (0.5, 0.9)]  # crossentropy: 0.6931, 0.1054
    [0.1733, 0.0011]
    """

    targets: ClassVar[Targets] = "elementwise"
    two_classes: ClassVar[bool] = True

    apply_class_balancing: bool = False
    alpha: float = not_negative(default=0.25)
    gamma: float = not_negative(default=2.0)
    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    @property
    def logits(self) -> Form | None:
        return None if self.from_logits else "odds"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return binary_focal_crossentropy(
            y_true,
            y_pred,
            self.apply_class_balancing,
            self.alpha,
            self.gamma,
            self.from_logits,
            self.label_smoothing,
            self.axis,
        )

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.probabilities(self, np.asarray(y_true))


class CategoricalFocalCrossentropy(Loss):
    """Crossentropy that weighs down what is classified well.   (..., classes) -> (...)

    See `categorical_focal_crossentropy`.

    >>> loss = CategoricalFocalCrossentropy(alpha=1.0)
    >>> [round(loss([[0.0, 1.0]], [[1 - p, p]]).item(), 4) for p in (0.5, 0.9)]
    [0.1733, 0.0011]
    """

    targets: ClassVar[Targets] = "classes"

    alpha: float = not_negative(default=0.25)
    gamma: float = not_negative(default=2.0)
    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    @property
    def logits(self) -> Form | None:
        return None if self.from_logits or self.axis != -1 else "scores"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_focal_crossentropy(
            y_true,
            y_pred,
            self.alpha,
            self.gamma,
            self.from_logits,
            self.label_smoothing,
            self.axis,
        )

    def check(self, y_true: Any, y_pred: Any) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.distributions(self, np.asarray(y_true), y_pred)


class CategoricalGeneralizedCrossEntropy(Loss):
    """(1 - p ** q) / q of the class whose number is given: it holds against wrong labels.

    (...), (..., classes) -> (...)   See `categorical_generalized_cross_entropy`.

    It never passes 1 / q, whatever the label; crossentropy of the example is 9.2. Raises ValueError
    unless `q` lies between 0 and 1.

    >>> loss = CategoricalGeneralizedCrossEntropy(q=0.5)
    >>> round(loss([0], [[0.0001, 0.9999]]).item(), 4)
    1.98
    """

    targets: ClassVar[Targets] = "labels"

    q: float = 0.5

    def validate(self) -> None:
        if not isinstance(self.q, (int, float)) or not 0 < self.q < 1:
            raise wrong(self, "q", "to lie between 0 and 1 (both left out)", self.q)

    @property
    def logits(self) -> Form | None:
        return "log" if type(self) is CategoricalGeneralizedCrossEntropy else None

    def on_logits(self) -> Loss:
        return self.as_other(_GeneralizedOfLogs)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_generalized_cross_entropy(y_true, y_pred, self.q)

    def check(self, y_true: Any, y_pred: Any) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.labels(self, np.asarray(y_true), y_pred.shape[-1])


class _GeneralizedOfLogs(CategoricalGeneralizedCrossEntropy, loadable=False):
    """The same of log p: -expm1(q log p) / q."""

    def call(self, y_true: Array, y_pred: Array) -> Array:
        picked = jnp.take_along_axis(y_pred, class_numbers(y_true)[..., None], -1)[
            ..., 0
        ]
        return -jnp.expm1(self.q * picked) / self.q


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    categorical_generalized_cross_entropy: CategoricalGeneralizedCrossEntropy,
}
