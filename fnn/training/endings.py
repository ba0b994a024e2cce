"""Checks that the last activation of a network fits its losses and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fnn.core.layer import Activation
from fnn.core.tree import SpecTree
from fnn.core.value import resolve
from fnn.last_activation import End
from fnn.runtime.warning import warn
from fnn.training.objective import Objective

# Activations whose values may be below 0, and those whose values may be above 1.
_BELOW_ZERO = (
    "linear",
    "tanh",
    "elu",
    "selu",
    "gelu",
    "silu",
    "leaky_relu",
    "softsign",
    "mish",
)
_ABOVE_ONE = ("relu", "relu6", "softplus", "exponential")


def check(
    objective: Objective,
    outputs: Sequence[SpecTree],
    ends: Sequence[End | None],
) -> None:
    """Compares the end of each output with what its loss and metrics expect.

    `outputs` are shapes; an end is None if it is unknown. Raises ValueError if logits are
    expected of a softmax or sigmoid, and for a softmax over one unit. Warns if
    probabilities are expected and the last layer is known to compute something else. A
    custom layer or function may compute probabilities inside, so there is no warning for
    those.
    """
    for goal, output, end in zip(objective.goals, outputs, ends, strict=True):
        if end is None:
            continue
        activation = end.name_for(output.shape)
        if goal.loss is not None and activation != end.name:
            raise ValueError(
                f"the output {goal.name!r} ends in {end.layer!r}, a softmax over 1 unit, "
                'which is always 1; pass activation="sigmoid", or give the layer a unit for '
                "each class"
            )
        metrics = [metric for _, metric, _ in goal.metrics]
        for value in (goal.loss, *metrics):
            # Of an ensemble's metric, the metric of one member; of a mean loss, the loss.
            inner = getattr(value, "metric", value)
            inner = getattr(inner, "goal", inner)
            if activation is not None:
                _refuse_logits(inner, goal.name, activation)
            else:
                _warn_of_other_values(inner, goal.name, end)


def _refuse_logits(
    value: object,
    output: str,
    activation: str,
) -> None:
    """Raises ValueError if a loss or metric expects logits."""
    if getattr(value, "from_logits", False):
        raise ValueError(
            f"{type(value).__name__} expects logits (from_logits=True), but the output "
            f"{output!r} ends in a {activation}; remove the {activation} from the last layer, "
            "or pass from_logits=False"
        )


def _warn_of_other_values(
    value: Any,
    output: str,
    end: End,
) -> None:
    """Warns if a loss or metric expects probabilities and the output has other values."""
    form = getattr(value, "logits", None)
    if form is None:
        return
    names: tuple[str, ...] = _BELOW_ZERO
    advice = 'activation="softmax"'
    if form == "odds":
        names = (*_BELOW_ZERO, *_ABOVE_ONE)
        advice = 'activation="sigmoid"'
    if not any(_is(end.activation, name) for name in names):
        return
    if hasattr(value, "from_logits"):
        advice += f", or {type(value).__name__}(from_logits=True)"
    warn(
        f"{type(value).__name__} expects probabilities, but the output {output!r} ends in "
        f"{end.layer!r}, which computes any numbers; pass {advice}"
    )


def _is(activation: Activation, name: str) -> bool:
    if activation is None:
        return name == "linear"
    return activation == name or activation is resolve("activation", name)
