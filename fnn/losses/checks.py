"""Checks of the shapes and values of targets, on the host, before anything is compiled."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fnn.core.arguments import wrong
from fnn.losses.targets import HasShape, Shape, aligned_shape
from fnn.runtime.row_numbers import row_number
from fnn.runtime.warning import warn


class TakesTargets(Protocol):
    """A loss or metric; see `fnn.losses.loss.Targets`."""

    @property
    def targets(self) -> str: ...


def axis_is_integer(loss: object, axis: object) -> None:
    """Checks the field `axis` of a loss."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise wrong(loss, "axis", "to be an integer", axis, "e.g. axis=-1")


def shapes(
    loss: object,
    true: Shape,
    predicted: Shape,
    *,
    sparse: bool,
) -> None:
    """Checks that the shape of the targets fits the shape of the predictions."""
    try:
        aligned_shape(tuple(true), tuple(predicted), sparse=sparse)
    except ValueError as error:
        raise ValueError(f"{type(loss).__name__}: {error}") from None


def several_classes(
    loss: object,
    y_pred: HasShape,
    axis: int = -1,
) -> None:
    """Checks that the predictions are for more than one class."""
    shape = y_pred.shape
    if len(shape) < 2 or shape[axis] == 1:
        raise ValueError(
            f"{type(loss).__name__}: expected predictions for at least 2 classes, "
            "received 1, for which the loss is always 0; use binary_crossentropy, or give "
            "the last layer one unit for each class"
        )


def finite(loss: TakesTargets, y_true: np.ndarray) -> None:
    """Checks that no target is NaN or infinite; losses for "any" targets allow infinity."""
    if not np.issubdtype(y_true.dtype, np.floating):
        return
    # A user's function may have a use for infinity.
    wrong_values = ~np.isfinite(y_true)
    if loss.targets == "any":
        wrong_values = np.isnan(y_true)
    if not wrong_values.any():
        return
    shown = str(y_true[wrong_values].flat[0])
    if shown == "nan":
        shown = "NaN"
    raise ValueError(
        f"{type(loss).__name__}: expected targets that are finite numbers, received "
        f"{shown} at row {first_row(wrong_values)}; drop or fill such examples"
    )


def distributions(
    loss: TakesTargets,
    y_true: np.ndarray,
    y_pred: HasShape,
    axis: int,
) -> None:
    """Checks that targets are at least 0, and warns unless they sum to 1 over the classes.

    An example whose targets are all 0 has no class, as `one_hot` encodes -1.
    """
    not_negative(loss, y_true)
    aligned = y_true.reshape(y_pred.shape)
    sums = aligned.sum(axis, dtype=np.float32)
    off = np.abs(sums - 1) > 1e-2
    if np.any(off & (sums != 0)):
        warn(
            f"{type(loss).__name__}: expected targets that sum to 1 over the classes, "
            "received others; divide them by their sum, or use binary_crossentropy if an "
            "example may have several classes; pass compile(checks=False) if the targets "
            "are weighted on purpose"
        )


def probabilities(loss: TakesTargets, y_true: np.ndarray) -> None:
    """Checks that the targets of binary outputs lie in [0, 1]."""
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
        f"{_first(y_true, outside)} (range {low} to {high}); {advice}"
    )


def not_negative(loss: TakesTargets, y_true: np.ndarray) -> None:
    """Checks that targets (probabilities or counts) are at least 0."""
    finite(loss, y_true)
    low, _ = bounds(y_true)
    if low < 0:
        raise ValueError(
            f"{type(loss).__name__}: expected targets not below 0, received "
            f"{_first(y_true, y_true < 0)}; one-hot the labels, or pass probabilities"
        )


def labels(
    loss: TakesTargets,
    y_true: np.ndarray,
    classes: int,
) -> None:
    """Checks that labels are integers from 0 to `classes` - 1."""
    finite(loss, y_true)
    name = type(loss).__name__
    # Labels may be stored as floating-point numbers.
    if np.issubdtype(y_true.dtype, np.floating):
        broken = y_true != np.floor(y_true)
        if broken.any():
            raise ValueError(
                f"{name}: expected labels that are integers, received "
                f"{_first(y_true, broken)}; use the categorical form for probabilities"
            )
    low, high = bounds(y_true)
    if low >= 0 and high < classes:
        return
    top = classes - 1
    advice = f"end the model in {int(high) + 1} units, or map the labels to 0..{top}"
    if (low, high) == (1, classes):
        advice = "subtract 1 from the labels, which count from 1"
    elif low < 0:
        advice = "map the labels to integers from 0, or set ignore_class for the others"
    outside = (y_true < 0) | (y_true >= classes)
    raise ValueError(
        f"{name}: expected labels among the classes, received label "
        f"{_first(y_true, outside)}, the model has classes 0..{top}; {advice}"
    )


def signs(loss: TakesTargets, y_true: np.ndarray) -> None:
    """Checks that the targets of a hinge loss are -1 and 1, or 0 and 1."""
    finite(loss, y_true)
    outside = (y_true != -1) & (y_true != 1) & (y_true != 0)
    low, _ = bounds(y_true)
    if not outside.any() and low < 0:
        # -1 and 0 cannot stand together.
        outside = y_true == 0
    if outside.any():
        raise ValueError(
            f"{type(loss).__name__}: expected targets -1 and 1, or 0 and 1, received "
            f"{_first(y_true, outside)}; map the classes to -1 and 1"
        )


def bounds(y_true: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest target; (0, 0) if there are none."""
    if not y_true.size:
        return 0, 0
    return y_true.min(), y_true.max()


def first_row(found: np.ndarray) -> int:
    """The index along the first axis of the first True."""
    if not found.ndim:
        return 0
    return row_number(int(np.argwhere(found)[0][0]))


def _first(y_true: np.ndarray, found: np.ndarray) -> str:
    return f"{y_true[found].flat[0]} at row {first_row(found)}"
