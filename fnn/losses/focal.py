"""Variants of crossentropy: focal, for rare classes, and generalized, for noisy labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, not_negative
from fnn.core.tree import SpecTree
from fnn.losses import checks
from fnn.losses.crossentropy import binary_crossentropy, log_probabilities, pick, smooth
from fnn.losses.logits import Form
from fnn.losses.loss import Functions, Loss, pair
from fnn.losses.targets import class_numbers
from fnn.runtime.arithmetic import floating
from fnn.runtime.settings import epsilon


def binary_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Binary crossentropy times (1 - p of the true class) ** gamma.   (..., n) -> (...)

    With `apply_class_balancing`, class 1 has the weight `alpha` and class 0 `1 - alpha`.
    Source: Lin et al. 2017, Focal Loss, section 3.

    >>> round(binary_focal_crossentropy([[1.0]], [[0.5]]).item(), 4)  # 0.5 ** 2 * log(2)
    0.1733
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, 2)
    # A trailing axis of 1 keeps one value for each entry.
    t_column = t[..., None]  # (..., n, 1)
    p_column = p[..., None]  # (..., n, 1)
    crossentropy = binary_crossentropy(t_column, p_column, from_logits)
    if from_logits:
        p = jax.nn.sigmoid(p)
    p_true = t * p + (1 - t) * (1 - p)
    values = _power(1 - p_true, gamma) * crossentropy
    if apply_class_balancing:
        class_weight = t * alpha + (1 - t) * (1 - alpha)
        values = values * class_weight
    return values.mean(axis)  # (...)


def categorical_focal_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """-sum(alpha (1 - p) ** gamma t log p) over the class axis.   (..., classes) -> (...)

    Source: Lin et al. 2017, Focal Loss, section 3.

    `alpha` is one factor for all classes: the default makes the loss a quarter of the paper's.

    >>> round(categorical_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)  # 0.25 * 0.1733
    0.0433
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, t.shape[axis])
    log_p = log_probabilities(p, from_logits, axis)
    focus = _power(-jnp.expm1(log_p), gamma)
    return -jnp.sum(alpha * focus * t * log_p, axis)  # (...)


def categorical_generalized_cross_entropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    q: float,
) -> Array:
    """(1 - p ** q) / q of the true class, given by its number.   (...), (..., classes) -> (...)

    Between mean absolute error (q = 1) and crossentropy (q -> 0), and robust to wrong labels.
    Source: Zhang and Sabuncu 2018, Generalized Cross Entropy Loss, section 3.

    >>> round(categorical_generalized_cross_entropy([1], [[0.75, 0.25]], q=0.5).item(), 4)
    1.0
    """
    p = floating(y_pred)
    labels = class_numbers(y_true)
    return (1 - _power(pick(p, labels), q)) / q


def _power(x: Array, exponent: float) -> Array:
    """x ** exponent with a finite gradient at 0, also for exponents below 1."""
    if exponent < 1:
        x = jnp.maximum(x, epsilon())
    return jnp.power(x, exponent)


class BinaryFocalCrossentropy(Loss):
    """Binary crossentropy with less weight on well-classified entries.   (..., n) -> (...)

    See `binary_focal_crossentropy`. `alpha` is used only with `apply_class_balancing`.

    >>> loss = BinaryFocalCrossentropy()
    >>> [round(loss([[1.0]], [[p]]).item(), 4) for p in (0.5, 0.9)]  # crossentropy: 0.6931, 0.1054
    [0.1733, 0.0011]
    """

    targets = "elementwise"
    two_classes = True

    apply_class_balancing: bool = False
    alpha: float = not_negative(default=0.25)
    gamma: float = not_negative(default=2.0)
    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self, self.axis)

    @property
    def logits(self) -> Form | None:
        if self.from_logits:
            return None
        return "odds"

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

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.probabilities(self, np.asarray(y_true))


class CategoricalFocalCrossentropy(Loss):
    """Crossentropy with less weight on well-classified examples.   (..., classes) -> (...)

    See `categorical_focal_crossentropy`.

    >>> loss = CategoricalFocalCrossentropy(alpha=1.0)
    >>> [round(loss([[0.0, 1.0]], [[1 - p, p]]).item(), 4) for p in (0.5, 0.9)]
    [0.1733, 0.0011]
    """

    targets = "classes"

    alpha: float = not_negative(default=0.25)
    gamma: float = not_negative(default=2.0)
    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self, self.axis)

    @property
    def logits(self) -> Form | None:
        if self.from_logits or self.axis != -1:
            return None
        return "scores"

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

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.distributions(self, np.asarray(y_true), y_pred, self.axis)


class CategoricalGeneralizedCrossEntropy(Loss):
    """(1 - p ** q) / q of the true class, given by its number; robust to wrong labels.

    (...), (..., classes) -> (...)   See `categorical_generalized_cross_entropy`.

    It is at most 1 / q, whatever the label; crossentropy of the example is 9.2. Raises ValueError
    unless `q` lies between 0 and 1.

    >>> loss = CategoricalGeneralizedCrossEntropy(q=0.5)
    >>> round(loss([0], [[0.0001, 0.9999]]).item(), 4)
    1.98
    """

    targets = "labels"

    q: float = 0.5

    def validate(self) -> None:
        is_number = isinstance(self.q, (int, float))
        if not is_number or not 0 < self.q < 1:
            raise wrong(self, "q", "to lie between 0 and 1 (both left out)", self.q)

    @property
    def logits(self) -> Form | None:
        if type(self) is CategoricalGeneralizedCrossEntropy:
            return "log"
        return None

    def on_logits(self) -> Loss:
        return self.as_other(_GeneralizedOfLogs)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_generalized_cross_entropy(y_true, y_pred, self.q)

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        classes = y_pred.shape[-1]
        checks.labels(self, np.asarray(y_true), classes)


class _GeneralizedOfLogs(CategoricalGeneralizedCrossEntropy, loadable=False):
    """The same loss of log p: -expm1(q log p) / q."""

    def call(self, y_true: Array, y_pred: Array) -> Array:
        picked = pick(y_pred, class_numbers(y_true))
        return -jnp.expm1(self.q * picked) / self.q


FUNCTIONS: Functions = {
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    categorical_generalized_cross_entropy: CategoricalGeneralizedCrossEntropy,
}
