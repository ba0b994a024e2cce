"""Layout: where Keras puts the weights of each layer in a file, by paths of its attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from fnn.core import tree, tying
from fnn.core.layer import Layer
from fnn.core.registry import snake_case
from fnn.core.tree import Path, SpecTree
from fnn.core.weights import is_weight
from fnn.layers.sequential import Chain, Sequential
from fnn.layers.wrappers import Frozen, Inference, Training
from fnn.subclassing.layer import KerasLayer
from fnn.subclassing.tracking import UNCOMPARED, attributes, layer_of, tracked
from fnn.symbolic.graph import Graph
from fnn.symbolic.input_layer import InputLayer

# A weight: "params" or "state", and its path there.
Key: TypeAlias = tuple[str, Path]
Weights: TypeAlias = tuple[SpecTree, SpecTree]

# Layers that Keras does not have, with the weights of the layer inside.
_TRANSPARENT = (Frozen, Inference, Training)
# Layers of fnn with weights that Keras has in a layer inside, by its attribute.
_IN_A_CELL = dict.fromkeys(
    ("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), "cell"
)
# The attributes with the layers inside; the first is that of Keras today, the others were before.
_OF_ATTENTION = {
    "query": ("query_dense", "_query_dense"),
    "key": ("key_dense", "_key_dense"),
    "gate": ("_gate_dense",),
    "value": ("value_dense", "_value_dense"),
    "attention_output": ("output_dense", "_output_dense"),
}
_OF_GROUPED_ATTENTION: dict[str, tuple[str, ...]] = {
    name: ("_" + names[0].lstrip("_"),) for name, names in _OF_ATTENTION.items()
}
_ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "MultiHeadAttention": _OF_ATTENTION,
    "GroupedQueryAttention": _OF_GROUPED_ATTENTION,
}
# The attributes of layers around one layer.
_AROUND = {"RNN": "cell", "TimeDistributed": "layer", "SpectralNormalization": "layer"}
_IN_ORDER = {"Bidirectional": ("forward_layer", "backward_layer")}
_IN_LISTS = {"StackedRNNCells": "cells", "Pipeline": "layers"}


class Holder(NamedTuple):
    """An object of Keras: a layer or a part of one, with the weights that it has itself.

    `attributes` lead to it from the holder with the number `above`: the first is written, and any
    of them read. `place` is the path of its group in a file, `path` that of its weights in fnn.
    """

    place: str
    above: int | None
    attributes: tuple[str, ...]
    name: str
    weights: tuple[Key, ...]
    layer: Layer
    path: Path


class Child(NamedTuple):
    """A layer inside: Keras's attributes for it, its name in fnn (None: no name), the layer."""

    attributes: tuple[str, ...]
    name: str | None
    layer: Layer


def holders(layer: Layer, weights: Weights, name: str) -> list[Holder]:
    """Every layer and part of a layer as Keras has it in a network, in Keras's order.

    `weights` are params and state, in the order of creation. Raises ValueError for a layer that
    Keras does not have.
    """
    walk = _Walk(layer, weights)
    walk.visit(layer, (), None, ("",), name)
    return walk.found


class _Walk:
    """A walk through a network as Keras walks through the attributes of a model."""

    def __init__(self, layer: Layer, weights: Weights) -> None:
        self.weights = dict(zip(("params", "state"), weights, strict=True))
        self.ties = tying.everywhere(layer)
        self.seen: set[tuple[Path, str]] = set()
        # Weights of layers around a layer, at the same path as those of the inner one.
        self.around: set[Key] = set()
        self.found: list[Holder] = []

    def visit(
        self,
        layer: Layer,
        path: Path,
        above: int | None,
        attributes: tuple[str, ...],
        name: str,
    ) -> None:
        """The layer, if it was not met before, and the layers inside."""
        layer = without_wrappers(layer)
        path = tying.first_place(path, self.ties)
        kind = kind_of(layer)
        if (path, kind) in self.seen:
            return
        self.seen.add((path, kind))
        inner = list(children(layer))
        if any(child.name is None for child in inner):
            own = self._own_around(layer, path)
        else:
            own = self._own(path, {child.name for child in inner})
        cell = _IN_A_CELL.get(kind)
        held = () if cell else own
        here = self._add(above, attributes, name, held, layer, path)
        if cell:
            self._add(here, (cell,), f"{snake_case(kind)}_cell", own, layer, path)
        for child in inner:
            place = path
            if child.name is not None:
                place = (*path, child.name)
            called = (
                child.layer.own_name or child.name or snake_case(kind_of(child.layer))
            )
            self.visit(child.layer, place, here, child.attributes, called)

    def _add(
        self,
        above: int | None,
        attributes: tuple[str, ...],
        name: str,
        weights: tuple[Key, ...],
        layer: Layer,
        path: Path,
    ) -> int:
        place = attributes[0]
        if above is not None and self.found[above].place:
            place = f"{self.found[above].place}/{place}"
        holder = Holder(place, above, attributes, name, weights, layer, path)
        self.found.append(holder)
        return len(self.found) - 1

    def _own(self, path: Path, children: set[str | None]) -> tuple[Key, ...]:
        """The weights of the layer at a path itself."""
        found: list[Key] = []
        for part, whole in self.weights.items():
            branch = tree.get(whole, path)
            if isinstance(branch, dict):
                for name, leaf in branch.items():
                    is_own = name not in children and not isinstance(leaf, dict)
                    if is_own and is_weight(name):
                        found.append((part, (*path, name)))
        return tuple(key for key in found if key not in self.around)

    def _own_around(self, layer: Layer, path: Path) -> tuple[Key, ...]:
        """The weights of a layer around another one, whose weights are at the same path."""
        shared = getattr(layer, "shared_with_inner", ())
        if not shared:
            return ()
        own = [key for key in self._own(path, set()) if key[1][-1] in shared]
        vector = "state", (*path, "vector_u")
        self.around.add(vector)
        return (*own, vector)


def without_wrappers(layer: Layer) -> Layer:
    """The layer inside of what Keras does not count as a layer."""
    while isinstance(layer, _TRANSPARENT):
        layer = layer.inner
    return layer


def kind_of(layer: Layer) -> str:
    """The name of the class of a layer in Keras."""
    layer = without_wrappers(layer)
    if isinstance(layer, Graph):
        return "Functional"
    return layer.named_after


def children(layer: Layer) -> Iterator[Child]:
    """The layers inside, with the attributes that Keras has them in."""
    body = getattr(layer, "_body", None)
    if body is not None:
        yield from children(body)
    kind = kind_of(layer)
    if isinstance(layer, (Graph, Sequential)):
        yield from _in_list("layers", listed(layer))
    elif isinstance(layer, KerasLayer):
        yield from _of_class(layer)
    elif kind in _IN_LISTS:
        yield from _in_list(_IN_LISTS[kind], layer.children())
    else:
        for index, (name, child) in enumerate(layer.children()):
            yield Child(_attributes_of(kind, index, name), name, child)


def listed(layer: Layer) -> list[tuple[str, Layer]]:
    """(name, layer) of each layer of a model, in Keras's order."""
    named = {name or "": child for name, child in layer.children()}
    if isinstance(layer, Graph):
        order = [name for name in layer.with_inputs() if isinstance(name, str)]
        return [(name, named[name]) for name in order]
    assert isinstance(layer, Chain)
    return list(named.items())


def _in_list(
    attribute: str, items: Iterable[tuple[str | None, Layer]]
) -> Iterator[Child]:
    """Layers in a list, which Keras numbers by class."""
    counts: dict[str, int] = {}
    for name, layer in items:
        if isinstance(layer, InputLayer) or layer.is_operation:
            continue
        yield Child((f"{attribute}/{_numbered(kind_of(layer), counts)}",), name, layer)


def _numbered(kind: str, counts: dict[str, int]) -> str:
    name = snake_case(kind)
    counts[name] = counts.get(name, -1) + 1
    if counts[name]:
        return f"{name}_{counts[name]}"
    return name


def _attributes_of(kind: str, index: int, name: str | None) -> tuple[str, ...]:
    if name is None and kind in _AROUND:
        return (_AROUND[kind],)
    if kind in _IN_ORDER:
        return (_IN_ORDER[kind][index],)
    known = _ATTRIBUTES.get(kind, {})
    if name not in known:
        raise ValueError(
            f"{kind} has layers inside and is not a layer of Keras; save it as .fnn, or its "
            "weights as .safetensors"
        )
    return known[name]


def _of_class(layer: KerasLayer) -> Iterator[Child]:
    """The layers among the attributes of a class of the user's, in Keras's order."""
    host = layer.last_host
    names = {id(item): name for name, item in tracked(host)}
    given = [
        (name, value) for name, value in attributes(host) if name not in _NOT_WALKED
    ]
    if hasattr(type(host), "as_layer") and getattr(layer, "_body", None) is None:
        # A model of Keras has the list of all its layers among its attributes.
        given.append(("layers", [item for _, item in tracked(host)]))
    for attribute, value in sorted(given, key=_private_last):
        yield from _of_value((attribute,), value, names)


_NOT_WALKED = {*UNCOMPARED, "network", "_added"}


def _private_last(item: tuple[str, object]) -> str:
    name = item[0]
    return f"~{name}" if name.startswith("_") else name


def _of_value(
    place: tuple[str, ...], value: Any, names: dict[int, str]
) -> Iterator[Child]:
    layer = layer_of(value)
    if layer is not None:
        attribute = "/".join(place)
        yield Child((attribute,), names[id(value)], layer)
        return
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return
    counts: dict[str, int] = {}
    for item in value:
        found = layer_of(item)
        if found is not None:
            key = _numbered(kind_of(found), counts)
        elif isinstance(item, (list, tuple, dict)):
            key = _numbered("container", counts)
        else:
            continue
        yield from _of_value((*place, key), item, names)
