"""Owned: what Keras lets one ask a layer, answered by the model in which the object stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fnn.core import tree
from fnn.core.layer import Layer


def _node(side: int) -> Callable[[Any, tree.Path, Layer], Any]:
    def node(model: Any, path: tree.Path, layer: Layer) -> Any:
        if not path:
            return (model.wiring.inputs, model.wiring.outputs)[side]
        if id(layer) not in model.wiring.calls:
            raise AttributeError(
                f"expected a layer directly inside {model.name!r}, received {layer!r} at "
                f"{'/'.join(path)}, which has no node of its own there"
            )
        return model.wiring.calls[id(layer)][side]

    return node


def _count(model: Any, path: tree.Path, layer: Layer) -> Callable[[], int]:
    return lambda: sum(array.size for array in model._weights_at(path))


ANSWERS: dict[str, Callable[[Any, tree.Path, Layer], Any]] = {
    "input": _node(0),
    "output": _node(1),
    "get_weights": lambda model, path, layer: lambda: model._weights_at(path),
    "set_weights": lambda model, path, layer: (
        lambda arrays: model._set_weights_at(path, arrays)
    ),
    "count_params": _count,
}
