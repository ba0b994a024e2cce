"""Owned: the attributes of a layer that Keras answers from the model in which it stands."""

from __future__ import annotations

import numpy as np

from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.models.sharing import Weights, owner_of


class _Place:
    """A layer object at a path in the network of some weights."""

    def __init__(self, weights: Weights, path: Path, layer: Layer) -> None:
        self.weights = weights
        self.path = path
        self.layer = layer

    @property
    def input(self) -> Tree:
        return self._nodes()[0]

    @property
    def output(self) -> Tree:
        return self._nodes()[1]

    def _nodes(self) -> tuple[Tree, Tree]:
        wiring = self.weights.network.wiring
        if not self.path:
            return wiring.inputs, wiring.outputs
        if id(self.layer) not in wiring.calls:
            raise AttributeError(
                f"expected a layer directly inside {self.weights.network.name!r}, received "
                f"{self.layer!r} at {'/'.join(self.path)}, which has no node of its own there"
            )
        return wiring.calls[id(self.layer)]

    def get_weights(self) -> list[np.ndarray]:
        return self.weights.get(self.path)

    def set_weights(self, arrays: list[Tree]) -> None:
        self.weights.set(arrays, self.path)

    def count_params(self) -> int:
        return self.weights.count(self.path)


_NAMES = "input", "output", "get_weights", "set_weights", "count_params"


def answer(layer: Layer, name: str) -> object:
    """An attribute of a layer as its model knows it; NotImplemented for all others."""
    if name not in _NAMES:
        return NotImplemented
    owner = owner_of(layer)
    if owner is None or owner.weights is None or not owner.weights.built:
        return NotImplemented
    return getattr(_Place(owner.weights, owner.path, layer), name)


Layer.on_attribute = staticmethod(answer)
