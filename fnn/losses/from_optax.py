"""Functions of `optax.losses` as losses; optax passes the predictions first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import numpy as np
import optax
from jax import Array

from fnn.core.named import function_name
from fnn.core.registry import is_from_optax, register
from fnn.core.tree import SpecTree
from fnn.losses import checks
from fnn.losses.loss import Loss
from fnn.losses.targets import align, class_numbers

# The names that optax gives the second argument of a loss.
_TARGETS = ("targets", "labels", "log_targets")
# Functions whose targets are class numbers: their signatures do not tell.
_OF_LABELS = {
    "softmax_cross_entropy_with_integer_labels",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
}


def _name(function: Callable[..., Array]) -> str:
    # The name of the function itself, without the arguments bound to it.
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", "") or function_name(function)


def _takes_predictions_and_targets(function: Callable[..., Array]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2 or parameters[1].name not in _TARGETS:
        return False
    return not any(map(_is_required, parameters[2:]))


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


class OptaxLoss(Loss):
    """A function `(predictions, targets) -> values` of `optax.losses` as a loss.

    `compile(loss=optax.losses.huber_loss)` creates one, and `metrics=[...]` the mean of one
    (`LossMetric`), also from a `functools.partial`. Nothing is broadcast: targets are reshaped to
    the shape of the predictions, class numbers to that shape without its last axis. Most functions
    take logits (see optax), so the model ends without a softmax. `ntxent` and
    `multiclass_generalized_dice_loss` compare the examples of a batch: use a batch size that
    divides the number of examples, so that no batch is padded.
    Raises TypeError for a function with other arguments, such as `ctc_loss`.

    >>> loss = OptaxLoss(optax.losses.softmax_cross_entropy_with_integer_labels)
    >>> round(loss(jnp.array([0, 1]), jnp.zeros((2, 2))).item(), 4)
    0.6931
    """

    function: Callable[..., Array]

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
        """Whether predictions must be logits: the function's name starts with an activation."""
        activations = ("softmax_", "safe_softmax_", "sigmoid_")
        return _name(self.function).startswith(activations)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        y_true = align(y_true, y_pred, sparse=self.of_labels)
        if self.of_labels:
            return self.function(y_pred, class_numbers(y_true))
        return self.function(y_pred, y_true.astype(y_pred.dtype))

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        checks.shapes(self, y_true.shape, y_pred.shape, sparse=self.of_labels)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        super().check_targets(y_true, y_pred)
        if self.of_labels and _name(self.function) != "ntxent":
            classes = y_pred.shape[-1]
            checks.labels(self, np.asarray(y_true), classes)


def _register_all() -> None:
    """Registers the loss functions of optax, so that saved files can refer to them."""
    for name in dir(optax.losses):
        function = getattr(optax.losses, name)
        if is_from_optax(function) and _takes_predictions_and_targets(function):
            register(function, kind="optax")


_register_all()
