"""Writing: the config by which Keras makes the network of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from fnn.core.config import serialize_keras_object
from fnn.core.context import strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Tree, is_string
from fnn.layers.sequential import Sequential
from fnn.layers.wrappers import Inference, Training
from fnn.runtime.keras_objects import OWN_FIELDS
from fnn.saving.keras.operations import call_to_keras
from fnn.saving.keras.structures import Config
from fnn.symbolic.graph import Graph, map_places
from fnn.symbolic.node import Node, input_name, nodes_of
from fnn.symbolic.parts import Item, TakeMask, WithMask
from fnn.symbolic.trial_sizes import merged_shape

# Layers that take several inputs in one list, though they have names here.
_LISTED = ("Attention", "AdditiveAttention")


@dataclasses.dataclass(frozen=True)
class Value:
    """A value in a graph: the outputs from `index` on of a call of a layer, and its node."""

    name: str
    number: int
    index: int
    node: Node
    mask: Value | None = None

    def tensors(self) -> Tree:
        """The value as arguments of a call: a tensor for each output."""
        first, second = map(strip_masks, self.node.specs)
        leaves, structure = jax.tree.flatten(first)
        made = []
        for place, (leaf, other) in enumerate(
            zip(leaves, jax.tree.leaves(second), strict=True)
        ):
            config = {
                "shape": list(merged_shape(leaf, other)),
                "dtype": _dtype_name(leaf),
                "keras_history": [self.name, self.number, self.index + place],
            }
            made.append({"class_name": "__keras_tensor__", "config": config})
        return jax.tree.unflatten(structure, made)


def _dtype_name(spec: Any) -> str:
    if is_string(spec.dtype):
        return "string"
    return str(spec.dtype)


def row_config(name: str | None, row: Sequential, inputs: Tree) -> Config:
    """The config of a `Sequential`: its layers, an input layer first if inputs are known."""
    layers = []
    if isinstance(inputs, Node):
        layers.append(_input_entry(inputs, inputs.name or input_name(0)))
        del layers[0]["name"], layers[0]["inbound_nodes"]
    if row.order is not None:
        raise _no_counterpart(row, "runs a layer several times; use a graph of nodes")
    x = inputs
    for child_name, layer in row.children():
        layers.append(entry_of(layer, child_name, x))
        if x is not None:
            x = nodes_of(layer, x)
    config: Config = {"name": name, "trainable": row.trainable, "layers": layers}
    if isinstance(inputs, Node):
        config["build_input_shape"] = list(inputs.shape)
    return config


def entry_of(layer: Layer, name: str | None, x: Tree = None) -> Config:
    """A layer in Keras's form, with its name and the networks inside; `x` are its inputs.

    Raises ValueError for a layer that is called in a way that a row does not have.
    """
    if isinstance(layer, Graph):
        return model_entry("Functional", graph_config(name, layer, _without_names(x)))
    if isinstance(layer, Sequential):
        return model_entry("Sequential", row_config(name, layer, _without_names(x)))
    entry: Config = serialize_keras_object(layer)
    config = entry["config"]
    if name is not None:
        config["name"] = name
    inner = getattr(layer, "inner", None)
    if isinstance(inner, Sequential | Graph) and hasattr(layer, "inside"):
        inside = None
        if x is not None:
            bare = jax.tree.map(lambda n: Node(None, (), strip_masks(n.specs)), x)
            inside = layer.inside(bare)
        config["layer"] = entry_of(inner, inner.own_name, inside)
    return entry


def _without_names(x: Tree) -> Tree:
    """Inputs of an inner network: nodes of the same shapes."""
    return jax.tree.map(lambda node: Node(None, (), node.specs), x)


def model_entry(kind: str, config: Config) -> Config:
    """A `Sequential` or `Functional` of this config in Keras's form."""
    module, registered = "keras", None
    if kind == "Functional":
        module, registered = "keras.src.models.functional", kind
    return {
        "module": module,
        "class_name": kind,
        "config": config,
        "registered_name": registered,
    }


def _input_entry(node: Node, name: str) -> Config:
    config = {
        "batch_shape": list(node.shape),
        "dtype": str(node.dtype),
        "sparse": False,
        "ragged": False,
        "name": name,
    }
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": config,
        "registered_name": None,
        "name": name,
        "inbound_nodes": [],
    }


def _no_counterpart(layer: object, reason: str) -> ValueError:
    return ValueError(
        f"expected a network that Keras has too, received {layer!r}, which {reason}; or save it "
        "as .fnn"
    )


# -- graphs --------------------------------------------------------------------------------------


def graph_config(name: str | None, graph: Graph, inputs: Tree) -> Config:
    """The config of a functional model. Raises ValueError if its inputs are not known."""
    if inputs is None:
        raise _no_counterpart(
            graph, "is a graph whose inputs have no known shape; build the model"
        )
    writer = _Writer(graph)
    starts = writer.start(inputs)
    for step in graph.steps:
        writer.step(*step)
    return {
        "name": name or graph.own_name,
        "trainable": graph.trainable,
        "layers": [*writer.entries.values()],
        "input_layers": map_places(writer.history, starts),
        "output_layers": map_places(writer.history, graph.outputs),
    }


class _Writer:
    """The entries of the layers of a graph, and its values by place."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.entries: dict[str, Config] = {}
        self.layers: dict[str, Layer] = {}
        self.values: list[Value] = []

    def history(self, place: int) -> Tree:
        """A value as inputs or outputs of a config name it."""

        def named(tensor: Config) -> list[Any]:
            name, number, index = tensor["config"]["keras_history"]
            # There the calls of a model count from 1, as its own graph is the first.
            is_model = self.entries[name]["class_name"] == "Functional"
            return [name, number + is_model, index]

        tensors = self.values[place].tensors()
        return jax.tree.map(named, tensors, is_leaf=_is_tensor)

    def start(self, inputs: Tree) -> Tree:
        """Takes the inputs. Returns the places in the structure of the inputs."""
        taken = {name for name, _, _ in self.graph.steps}
        nodes = jax.tree_util.tree_leaves_with_path(inputs)
        for number, (path, node) in enumerate(nodes):
            # In a dict by its key: a model of Keras finds its inputs by their names.
            key = getattr(path[-1], "key", None) if path else None
            name = node.name or key
            while name is None or name in taken:
                name, number = input_name(number), number + 1
            taken.add(name)
            self.entries[name] = _input_entry(node, name)
            self.values.append(Value(name, 0, 0, node))
        return self.graph.inputs

    def step(self, name: str, layer: Layer, places: Tree) -> None:
        """Takes a step: a call of a layer, or one of its outputs."""
        given: Tree = map_places(lambda place: self.values[place], places)
        x: Tree = map_places(lambda place: self.values[place].node, places)
        if isinstance(layer, Item):
            self.values.append(_item_of(given, layer.index))
        elif isinstance(layer, WithMask):
            value, mask = given
            self.values.append(
                dataclasses.replace(value, node=nodes_of(layer, x), mask=mask)
            )
        elif isinstance(layer, TakeMask):
            raise _no_counterpart(
                layer, "takes the mask of a value, which no layer of Keras does"
            )
        else:
            self._call(name, layer, given, x)

    def _call(self, name: str, layer: Layer, given: Tree, x: Tree) -> None:
        base, kwargs = _as_called(layer)
        entry = self._entry(name, base, given, x)
        number = len(entry["inbound_nodes"])
        call = entry.pop("call", None)
        if call is None:
            args, named = _arguments(base, given)
            kwargs = named | kwargs
        else:
            args, kwargs = call.args, call.kwargs
        entry["inbound_nodes"].append(
            {
                "args": serialize_keras_object(list(args)),
                "kwargs": serialize_keras_object(kwargs),
            }
        )
        made = Node(layer, x, (), owner=layer)
        made._specs = (made._inferred(0),)
        self.values.append(Value(name, number, 0, made))

    def _entry(self, name: str, base: Layer, given: Tree, x: Tree) -> Config:
        """The entry of a layer; with `call` for an operation."""
        values = given
        if isinstance(given, Value):
            values = (given,)
        call = None
        if base.is_operation:
            _refuse_masks(base, x)
            call = call_to_keras(base, [value.tensors() for value in values])
        if name not in self.entries:
            self.layers[name] = base
            if call is None:
                entry = entry_of(base, name, x)
            else:
                entry = {
                    "module": call.module,
                    "class_name": call.class_name,
                    "config": serialize_keras_object({"name": name, **call.config}),
                    "registered_name": call.class_name,
                }
            self.entries[name] = {**entry, "name": name, "inbound_nodes": []}
        elif self.layers[name] != base:
            raise _no_counterpart(
                base, f"is called with other fields in {name!r}, than before"
            )
        entry = self.entries[name]
        if call is not None:
            entry["call"] = call
        return entry


def _is_tensor(value: object) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _item_of(value: Value, index: Any) -> Value:
    """One of several outputs of a call."""
    spec = value.node.spec
    keys: Sequence[Any] = range(len(spec))
    if isinstance(spec, dict):
        keys = sorted(spec)
    before = 0
    for key in keys:
        if key == index:
            break
        before += len(jax.tree.leaves(strip_masks(spec[key])))
    node = Node(Item(index), value.node, (spec[index],))
    return Value(value.name, value.number, value.index + before, node)


def _as_called(layer: Layer) -> tuple[Layer, dict[str, Any]]:
    """(the layer that the user made, the arguments that a call has given it beside inputs)."""
    kwargs: dict[str, Any] = {}
    while isinstance(layer, (Inference, Training)):
        kwargs.setdefault("training", isinstance(layer, Training))
        layer = layer.inner
    for name in layer.call_fields:
        held = getattr(layer, name)
        if held:
            kwargs[name] = held
            layer = layer.replace(**{name: layer._defaults()[name]})
    return layer, kwargs


def _refuse_masks(layer: Layer, x: Tree) -> None:
    """Raises ValueError for an operator on masked values: operators of Keras drop the mask."""
    for node in jax.tree.leaves(x):
        masked = node.spec is not strip_masks(node.spec)
        if masked and type(layer).__name__ != "Operation":
            raise _no_counterpart(
                layer,
                "keeps the mask of its inputs, where Keras drops it; use Unmask() before it",
            )


def _arguments(layer: Layer, given: Tree) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call of a layer with these values."""
    form = getattr(layer, "_form", None)
    tensors = jax.tree.map(_tensors, given, is_leaf=_is_value)
    masks = _masks(layer, given)
    if form is not None:
        inputs = tensors if isinstance(tensors, tuple) else (tensors,)
        args, named = form.fill(inputs)
        return list(args), named | masks
    if not isinstance(tensors, tuple):
        return [tensors], masks
    names = layer.input_names
    if not names or type(layer).__name__ in _LISTED:
        return [list(tensors)], masks
    first, *others = tensors
    if names[1] in ("initial_state", "states"):
        states = jax.tree.leaves(others, is_leaf=_is_tensor)
        return [first], {names[1]: states} | masks
    pairs = zip(names[1:], others, strict=False)
    named = {name: item for name, item in pairs if item is not None}
    return [first], named | masks


def _is_value(value: object) -> bool:
    return isinstance(value, Value) or value is None


def _tensors(value: Value | None) -> Tree:
    if value is None:
        return None
    return value.tensors()


def _masks(layer: Layer, given: Tree) -> dict[str, Any]:
    """The masks that a call gives its inputs."""
    values = given
    if not isinstance(given, tuple):
        values = (given,)
    tensors = [_tensors(getattr(value, "mask", None)) for value in values]
    if not any(tensors):
        return {}
    if len(tensors) == 1 or layer.input_names[1:2] == ("initial_state",):
        return {"mask": tensors[0]}
    if layer.input_names and type(layer).__name__ not in _LISTED:
        named = zip(layer.input_names, tensors, strict=False)
        return {f"{name}_mask": mask for name, mask in named if mask is not None}
    return {"mask": tensors}


# -- what Keras does not have --------------------------------------------------------------------


def refuse_own(data: Any, layer: str = "") -> None:
    """Raises ValueError for a class or field of fnn alone in a config, naming the layer.

    Vocabularies that were learned are taken out: Keras has them beside the weights.
    """
    if isinstance(data, (list, tuple)):
        for item in data:
            refuse_own(item, layer)
    if not isinstance(data, dict):
        return
    config = data.get("config")
    if "class_name" in data and isinstance(config, dict):
        cls = data["class_name"]
        config.pop("learned", None)
        layer = str(config.get("name") or layer)
        if str(data.get("module")).startswith("fnn"):
            raise ValueError(
                f"expected a network that Keras has too, received the layer {layer!r} with {cls}, "
                "which Keras does not have; use layers of Keras, or save it as .fnn"
            )
        own = OWN_FIELDS & config.keys() - {"input_shape"}
        if own and str(data.get("module")).startswith("keras."):
            name = min(own)
            raise ValueError(
                f"expected a network that Keras has too, received the layer {layer!r}, {cls} with "
                f"{name}={config[name]!r}, which is not saved there; leave it out, or save as .fnn"
            )
    for item in data.values():
        refuse_own(item, layer)
