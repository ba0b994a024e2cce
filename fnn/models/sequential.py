"""Sequential: a model of layers in a row."""

from __future__ import annotations

from typing import Any

from fnn.core.node import Node, input_specs
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models.model import Model
from fnn.models.weighted import Weighted


class Sequential(Model):
    """A model of layers in a row; `add` and `pop` change it, `input_shape` or `Input` builds it.

    >>> model = Sequential([fnn.layers.Dense(2, input_shape=(4,))], seed=0)
    >>> model.add(fnn.layers.Dense(1))
    >>> model.output_shape
    (None, 1)
    """

    def __init__(
        self, layers: Any = None, *, name: str | None = None, seed: int | None = None
    ) -> None:
        self._prepare()
        self._given: list[Any] = []
        self._input: Node | None = None
        Weighted.__init__(self, SequentialLayer((), name=name), "sequential", seed)
        given = layers.layers if isinstance(layers, SequentialLayer) else layers or []
        self._extend(list(given))

    def add(self, layer: Any) -> None:
        """Appends a layer. Weights that there were are made anew."""
        self._extend([layer])

    def pop(self) -> None:
        """Removes the last layer. Raises ValueError if there is none."""
        if not self._given:
            raise ValueError("expected a model with layers, received an empty one")
        self._given.pop()
        self._extend([])

    def _extend(self, layers: list[Any]) -> None:
        for layer in layers:
            if isinstance(layer, Node):
                self._input = layer
            else:
                self._given.append(layer)
        pure = SequentialLayer(tuple(self._given), name=self.layer.name)
        self.layer, self._train_state, self._inputs = pure, None, self._input
        first: Any = self._given[0] if self._given else None
        while first is not None and self._inputs is None:
            if isinstance(first, Weighted):
                self._inputs = first._inputs
                break
            if first.input_shape is not None:
                dtype = getattr(first, "input_dtype", "float32")
                self._inputs = Node(None, (), input_specs((None, *first.input_shape), dtype))
            children = first.children()
            first = children[0][1] if children else None
        if self._inputs is not None and self._given:
            self._build()
