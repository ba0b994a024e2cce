"""Summaries: a network as a table of layers, output shapes and numbers of parameters."""

from __future__ import annotations

import itertools
import re
import shutil
import textwrap
from typing import Any, NamedTuple

import jax

from fnn.core import tree, weights
from fnn.core.calling import output_spec, weight_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.symbolic.graph import Graph, leaves
from fnn.symbolic.node import Item, Node

NAME, SHAPE, COUNT = "Layer (type)", "Output Shape", "Param #"
CONNECTED, TRAINABLE = "Connected to", "Trainable"
NARROWEST = 4  # of a column whose texts are folded


class _Row(NamedTuple):
    """A layer in the table: its name, how deep it is inside others, its cells by column."""

    name: str
    depth: int
    cells: dict[str, str]


def summary(
    model: Any,
    line_length: int | None = None,
    positions: Any = None,
    print_fn: Any = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Any = None,
) -> None:
    """Prints every layer with output shape and parameters. Computes nothing on the device.

    Arguments are Keras's. The table is as wide as its texts, at most `line_length` or the terminal,
    where texts are folded within their columns; `positions` are the ends of the columns, absolute
    or as shares of that width. `expand_nested` shows the layers inside of layers, `show_trainable`
    whether any weight learns, `layer_range` the layers from the first that matches one pattern to
    the last that matches another. `print_fn` gets the whole text at once. A graph that is no chain
    has a column `Connected to`: the layer, which of its calls, which of its outputs.
    Raises ValueError for a model that does not know its input shape.

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
    if model._network.inputs is None:
        raise ValueError(
            f"expected the model {model.name!r} to know its input shape, received one that does "
            "not; give input_shape=(...) to its first layer, or model.build((None, 10))"
        )
    network = _Network(model.layer, model._network.inputs, expand_nested)
    columns = [NAME, SHAPE, COUNT]
    columns += [CONNECTED] * network.branches + [TRAINABLE] * bool(show_trainable)
    rows = _in_range(network.rows, layer_range)
    grid = _grid(
        columns, rows, line_length or shutil.get_terminal_size().columns, positions
    )
    (print_fn or print)("\n".join([f'Model: "{model.name}"', *grid, *network.totals()]))


def describe(model: Any) -> str:
    """The `repr` of a model: its name, how many layers and parameters it has.

    >>> fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="small")
    <Sequential "small": 1 layer, 8 parameters>
    """
    layers = sum(not isinstance(layer, Item) for layer in model.layers)
    size = "not built"
    if model.built:
        size = f"{tree.count((model.train_state.params, model.train_state.state)):,} parameters"
    several = "" if layers == 1 else "s"
    return f'<{type(model).__name__} "{model.name}": {layers} layer{several}, {size}>'


def size(count: int) -> str:
    """A number of bytes in words.

    >>> size(1536), size(9)
    ('1.50 KB', '9.00 B')
    """
    amount, units = float(count), ["B", "KB", "MB", "GB", "TB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.2f} {units[0]}"


class _Network:
    """The rows of a network, in the order in which its layers run, all inferred from shapes.

    A node that goes through it is named by the layer that made it and which call of it that was.
    """

    def __init__(self, layer: Layer, inputs: Any, nested: bool) -> None:
        self.nested = nested
        self.rows: list[_Row] = []
        self.uses: dict[tree.Path, int] = {}
        trial = jax.tree.map(lambda node: node.spec, inputs)
        self.params, self.state = weight_spec(layer, trial)
        self.learning, self.fixed = weights.split(layer, self.params)
        inner = _inside(layer)
        self.branches = isinstance(inner, Graph) and not _is_chain(inner)
        starts = self._starts(inputs, isinstance(inner, Graph))
        if inner is None:
            self._visit("", type(layer).__name__, layer, starts, (), 0)
        else:
            self._follow(inner, starts, (), 0)

    def _starts(self, inputs: Any, shown: bool) -> Any:
        """The inputs, named as in Keras where they have no name of their own; with their rows."""
        unnamed = itertools.count()

        def start(node: Node) -> Node:
            name = node.name
            if name is None:
                number = next(unnamed)
                name = f"input_layer_{number}" if number else "input_layer"
            if shown:
                cells = {NAME: f"{name} (Input)", SHAPE: str(node.shape), COUNT: "0"}
                self.rows.append(
                    _Row(name, 0, cells | dict.fromkeys((CONNECTED, TRAINABLE), "-"))
                )
            return Node(None, (), node.specs, f"{name}[0]")

        return jax.tree.map(start, inputs)

    def _follow(self, inner: Flow, x: Any, path: tree.Path, depth: int) -> None:
        visit = lambda name, layer, x: self._visit(
            name, name, layer, x, (*path, name), depth
        )
        inner.flow(x, visit)

    def _visit(
        self, name: str, title: str, layer: Layer, x: Any, path: tree.Path, depth: int
    ) -> Node:
        """What `layer` makes of `x`, after a row for it; picking one of its outputs has none."""
        given = [jax.tree.map(lambda node, i=i: node.specs[i], x) for i in (0, 1)]
        specs = tuple(output_spec(layer, spec) for spec in given)
        if isinstance(layer, Item):
            return Node(layer, x, specs, f"{x.name}[{layer.index}]")
        use = self.uses[path] = self.uses.get(path, -1) + 1
        made = Node(layer, (), specs, f"{name}[{use}]")
        count = tree.count((tree.get(self.params, path), tree.get(self.state, path)))
        learns = tree.count(tree.get(self.learning, path)) > 0
        cells = {
            NAME: f"{title} ({type(layer).__name__})"
            + ("" if layer.trainable else " (frozen)"),
            SHAPE: str(made.shape),
            COUNT: "shared" if use else f"{count:,}",
            CONNECTED: "-" if depth else ", ".join(map(_label, jax.tree.leaves(x))),
            TRAINABLE: ("Y" if learns else "N") if count else "-",
        }
        self.rows.append(_Row(title, depth, cells))
        inner = _inside(layer)
        if self.nested and inner is not None:
            starts = jax.tree.map(lambda *specs: Node(None, (), specs), *given)
            self._follow(inner, starts, path, depth + 1)
        return made

    def totals(self) -> list[str]:
        """The lines below the table."""
        parts = {
            "Total params": (self.params, self.state),
            "Trainable params": self.learning,
            "Non-trainable params": (self.fixed, self.state),
        }
        return [
            f" {title}: {tree.count(part):,} ({size(tree.nbytes(part))})"
            for title, part in parts.items()
        ]


def _inside(layer: Layer) -> Flow | None:
    """What leads through the children of `layer`: itself, or what it wraps, at the same path."""
    while not isinstance(layer, Flow):
        children = layer.children()
        if len(children) != 1 or children[0][0] is not None:
            return None
        layer = children[0][1]
    return layer


def _is_chain(graph: Graph) -> bool:
    """Whether each layer is called once, on what the layer before it returned."""
    order = [leaves(places) for _, _, places in graph.steps]
    once = len({name for name, _, _ in graph.steps}) == len(order)
    return (
        once
        and leaves(graph.inputs) == [0]
        and order == [[i] for i in range(len(order))]
    )


def _label(node: Node) -> str:
    """`dense[0][0]`, as in Keras: the layer, which of its calls, which of its outputs."""
    return str(node.name) + ("" if isinstance(node.layer, Item) else "[0]")


def _in_range(rows: list[_Row], layer_range: Any) -> list[_Row]:
    if layer_range is None:
        return rows
    tops = [at for at, row in enumerate(rows) if not row.depth]
    matches = lambda pattern: [
        at for at in tops if re.match(str(pattern), rows[at].name)
    ]
    first, last = map(matches, layer_range) if len(layer_range) == 2 else ([], [])
    if not first or not last:
        raise ValueError(
            f"summary: expected layer_range as two patterns among the names "
            f"{[rows[at].name for at in tops]}, received {layer_range!r}"
        )
    if min(first) > max(last):
        first, last = last, first
    return rows[min(first) : next((at for at in tops if at > max(last)), len(rows))]


def _widths(texts: list[list[str]], room: int) -> list[int]:
    """The widths of columns: those of their texts, the widest folded until all have room.

    The third holds numbers, which are not folded.
    """
    widths = [max(map(len, column)) for column in texts]
    folded = [i for i in range(len(widths)) if i != 2]
    while sum(widths) > room and max(widths[i] for i in folded) > NARROWEST:
        widths[max(folded, key=lambda i: widths[i])] -= 1
    return widths


def _positioned(positions: Any, count: int, length: int) -> list[int]:
    """The widths of columns that end at `positions`."""
    ends = [
        int(end * (length - 1)) if positions[-1] <= 1 else int(end) for end in positions
    ]
    widths = [end - start - 3 for start, end in itertools.pairwise([0, *ends])]
    if len(widths) != count or min(widths) < 1:
        raise ValueError(
            f"summary: expected the ends of {count} columns as positions, each 4 after the one "
            f"before, received {positions!r} on lines of {length}; e.g. line_length=120"
        )
    return widths


def _grid(
    columns: list[str], rows: list[_Row], length: int, positions: Any
) -> list[str]:
    """The lines of a table of at most `length` characters."""
    texts = [
        [title, *("  " * r.depth * (title == NAME) + r.cells[title] for r in rows)]
        for title in columns
    ]
    room = length - 3 * len(columns) - 1
    widths = (
        _positioned(positions, len(columns), length)
        if positions
        else _widths(texts, room)
    )
    rule = lambda left, middle, right: (
        left + middle.join("─" * (w + 2) for w in widths) + right
    )
    put = lambda text, i: text.rjust(widths[i]) if i == 2 else text.ljust(widths[i])

    def lines(row: tuple[str, ...]) -> list[str]:
        folded = [
            textwrap.wrap(text, width, subsequent_indent=_indent(text, width))
            for text, width in zip(row, widths, strict=True)
        ]
        parts = itertools.zip_longest(*folded, fillvalue="")
        return [
            "│ " + " │ ".join(put(text, i) for i, text in enumerate(p)) + " │"
            for p in parts
        ]

    head, *body = (lines(row) for row in zip(*texts, strict=True))
    return [
        rule("┌", "┬", "┐"),
        *head,
        rule("├", "┼", "┤"),
        *itertools.chain.from_iterable(body),
        rule("└", "┴", "┘"),
    ]


def _indent(text: str, width: int) -> str:
    """The spaces that a text starts with, where there is still room behind them."""
    spaces = len(text) - len(text.lstrip())
    return " " * min(spaces, max(width - NARROWEST, 0))
