"""Sequential: a model of layers in a row."""

from __future__ import annotations

from typing import Any

from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models import sharing
from fnn.models.model import Model
from fnn.symbolic.node import Node


class Sequential(Model):
    """A model of layers in a row; `add` and `pop` change it, `input_shape` or `Input` builds it.

    Layers keep their weights when others come or go. Raises ValueError for one layer object at two
    places: it would have one set of weights in Keras, and here two.

    >>> model = Sequential([fnn.layers.Dense(2, input_shape=(4,))], seed=0)
    >>> model.add(fnn.layers.Dense(1))
    >>> model.output_shape
    (None, 1)
    """

    layer: Any  # layers.Sequential
    _start: Node | None = None

    def __init__(
        self, layers: Any = None, *, name: str | None = None, seed: int | None = None
    ) -> None:
        whole = SequentialLayer()
        if isinstance(layers, SequentialLayer):
            whole, layers = layers, sharing.apart(layers).layers
        super().__init__(whole.replace(layers=()), name=name, seed=seed)
        self._become(layers or ())

    def add(self, layer: Any) -> None:
        """Appends a layer. Those that there were keep their weights."""
        self._become((*self.layer.layers, layer))

    def pop(self) -> None:
        """Removes the last layer. Raises ValueError if there is none."""
        if not self.layer.layers:
            raise ValueError("expected a model with layers, received an empty one")
        self._become(self.layer.layers[:-1])

    def _become(self, given: Any) -> None:
        """This model with the given layers, models and `Input` in a row, whatever it was before."""
        given = tuple(given)
        layers = tuple(item for item in given if not isinstance(item, Node))
        twice = [
            layer
            for i, layer in enumerate(layers)
            if any(layer is a for a in layers[:i])
        ]
        if twice:
            raise ValueError(
                f"expected a layer object for each place, received {twice[0]!r} at several; use "
                "layer.replace() for an equal one with weights of its own, or a graph, where "
                "one object has one set of weights"
            )
        if self.built:
            self._now  # noqa: B018 - takes over what was assigned, of the layers that there were
        self.layer = self.layer.replace(layers=layers)
        self._start = next((i for i in given if isinstance(i, Node)), self._start)
        self._inputs = self._start
        first: Any = self.layer
        while first is not None and self._inputs is None:
            self._inputs = sharing.stated_inputs(first)
            first = next((child for _, child in first.children()), None)
        if self._inputs is not None and layers:
            self._build()
        else:
            self._cell.now = self._watched = None
