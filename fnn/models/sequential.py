"""Sequential: a model of layers in a row."""

from __future__ import annotations

from collections.abc import Iterable

from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models import sharing
from fnn.models.model import Model
from fnn.models.network import Network
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

    _start: Node | None = None  # an `Input` among the layers

    def __init__(
        self, layers: Tree = None, *, name: str | None = None, seed: int | None = None
    ) -> None:
        whole = SequentialLayer()
        if isinstance(layers, SequentialLayer):
            whole, layers = layers, sharing.apart(layers).layers
        super().__init__(whole.replace(layers=()), name=name, seed=seed)
        self._become(layers or ())

    def add(self, layer: Layer | Model | Node) -> None:
        """Appends a layer. Those that there were keep their weights."""
        self._become((*self._row, layer))

    def pop(self) -> None:
        """Removes the last layer. Raises ValueError if there is none."""
        if not self._row:
            raise ValueError("expected a model with layers, received an empty one")
        self._become(self._row[:-1])

    @property
    def _row(self) -> tuple[Layer, ...]:
        layers: tuple[Layer, ...] = self.layer.layers  # type: ignore[attr-defined]
        return layers

    def _become(self, given: Iterable[Tree]) -> None:
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
        weights = self._weights
        if weights.built:
            weights.now  # noqa: B018 - takes over what was assigned in the layers of before
        layer = self.layer.replace(layers=layers)
        start = next((item for item in given if isinstance(item, Node)), self._start)
        inputs = start
        first: Layer | None = layer
        while first is not None and inputs is None:
            inputs = sharing.stated_inputs(first)
            first = next((child for _, child in first.children()), None)
        before = weights.network
        weights.network = Network(layer, inputs, self.name)
        if inputs is None or not layers:
            weights.forget()
        else:
            try:
                weights.build()
            except BaseException:
                weights.network = before
                raise
        self._start = start
