"""What a network ends in, and whether its losses and metrics can take that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from fnn.core.combining import Flow, PassingWrapper
from fnn.core.config import resolve
from fnn.core.layer import Layer
from fnn.core.logits import is_activated
from fnn.core.warning import warn
from fnn.training.objective import Objective

# Activations whose values may lie below 0, and those whose values may lie above 1.
_BELOW_ZERO = ("linear", "tanh", "elu", "selu", "gelu", "silu", "leaky_relu", "softsign", "mish")
_ABOVE_ONE = ("relu", "relu6", "softplus", "exponential")


def activations(outputs: list[Any]) -> list[str | None]:
    """For each output "softmax" or "sigmoid" if the network ends in it, else None."""
    return [y.activation if is_activated(y) else None for y in outputs]


@dataclass(frozen=True, eq=False)
class _Made:
    """Stands for what `layer` makes of `x`, while a network is followed from its end."""

    layer: Layer
    x: Any


def last_layers(layer: Layer, x: Any, number: int) -> list[Layer | None]:
    """For each of the outputs the layer that computes it; None where that is not known.

    Layers that only move numbers (`Reshape`) are passed over. `x` has the structure of the inputs.
    """
    try:
        found = _ends(_Made(layer, x))
    except Exception:  # a combinator that looks into what it is given
        found = []
    return found if len(found) == number else [None] * number


def _ends(made: Any) -> list[Layer | None]:
    if not isinstance(made, _Made):
        leaves = jax.tree.leaves(made) if isinstance(made, (tuple, list, dict)) else []
        return [end for leaf in leaves for end in _ends(leaf)] or [None]
    layer = made.layer
    if isinstance(layer, Flow):
        return _ends(layer.flow(made.x, lambda _, layer, x: _Made(layer, x)))
    if isinstance(layer, PassingWrapper):
        return _ends(_Made(layer.inner, made.x))
    return _ends(made.x) if layer.only_moves else [layer]


def check(objective: Objective, outputs: list[Any], last: list[Layer | None]) -> None:
    """Compares what each output ends in with what its loss and metrics take.

    `outputs` are shapes, `Activated` where they end in softmax or sigmoid. Raises ValueError for
    logits expected of these, and for a softmax over one unit. Warns where probabilities are
    expected and the last layer is known to compute something else. A layer or function of your own
    may compute probabilities inside, so nothing is said of those.
    """
    for goal, output, layer in zip(objective.goals, outputs, last, strict=True):
        if goal.loss is not None and layer is not None:
            _refuse_constant(goal.name, output.shape, layer)
        activation = output.activation if is_activated(output) else None
        for value in (goal.loss, *(metric for _, metric, _ in goal.metrics)):
            value = getattr(value, "metric", value)  # of an ensemble
            value = getattr(value, "goal", value)  # the loss that a metric is the mean of
            if activation is not None:
                _refuse_logits(value, goal.name, activation)
            elif layer is not None:
                _warn_of_other_values(value, goal.name, layer)


def _refuse_constant(output: str, shape: tuple[int, ...], layer: Layer) -> None:
    if shape[-1:] == (1,) and _is(_activation(layer), "softmax"):
        raise ValueError(
            f"the output {output!r} ends in {layer!r}, a softmax over 1 unit, which is always 1; "
            'pass activation="sigmoid", or give the layer a unit for each class'
        )


def _activation(layer: Layer) -> Any:
    return layer.activation if layer.ends_in_activation else "unknown"  # type: ignore[attr-defined]


def _refuse_logits(value: Any, output: str, activation: str) -> None:
    if getattr(value, "from_logits", False):
        raise ValueError(
            f"{type(value).__name__} expects logits (from_logits=True), but the output {output!r} "
            f"ends in a {activation}; remove the {activation} from the last layer, or pass "
            "from_logits=False"
        )


def _warn_of_other_values(value: Any, output: str, layer: Layer) -> None:
    form = getattr(value, "logits", None)
    others = _BELOW_ZERO if form != "odds" else (*_BELOW_ZERO, *_ABOVE_ONE)
    if form is None or not any(_is(_activation(layer), name) for name in others):
        return
    advice = 'activation="sigmoid"' if form == "odds" else 'activation="softmax"'
    if hasattr(value, "from_logits"):
        advice += f", or {type(value).__name__}(from_logits=True)"
    warn(
        f"{type(value).__name__} expects probabilities, but the output {output!r} ends in "
        f"{layer!r}, which computes any numbers; pass {advice}"
    )


def _is(activation: Any, name: str) -> bool:
    if activation is None:
        return name == "linear"
    return activation == name or activation is resolve("activation", name)
