"""What a model is made of: the layer and the inputs that its constructor is given."""

from __future__ import annotations

from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models import sharing
from fnn.models.outputs import as_tuple, without_a_list_of_one
from fnn.models.policies import Policies
from fnn.runtime.keras_objects import refuse_keras
from fnn.symbolic.graph import connect


def layer_of(
    inputs: Tree, outputs: Tree, name: str | None, dtype: str | None
) -> tuple[Layer, Tree]:
    """(the network, its input nodes) for a graph, a layer or a model.

    Raises TypeError for anything else.
    """
    layer: Layer
    if outputs is not None:
        inputs = as_tuple(inputs)
        layer = sharing.tied(connect(inputs, without_a_list_of_one(outputs)))
    elif isinstance(inputs, Policies):
        layer = inputs.as_layer()
        inputs = sharing.stated_inputs(layer)
    elif isinstance(inputs, Layer):
        layer = sharing.apart(inputs)
        inputs = sharing.stated_inputs(layer)
    else:
        refuse_keras(inputs)
        raise TypeError(
            f"Model: expected a layer, or inputs and outputs of a graph, received {inputs!r}; "
            "e.g. x = Input((10,)), then Model(x, Dense(3)(x))"
        )
    if name is not None:
        layer = layer.replace(name=name)
    if dtype is not None:
        layer = layer.replace(dtype=dtype)
    return layer, inputs
