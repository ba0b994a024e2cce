"""Class weights: the weight of each target by the class that it names."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.core.masking import strip_masks
from fnn.last_activation import End
from fnn.training import checks, inputs
from fnn.training.objective import Objective, OutputGoal


def class_weights(
    given: Any,
    y: tuple[Any, ...],
    objective: Objective,
    specs: list[Any],
    ends: list[End | None],
) -> tuple[Any, ...]:
    """The weights of the targets `y`, one array for each output; classes left out weigh 1.

    `specs` are shapes and dtypes of the outputs, `ends` what they end in, where that is known.
    Raises TypeError and ValueError for what is no dict of weights by class, or by the name of the
    output, and where targets and loss do not tell what the class is.
    """
    names = [goal.name for goal in objective.goals]
    parts, specs = _by_output(given, names), strip_masks(specs)
    found = []
    for goal, part, y_true, spec, end in zip(
        objective.goals, parts, y or (None,) * len(names), specs, ends, strict=True
    ):
        if part is None:
            found.append(np.ones(spec.shape[0], np.float32))
            continue
        if y_true is None or goal.loss is None:
            raise ValueError(
                f"expected targets and a loss for the output {goal.name!r}, which has a "
                "class_weight, received none; remove its weights, or give it both"
            )
        activation = None if end is None else end.name_for(spec.shape)
        classes, number = classes_of(np.asarray(y_true), goal, spec, activation)
        label = "class_weight" if len(names) == 1 else f"class_weight[{goal.name!r}]"
        found.append(_weights(_table(part, label, number), classes, label))
    return tuple(found)


def _by_output(given: Any, names: list[str]) -> tuple[Any, ...]:
    """A dict of weights for each output, None where there is none."""
    nested = isinstance(given, dict) and any(
        isinstance(part, dict) for part in given.values()
    )
    listed = isinstance(given, (list, tuple)) and len(names) > 1
    parts = (
        inputs.by_output(given, names, "class_weight") if nested or listed else (given,)
    )
    for part in parts:
        if part is not None and not isinstance(part, dict):
            raise TypeError(
                f"expected class_weight as a dict from class to weight, received {part!r}; "
                "pass e.g. {0: 1.0, 1: 5.0}"
            )
    if len(parts) != len(names):
        raise ValueError(
            f"expected class_weight by the names of the {len(names)} outputs {names}, received "
            f"{given!r}; pass e.g. {{{names[0]!r}: {given!r}}}"
        )
    return parts


def _table(given: dict[Any, Any], label: str, number: int | None) -> dict[int, float]:
    """`given` with integers as keys and numbers as values."""
    if not given:
        raise ValueError(
            f"expected {label} with a weight for a class, received an empty dict"
        )
    table = {}
    for key, weight in given.items():
        if not _is_number(key) or not float(key).is_integer():
            raise ValueError(
                f"expected the classes in {label} as integers, as in the targets, received "
                f"{key!r}; pass e.g. {{0: 1.0, 1: 5.0}}"
            )
        if not _is_number(weight):
            raise ValueError(
                f"expected a number as the weight of class {key} in {label}, received {weight!r}; "
                "leave the class out for a weight of 1"
            )
        table[int(key)] = float(weight)
    checks.finite_weights(label, np.array(list(table.values())))
    unknown = sorted(
        key for key in table if number is not None and not 0 <= key < number
    )
    if unknown:
        raise ValueError(
            f"expected {label} for the classes 0..{(number or 0) - 1}, received one for {unknown}; "
            "remove it"
        )
    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, np.bool_))  # True is class 1


def _weights(table: dict[int, float], classes: np.ndarray, label: str) -> np.ndarray:
    present, places = np.unique(classes, return_inverse=True)
    by_class = np.array([table.get(int(one), 1.0) for one in present], np.float32)
    if present.size and not by_class.any() and not any(table.values()):
        raise ValueError(f"expected {label} with a weight above 0, received only zeros")
    return by_class[places.reshape(classes.shape)]


def classes_of(
    y: np.ndarray, goal: OutputGoal, spec: Any, activation: str | None
) -> tuple[np.ndarray, int | None]:
    """(the class of each target, the number of classes or None where it is not known).

    The shape of the targets alone cannot tell whether `(n, k)` are n one-hot vectors or n times k
    classes of their own: the loss and the end of the network do.
    Raises ValueError where they do not, or where a weight could not reach a target.
    """
    shape, loss = tuple(spec.shape), goal.loss
    values = jax.eval_shape(loss.values, tree.spec(y), spec)
    if not values.shape:
        raise ValueError(
            f"expected a loss with a value for each example to weigh by class, received {loss!r}, "
            "which gives one number for the batch; weigh the classes inside the loss"
        )
    axis, whole = getattr(loss, "axis", -1), y.size == math.prod(shape)
    if loss.targets == "labels":
        return y.reshape(np.delete(shape, axis)).astype(np.int64), shape[axis]
    if whole and (len(shape) < 2 or shape[-1] == 1):
        entries = y.reshape(shape if len(shape) < 2 else shape[:-1])
    elif loss.targets == "any" and y.size == math.prod(shape[:-1]):
        entries = y.reshape(shape[:-1])
    elif whole and (loss.targets == "classes" or activation == "softmax"):
        return y.reshape(shape).argmax(axis), shape[axis]
    elif loss.two_classes:
        entries = y.reshape(shape)
    else:
        raise ValueError(
            f"expected a loss or an output that tells the class of targets {y.shape}, received "
            f"{loss!r} and an output {goal.name!r} that ends in no softmax: they may be one-hot or "
            "classes of their own; pass sample_weight instead of class_weight"
        )
    if loss.two_classes and hasattr(
        loss, "from_logits"
    ):  # probabilities, of which 1 is class 1
        return (entries > 0.5).astype(np.int64), 2
    return _integers(entries, loss), None


def _integers(y: np.ndarray, loss: Any) -> np.ndarray:
    if np.any(y != np.floor(y)):
        raise ValueError(
            f"expected targets that are classes (integers) for class_weight with {loss!r}, received"
            f" {y[y != np.floor(y)].flat[0]}; pass sample_weight instead"
        )
    return y.astype(np.int64)
