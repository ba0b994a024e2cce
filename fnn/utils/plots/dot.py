"""DOT: the graph of a picture in the language of Graphviz."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from html import escape
from typing import TypeAlias

from fnn.utils.plots.graph import ENTRY, EXIT, Box, Group
from fnn.utils.plots.labels import Cell, Options

Path: TypeAlias = tuple[str, ...]  # the keys of a box and of the groups around it


class Dot:
    """The source of a graph in the language of Graphviz: `str(dot)`, `dot.to_string()`."""

    def __init__(self, source: str) -> None:
        self.source = source

    def to_string(self) -> str:
        """The source."""
        return self.source

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the source into a file, for `dot -Tpng graph.dot`."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.source)

    __str__ = to_string

    def __repr__(self) -> str:
        return f"<Dot of {len(self.source.splitlines())} lines>"


def dot_of(
    group: Group,
    options: Options,
    rankdir: str,
    dpi: float,
    splines: str,
    subgraph: bool = False,
) -> Dot:
    """The source of a group, as a graph or as a cluster for another one."""
    number = itertools.count()
    names: dict[Path, str] = {}
    boxes = _boxes(group, options, (), names, number)
    body = [*boxes, *_arrows(group, (), names)]
    if subgraph:
        head = ["subgraph cluster_0 {", *_cluster(group.name)]
    else:
        head = [
            "digraph model {",
            f'rankdir="{rankdir}"; concentrate=true; dpi={dpi:g}; splines="{splines}";',
            'node [shape=plain, fontname="Helvetica"]; edge [penwidth=2];',
        ]
    return Dot("\n".join([*head, *body, "}", ""]))


def _cluster(name: str) -> list[str]:
    return [f'style=dashed; labeljust=l; label="{_quoted(name)}";']


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _boxes(
    group: Group,
    options: Options,
    path: Path,
    names: dict[Path, str],
    number: Iterator[int],
) -> Iterator[str]:
    """The lines of boxes, and of nested groups with theirs; each box gets a name."""
    for key, member in group.members.items():
        inner = (*path, key)
        if isinstance(member, Box):
            names[inner] = f"n{next(number)}"
            yield f"{names[inner]} [label=<{_table(options.rows(member))}>];"
        else:
            yield f"subgraph cluster_{next(number)} {{"
            yield from _cluster(member.name)
            yield from _boxes(member, options, inner, names, number)
            yield "}"


def _arrows(
    group: Group,
    path: Path,
    names: dict[Path, str],
) -> Iterator[str]:
    """The lines of the arrows between boxes, also into and out of nested groups."""
    found: dict[str, None] = {}
    for start, end in group.arrows:
        if start.key == ENTRY or end.key == EXIT:
            continue
        pairs = itertools.product(group.sources(start), group.targets(end))
        for first, last in pairs:
            arrow = f"{names[*path, *first]} -> {names[*path, *last]};"
            found[arrow] = None
    yield from found
    for key, member in group.members.items():
        if isinstance(member, Group):
            yield from _arrows(member, (*path, key), names)


def _table(rows: list[list[Cell]]) -> str:
    """The label of a box, in Graphviz's kind of HTML."""
    columns = max(map(len, rows))
    lines = []
    for row in rows:
        span = columns // len(row)
        cells = (
            f'<td bgcolor="{cell.fill}" colspan="{span}"><font color="{cell.color}">'
            f"{_bold(cell)}</font></td>"
            for cell in row
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = '<table border="0" cellborder="1" cellspacing="0" cellpadding="6">'
    return f"{table}{''.join(lines)}</table>"


def _bold(cell: Cell) -> str:
    text = escape(cell.text, quote=False)
    return f"<b>{text}</b>" if cell.bold else text
