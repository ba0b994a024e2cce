"""Constructing: the network of a model, from the arguments of `Model`."""

from __future__ import annotations

from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models import sharing
from fnn.models.attributes import Attributes
from fnn.models.outputs import as_tuple, without_a_list_of_one
from fnn.runtime.keras_objects import refuse_keras
from fnn.symbolic.graph import connect


def layer_and_inputs(inputs: Tree, outputs: Tree) -> tuple[Layer, Tree]:
    """(network, its input nodes or None), for what `Model` was given."""
    if outputs is not None:
        inputs = as_tuple(inputs)
        return sharing.tied(connect(inputs, without_a_list_of_one(outputs))), inputs
    if isinstance(inputs, Attributes):  # a model
        layer = inputs.as_layer()
    elif isinstance(inputs, Layer):
        layer = sharing.apart(inputs)
    else:
        refuse_keras(inputs)
        raise TypeError(
            f"Model: expected a layer, or inputs and outputs of a graph, received {inputs!r}; "
            "e.g. x = Input((10,)), then Model(x, Dense(3)(x))"
        )
    return layer, sharing.stated_inputs(layer)
