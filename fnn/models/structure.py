"""Structure: what a model is made of, as Keras lets one ask: layers, nodes, shapes, names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import jax

from fnn import summaries
from fnn.core import arguments
from fnn.core.calling import output_spec, walk
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.models import sharing
from fnn.symbolic.node import Item, Node, free_shape, symbolic_call
from fnn.training.step import output_leaves

if TYPE_CHECKING:
    from fnn.training.state import TrainState


class Wiring:
    """The nodes of a model: what goes into each layer directly inside and what comes out."""

    def __init__(self, layer: Layer, inputs: Any) -> None:
        self.layer, self.inputs = layer, inputs
        self.calls: dict[
            int, tuple[Any, Any]
        ] = {}  # by the layer object, its first call
        if isinstance(layer, Flow):
            self.outputs = layer.flow(inputs, self._visit)
        else:
            self.outputs = symbolic_call(layer, (inputs,), {})

    def _visit(self, name: str, layer: Layer, x: Any) -> Any:
        if isinstance(layer, Item) and isinstance(
            x, tuple
        ):  # the call before it has parted them
            return x[layer.index]  # type: ignore[index]
        y = symbolic_call(layer, (x,), {})
        self.calls.setdefault(id(layer), (x, y))
        return y


class Structure:
    """The part of a model that tells what it is made of and which of it learns."""

    attribute_advice: ClassVar[
        dict[str, str]
    ] = {}  # for attributes that other libraries have

    if TYPE_CHECKING:
        layer: Layer
        name: str
        _cell: sharing.Cell
        _inputs: Any

        @property
        def _now(self) -> TrainState: ...

        def _trial(self, index: int = 0) -> Any: ...

    else:

        def __getattr__(self, name: str) -> Any:
            raise arguments.no_attribute(self, name, self.attribute_advice)

    _wired: Wiring | None = None

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in order."""
        return [child for _, child in self.layer.children()] or [self.layer]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that place. Raises ValueError naming those there are."""
        children = dict(self.layer.children())
        if name is not None and name in children:
            return children[name]
        if index is not None and -len(children) <= index < len(children):
            return list(children.values())[index]
        raise ValueError(
            f"expected one of the {len(children)} layers {list(children)}, received "
            f"{name if index is None else index!r}"
        )

    @property
    def trainable(self) -> bool:
        """False: no weight of this model learns. Compile again after a change."""
        return self.layer.trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._change(self.layer.replace(trainable=bool(trainable)))

    def freeze(self, *layers: Any) -> None:
        """Makes these layers, given by themselves or by name, learn no more.

        What Keras does by `layer.trainable = False` for layers of a model: their weights stay as
        they are, and batch statistics too. Compile again after it. Raises ValueError for a layer
        that is not in the model.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
        >>> model.freeze(*model.layers[:-1])
        >>> [layer.trainable for layer in model.layers]
        [False, True]
        """
        self._set_trainable(layers, False)

    def unfreeze(self, *layers: Any) -> None:
        """Makes these layers, given by themselves or by name, learn again; as `freeze`."""
        self._set_trainable(layers, True)

    def _set_trainable(self, chosen: tuple[Any, ...], trainable: bool) -> None:
        inside = {id(layer) for path, layer, _ in walk(self.layer) if path}
        swaps = {}
        for one in chosen:
            layer = self.get_layer(one) if isinstance(one, str) else one
            if id(layer) not in inside:
                raise ValueError(
                    f"expected layers of {self.name!r}, received {layer!r}, which is not one of "
                    "its objects (they are others after freeze); give names, or model.layers"
                )
            swaps[id(layer)] = layer.replace(trainable=trainable)
            owner = sharing.Owner.of(layer)
            if owner is not None:
                owner.mark(swaps[id(layer)])
        self._change(sharing.swapped(self.layer, swaps))

    def _change(self, layer: Layer) -> None:
        """Takes an equal network of which other weights learn."""
        self.layer = layer
        if self._cell.now is not None:
            self._cell.now = self._cell.now.replace(optimizer=None)

    # -- nodes -----------------------------------------------------------------------------------

    @property
    def wiring(self) -> Wiring:
        """The nodes of the network. Raises ValueError where the shape of the inputs is unknown."""
        if self._inputs is None:
            raise ValueError(
                f"expected the model {self.name!r} to have inputs, received one whose input shape "
                "is not known yet; give input_shape=(...) to its first layer"
            )
        now = self._wired
        if now is None or now.layer is not self.layer or now.inputs is not self._inputs:
            now = self._wired = Wiring(self.layer, self._inputs)
        return now

    @property
    def input(self) -> Any:
        """The node of the inputs, or their structure: a graph may go on from inside a model.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
        >>> fnn.Model(model.input, model.layers[0].output).output_shape
        (None, 2)
        """
        return self.wiring.inputs

    @property
    def inputs(self) -> list[Node]:
        """The nodes of the inputs, in a list."""
        return jax.tree.leaves(self.input)

    @property
    def output(self) -> Any:
        """The node of the outputs, or their structure."""
        return self.wiring.outputs

    @property
    def outputs(self) -> list[Node]:
        """The nodes of the outputs, in a list."""
        return jax.tree.leaves(self.output)

    # -- shapes and names ------------------------------------------------------------------------

    @property
    def input_shape(self) -> Any:
        """The shape of the inputs, None where the size is free."""
        return jax.tree.map(lambda node: node.shape, self._inputs)

    @property
    def output_shape(self) -> Any:
        """The shape of the outputs, None where the size is free."""
        return free_shape(*(output_spec(self.layer, self._trial(i)) for i in (0, 1)))

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        self._now  # noqa: B018 - raises while the shape of the inputs is not known
        spec = output_spec(self.layer, self._trial())
        if isinstance(spec, dict):
            return sorted(spec)
        count = len(output_leaves(spec))
        names: list[str] = getattr(self.layer, "output_names", [])
        if len(names) == count:
            return names
        return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]

    summary, __repr__ = summaries.summary, summaries.describe
