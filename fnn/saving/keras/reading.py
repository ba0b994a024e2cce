"""Reading: the network that a config of Keras describes, as values of fnn."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from fnn.core import tying
from fnn.core.calling import output_spec, unique_names
from fnn.core.config import deserialize_keras_object
from fnn.core.layer import Layer
from fnn.core.registry import CustomObjectScope, get_registered_object, snake_case
from fnn.core.tree import Tree
from fnn.layers.sequential import Sequential
from fnn.layers.wrappers import Inference, Training
from fnn.saving.keras.dtypes import without_plain_dtypes
from fnn.saving.keras.keras2 import modern
from fnn.saving.keras.operations import call_from_keras, is_operation
from fnn.saving.keras.structures import (
    check_size,
    described_tensor,
    map_leaves,
    tensors_in,
)
from fnn.symbolic.graph import Graph, connect
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import Node, input_specs, symbolic_call

# The names of Keras's models that are a row or a graph of layers.
ROWS = ("Sequential",)
GRAPHS = ("Functional", "Model")
MOST_LEVELS = 50  # of models inside of models, which are read by recursion

# Layers to which Keras gives `training=False` in a config, whatever the call said.
_RECURRENT: tuple[str, ...] = ("LSTM", "GRU", "SimpleRNN", "RNN")
_RECURRENT += ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


class KerasNetwork(NamedTuple):
    """A network that Keras's config describes: what a `Model` is made of.

    `kind` is "Sequential", "Functional", or the name of a class of the user; then `made` is the
    object that the class has made, and there is no `layer`.
    """

    kind: str
    name: str | None
    layer: Layer | None
    inputs: Tree  # nodes; None if the shapes are not known
    made: Any = None
    build_config: Any = None  # of `made`: the shapes that it is built for


def network_from_keras(
    config: Mapping[str, Any], custom_objects: Mapping[str, object] | None = None
) -> KerasNetwork:
    """The network of a config of Keras 3 or 2, `{"class_name": ..., "config": {...}}`.

    Names are looked up in `custom_objects` and among the registered ones; nothing is imported.
    Raises ValueError, with the name of the layer, for what fnn cannot make.
    """
    try:
        check_size(config)
        entry = modern(config)
        with CustomObjectScope(custom_objects):
            made = _made(without_plain_dtypes(entry), 0)
    except RecursionError as error:
        raise ValueError("expected a network, received one nested too deep") from error
    if isinstance(made, KerasNetwork):
        return made
    name = str(entry["class_name"])
    if isinstance(made, Layer) and not hasattr(made, "_weights"):
        raise ValueError(f"expected the config of a model, received that of {name}")
    build_config = entry.get("build_config")
    return KerasNetwork(name, made.name, None, None, made, build_config)


def _made(entry: Any, level: int) -> Any:
    """The network, layer or object of an entry."""
    if level > MOST_LEVELS:
        raise ValueError(
            f"expected models inside of models, {MOST_LEVELS} at most, received more"
        )
    name = _item(entry, "class_name", str)
    is_own = (
        get_registered_object(str(entry.get("registered_name") or name)) is not None
    )
    config = entry.get("config")
    if config is None:
        raise ValueError(f"expected a config of {name}, received none")
    if not is_own and isinstance(config, dict) and "layers" in config:
        if name in ROWS:
            return _row(config, level)
        if name in GRAPHS:
            return _graph(config, level)
    if isinstance(config, dict):
        config = {key: _with_networks(item, level + 1) for key, item in config.items()}
        # The shape of the inputs is known from the graph, the row, or the config of the model.
        config.pop("build_input_shape", None)
    return deserialize_keras_object({**entry, "config": config})


def _with_networks(data: Any, level: int) -> Any:
    """Data in which a network, such as that in `TimeDistributed`, is a layer already."""
    if isinstance(data, list):
        return [_with_networks(item, level) for item in data]
    if not isinstance(data, dict):
        return data
    config = data.get("config")
    if data.get("class_name") in (*ROWS, *GRAPHS) and isinstance(config, dict):
        made = _made(data, level)
        if isinstance(made, KerasNetwork):
            return made.layer
        return made
    return {key: _with_networks(item, level) for key, item in data.items()}


@contextlib.contextmanager
def _naming(name: object, class_name: object) -> Iterator[None]:
    """Errors inside say at which layer they happened."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if getattr(error, "names_layer", False):
            raise
        problem = str(error) or type(error).__name__
        named = ValueError(
            f"expected a config of layers that fnn has, received the layer {name!r} of class "
            f"{class_name}: {problem}"
        )
        named.names_layer = True  # type: ignore[attr-defined]
        raise named from error


def _item(data: Any, key: str, kind: type) -> Any:
    """An item of a dict. Raises ValueError if it is missing or of another type."""
    if isinstance(data, dict) and isinstance(data.get(key), kind):
        return data[key]
    received = type(data).__name__
    if isinstance(data, dict):
        received = f"{type(data.get(key)).__name__} there"
    raise ValueError(
        f"expected a dict with {key!r}, of type {kind.__name__}, received {received}; the file "
        "is damaged"
    )


def _layer(entry: Any, level: int) -> Layer:
    """The layer of an entry; for a model its network, for one of a class of its own that."""
    made = _made(entry, level + 1)
    if isinstance(made, KerasNetwork):
        assert made.layer is not None  # of a row or graph
        return made.layer
    if hasattr(made, "as_layer"):
        return made.as_layer()  # type: ignore[no-any-return]
    if not isinstance(made, Layer):
        raise ValueError(f"expected a layer, received {made!r}")
    return made


# -- rows ----------------------------------------------------------------------------------------


def _row(config: dict[str, Any], level: int) -> KerasNetwork:
    """The network of a `Sequential`."""
    inputs: Tree = None
    row: list[Layer] = []
    for entry in _item(config, "layers", list):
        own = entry.get("config") if isinstance(entry, dict) else None
        name = own.get("name") if isinstance(own, dict) else None
        with _naming(name, _item(entry, "class_name", str)):
            layer = _layer(entry, level)
        if isinstance(layer, InputLayer):
            inputs = layer.output
        else:
            row.append(layer)
    named = dict(zip(unique_names(row), row, strict=True))
    whole = _finished(Sequential([*_without_names(named).values()]), config)
    shape = config.get("build_input_shape")
    if inputs is None and row and isinstance(shape, list) and _is_shape(shape):
        inputs = _inputs_of_shape(whole, tuple(shape))
    return KerasNetwork("Sequential", config.get("name"), whole, inputs)


def _is_shape(shape: list[Any]) -> bool:
    return all(size is None or (type(size) is int and size >= 0) for size in shape)


def _inputs_of_shape(row: Layer, shape: tuple[int | None, ...]) -> Node | None:
    """The input of a row whose dtype Keras does not say: numbers, ids or strings."""
    for dtype in ("float32", "int32", "string"):
        specs = input_specs(shape, dtype)
        with contextlib.suppress(TypeError, ValueError):
            output_spec(row, specs[0])
            return Node(None, (), specs)
    return None


def _finished(layer: Layer, config: dict[str, Any]) -> Layer:
    """A network with its name, and one set of weights for each layer object."""
    changes: dict[str, Any] = {}
    if config.get("name") is not None:
        changes["name"] = _item(config, "name", str)
    if config.get("trainable") is False:
        changes["trainable"] = False
    ties = tying.find(layer.children())
    if ties:
        changes["ties"] = ties
    return layer.replace(**changes)


def _without_names(named: dict[str, Layer]) -> dict[str, Layer]:
    """Equal layers without names, by name, where fnn gives them the same names.

    So a network that fnn wrote comes back as an equal value, whose programs are compiled already.
    """
    chosen = []
    for name, layer in named.items():
        default = re.escape(snake_case(layer.named_after)) + "(_[0-9]+)?"
        if not layer._open and re.fullmatch(default, name):
            layer = layer.replace(name=None)
        chosen.append(layer)
    if unique_names(chosen) != [*named]:
        return named
    return dict(zip(named, chosen, strict=True))


def _plain(graph: Graph) -> Graph:
    """A graph whose layers have no names where fnn gives them the same names."""
    bases: dict[str, Layer] = {}
    for name, layer, _ in graph.steps:
        while isinstance(layer, (Inference, Training)):
            layer = layer.inner
        if bases.setdefault(name, layer) != layer:
            return graph  # it is called in several ways
    layers = _without_names(bases)
    steps = []
    for name, layer, places in graph.steps:
        if layer is bases[name]:
            layer = layers[name]
        steps.append((name, layer, places))
    return graph.replace(steps=tuple(steps))


# -- graphs --------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """A call of a layer in a graph: the entry of the layer, which call it is, its arguments."""

    name: str
    number: int
    args: list[Any]
    kwargs: dict[str, Any]


def _graph(config: dict[str, Any], level: int) -> KerasNetwork:
    """The network of a functional model."""
    graph = _Graph(level)
    for entry in _item(config, "layers", list):
        graph.add(entry)
    starts, ends = config.get("input_layers"), config.get("output_layers")
    graph.run()
    inputs = map_leaves(graph.node_of, starts)
    if isinstance(inputs, list):
        inputs = tuple(inputs)
    outputs = map_leaves(graph.end_of, ends)
    if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
        outputs = outputs[0]
    layer = _finished(_plain(connect(inputs, outputs)), config)
    return KerasNetwork("Functional", config.get("name"), layer, inputs)


class _Graph:
    """The layers and calls of a functional model, and the nodes that they have made."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.layers: dict[str, Any] = {}
        self.classes: dict[str, str] = {}
        self.calls: list[_Call] = []
        # By layer and number of its call: the nodes of the outputs.
        self.made: dict[tuple[str, int], list[Node]] = {}

    def add(self, entry: Any) -> None:
        """Takes the layer of an entry and its calls."""
        name = _item(entry, "name", str)
        class_name = _item(entry, "class_name", str)
        if name in self.layers:
            raise ValueError(
                f"expected layers of different names, received {name!r} twice"
            )
        self.classes[name] = class_name
        with _naming(name, class_name):
            if is_operation(entry):
                self.layers[name] = _item(entry, "config", dict)
            else:
                self.layers[name] = _layer(entry, self.level)
        layer = self.layers[name]
        if isinstance(layer, InputLayer):
            self.made[name, 0] = [layer.output]
        for number, call in enumerate(_item(entry, "inbound_nodes", list)):
            if isinstance(layer, InputLayer):
                break
            args, kwargs = _item(call, "args", list), _item(call, "kwargs", dict)
            self.calls.append(_Call(name, number, args, kwargs))

    def run(self) -> None:
        """Makes the nodes of all calls, each after those of its inputs."""
        needed: dict[int, set[tuple[str, int]]] = {}
        for place, call in enumerate(self.calls):
            found = tensors_in((call.args, call.kwargs))
            needed[place] = {(name, number) for name, number, _ in found}
        after: dict[tuple[str, int], list[int]] = {}
        for place, keys in needed.items():
            keys.difference_update(self.made)
            for key in keys:
                after.setdefault(key, []).append(place)
        ready = deque(place for place, keys in needed.items() if not keys)
        while ready:
            call = self.calls[ready.popleft()]
            key = call.name, call.number
            with _naming(call.name, self.classes[call.name]):
                self.made[key] = list(_flat(self._call(call)))
            for place in after.pop(key, ()):
                needed[place].discard(key)
                if not needed[place]:
                    ready.append(place)
        if after:
            name, number = next(iter(after))
            raise ValueError(
                f"expected a graph whose calls have their inputs, received one that needs call "
                f"{number} of {name!r}, which is missing or in a circle; the file is damaged"
            )

    def node_of(self, name: str, number: int, index: int) -> Node:
        """The node of an output. Raises ValueError if there is none."""
        nodes = self.made.get((name, number), [])
        if not 0 <= index < len(nodes):
            raise ValueError(
                f"expected an output of the graph, received output {index} of call {number} of "
                f"{name!r}, which has {len(nodes)}; the file is damaged"
            )
        return nodes[index]

    def end_of(self, name: str, number: int, index: int) -> Node:
        """The node of an output of the graph, where the calls of a model count from 1."""
        if self.classes.get(name) in GRAPHS or (name, number) not in self.made:
            number -= 1
        return self.node_of(name, number, index)

    def _call(self, call: _Call) -> Tree:
        layer = self.layers[call.name]
        if next(tensors_in((call.args, call.kwargs)), None) is None:
            raise ValueError("expected a call on tensors, received constants alone")

        args = [_filled(item, self) for item in call.args]
        kwargs = {name: _filled(item, self) for name, item in call.kwargs.items()}
        if isinstance(layer, dict):
            return call_from_keras(self.classes[call.name], layer, args, kwargs)
        if self.classes[call.name] in _RECURRENT and not kwargs.get("training"):
            kwargs.pop("training", None)
        # Not None, nor a structure of it, such as the masks of several inputs.
        kwargs = {name: item for name, item in kwargs.items() if jax.tree.leaves(item)}
        return symbolic_call(layer, tuple(args), kwargs)


def _filled(value: Any, graph: _Graph) -> Any:
    """An argument of a call, with nodes in place of the tensors of the config."""
    if isinstance(value, dict):
        tensor = described_tensor(value)
        if tensor is not None:
            return graph.node_of(*tensor)
        if "class_name" in value:
            return deserialize_keras_object(value)
        return {name: _filled(item, graph) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, graph) for item in value]
    return value


def _flat(made: Tree) -> Iterator[Node]:
    """The nodes of all outputs of a call, in Keras's order."""
    if isinstance(made, Node):
        if isinstance(made.spec, dict):
            for key in sorted(made.spec):
                yield from _flat(made[key])
        else:
            yield made
    elif isinstance(made, dict):
        for key in sorted(made):
            yield from _flat(made[key])
    else:
        for item in made:
            yield from _flat(item)
