"""Functions of `optax.losses` as losses: they take the predictions first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from jax import Array

from fnn.core.named import function_name
from fnn.core.registry import is_from_optax, register
from fnn.losses import checks
from fnn.losses.loss import Loss
from fnn.losses.targets import align, class_numbers

_TARGETS = ("targets", "labels", "log_targets")  # what optax calls its second argument
# Of which the targets are class numbers. Nothing in their signatures tells.
_OF_LABELS = {
    "softmax_cross_entropy_with_integer_labels",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
}


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", "") or function_name(function)


def _takes_predictions_and_targets(function: Any) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (2, 4)]
    return len(parameters) > 1 and parameters[1].name in _TARGETS and needed[2:] == []


class OptaxLoss(Loss):
    """A function `(predictions, targets) -> values` of `optax.losses` as a loss.

    `compile(loss=optax.losses.huber_loss)` makes one, and among metrics the mean of one
    (`LossMetric`); so do `functools.partial`s of them. Nothing
    is broadcast: targets are brought into the shape of the predictions, class numbers into that
    without its last axis. They take what optax says, mostly logits, so the model ends in no
    softmax. `ntxent` and `multiclass_generalized_dice_loss` look at a batch as a whole: give them
    batches without padding (a number of rows that the batch size divides).
    Raises TypeError for a function of other arguments, as `ctc_loss`.

    >>> loss = OptaxLoss(optax.losses.softmax_cross_entropy_with_integer_labels)
    >>> round(loss(jnp.array([0, 1]), jnp.zeros((2, 2))).item(), 4)
    0.6931
    """

    function: Callable[..., Any]

    @property
    def default_name(self) -> str:
        return _name(self.function)

    def validate(self) -> None:
        if not _takes_predictions_and_targets(self.function):
            raise TypeError(
                "expected a function (predictions, targets) of optax as a loss, received "
                f"{_name(self.function)}{inspect.signature(self.function)}; wrap it: "
                "lambda y_true, y_pred: ..., or see fnn.losses (CTC, Triplet, ...)"
            )

    @property
    def of_labels(self) -> bool:
        """Whether targets are class numbers."""
        return _name(self.function) in _OF_LABELS

    @property
    def from_logits(self) -> bool:
        """Whether predictions are certainly logits, by the name: it has the activation in it."""
        return _name(self.function).startswith(
            ("softmax_", "safe_softmax_", "sigmoid_")
        )

    def call(self, y_true: Array, y_pred: Array) -> Array:
        y_true = align(y_true, y_pred, sparse=self.of_labels)
        y_true = (
            class_numbers(y_true) if self.of_labels else y_true.astype(y_pred.dtype)
        )
        return self.function(y_pred, y_true)

    def check(self, y_true: Any, y_pred: Any) -> None:
        checks.shapes(self, y_true.shape, y_pred.shape, sparse=self.of_labels)

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        super().check_targets(y_true, y_pred)
        if self.of_labels and _name(self.function) != "ntxent":
            checks.labels(self, np.asarray(y_true), y_pred.shape[-1])


def _register_all() -> None:
    """So that a file can name them."""
    for name in dir(optax.losses):
        function = getattr(optax.losses, name)
        if is_from_optax(function) and _takes_predictions_and_targets(function):
            register(function, kind="optax")


_register_all()
