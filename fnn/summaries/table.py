"""Table: the rows of a network, and `model.summary()`, which prints them or shows them as HTML."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from fnn import dtype_policies
from fnn.core import tree, tying, weights
from fnn.core.calling import output_spec, weight_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.notebook import Page, display, is_notebook
from fnn.runtime.tables import CONNECTED, COUNT, NAME, SHAPE, TRAINABLE, Row, table
from fnn.summaries.html import html_table
from fnn.summaries.sizes import size
from fnn.symbolic.graph import Graph, leaves
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import Node, input_name
from fnn.symbolic.parts import Item

# The layers that `call` of a model calls, by name, and the inputs of each.
Inner: TypeAlias = Callable[[SpecTree], dict[str, tuple[Layer, SpecTree]]]


class _Model(Protocol):
    """The parts of a model that a summary reads."""

    @property
    def _network(self) -> Any: ...  # with the nodes of its `inputs`

    @property
    def name(self) -> str: ...

    @property
    def layer(self) -> Layer: ...

    @property
    def dtype_policy(self) -> dtype_policies.DTypePolicy: ...


def summary(
    model: _Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], object] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Prints a table of layers with output shapes and parameters. Computes nothing on the device.

    Arguments are Keras's. The table is as wide as its cells need, at most `line_length` or the
    width of the terminal; wider cells are wrapped. `positions` are the ends of the columns, in
    characters or as fractions of that width. `expand_nested` shows the layers inside of layers,
    `show_trainable` whether a layer has weights that learn. `layer_range` is two patterns: only the
    layers from the first match of one to the last match of the other are shown. `print_fn` gets the
    whole table as one string. If the network is not a chain of layers, a column `Connected to`
    shows where inputs come from: the layer, which of its calls, which of its outputs. A notebook
    shows an HTML table, unless one of `line_length`, `positions`, `print_fn` is given.
    While the shape of the inputs is not known, those of the outputs are shown as `?`. A last line
    has the dtype policy, and which layers have another one, unless all is float32.
    Raises ValueError for patterns that match nothing, and for positions that do not fit.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="small")
    >>> model.summary(show_trainable=True)
    Model: "small"
    ┌───────────────┬──────────────┬─────────┬───────────┐
    │ Layer (type)  │ Output Shape │ Param # │ Trainable │
    ├───────────────┼──────────────┼─────────┼───────────┤
    │ dense (Dense) │ (None, 2)    │       8 │ Y         │
    └───────────────┴──────────────┴─────────┴───────────┘
     Total params: 8 (32.00 B)
     Trainable params: 8 (32.00 B)
     Non-trainable params: 0 (0.00 B)
    """
    inputs = model._network.inputs
    network: ListedNetwork | UnknownNetwork = UnknownNetwork(model.layer)
    if inputs is not None:
        network = ListedNetwork(model.layer, inputs, expand_nested)
    columns = [NAME, SHAPE, COUNT]
    if network.branches:
        columns.append(CONNECTED)
    if show_trainable:
        columns.append(TRAINABLE)
    rows = _in_range(network.rows, layer_range)
    length = line_length or shutil.get_terminal_size().columns
    shown = table(columns, rows, length, positions)
    below = [*network.totals(), *_policies(model)]
    text = "\n".join([f'Model: "{model.name}"', *shown, *below])
    if print_fn is None and line_length is None and positions is None and is_notebook():
        html = html_table(f'Model: "{model.name}"', columns, rows, below)
        display(Page(text, html))
    else:
        show = print_fn or print
        show(text)


def describe(model: Any) -> str:
    """The `repr` of a model: its name and its numbers of layers and parameters.

    >>> fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="small")
    <Sequential "small": 1 layer, 8 parameters>
    """
    layers = sum(not isinstance(layer, InputLayer) for layer in model.layers)
    layers_shown = "1 layer"
    if layers != 1:
        layers_shown = f"{layers} layers"
    parameters = "not built"
    if model.built:
        trained = model.train_state
        parameters = f"{tree.count((trained.params, trained.state)):,} parameters"
    return f'<{type(model).__name__} "{model.name}": {layers_shown}, {parameters}>'


class UnknownNetwork:
    """The rows of a network while the shape of its inputs is not known."""

    branches = False

    def __init__(self, layer: Layer) -> None:
        self.rows = []
        for name, child in layer.children() or ((layer.name, layer),):
            cells = {
                NAME: _title(name or "", child),
                SHAPE: "?",
                COUNT: "0 (unbuilt)",
                TRAINABLE: "-",
            }
            self.rows.append(Row(name or "", 0, cells, child))

    def totals(self) -> list[str]:
        return _totals({}, {}, {})


class ListedNetwork:
    """The rows of a network, in the order in which its layers run, inferred from shapes alone.

    Nodes go through the network in place of arrays; the name of a node is that of the layer that
    returned it and the number of that call.
    """

    def __init__(self, layer: Layer, inputs: Tree, nested: bool) -> None:
        self.nested = nested
        self.rows: list[Row] = []
        self.calls: dict[tree.Path, int] = {}  # how often each layer has been called
        # Shapes and dtypes only: no weight is made.
        trial = jax.tree.map(lambda node: node.spec, inputs)
        self.params, self.state = weight_spec(layer, trial)
        self.ties = tying.everywhere(layer)
        self.learning, self.fixed = weights.split(layer, self.params)
        inner = inside(layer)
        self.branches = isinstance(inner, Graph) and not _is_chain(inner)
        starts = self._starts(inputs, isinstance(inner, Graph))
        if hasattr(layer, "inner_inputs"):
            self._list(layer.inner_inputs, *_specs(inputs))
        elif inner is None:
            self._visit("", type(layer).__name__, layer, starts, (), 0)
        else:
            self._follow(inner, starts, (), 0)

    def _starts(self, inputs: Tree, shown: bool) -> Tree:
        """The inputs as nodes with names, Keras's if they have none; with rows if `shown`."""
        unnamed = itertools.count()

        def start(node: Node) -> Node:
            name = node.name or input_name(next(unnamed))
            if shown:
                self.rows.append(_input_row(name, node))
            return Node(None, (), node.specs, f"{name}[0]")

        return jax.tree.map(start, inputs)

    def _follow(
        self,
        inner: Flow,
        x: Tree,
        path: tree.Path,
        depth: int,
    ) -> None:
        """Adds the rows of the children of `inner`."""

        def visit(name: str, layer: Layer, x: Tree) -> Node:
            return self._visit(name, name, layer, x, (*path, name), depth)

        inner.flow(x, visit)

    def _list(self, inner_inputs: Inner, first: SpecTree, second: SpecTree) -> None:
        """Adds the rows of the layers that `call` of a model calls, in the order of attributes."""
        others = inner_inputs(second)
        for name, (layer, like) in inner_inputs(first).items():
            other = like
            if name in others:
                other = others[name][1]
            nodes = jax.tree.map(_unnamed, like, other)
            self._visit(name, name, layer, nodes, (name,), 0)

    def _visit(
        self,
        name: str,
        title: str,
        layer: Layer,
        x: Tree,
        path: tree.Path,
        depth: int,
    ) -> Node:
        """The output of `layer`, after adding its row; `Item`, which picks an output, has none."""
        first, second = _specs(x)
        specs = output_spec(layer, first), output_spec(layer, second)
        if isinstance(layer, Item):
            return Node(layer, x, specs, f"{x.name}[{layer.index}]")
        call = self.calls.get(path, -1) + 1
        self.calls[path] = call
        made = Node(layer, (), specs, f"{name}[{call}]")
        sources = "-"
        if not depth:
            sources = ", ".join(map(_label, jax.tree.leaves(x)))
        cells = {
            NAME: _title(title, layer),
            SHAPE: str(made.shape),
            CONNECTED: sources,
            **self._counts(path, call),
        }
        counted = self._weights(path, call)
        self.rows.append(Row(title, depth, cells, layer, counted))
        inner = inside(layer)
        if self.nested and inner is not None:
            # Nodes without names: only the outermost layers show where inputs come from.
            starts = jax.tree.map(_unnamed, first, second)
            self._follow(inner, starts, path, depth + 1)
        return made

    def _weights(self, path: tree.Path, call: int) -> SpecTree:
        """(params, state) at `path`, at the first call only."""
        if call:
            return ()
        return self._part(self.params, path), self._part(self.state, path)

    def _part(self, whole: SpecTree, path: tree.Path) -> SpecTree:
        return tying.take(whole, path, self.ties)

    def _counts(self, path: tree.Path, call: int) -> dict[str, str]:
        """The cells on the parameters at `path`, which are counted at the first call only."""
        params = self._part(self.params, path)
        state = self._part(self.state, path)
        learning = self._part(self.learning, path)
        count = tree.count((params, state))
        shown = f"{count:,}"
        if call:
            shown = "shared"
        trainable = "-"
        if count:
            trainable = "N"
            if tree.count(learning):
                trainable = "Y"
        return {COUNT: shown, TRAINABLE: trainable}

    def totals(self) -> list[str]:
        """The lines below the table."""
        everything = (self.params, self.state)
        fixed = (self.fixed, self.state)
        return _totals(everything, self.learning, fixed)


def _totals(everything: SpecTree, learning: SpecTree, fixed: SpecTree) -> list[str]:
    parts = {
        "Total params": everything,
        "Trainable params": learning,
        "Non-trainable params": fixed,
    }
    lines = []
    for title, part in parts.items():
        memory = size(tree.nbytes(part))
        lines.append(f" {title}: {tree.count(part):,} ({memory})")
    return lines


def _policies(model: _Model) -> list[str]:
    """The line with the dtype policy, and the layers with another one; none for float32."""
    name = model.dtype_policy.name
    others: dict[str, list[str]] = {}
    network = inside(model.layer) or model.layer
    for child, layer in network.children():
        if layer.dtype is None or not jnp.issubdtype(layer.dtype, jnp.floating):
            continue
        own = dtype_policies.of_layer(layer).name
        if own != name.rpartition("_from_")[2]:
            others.setdefault(own, []).append(str(child))
    if name == "float32" and not others:
        return []
    shown = [f"{own} in {', '.join(names)}" for own, names in others.items()]
    return [f" Dtype policy: {'; '.join([name, *shown])}"]


def _input_row(name: str, node: Node) -> Row:
    cells = {
        NAME: f"{name} (Input)",
        SHAPE: str(node.shape),
        COUNT: "0",
        CONNECTED: "-",
        TRAINABLE: "-",
    }
    return Row(name, 0, cells)


def _specs(x: Tree) -> tuple[SpecTree, SpecTree]:
    """The specs of nodes at both trial sizes."""
    first = jax.tree.map(lambda node: node.specs[0], x)
    second = jax.tree.map(lambda node: node.specs[1], x)
    return first, second


def _title(name: str, layer: Layer) -> str:
    kind = getattr(layer, "class_name", type(layer).__name__)
    title = f"{name} ({kind})"
    if not layer.trainable:
        title += " (frozen)"
    return title


def inside(layer: Layer) -> Flow | None:
    """The combinator whose children are shown: `layer`, or what it wraps at the same path."""
    while not isinstance(layer, Flow):
        children = layer.children()
        if len(children) != 1 or children[0][0] is not None:
            return None
        layer = children[0][1]
    return layer


def _unnamed(*specs: SpecTree) -> Node:
    """An input node without a name, with these specs at the trial sizes."""
    return Node(None, (), specs)


def _is_chain(graph: Graph) -> bool:
    """Whether each layer is called once, on the output of the layer before it."""
    names = {name for name, _, _ in graph.steps}
    if len(names) != len(graph.steps) or leaves(graph.inputs) != [0]:
        return False
    places = [leaves(step[2]) for step in graph.steps]
    return places == [[i] for i in range(len(places))]


def _label(node: Node) -> str:
    """`dense[0][0]`, as in Keras: the layer, which of its calls, which of its outputs."""
    if isinstance(node.layer, Item):
        return str(node.name)
    return f"{node.name}[0]"


def _in_range(rows: list[Row], layer_range: Sequence[str] | None) -> list[Row]:
    """The rows from the first match of one pattern to the last match of the other."""
    if layer_range is None:
        return rows
    outermost = [i for i, row in enumerate(rows) if not row.depth]
    matches = []
    for pattern in map(str, layer_range):
        matches.append([i for i in outermost if re.match(pattern, rows[i].name)])
    if len(matches) != 2 or not all(matches):
        raise ValueError(
            f"summary: expected layer_range as two patterns among the names "
            f"{[rows[i].name for i in outermost]}, received {layer_range!r}"
        )
    first, last = matches
    if min(first) > max(last):
        first, last = last, first
    later = [i for i in outermost if i > max(last)]
    stop = min(later, default=len(rows))
    return rows[min(first) : stop]
