"""Owned: the attributes of a layer that Keras answers from the model in which it stands."""

from __future__ import annotations

import functools

import jax
import numpy as np

from fnn import dtype_policies
from fnn.core.context import strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.core.weights import is_weight
from fnn.layers.shared.recurrence import OverTime
from fnn.models import cells, inner, stored
from fnn.models.attributes import Attributes
from fnn.models.lists import Lists, Values
from fnn.models.sharing import Weights, owner_of, stated_inputs
from fnn.models.variables import (
    WeightVariable,
    losses,
    path_in,
    recurrent_states,
    variable,
    variables,
)
from fnn.models.wiring import output_shape_for
from fnn.subclassing import KerasLayer, running_frame
from fnn.subclassing.tracking import variables_in
from fnn.summaries import layer_html
from fnn.variables import Variable


class _Place:
    """A layer object at a path in the network of some weights."""

    def __init__(self, weights: Weights, path: Path, layer: Layer) -> None:
        self._weights = weights
        self._path = path
        self._layer = layer

    @property
    def input(self) -> Tree:
        return self._nodes()[0]

    @property
    def output(self) -> Tree:
        return self._nodes()[1]

    def _nodes(self) -> tuple[Tree, Tree]:
        wiring = self._weights.network.wiring
        if not self._path:
            return wiring.inputs, wiring.outputs
        if id(self._layer) not in wiring.calls:
            raise AttributeError(
                f"expected a layer directly inside {self._weights.network.name!r}, received "
                f"{self._layer!r} at {'/'.join(self._path)}, which has no node of its own there"
            )
        return wiring.calls[id(self._layer)]

    def get_weights(self) -> list[np.ndarray]:
        return self._weights.get(self._path)

    def set_weights(self, arrays: list[Tree]) -> None:
        self._weights.set(arrays, self._path)

    def count_params(self) -> int:
        return self._weights.count(self._path)

    @property
    def name(self) -> object:
        network = self._weights.network
        if not self._path:
            return network.name
        return network.names.get(id(self._layer), NotImplemented)

    @property
    def path(self) -> str:
        return path_in(self._weights, self._path)

    @property
    def built(self) -> bool:
        return True

    @property
    def weights(self) -> list[WeightVariable]:
        return variables(self._weights, self._path)

    @property
    def trainable_weights(self) -> list[WeightVariable]:
        return variables(self._weights, self._path, learned=True)

    @property
    def non_trainable_weights(self) -> list[WeightVariable]:
        return variables(self._weights, self._path, learned=False)

    @property
    def losses(self) -> list[jax.Array]:
        return losses(self._weights, self._path)

    @property
    def states(self) -> object:
        if "stateful" not in vars(self._layer):
            return NotImplemented
        return recurrent_states(self._weights, self._path)

    def reset_state(self) -> None:
        self._weights.reset_recurrent_states(self._path)

    def _named(self, name: str) -> object:
        """The weight of the layer itself that has this name."""
        part = self._weights.part_with((*self._path, name))
        if part is None or not is_weight(name):
            return NotImplemented
        return variable(self._weights, part, (*self._path, name))

    def stateless_call(
        self,
        trainable_variables: Values,
        non_trainable_variables: Values,
        *given: Tree,
        return_losses: bool = False,
        **named: Tree,
    ) -> tuple[Tree, ...]:
        """(outputs, non-trainable values after) of the layer with these values, as of a model."""
        lists = Lists(self._weights, self._path)
        result = lists.call(
            self._layer, trainable_variables, non_trainable_variables, given, named
        )
        found = strip_masks(result.outputs), result.non_trainable
        if return_losses:
            return *found, result.losses
        return found


def follow(layer: Layer, name: str) -> None:
    """Changes a model and the layer that it is used as together."""
    owner = owner_of(layer)
    if owner is None or owner.kept is None:
        return
    own = owner.kept.network.layer
    if getattr(own, name) != getattr(layer, name):
        setattr(own, name, getattr(layer, name))


# Attributes of Keras's layers that have one value here.
SAME_FOR_ALL: dict[str, object] = {
    "quantization_mode": None,
    "autocast": True,
    "supports_jit": True,
}
_NAMES = {
    "variables": "weights",
    "trainable_variables": "trainable_weights",
    "non_trainable_variables": "non_trainable_weights",
    "reset_states": "reset_state",
}
for _name in vars(_Place):
    if _name[0] != "_":
        _NAMES.setdefault(_name, _name)


def answer(layer: Layer, name: str) -> object:
    """An attribute of a layer as its model knows it; NotImplemented for all others."""
    frame = running_frame()
    if frame is not None:
        found = frame.attribute_of(layer, name)
        if found is not NotImplemented:
            return found
    if name == "build":
        return functools.partial(cells.build, layer)
    if name == "compute_output_shape":
        return functools.partial(output_shape_for, layer)
    if name in SAME_FOR_ALL:
        return SAME_FOR_ALL[name]
    if name in stored.FUNCTIONS:
        return functools.partial(stored.FUNCTIONS[name], layer)
    if name == "dtype_policy":
        return dtype_policies.of_layer(layer)
    if name == "cell" and isinstance(layer, OverTime):
        return layer  # the weights of its step are its own
    if name == "supports_masking":
        return layer.masking != "refuse"
    owner = owner_of(layer)
    if owner is None or owner.weights is None or not owner.weights.built:
        return _before_weights(layer, _NAMES.get(name, name))
    place = _Place(owner.weights, owner.path, layer)
    if name in _NAMES:
        return getattr(place, _NAMES[name])
    found = place._named(name)
    if found is NotImplemented:
        found = inner.attribute(layer, name)
    return found


def _before_weights(layer: Layer, name: str) -> object:
    """The attributes of a layer that has no weights yet, but variables made in `__init__`."""
    if name == "built":
        return False
    if name == "losses":
        return []
    if name == "stateless_call":
        raise ValueError(
            f"{type(layer).__name__}: expected a layer with weights, received one that has no "
            "weights yet; call it on arrays or layer.build(shape) before"
        )
    made: list[Variable] = []
    if isinstance(layer, KerasLayer):
        made = list(variables_in(layer._own).values())
    learned = [v for v in made if v.trainable and layer.trainable]
    if name == "weights":
        return made
    if name == "get_weights":
        return lambda: [variable.numpy() for variable in made]
    if name == "trainable_weights":
        return learned
    if name == "non_trainable_weights":
        return [v for v in made if v not in learned]
    return NotImplemented


def page(layer: Layer) -> str:
    """The HTML of a layer, with shapes if it stands in a model or knows its input shape."""
    return layer_html(layer, stated_inputs(layer))


Layer.on_attribute = staticmethod(answer)
Layer._repr_html_ = page
Layer.on_assigned = staticmethod(follow)
Attributes.as_shown = staticmethod(inner.as_model)
