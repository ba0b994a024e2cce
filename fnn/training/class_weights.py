"""Class weights: one weight for each target, from a weight for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.core import tree
from fnn.core.context import strip_masks
from fnn.core.tree import SpecTree
from fnn.last_activation import End
from fnn.losses import Loss
from fnn.training import checks, inputs
from fnn.training.objective import Objective, OutputGoal


def class_weights(
    given: Any,
    y: Sequence[np.ndarray | None],
    objective: Objective,
    specs: Sequence[SpecTree],
    ends: Sequence[End | None],
) -> tuple[np.ndarray, ...]:
    """The weights of the targets `y`, one array per output; classes not listed weigh 1.

    `specs` are the shapes and dtypes of the outputs, `ends` their last layers and
    activations if known. Raises TypeError unless `given` is a dict of weights by class,
    or one by output; ValueError if targets and loss do not determine the class.
    """
    names = [goal.name for goal in objective.goals]
    parts = _by_output(given, names)
    specs = strip_masks(specs)
    targets = y or (None,) * len(names)
    found = []
    for goal, part, y_true, spec, end in zip(
        objective.goals, parts, targets, specs, ends, strict=True
    ):
        if part is None:
            found.append(np.ones(spec.shape[0], np.float32))
            continue
        if y_true is None or goal.loss is None:
            raise ValueError(
                f"expected targets and a loss for the output {goal.name!r}, which has a "
                "class_weight, received none; remove its weights, or pass both"
            )
        activation = None
        if end is not None:
            activation = end.name_for(spec.shape)
        classes, number = classes_of(np.asarray(y_true), goal, spec, activation)
        label = "class_weight"
        if len(names) > 1:
            label = f"class_weight[{goal.name!r}]"
        found.append(_weights(_table(part, label, number), classes, label))
    return tuple(found)


def _by_output(given: Any, names: list[str]) -> tuple[dict[Any, Any] | None, ...]:
    """The dict of weights for each output, None if it has none."""
    listed = isinstance(given, (list, tuple)) and len(names) > 1
    nested = isinstance(given, dict) and any(
        isinstance(part, dict) for part in given.values()
    )
    parts = (given,)
    if nested or listed:
        parts = inputs.by_output(given, names, "class_weight")
    for part in parts:
        if part is not None and not isinstance(part, dict):
            raise TypeError(
                f"expected class_weight as a dict from class to weight, received {part!r}; "
                "pass e.g. {0: 1.0, 1: 5.0}"
            )
    if len(parts) != len(names):
        raise ValueError(
            f"expected class_weight by the names of the {len(names)} outputs {names}, "
            f"received {given!r}; pass e.g. {{{names[0]!r}: {given!r}}}"
        )
    return parts


def _table(
    given: Mapping[Any, Any],
    label: str,
    classes: int | None,
) -> dict[int, float]:
    """`given` with integer keys and float values, checked.

    `classes` is the number of classes if known.
    """
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
                f"expected a number as the weight of class {key} in {label}, received "
                f"{weight!r}; leave the class out for a weight of 1"
            )
        table[int(key)] = float(weight)
    checks.finite_weights(label, np.array(list(table.values())))
    if classes is not None:
        unknown = sorted(key for key in table if not 0 <= key < classes)
        if unknown:
            raise ValueError(
                f"expected {label} for the classes 0..{classes - 1}, received one for "
                f"{unknown}; remove it"
            )
    return table


def _is_number(value: object) -> bool:
    # Booleans too: True is class 1.
    return isinstance(value, (int, float, np.number, np.bool_))


def _weights(
    table: Mapping[int, float],
    classes: np.ndarray,
    label: str,
) -> np.ndarray:
    """The weight of each target by its class."""
    present, places = np.unique(classes, return_inverse=True)
    weights = [table.get(int(one), 1.0) for one in present]
    by_class = np.array(weights, np.float32)
    if present.size and not by_class.any() and not any(table.values()):
        raise ValueError(f"expected {label} with a weight above 0, received only zeros")
    return by_class[places.reshape(classes.shape)]


class Classes(NamedTuple):
    """The class of each target, and the number of classes, None if unknown."""

    of_targets: np.ndarray
    number: int | None


def classes_of(
    y: np.ndarray,
    goal: OutputGoal,
    spec: SpecTree,
    activation: str | None,
) -> Classes:
    """The class of each target, and the number of classes.

    The shape of the targets alone does not determine whether `(n, k)` are n one-hot
    vectors or k binary targets per example: the loss and the last activation do. Raises
    ValueError if they do not either, or if a weight could not apply to a single target.
    """
    shape = tuple(spec.shape)
    loss = goal.loss
    values = jax.eval_shape(loss.values, tree.spec(y), spec)
    if not values.shape:
        raise ValueError(
            "expected a loss with a value for each example to weigh by class, received "
            f"{loss!r}, which returns one number for the batch; weigh the classes inside "
            "the loss"
        )
    axis = getattr(loss, "axis", -1)
    per_element = y.size == math.prod(shape)
    # One target for each vector of the output.
    per_vector = loss.targets == "any" and y.size == math.prod(shape[:-1])
    if shape[-1:] == (1,):
        per_vector = per_vector or per_element
    if loss.targets == "labels":
        without_axis = np.delete(shape, axis)
        labels = y.reshape(without_axis).astype(np.int64)
        return Classes(labels, shape[axis])
    if per_element and len(shape) < 2:
        entries = y.reshape(shape)
    elif per_vector:
        entries = y.reshape(shape[:-1])
    elif per_element and (loss.targets == "classes" or activation == "softmax"):
        # One-hot vectors or probabilities of classes.
        return Classes(y.reshape(shape).argmax(axis), shape[axis])
    elif loss.two_classes:
        entries = y.reshape(shape)
    else:
        raise ValueError(
            f"expected a loss or an output that determines the class of targets {y.shape}, "
            f"received {loss!r} and an output {goal.name!r} that does not end in a softmax: "
            "the targets may be one-hot or binary; pass sample_weight instead of class_weight"
        )
    if loss.two_classes and hasattr(loss, "from_logits"):
        # Targets are probabilities of class 1.
        return Classes((entries > 0.5).astype(np.int64), 2)
    return Classes(_integers(entries, loss), None)


def _integers(y: np.ndarray, loss: Loss) -> np.ndarray:
    fractional = y != np.floor(y)
    if np.any(fractional):
        raise ValueError(
            "expected targets that are classes (integers) for class_weight with "
            f"{loss!r}, received {y[fractional].flat[0]}; pass sample_weight instead"
        )
    return y.astype(np.int64)
