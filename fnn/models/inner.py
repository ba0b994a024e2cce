"""Inner: models that stand as layers in other models, as models again."""

from __future__ import annotations

from typing import Any

from fnn.core.layer import Layer
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models import sharing
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.symbolic.graph import Graph

# What a graph or row of layers inside a model answers as a model.
_VERBS = ("compile", "evaluate", "fit", "predict", "predict_on_batch", "summary")
_FILES = ("load_weights", "save", "save_weights", "to_json")
_PARTS = ("get_layer", "inputs", "layers", "operations", "output_shape", "outputs")
OF_MODELS = frozenset((*_VERBS, *_FILES, *_PARTS))


def as_model(layer: Layer) -> Any:
    """The model that is used as this layer; the layer itself if there is none."""
    owner = sharing.owner_of(layer)
    if owner is None or owner.kept is None or owner.kept.user is None:
        return layer
    weights: Any = owner.kept
    model = weights.user()
    if model is None and _is_plain(layer):
        # The user has kept the layer alone.
        model = _class_for(layer).__new__(_class_for(layer))
        model._take_parts(weights)
    return model or layer


def attribute(layer: Layer, name: str) -> object:
    """An attribute of models of a graph or row of layers in a model, such as one of a file."""
    if name not in OF_MODELS or not _is_plain(layer):
        return NotImplemented
    model = as_model(layer)
    if model is layer:
        inputs = sharing.stated_inputs(layer)
        if inputs is None:
            return NotImplemented
        model = _class_for(layer).__new__(_class_for(layer))
        model._set_up(layer, inputs, layer.name)
        weights = model._weights
        # They are those of the model around it.
        weights.start_from(*weights.network.weight_specs)
    return getattr(model, name)


def _is_plain(layer: Layer) -> bool:
    """Whether a layer is the network of a functional model or of a `Sequential`."""
    return isinstance(layer, (Graph, SequentialLayer))


def _class_for(layer: Layer) -> type[Model]:
    if isinstance(layer, SequentialLayer):
        return Sequential
    return Model
