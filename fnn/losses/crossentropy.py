"""Crossentropies: binary, categorical, sparse categorical."""

from __future__ import annotations

from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import fraction
from fnn.core.tree import SpecTree
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.loss import Functions, Loss, pair
from fnn.losses.targets import class_numbers
from fnn.runtime.arithmetic import floating
from fnn.runtime.settings import epsilon


def binary_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int | tuple[int, ...] = -1,
) -> Array:
    """mean(-t log p - (1 - t) log(1 - p)) over `axis`.   (..., n), (..., n) -> (...)

    Probabilities are clipped to [1e-7, 1 - 1e-7]; logits are not clipped.

    >>> round(binary_crossentropy([[1.0]], [[0.0]]).item(), 4)  # -log(1e-7)
    16.1181
    >>> round(binary_crossentropy([[1.0]], [[0.0]], from_logits=True).item(), 4)  # log(2)
    0.6931
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, 2)
    if from_logits:
        log_p = jax.nn.log_sigmoid(p)
        log_not_p = jax.nn.log_sigmoid(-p)
    else:
        p = jnp.clip(p, epsilon(), 1 - epsilon())
        log_p = jnp.log(p)
        log_not_p = jnp.log(1 - p)
    values = -t * log_p - (1 - t) * log_not_p
    return values.mean(axis)  # (...)


def categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """-sum(t log p) over the class axis.   (..., classes), (..., classes) -> (...)

    Probabilities are divided by their sum and clipped to [1e-7, 1 - 1e-7], as in Keras.

    >>> round(categorical_crossentropy([[0.0, 1.0]], [[0.25, 0.75]]).item(), 4)  # -log(0.75)
    0.2877
    >>> round(categorical_crossentropy([[0.0, 1.0]], [[1.0, 3.0]]).item(), 4)  # 3 / 4
    0.2877
    """
    t, p = pair(y_true, y_pred)
    t = smooth(t, label_smoothing, t.shape[axis])
    log_p = log_probabilities(p, from_logits, axis)
    return -jnp.sum(t * log_p, axis)  # (...)


def sparse_categorical_crossentropy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Array:
    """-log p of the true class, given by its number.   (...), (..., classes) -> (...)

    Labels of `ignore_class` give 0. Labels out of range give NaN (Keras: 0) to make them visible.

    >>> values = sparse_categorical_crossentropy([1, 2], [[0.5, 0.5]] * 2)  # 2 is out of range
    >>> [round(v, 4) for v in values.tolist()]
    [0.6931, nan]
    """
    p = jnp.moveaxis(floating(y_pred), axis, -1)  # (..., classes)
    labels = class_numbers(jnp.asarray(y_true))
    if labels.ndim == p.ndim and labels.shape[axis] == 1:
        labels = jnp.squeeze(labels, axis)  # (...)
    if ignore_class is not None:
        keep = labels != ignore_class
        labels = jnp.where(keep, labels, 0)
        # Finite values, so that ignored entries have no NaN gradient.
        p = jnp.where(keep[..., None], p, 1)
    log_p = log_probabilities(p, from_logits, -1)
    classes = p.shape[-1]
    in_range = (labels >= 0) & (labels < classes)
    index = jnp.where(in_range, labels, 0)
    picked = pick(log_p, index)
    values = -jnp.where(in_range, picked, jnp.nan)
    if ignore_class is None:
        return values
    return jnp.where(keep, values, 0)


def log_probabilities(
    p: Array,
    from_logits: bool,
    axis: int,
) -> Array:
    """log p of logits, or of probabilities after dividing them by their sum along `axis`."""
    if from_logits:
        return jax.nn.log_softmax(p, axis)
    p = p / p.sum(axis, keepdims=True)
    p = jnp.clip(p, epsilon(), 1 - epsilon())
    return jnp.log(p)


def pick(values: Array, index: Array) -> Array:
    """For each entry the value of the class `index`.   (..., classes), (...) -> (...)"""
    picked = jnp.take_along_axis(values, index[..., None], -1)  # (..., 1)
    return picked[..., 0]


def smooth(
    t: Array,
    label_smoothing: float,
    classes: int,
) -> Array:
    """Targets mixed with a uniform distribution, which gets the weight `label_smoothing`."""
    if not label_smoothing:
        return t
    return t * (1 - label_smoothing) + label_smoothing / classes


class BinaryCrossentropy(Loss):
    """mean(-t log p - (1 - t) log(1 - p)) over the last axis: every output is binary.

    Targets lie in [0, 1]. A model that ends in a sigmoid is trained through its logits, so that
    the loss does not saturate.

    >>> BinaryCrossentropy()(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])).item()
    0.6931471824645996
    """

    targets = "elementwise"
    two_classes = True

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
        return binary_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing, self.axis
        )

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.probabilities(self, np.asarray(y_true))


class CategoricalCrossentropy(Loss):
    """-sum(t log p) for one-hot targets or probabilities.   (..., classes) -> (...)

    For class numbers use `SparseCategoricalCrossentropy`. A model that ends in a softmax (and
    `axis` is -1) is trained through its logits, so that the loss does not saturate.

    >>> CategoricalCrossentropy()(jnp.eye(2), jnp.full((2, 2), 0.5)).item()
    0.6931471824645996
    """

    targets = "classes"

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
        return categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing, self.axis
        )

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        super().check(y_true, y_pred)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        checks.distributions(self, np.asarray(y_true), y_pred, self.axis)


class SparseCategoricalCrossentropy(Loss):
    """-log p of the true class, given by its number.   (...) or (..., 1), (..., classes) -> (...)

    Entries of `ignore_class` count neither in the sum nor in the mean. `axis` is the class axis
    of the predictions.

    >>> SparseCategoricalCrossentropy()(jnp.array([0, 1]), jnp.full((2, 2), 0.5)).item()
    0.6931471824645996
    """

    targets = "labels"

    from_logits: bool = False
    ignore_class: int | None = None
    reduction: str | None = field(default="sum_over_batch_size", kw_only=True)
    axis: int = -1

    def validate(self) -> None:
        checks.axis_is_integer(self, self.axis)
        ignored = self.ignore_class
        if ignored is not None and not isinstance(ignored, int):
            raise wrong(self, "ignore_class", "to be an integer or None", ignored)

    @property
    def logits(self) -> Form | None:
        if self.from_logits or self.axis != -1:
            return None
        return "scores"

    def values(self, y_true: ArrayLike, y_pred: ArrayLike) -> Array:
        y_true = jnp.asarray(y_true)
        y_pred = jnp.asarray(y_pred)
        if y_true.ndim == y_pred.ndim and y_true.shape[self.axis] == 1:
            y_true = jnp.squeeze(y_true, self.axis)  # (...)
        y_pred = jnp.moveaxis(y_pred, self.axis, -1)  # (..., classes)
        return super().values(y_true, y_pred)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return sparse_categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.ignore_class
        )

    def kept(self, y_true: Array, values: Array) -> Array | None:
        if self.ignore_class is None:
            return None
        return class_numbers(y_true).reshape(values.shape) != self.ignore_class

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        true = list(y_true.shape)
        predicted = list(y_pred.shape)
        if len(true) == len(predicted) and true[self.axis] == 1:
            true.pop(self.axis)
        classes = predicted.pop(self.axis)
        predicted.append(classes)
        shape = tuple(predicted)
        checks.shapes(self, tuple(true), shape, sparse=True)
        checks.several_classes(self, y_pred, self.axis)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        labels = np.asarray(y_true)
        if self.ignore_class is not None:
            labels = np.where(labels == self.ignore_class, 0, labels)
        checks.labels(self, labels, y_pred.shape[self.axis])


FUNCTIONS: Functions = {
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}
