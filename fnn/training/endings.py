"""What a network ends in, and whether its losses and metrics can take that."""

from __future__ import annotations

from typing import Any

from fnn.core.value import resolve
from fnn.last_activation import End
from fnn.runtime.warning import warn
from fnn.training.objective import Objective

# Activations whose values may lie below 0, and those whose values may lie above 1.
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


def check(objective: Objective, outputs: list[Any], ends: list[End | None]) -> None:
    """Compares what each output ends in with what its loss and metrics take.

    `outputs` are shapes; an end is None where it is not known. Raises ValueError for logits
    expected of a softmax or sigmoid, and for a softmax over one unit. Warns where probabilities are
    expected and the last layer is known to compute something else. A layer or function of your own
    may compute probabilities inside, so nothing is said of those.
    """
    for goal, output, end in zip(objective.goals, outputs, ends, strict=True):
        if end is None:
            continue
        activation = end.name_for(output.shape)
        if goal.loss is not None and activation != end.name:
            raise ValueError(
                f"the output {goal.name!r} ends in {end.layer!r}, a softmax over 1 unit, which is "
                'always 1; pass activation="sigmoid", or give the layer a unit for each class'
            )
        for value in (goal.loss, *(metric for _, metric, _ in goal.metrics)):
            value = getattr(value, "metric", value)  # of an ensemble
            value = getattr(
                value, "goal", value
            )  # the loss that a metric is the mean of
            if activation is not None:
                _refuse_logits(value, goal.name, activation)
            else:
                _warn_of_other_values(value, goal.name, end)


def _refuse_logits(value: Any, output: str, activation: str) -> None:
    if getattr(value, "from_logits", False):
        raise ValueError(
            f"{type(value).__name__} expects logits (from_logits=True), but the output {output!r} "
            f"ends in a {activation}; remove the {activation} from the last layer, or pass "
            "from_logits=False"
        )


def _warn_of_other_values(value: Any, output: str, end: End) -> None:
    form = getattr(value, "logits", None)
    others = _BELOW_ZERO if form != "odds" else (*_BELOW_ZERO, *_ABOVE_ONE)
    if form is None or not any(_is(end.activation, name) for name in others):
        return
    advice = 'activation="sigmoid"' if form == "odds" else 'activation="softmax"'
    if hasattr(value, "from_logits"):
        advice += f", or {type(value).__name__}(from_logits=True)"
    warn(
        f"{type(value).__name__} expects probabilities, but the output {output!r} ends in "
        f"{end.layer!r}, which computes any numbers; pass {advice}"
    )


def _is(activation: Any, name: str) -> bool:
    if activation is None:
        return name == "linear"
    return activation == name or activation is resolve("activation", name)
