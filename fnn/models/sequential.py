"""Sequential: a model of layers in a row."""

from __future__ import annotations

from collections.abc import Iterable

from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models import sharing
from fnn.models.model import Model
from fnn.models.network import Network
from fnn.models.wiring import body_of
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import Node


class Sequential(Model):
    """A model of layers in a row; `add` and `pop` change it, `input_shape` or `Input` builds it.

    Layers keep their weights when others come or go. One layer object at several places has one
    set of weights: `[Dense(8)] * 3`.

    >>> model = Sequential([fnn.layers.Dense(2, input_shape=(4,))], seed=0)
    >>> model.add(fnn.layers.Dense(1))
    >>> model.output_shape
    (None, 1)
    """

    _start: Node | None = None  # an `Input` among the layers

    def __init__(
        self,
        layers: Tree = None,
        *,
        name: str | None = None,
        seed: int | None = None,
        dtype: str | None = None,
    ) -> None:
        whole = SequentialLayer()
        if isinstance(layers, SequentialLayer):
            whole, layers = layers, sharing.apart(layers).row
        whole = whole.replace(layers=(), order=None)
        super().__init__(whole, name=name, seed=seed, dtype=dtype)
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
        whole = body_of(self._whole)
        row: tuple[Layer, ...] = whole.row  # type: ignore[attr-defined]
        return row

    @property
    def _whole(self) -> Layer:
        """The layers in a row, as one layer."""
        return self.layer

    def _network_of(self, whole: Layer, inputs: Tree) -> Network:
        """The network for these layers in a row."""
        return Network(whole, inputs, self.name)

    def _become(self, given: Iterable[Tree]) -> None:
        """This model with the given layers, models and `Input` in a row, whatever it was before."""
        if self.quantization_mode is not None:
            raise ValueError(
                f"the model {self.name!r} is quantized, so its layers stay; add layers before "
                "quantize"
            )
        given = tuple(_start_of(item) for item in given)
        row = [item for item in given if not isinstance(item, Node)]
        # One layer object at several places has one set of weights.
        layers = list({id(layer): layer for layer in row}.values())
        order = None
        if len(layers) < len(row):
            numbers = {id(layer): number for number, layer in enumerate(layers)}
            order = tuple(numbers[id(layer)] for layer in row)
        weights = self._weights
        if weights.built:
            weights.now  # noqa: B018 - takes over what was assigned in the layers of before
        whole = self._whole.replace(layers=layers, order=order, ties=())
        layer = sharing.tied(whole)
        start = next((item for item in given if isinstance(item, Node)), self._start)
        inputs = start
        first: Layer | None = layer
        while first is not None and inputs is None:
            inputs = sharing.stated_inputs(first)
            first = next((child for _, child in first.children()), None)
        before = weights.network
        weights.network = self._network_of(layer, inputs)
        if inputs is None or not layers:
            weights.forget()
        else:
            try:
                weights.build()
            except BaseException:
                weights.network = before
                raise
        self._start = start


def _start_of(item: Tree) -> Tree:
    """The node of an `InputLayer`; anything else as it is."""
    if isinstance(item, InputLayer):
        return item.output
    return item
