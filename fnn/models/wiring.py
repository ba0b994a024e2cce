"""Wiring: the nodes of a network, by the layers directly inside."""

from __future__ import annotations

import jax
from jax.typing import DTypeLike

from fnn.core.calling import output_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.layers.wrappers import Inference, Training
from fnn.symbolic.node import Node, free_shape, input_specs, nodes_of
from fnn.symbolic.parts import Item


def as_called(layer: Layer) -> Layer:
    """The layer object that the user called, inside what `training=` of the call made of it."""
    while isinstance(layer, (Inference, Training)):
        layer = layer.inner
    return layer


def body_of(layer: Layer) -> Layer:
    """The layer whose layers inside are those of the model; for most it is the layer itself."""
    return getattr(layer, "_body", None) or layer


class Wiring:
    """The nodes of a network: the inputs and outputs of each layer directly inside."""

    def __init__(self, layer: Layer, inputs: Tree) -> None:
        # By the id of the layer object: inputs and outputs of its first call.
        self.calls: dict[int, tuple[Tree, Tree]] = {}
        self.inputs = inputs
        body = body_of(layer)
        if isinstance(body, Flow):
            self.outputs = body.flow(inputs, self._visit)
        if body is not layer or not isinstance(body, Flow):
            self.outputs = nodes_of(layer, inputs)

    def _visit(self, name: str, layer: Layer, x: Tree) -> Tree:
        if isinstance(layer, Item) and isinstance(x, (tuple, list)):
            # The call before it has returned its outputs one by one.
            return x[layer.index]  # type: ignore[index]
        y = nodes_of(layer, x)
        self.calls.setdefault(id(layer), (x, y))
        self.calls.setdefault(id(as_called(layer)), (x, y))
        return y


def output_shape_for(layer: Layer, input_shape: Tree) -> Tree:
    """The shape of the outputs for inputs of this shape, None for free sizes."""
    inputs = nodes_of_shape(input_shape)
    first = jax.tree.map(lambda node: node.specs[0], inputs)
    second = jax.tree.map(lambda node: node.specs[1], inputs)
    return free_shape(output_spec(layer, first), output_spec(layer, second))


def nodes_of_shape(shape: Tree) -> Tree:
    """Input nodes for a shape, or for a list or dict of shapes, the batch included."""
    if isinstance(shape, dict):
        return {name: nodes_of_shape(item) for name, item in shape.items()}
    if shape and isinstance(shape[0], (tuple, list)):
        return tuple(map(nodes_of_shape, shape))
    return node_of(shape)


def node_of(shape: tuple[int | None, ...], dtype: DTypeLike = "float32") -> Node:
    """An input node for arrays of this shape, the batch included."""
    return Node(None, (), input_specs(shape, dtype))


def free_batch(array: Tree) -> Node:
    """An input node like an array, for any number of examples."""
    return Node(None, (), input_specs((None, *array.shape[1:]), array.dtype))
