"""The graph of a picture: boxes for layers, groups for nested models, arrows between them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import jax

from fnn.core import tree, weights
from fnn.core.calling import output_spec, weight_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree
from fnn.models.sharing import stated_inputs
from fnn.summaries.table import inside
from fnn.symbolic.graph import Graph
from fnn.symbolic.node import free_shape, input_name
from fnn.symbolic.parts import Item, WithMask

# Where a group takes its inputs and gives its outputs, in place of the key of a member. No name
# of a layer has a slash.
ENTRY, EXIT = "/entry", "/exit"


class End(NamedTuple):
    """An end of an arrow: a member of a group, and the number of its input or output."""

    key: str
    port: int = 0


Arrow: TypeAlias = tuple[End, End]


@dataclasses.dataclass
class Box:
    """A layer: its name and class, its shapes, and what else the picture may show."""

    name: str
    kind: str
    inputs: Any  # the shape of each input, None for an `Input`
    outputs: Any
    dtype: str
    activation: str | None = None
    trainable: bool | None = None  # None: it has no weights


@dataclasses.dataclass
class Group:
    """A model: its members by key, and the arrows between them, from ENTRY and to EXIT."""

    name: str
    members: dict[str, Box | Group] = dataclasses.field(default_factory=dict)
    arrows: list[Arrow] = dataclasses.field(default_factory=list)

    def add_arrow(self, start: End, end: End) -> None:
        """Adds an arrow; several between the same ends are one."""
        if (start, end) not in self.arrows:
            self.arrows.append((start, end))

    def sources(self, end: End) -> Iterator[tuple[str, ...]]:
        """The paths of the boxes whose outputs are at an end of an arrow in this group."""
        member = self.members[end.key]
        if isinstance(member, Box):
            yield (end.key,)
            return
        for start, target in member.arrows:
            if target == End(EXIT, end.port) and start.key != ENTRY:
                yield from ((end.key, *path) for path in member.sources(start))

    def targets(self, end: End) -> Iterator[tuple[str, ...]]:
        """The paths of the boxes that take what arrives at an end of an arrow in this group."""
        member = self.members[end.key]
        if isinstance(member, Box):
            yield (end.key,)
            return
        for source, target in member.arrows:
            if source == End(ENTRY, end.port) and target.key != EXIT:
                yield from ((end.key, *path) for path in member.targets(target))


class _Value:
    """What flows through the network in place of an array: its shapes, and where it comes from."""

    def __init__(self, specs: tuple[SpecTree, SpecTree], origins: list[End]) -> None:
        self.specs = specs
        self.origins = origins


def graph_of(model: Any, expand_nested: bool) -> Group:
    """The graph of a model, inferred from shapes alone.

    Raises ValueError for a model that does not know its input shape.
    """
    inputs = model._network.inputs
    if inputs is None:
        raise ValueError(
            f"expected the model {model.name!r} to know its input shape, but it does not; give "
            "input_shape=(...) to its first layer, or call model.build((None, 10))"
        )
    return _Reader(model.layer, inputs, expand_nested).graph(model.name)


class _Reader:
    """Runs a network on `_Value`s, and notes its layers and their connections."""

    def __init__(self, layer: Layer, inputs: Tree, expand_nested: bool) -> None:
        self.layer = layer
        self.inputs = inputs
        self.expand_nested = expand_nested
        trial = jax.tree.map(lambda node: node.spec, inputs)
        self.params, self.state = weight_spec(layer, trial)
        self.learning = weights.split(layer, self.params)[0]

    def graph(self, name: str) -> Group:
        flow = inside(self.layer)
        names = [node.name for node in jax.tree.leaves(self.inputs)]
        x = _values_like(self.inputs)
        if flow is not None:
            return self.group(name, flow, x, (), names)
        group = Group(name)
        kind = type(self.layer).__name__
        self.visit(group, (), self.layer.name or kind, self.layer, x)
        return group

    def group(
        self,
        name: str,
        flow: Flow,
        x: Tree,
        path: tree.Path,
        names: list[str | None],
    ) -> Group:
        """The group of a network; a graph begins with a box for each input."""
        group = Group(name)
        values = jax.tree.leaves(x)
        for port, value in enumerate(values):
            value.origins = [End(ENTRY, port)]
        if isinstance(flow, Graph):
            unnamed = 0
            named = itertools.zip_longest(values, names[: len(values)])
            for port, (value, given) in enumerate(named):
                shown = given or input_name(unnamed)
                unnamed += given is None
                key = f"/input {port}"
                group.members[key] = _input_box(shown, value)
                group.add_arrow(value.origins[0], End(key))
                value.origins = [End(key)]

        def visit(child: str, layer: Layer, x: Tree) -> _Value:
            return self.visit(group, (*path, child), child, layer, x)

        outputs = flow.flow(x, visit)
        for port, value in enumerate(jax.tree.leaves(outputs)):
            for origin in value.origins:
                group.add_arrow(origin, End(EXIT, port))
        return group

    def visit(
        self,
        group: Group,
        path: tree.Path,
        name: str,
        layer: Layer,
        x: Tree,
    ) -> _Value:
        """The outputs of a layer, after noting it and its arrows."""
        first = jax.tree.map(lambda value: value.specs[0], x)
        second = jax.tree.map(lambda value: value.specs[1], x)
        specs = output_spec(layer, first), output_spec(layer, second)
        values = jax.tree.leaves(x)
        if isinstance(layer, Item):
            origins = [_part(origin, layer.index) for origin in x.origins]
            return _Value(specs, origins)
        if isinstance(layer, WithMask):
            return _Value(specs, [o for value in values for o in value.origins])
        for port, value in enumerate(values):
            for origin in value.origins:
                group.add_arrow(origin, End(name, port))
        if name not in group.members:
            member = self.member(path, name, layer, x, (first, second))
            group.members[name] = member
        return _Value(specs, [End(name)])

    def member(
        self,
        path: tree.Path,
        name: str,
        layer: Layer,
        x: Tree,
        specs: tuple[SpecTree, SpecTree],
    ) -> Box | Group:
        flow = inside(layer)
        if self.expand_nested and flow is not None:
            names = [node.name for node in jax.tree.leaves(stated_inputs(layer))]
            return self.group(name, flow, _values_like(x), path, names)
        outputs = [output_spec(layer, spec) for spec in specs]
        first = jax.tree.leaves(outputs[0])
        box = Box(
            name,
            type(layer).__name__,
            free_shape(*specs),
            free_shape(*outputs),
            str(first[0].dtype) if first else "?",
            _activation(layer),
        )
        params = tree.get(self.params, path)
        state = tree.get(self.state, path)
        if tree.count((params, state)):
            box.trainable = tree.count(tree.get(self.learning, path)) > 0
        return box


def _values_like(x: Tree) -> Tree:
    """Values with the shapes of nodes or other values, which come from nowhere yet."""
    return jax.tree.map(lambda leaf: _Value(leaf.specs, []), x)


def _part(origin: End, index: object) -> End:
    """The output of a layer that `Item` picks; one by key has no number."""
    if isinstance(index, int):
        return End(origin.key, index)
    return origin


def _input_box(name: str, value: _Value) -> Box:
    shape = free_shape(*value.specs)
    first = jax.tree.leaves(value.specs[0])[0]
    return Box(name, "InputLayer", None, shape, str(first.dtype))


def _activation(layer: Layer) -> str | None:
    """The name of the activation, "linear" for none, as in Keras; None without the field."""
    if not hasattr(layer, "activation"):
        return None
    activation = layer.activation or "linear"
    if isinstance(activation, str):
        return activation
    return getattr(activation, "__name__", type(activation).__name__)
