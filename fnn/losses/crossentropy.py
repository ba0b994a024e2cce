"""Crossentropies: of two classes, of many, of class numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.arithmetic import floating
from fnn.core.fields import fraction
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.loss import EPSILON, Loss, Targets, pair
from fnn.losses.targets import class_numbers


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int | tuple[int, ...] = -1,
) -> Array:
    """mean(-t log p - (1 - t) log(1 - p)) over `axis`.   (..., n), (..., n) -> (...)

    Probabilities are kept within [1e-7, 1 - 1e-7]; logits need no such bound.

    >>> round(binary_crossentropy([[1.0]], [[0.0]]).item(), 4)  # -log(1e-7): 0 as a probability
    16.1181
    >>> round(binary_crossentropy([[1.0]], [[0.0]], from_logits=True).item(), 4)  # log(2)
    0.6931
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, 2)
    if from_logits:
        values = -t * jax.nn.log_sigmoid(p) - (1 - t) * jax.nn.log_sigmoid(-p)
    else:
        p = jnp.clip(p, EPSILON, 1 - EPSILON)
        values = -t * jnp.log(p) - (1 - t) * jnp.log(1 - p)
    return values.mean(axis)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """-sum(t log p) over the class axis.   (..., classes), (..., classes) -> (...)

    Probabilities are divided by their sum and kept within [1e-7, 1 - 1e-7], as in Keras.

    >>> round(categorical_crossentropy([[0.0, 1.0]], [[0.25, 0.75]]).item(), 4)  # -log(0.75)
    0.2877
    >>> round(categorical_crossentropy([[0.0, 1.0]], [[1.0, 3.0]]).item(), 4)  # 3 of 4
    0.2877
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, t.shape[axis])
    return -jnp.sum(t * log_probabilities(p, from_logits, axis), axis)


def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Array:
    """-log p of the class whose number is given.   (...), (..., classes) -> (...)

    `ignore_class` gives 0. A label that is no class gives NaN (Keras: 0), so that it is seen.

    >>> values = sparse_categorical_crossentropy([1, 2], [[0.5, 0.5], [0.5, 0.5]])  # 2 is no class
    >>> [round(v, 4) for v in values.tolist()]
    [0.6931, nan]
    """
    p = jnp.moveaxis(floating(y_pred), axis, -1)
    labels = class_numbers(jnp.asarray(y_true))
    if labels.ndim == p.ndim and labels.shape[axis] == 1:
        labels = jnp.squeeze(labels, axis)
    if ignore_class is not None:
        keep = labels != ignore_class
        labels, p = jnp.where(keep, labels, 0), jnp.where(keep[..., None], p, 1)
    logp = log_probabilities(p, from_logits, -1)
    known = (labels >= 0) & (labels < p.shape[-1])
    picked = jnp.take_along_axis(logp, jnp.where(known, labels, 0)[..., None], -1)[
        ..., 0
    ]
    values = -jnp.where(known, picked, jnp.nan)
    return values if ignore_class is None else jnp.where(keep, values, 0)


def log_probabilities(p: Array, from_logits: bool, axis: int) -> Array:
    """log p along an axis of logits, or of probabilities, which are made to sum to 1."""
    if from_logits:
        return jax.nn.log_softmax(p, axis)
    return jnp.log(jnp.clip(p / p.sum(axis, keepdims=True), EPSILON, 1 - EPSILON))


def smooth(t: Array, label_smoothing: float, classes: int) -> Array:
    """Targets with a share of them spread evenly over the classes."""
    return (
        t * (1 - label_smoothing) + label_smoothing / classes if label_smoothing else t
    )


class BinaryCrossentropy(Loss):
    """-t log p - (1 - t) log(1 - p), a mean over the last axis: each output is yes or no.

    Targets lie in [0, 1]. Where a model ends in a sigmoid, training goes through its logits, so
    that nothing saturates.

    >>> BinaryCrossentropy()(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])).item()
    0.6931471824645996
    """

    targets: ClassVar[Targets] = "elementwise"
    two_classes: ClassVar[bool] = True

    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    @property
    def logits(self) -> Form | None:
        return None if self.from_logits else "odds"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return binary_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing, self.axis
        )

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.probabilities(self, np.asarray(y_true))


class CategoricalCrossentropy(Loss):
    """-sum(t log p) for one-hot targets or probabilities.   (..., classes) -> (...)

    Class numbers go with `SparseCategoricalCrossentropy`. Where a model ends in a softmax (and
    `axis` is -1), training goes through its logits, so that nothing saturates.

    >>> CategoricalCrossentropy()(jnp.eye(2), jnp.full((2, 2), 0.5)).item()
    0.6931471824645996
    """

    targets: ClassVar[Targets] = "classes"

    from_logits: bool = False
    label_smoothing: float = fraction(default=0.0)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)

    @property
    def logits(self) -> Form | None:
        return None if self.from_logits or self.axis != -1 else "scores"

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing, self.axis
        )

    def check(self, y_true: Any, y_pred: Any) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        checks.distributions(self, np.asarray(y_true), y_pred)


class SparseCategoricalCrossentropy(Loss):
    """-log p of the class whose number is given.   (...) or (..., 1), (..., classes) -> (...)

    Entries of class `ignore_class` do not count at all. `axis` is that of the classes in the
    predictions.

    >>> SparseCategoricalCrossentropy()(jnp.array([0, 1]), jnp.full((2, 2), 0.5)).item()
    0.6931471824645996
    """

    targets: ClassVar[Targets] = "labels"

    from_logits: bool = False
    ignore_class: int | None = None
    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self)
        if self.ignore_class is not None and not isinstance(self.ignore_class, int):
            raise wrong(
                self, "ignore_class", "to be an integer or None", self.ignore_class
            )

    @property
    def logits(self) -> Form | None:
        return None if self.from_logits or self.axis != -1 else "scores"

    def values(self, y_true: Any, y_pred: Any) -> Array:
        y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
        if y_true.ndim == y_pred.ndim and y_true.shape[self.axis] == 1:
            y_true = jnp.squeeze(y_true, self.axis)
        return super().values(y_true, jnp.moveaxis(y_pred, self.axis, -1))

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.ignore_class
        )

    def kept(self, y_true: Any, values: Array) -> Array | None:
        if self.ignore_class is None:
            return None
        return class_numbers(y_true).reshape(values.shape) != self.ignore_class

    def check(self, y_true: Any, y_pred: Any) -> None:
        true, predicted = list(y_true.shape), list(y_pred.shape)
        if len(true) == len(predicted) and true[self.axis] == 1:
            true.pop(self.axis)
        classes = predicted.pop(self.axis)
        checks.shapes(self, true, (*predicted, classes), sparse=True)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        labels = np.asarray(y_true)
        if self.ignore_class is not None:
            labels = np.where(labels == self.ignore_class, 0, labels)
        checks.labels(self, labels, y_pred.shape[self.axis])


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}
