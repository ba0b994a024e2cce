"""Summaries: a network as a table of layers, output shapes and numbers of parameters."""

from __future__ import annotations

from typing import Any

import jax

from fnn.core import tree, weights
from fnn.core.calling import output_spec, weight_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.node import Node

Row = tuple[str, str, str]


def table(name: str, layer: Layer, trials: list[Any], *, nested: bool = True) -> str:
    """The table of `layer` as text; `trials` are two specs of its inputs that differ where free.

    Everything is inferred from shapes: no weight is made, no device touched.

    >>> specs = [jax.ShapeDtypeStruct((batch, 2), "float32") for batch in (1, 2)]
    >>> print(table("small", fnn.layers.Dense(3), specs).splitlines()[-3])  # 2 * 3 + 3
    Total params: 9 (36.00 B)
    """
    params, state = weight_spec(layer, trials[0])
    counted = _Counter(layer, params, state)
    rows: list[Row] = []
    _rows(layer, trials, "", (), counted, rows, nested)
    if not rows:
        whole = Node(layer, (), tuple(output_spec(layer, trial) for trial in trials))
        rows.append(_row("", layer, (), whole.shape, counted))
    lines = [f'Model: "{name}"', *_grid(("Layer (type)", "Output Shape", "Param #"), rows)]
    learns, fixed = weights.split(layer, params)
    parts = {
        "Total params": {"params": params, "state": state},
        "Trainable params": learns,
        "Non-trainable params": {"params": fixed, "state": state},
    }
    for title, part in parts.items():
        lines.append(f" {title}: {tree.count(part):,} ({size(tree.nbytes(part))})")
    return "\n".join(lines)


def size(count: int) -> str:
    """A number of bytes in words: `1.21 MB`.

    >>> size(1536), size(9)
    ('1.50 KB', '9.00 B')
    """
    amount, units = float(count), ["B", "KB", "MB", "GB", "TB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.2f} {units[0]}"


class _Counter:
    """How many parameters the layer at a path has, all copies of it included."""

    def __init__(self, layer: Layer, params: Any, state: Any) -> None:
        self.params, self.state = params, state
        self.seen: set[tree.Path] = set()

    def at(self, path: tree.Path) -> int:
        self.seen.add(path)
        return tree.count((tree.get(self.params, path), tree.get(self.state, path)))


def _rows(
    layer: Layer,
    trials: list[Any],
    indent: str,
    path: tree.Path,
    counted: _Counter,
    rows: list[Row],
    nested: bool,
) -> None:
    """Appends a row for each child of `layer` in the order in which they run."""
    while not isinstance(layer, Flow):
        children = layer.children()
        if len(children) != 1 or children[0][0] is not None:
            return
        layer = children[0][1]  # a wrapper: what is inside keeps its paths

    def visit(name: str, child: Layer, x: Any) -> Node:
        given = [jax.tree.map(lambda node, i=i: node.specs[i], x) for i in (0, 1)]
        made = Node(child, (), tuple(output_spec(child, specs) for specs in given))
        rows.append(_row(indent + name, child, (*path, name), made.shape, counted))
        if nested:
            _rows(child, given, indent + "  ", (*path, name), counted, rows, nested)
        return made

    layer.flow(jax.tree.map(lambda *specs: Node(None, (), specs), *trials), visit)


def _row(title: str, layer: Layer, path: tree.Path, shape: Any, counted: _Counter) -> Row:
    again = path in counted.seen
    count = counted.at(path)
    note = "" if layer.trainable else " (frozen)"
    kind = type(layer).__name__
    return f"{title or kind} ({kind}){note}", str(shape), "shared" if again else f"{count:,}"


def _grid(titles: Row, rows: list[Row]) -> list[str]:
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(3)]
    rule = lambda left, middle, right: left + middle.join("─" * (w + 2) for w in widths) + right
    line = lambda row: (
        "│ "
        + " │ ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2])])
        + " │"
    )
    return [
        rule("┌", "┬", "┐"),
        line(titles),
        rule("├", "┼", "┤"),
        *map(line, rows),
        rule("└", "┴", "┘"),
    ]
