"""Stored: what layers and models keep in files in Keras's way: own variables, shapes of builds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core.calling import walk
from fnn.core.tree import Path, Tree
from fnn.export import export_model
from fnn.models import sharing
from fnn.models.variables import WeightVariable, keys_of, variable
from fnn.models.weights import Weights
from fnn.subclassing import Methods

Arrays: TypeAlias = dict[str, np.ndarray]


def _place_of(thing: Any) -> tuple[sharing.Weights | None, Path]:
    """The weights of a layer or model, and its path there."""
    weights = vars(thing).get("_weights")  # of a model
    if weights is not None:
        return weights, ()
    owner = sharing.owner_of(thing)
    if owner is None:
        return None, ()
    return owner.weights, owner.path


def own_weights(thing: Any) -> list[WeightVariable]:
    """The weights of a layer or model itself, without those of the layers inside."""
    weights, place = _place_of(thing)
    if weights is None or not weights.built:
        return []
    depth = len(place) + 1
    own = [key for key in keys_of(weights, place) if len(key[1]) == depth]
    return [variable(weights, *key) for key in own]


def save_own_variables(thing: Any, store: MutableMapping[str, Any]) -> None:
    """Puts the weights of the layer itself into `store`, under "0", "1", ..."""
    for number, weight in enumerate(own_weights(thing)):
        store[str(number)] = weight.numpy()


def load_own_variables(thing: Any, store: Mapping[str, Any]) -> None:
    """Takes the weights of the layer itself from `store`. Raises ValueError for another number."""
    own = own_weights(thing)
    if len(store) != len(own):
        raise ValueError(
            f"{thing.name}: expected {len(own)} arrays, of {[v.name for v in own]}, received "
            f"{len(store)}: {sorted(store)}; build the layer before, or take what else is in the "
            "store in load_own_variables"
        )
    for number, weight in enumerate(own):
        weight.assign(np.asarray(store[str(number)]))


def get_build_config(thing: Any) -> dict[str, Tree] | None:
    """The shape of the inputs, as for `build`; None before it is known."""
    weights, path = _place_of(thing)
    if weights is None or not weights.built:
        return None
    inputs = weights.network.inputs
    if path:
        inputs = sharing.stated_inputs(thing)
    if inputs is None:
        return None
    shapes = jax.tree.map(lambda node: _Shape(node.shape), inputs)
    return {"input_shape": _plain(shapes)}


def build_from_config(thing: Any, config: Mapping[str, Any]) -> None:
    """Builds the layer or model as `get_build_config` says."""
    if config.get("input_shape") is not None:
        thing.build(config["input_shape"])


class _Shape:
    """A shape as a leaf of a tree."""

    def __init__(self, shape: tuple[int | None, ...]) -> None:
        self.shape = shape


def _plain(shapes: Tree) -> Tree:
    if isinstance(shapes, _Shape):
        return shapes.shape
    if isinstance(shapes, dict):
        return {name: _plain(item) for name, item in shapes.items()}
    return [_plain(item) for item in shapes]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        save_own_variables,
        load_own_variables,
        get_build_config,
        build_from_config,
    )
}


class Stored:
    """The methods of a model for files; those of layers are the same functions."""

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Puts the variables of the model itself into `store`, under "0", "1", ..."""
        save_own_variables(self, store)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Takes the variables of the model itself from `store`."""
        load_own_variables(self, store)

    def get_build_config(self) -> dict[str, Tree] | None:
        """The shape of the inputs, as for `build`; None before it is known."""
        return get_build_config(self)

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the model as `get_build_config` says."""
        build_from_config(self, config)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str | None = None,
        verbose: bool | None = None,
        input_signature: Tree = None,
        **kwargs: Any,
    ) -> None:
        """Writes the model in inference as a program that runs without its layers.

        "stablehlo": a folder for `fnn.export.load` or JAX alone, for CPU, CUDA and TPU;
        "tf_saved_model": a folder for TensorFlow; "onnx": a file for ONNX Runtime, the default for
        a name that ends in `.onnx`, as "stablehlo" is for any other. The number of examples is
        free. `input_signature` sets other shapes or dtypes than those of the inputs.
        An export cannot be trained and is read by versions of its library near to the one that
        wrote it: keep the saved model too.

        Raises ValueError for a network that cannot be a program for any number of examples, and
        TypeError for one that takes strings.
        """
        weights: Weights = vars(self)["_weights"]
        weights.now  # noqa: B018 - raises while the shape of the inputs is not known
        network = weights.network
        if network.is_stateful:
            raise ValueError(
                f"the model {network.name!r} is stateful, and a program keeps no state between "
                "calls; export a model with stateful=False and these weights"
            )
        if input_signature is None:
            input_signature = [network.inputs]
        names = network.output_names
        export_model(self, filepath, format, verbose, input_signature, names, **kwargs)

    # -- what classes store themselves -----------------------------------------------------------

    def own_stores(self) -> Arrays:
        """What `save_own_variables` of classes that override it puts into a file, by path."""
        found: Arrays = {}
        for path, thing in _storing(self):
            store: dict[str, Any] = {}
            thing.save_own_variables(store)
            for name, value in store.items():
                found["/".join((*path, name))] = np.asarray(value)
        return found

    @property
    def stores_own(self) -> bool:
        """Whether a class of the model or of a layer inside overrides `save_own_variables`."""
        return any(True for _ in _storing(self))

    def take_own_stores(self, arrays: Arrays) -> None:
        """Gives each such class what it has put into a file."""
        for path, thing in _storing(self):
            start = "/".join((*path, ""))
            store = {
                name.removeprefix(start): array
                for name, array in arrays.items()
                if name.startswith(start) and "/" not in name.removeprefix(start)
            }
            thing.load_own_variables(store)


def _storing(model: Any) -> Iterator[tuple[Path, Any]]:
    """The model and the layers inside whose classes override what they store, with their paths."""
    for path, layer, _ in walk(model.layer):
        thing = model
        if path:
            thing = type(model).as_shown(layer)
        known = (Methods.save_own_variables, Stored.save_own_variables)
        if getattr(type(thing), "save_own_variables", known[0]) not in known:
            yield path, thing


def _bound(thing: Any, name: str) -> Callable[..., Any]:
    return functools.partial(FUNCTIONS[name], thing)


Methods.on_stored = staticmethod(_bound)
