"""What can be told from shapes and from targets on the host, before anything is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnn.core.arguments import wrong
from fnn.losses.targets import aligned_shape
from fnn.runtime.warning import warn


def axis_is_integer(loss: Any) -> None:
    """Checks the field `axis`."""
    if isinstance(loss.axis, bool) or not isinstance(loss.axis, int):
        raise wrong(loss, "axis", "to be an integer", loss.axis, "e.g. axis=-1")


def shapes(loss: Any, true: Any, predicted: Any, *, sparse: bool) -> None:
    """Checks that targets fit predictions, by the shapes alone."""
    try:
        aligned_shape(tuple(true), tuple(predicted), sparse=sparse)
    except ValueError as error:
        raise ValueError(f"{type(loss).__name__}: {error}") from None


def several_classes(loss: Any, y_pred: Any, axis: int = -1) -> None:
    """Checks that the predictions are for more than one class."""
    if len(y_pred.shape) < 2 or y_pred.shape[axis] == 1:
        raise ValueError(
            f"{type(loss).__name__}: expected predictions for at least 2 classes, received 1, of "
            "which the loss is always 0; use binary_crossentropy, or give the last layer a unit "
            "for each class"
        )


def finite(loss: Any, y_true: np.ndarray) -> None:
    """Checks that no target is NaN, and none infinite but for a function of a user's."""
    if not np.issubdtype(y_true.dtype, np.floating):
        return
    wrong = np.isnan(y_true) if loss.targets == "any" else ~np.isfinite(y_true)
    if wrong.any():
        raise ValueError(
            f"{type(loss).__name__}: expected targets that are finite numbers, received "
            f"{_shown(y_true[wrong].flat[0])} at row {first_row(wrong)}; drop or fill such examples"
        )


def _shown(number: Any) -> str:
    return "NaN" if np.isnan(number) else str(number)


def distributions(loss: Any, y_true: np.ndarray, y_pred: Any) -> None:
    """Checks that targets are at least 0, and warns unless they sum to 1 over the classes.

    Targets that are all 0 are taken for an example without a class, as `one_hot` makes of -1.
    """
    not_negative(loss, y_true)
    sums = y_true.reshape(y_pred.shape).sum(loss.axis, dtype=np.float32)
    if np.any((np.abs(sums - 1) > 1e-2) & (sums != 0)):
        warn(
            f"{type(loss).__name__}: expected targets that sum to 1 over the classes, received "
            "others; divide them by their sum, or use binary_crossentropy where an example may "
            "have several classes; compile(checks=False) where they are weighted on purpose"
        )


def probabilities(loss: Any, y_true: np.ndarray) -> None:
    """Checks that the targets of yes-or-no outputs lie in [0, 1]."""
    finite(loss, y_true)
    low, high = bounds(y_true)
    if low >= 0 and high <= 1:
        return
    advice = "scale them to [0, 1]"
    if (low, high) == (1, 2):
        advice = "subtract 1 from labels that count from 1"
    elif (low, high) == (-1, 1):
        advice = "map -1 to 0, or use the hinge loss"
    elif high > 1 and low >= 0 and float(high).is_integer():
        advice = "use sparse_categorical_crossentropy for more than two classes"
    outside = (y_true < 0) | (y_true > 1)
    raise ValueError(
        f"{type(loss).__name__}: expected targets within [0, 1], received "
        f"{y_true[outside].flat[0]} at row {first_row(outside)} (all: {low} to {high}); {advice}"
    )


def not_negative(loss: Any, y_true: np.ndarray) -> None:
    """Checks that targets are probabilities or counts."""
    finite(loss, y_true)
    low, _ = bounds(y_true)
    if low < 0:
        negative = y_true < 0
        raise ValueError(
            f"{type(loss).__name__}: expected targets not below 0, received "
            f"{y_true[negative].flat[0]} at row {first_row(negative)}; do one-hot the labels, or "
            "give probabilities"
        )


def labels(loss: Any, y_true: np.ndarray, classes: int) -> None:
    """Checks that labels are integers that name one of the classes."""
    finite(loss, y_true)
    name = type(loss).__name__
    if np.issubdtype(y_true.dtype, np.floating) and np.any(y_true != np.floor(y_true)):
        broken = y_true != np.floor(y_true)
        raise ValueError(
            f"{name}: expected labels that are integers, received {y_true[broken].flat[0]} at "
            f"row {first_row(broken)}; use the categorical form for probabilities"
        )
    low, high = bounds(y_true)
    if low >= 0 and high < classes:
        return
    advice = (
        f"end the model in {int(high) + 1} units, or map the labels to 0..{classes - 1}"
    )
    if (low, high) == (1, classes):
        advice = "subtract 1 from the labels, which count from 1"
    elif low < 0:
        advice = "map the labels to integers from 0, or set ignore_class for the others"
    outside = (y_true < 0) | (y_true >= classes)
    raise ValueError(
        f"{name}: expected labels among the classes, received label {y_true[outside].flat[0]} at "
        f"row {first_row(outside)}, the model has classes 0..{classes - 1}; {advice}"
    )


def signs(loss: Any, y_true: np.ndarray) -> None:
    """Checks that the targets of a hinge loss are -1 and 1, or 0 and 1."""
    finite(loss, y_true)
    outside = (y_true != -1) & (y_true != 1) & (y_true != 0)
    if outside.any() or (y_true.size and bounds(y_true)[0] < 0 and (y_true == 0).any()):
        outside = outside if outside.any() else y_true == 0
        raise ValueError(
            f"{type(loss).__name__}: expected targets -1 and 1, or 0 and 1, received "
            f"{y_true[outside].flat[0]} at row {first_row(outside)}; map the classes to -1 and 1"
        )


def bounds(y_true: np.ndarray) -> tuple[Any, Any]:
    """The least and the greatest target; (0, 0) of none."""
    return (y_true.min(), y_true.max()) if y_true.size else (0, 0)


def first_row(found: np.ndarray) -> int:
    """The row of the first True."""
    return int(np.argwhere(found)[0][0]) if found.ndim else 0
