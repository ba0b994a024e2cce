"""Sequential: a model of layers in a row."""

from __future__ import annotations

from typing import Any

from fnn.core.node import Node, stated_inputs
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

    layer: Any  # layers.Sequential
    _start: Node | None = None
    _kept: tuple[Any, ...] = ()  # models among the layers: their weights are taken over

    def __init__(
        self, layers: Any = None, *, name: str | None = None, seed: int | None = None
    ) -> None:
        whole = layers if isinstance(layers, SequentialLayer) else SequentialLayer()
        super().__init__(whole.replace(layers=()), name=name, seed=seed)
        self._become(whole.layers if whole is layers else layers or ())

    def add(self, layer: Any) -> None:
        """Appends a layer. Weights that there were are made anew."""
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
        self.layer, self._train_state = self.layer.replace(layers=layers), None
        self._kept += tuple(item for item in given if isinstance(item, Weighted))
        self._start = next((i for i in given if isinstance(i, Node)), self._start)
        self._inputs = self._start
        first: Any = self.layer
        while first is not None and self._inputs is None:
            self._inputs = stated_inputs(first)
            first = next((child for _, child in first.children()), None)
        if self._inputs is not None and layers:
            self._build()
