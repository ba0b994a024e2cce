"""Tables: rows of layers as lines of text, folded to a width."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

NAME = "Layer (type)"
SHAPE = "Output Shape"
COUNT = "Param #"
CONNECTED = "Connected to"
TRAINABLE = "Trainable"

COUNT_COLUMN = (
    2  # the column of COUNT, whose numbers are right-aligned and never wrapped
)
NARROWEST = 4  # characters in a column whose cells are wrapped


class Row(NamedTuple):
    """A layer in the table: its name, how deep it is inside others, its cells by column.

    For HTML also the layer, and the shapes of its weights as a tree.
    """

    name: str
    depth: int
    cells: dict[str, str]
    layer: object = None
    weights: Any = ()


def _widths(cells: list[list[str]], room: int) -> list[int]:
    """The widths of columns: those of their cells, with the widest narrowed until all have room.

    The column of numbers keeps its width.
    """
    widths = [max(map(len, column)) for column in cells]
    wrapped = [i for i in range(len(widths)) if i != COUNT_COLUMN]
    # A character at a time, always from the widest column.
    while sum(widths) > room:
        widest = max(wrapped, key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _widths_up_to(
    positions: Sequence[float],
    count: int,
    length: int,
) -> list[int]:
    """The widths of `count` columns that end at `positions`."""
    scale = 1
    if positions[-1] <= 1:  # fractions of the line
        scale = length - 1
    ends = [int(position * scale) for position in positions]
    widths = [end - start - 3 for start, end in itertools.pairwise([0, *ends])]
    if len(widths) != count or min(widths) < 1:
        raise ValueError(
            f"summary: expected the ends of {count} columns as positions, each at least 4 after "
            f"the one before, received {positions!r} on lines of {length}; e.g. line_length=120"
        )
    return widths


def table(
    columns: list[str],
    rows: list[Row],
    length: int,
    positions: Sequence[float] | None,
) -> list[str]:
    """The lines of a table of at most `length` characters."""
    cells = []
    for title in columns:
        cells.append([title, *(_cell(row, title) for row in rows)])
    if positions:
        widths = _widths_up_to(positions, len(columns), length)
    else:
        borders = 3 * len(columns) + 1
        widths = _widths(cells, length - borders)
    head, *body = (_lines(row, widths) for row in zip(*cells, strict=True))
    return [
        _rule("┌┬┐", widths),
        *head,
        _rule("├┼┤", widths),
        *itertools.chain.from_iterable(body),
        _rule("└┴┘", widths),
    ]


def _cell(row: Row, title: str) -> str:
    if title == NAME:
        return "  " * row.depth + row.cells[NAME]
    return row.cells[title]


def _rule(corners: str, widths: list[int]) -> str:
    """A horizontal line; `corners` are its left, middle and right characters."""
    left, middle, right = list(corners)
    return left + middle.join("─" * (width + 2) for width in widths) + right


def _lines(cells: tuple[str, ...], widths: list[int]) -> list[str]:
    """The lines of one row, whose cells are wrapped to these widths."""
    wrapped = []
    for text, width in zip(cells, widths, strict=True):
        indent = _indent(text, width)
        wrapped.append(textwrap.wrap(text, width, subsequent_indent=indent))
    lines = []
    for parts in itertools.zip_longest(*wrapped, fillvalue=""):
        aligned = list(map(str.ljust, parts, widths))
        number = parts[COUNT_COLUMN]
        aligned[COUNT_COLUMN] = number.rjust(widths[COUNT_COLUMN])
        lines.append("│ " + " │ ".join(aligned) + " │")
    return lines


def _indent(text: str, width: int) -> str:
    """The spaces at the start of a line, as far as the column has room for them."""
    spaces = len(text) - len(text.lstrip())
    return " " * min(spaces, max(width - NARROWEST, 0))
