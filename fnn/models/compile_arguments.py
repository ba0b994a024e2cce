"""The arguments of `compile`: those of fnn alone, copies and checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fnn import losses, metrics
from fnn.core.arguments import wrong
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.core.weights import as_patterns, check_matches, check_patterns
from fnn.training.objective import Objective
from fnn.training.own_objective import FORM

# Arguments that Keras does not have, and their defaults.
NO_EXTRA: dict[str, object] = {
    "objective": None,
    "remat": (),
    "max_compiles": None,
}
_GOALS = ("loss", "loss_weights", "metrics", "weighted_metrics")


def checked_remat(patterns: object) -> object:
    """Patterns of paths as a tuple. Raises ValueError for anything else."""
    patterns = as_patterns(patterns or ())
    check_patterns("compile", "remat", patterns)
    return patterns


def with_remat(objective: Objective, arguments: Any, layer: Layer) -> Objective:
    """The objective with the layers to compute again in the backward pass.

    Raises ValueError for patterns that match no layer.
    """
    patterns: tuple[str, ...] = arguments["remat"]
    if not patterns:
        return objective
    paths = ["/".join(path) for path, *_ in walk(layer) if path]
    check_matches("compile", "remat", patterns, paths, "layers")
    return objective.replace(remat=patterns)


def own_objective(arguments: dict[str, object]) -> Objective | None:
    """The objective that is a function of the user's; None if there are losses.

    Raises TypeError for what is no function, ValueError for losses and metrics beside it.
    """
    function: Any = arguments["objective"]
    if function is None:
        return None
    if not callable(function):
        raise TypeError(
            f"compile: expected objective to be a function, received {function!r}; write {FORM}"
        )
    both = [name for name in _GOALS if arguments[name] is not None]
    if both:
        raise wrong(
            "compile", "objective", f"without {', '.join(both)}, since it takes their place",
            function, "log metrics in the dict that it returns",
        )  # fmt: skip
    return Objective(function=function)


def check_names(arguments: dict[str, object]) -> None:
    """Raises for unknown losses and metrics, at the line of `compile`.

    And for loss_weights that are no numbers: metrics, passed by position.
    """
    others = [
        x for x in _flat(arguments["loss_weights"]) if not hasattr(x, "__float__")
    ]
    if others:
        raise wrong(
            "compile", "loss_weights", "to be numbers", arguments["loss_weights"],
            "the third argument is loss_weights, as in Keras; pass metrics by name, e.g. "
            'metrics=["accuracy"]',
        )  # fmt: skip
    modules = {"loss": losses, "metrics": metrics, "weighted_metrics": metrics}
    for part, module in modules.items():
        for identifier in _flat(arguments[part]):
            by_shape = (
                isinstance(identifier, str) and identifier.lower() in module.BY_SHAPE
            )
            if not by_shape:
                module.get(identifier)


def copied(given: Tree) -> Tree:
    """`given` with lists and dicts of its own, so that later changes by the caller are not seen."""
    if isinstance(given, dict):
        return {name: copied(item) for name, item in given.items()}
    if isinstance(given, list):
        return [copied(item) for item in given]
    return given


def _flat(given: Tree) -> Iterator[object]:
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, (list, tuple)):
        for item in given:
            yield from _flat(item)
    elif given is not None:
        yield given
