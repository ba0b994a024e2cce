"""Configs of models: networks as plain data and JSON, and models made again from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.registry import register
from fnn.core.tree import Tree
from fnn.models import sharing
from fnn.models.loading import model_of
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.saving.keras.configs import compile_from_keras, network_from_keras
from fnn.saving.reading import refused, unmakeable
from fnn.saving.tensors import parse
from fnn.subclassing.copies import swapped
from fnn.symbolic.node import Input

register(Model, "Functional", kind="model")
register(Sequential, kind="model")


def model_from_json(
    json_string: str, custom_objects: Mapping[str, object] | None = None
) -> Any:
    """The model that `model.to_json()` described, with new weights.

    Compiled as it was, if it was. Names are looked up as by `load`. Reads what Keras 3 and 2 wrote
    too. Raises ValueError for unknown names, with the layer, for JSON with a key twice or NaN, and
    for weights that do not fit into memory.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,))])
    >>> model_from_json(model.to_json()).output_shape
    (None, 2)
    """
    with refused("the JSON", unmakeable):
        return _made(parse(json_string.encode()), custom_objects)


def _made(
    described: dict[str, Any], custom_objects: Mapping[str, object] | None
) -> Any:
    model = model_of(network_from_keras(described, custom_objects))
    given = compile_from_keras(described.get("compile_config"), custom_objects)
    if given is not None:
        model.compile(**given)
    return model


def clone_model(
    model: Model,
    input_tensors: Tree = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Callable[..., Tree] | None = None,
    recursive: bool = False,
    **kwargs: object,
) -> Any:
    """A model of equal layers with new weights, not compiled.

    `input_tensors` are the nodes to start from, `clone_function(layer)` returns the layer in
    place of another, `call_function(layer, x)` what it makes of its inputs. With `recursive` the
    layers inside the models among the layers are cloned by the function too. A layer that is
    called twice is cloned once. Raises TypeError for what is no model.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,))], seed=0)
    >>> other = clone_model(model, clone_function=lambda layer: layer.replace(units=3))
    >>> other.output_shape
    (None, 3)
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"clone_model: expected a model, received {model!r}; a layer is a value, use "
            "layer.replace()"
        )
    clone = _Clone(clone_function, call_function, recursive)
    layer = model.layer
    plain = input_tensors is None and call_function is None
    if isinstance(model, Sequential) and plain:
        start = model._start
        row: list[Any] = [] if start is None else [start]
        row += [clone.of(name, child) for name, child in layer.children()]
        return Sequential(row, name=model.name)
    if not isinstance(layer, Flow):
        return Model(clone.of(None, layer), name=model.name)
    inputs = input_tensors
    if inputs is None:
        inputs = _inputs_like(model._network.inputs)
    elif isinstance(inputs, (list, tuple)) and not isinstance(model.input, tuple):
        (inputs,) = inputs
    outputs = layer.flow(inputs, clone.visit)
    return Model(inputs, outputs, name=model.name)


class _Clone:
    """Makes the layers of a copy, one for each layer object, and calls them."""

    def __init__(
        self,
        make: Callable[[Layer], Layer] | None,
        call: Callable[..., Tree] | None,
        recursive: bool,
    ) -> None:
        self.make = make
        self.call = call
        self.recursive = recursive
        self.known: dict[int, Layer] = {}

    def of(self, name: str | None, layer: Layer) -> Layer:
        """The layer in place of another, the same one each time."""
        if id(layer) not in self.known:
            self.known[id(layer)] = self._made(name, layer)
        return self.known[id(layer)]

    def _made(self, name: str | None, layer: Layer) -> Layer:
        apart = sharing.apart(layer, models=True)
        if self.recursive and isinstance(layer, Flow):
            swaps = {}
            for inner, child in layer.children():
                swaps[id(child)] = self.of(inner, child)
            apart = swapped(layer, swaps)
        if self.make is not None:
            apart = self.make(apart)
        if apart.name is None and name is not None:
            apart = apart.replace(name=name)
        return apart

    def visit(self, name: str, layer: Layer, x: Tree) -> Tree:
        """Calls the clone of a layer on nodes."""
        made = self.of(name, layer)
        if self.call is not None:
            return self.call(made, x)
        return made(x)


def _inputs_like(nodes: Tree) -> Tree:
    """New inputs of the shapes, dtypes and names of these nodes."""
    if isinstance(nodes, tuple):
        return tuple(map(_inputs_like, nodes))
    if isinstance(nodes, dict):
        return {name: _inputs_like(node) for name, node in nodes.items()}
    return Input(batch_shape=nodes.shape, dtype=nodes.dtype, name=nodes.name)
