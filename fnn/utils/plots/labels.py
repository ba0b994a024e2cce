"""Labels: what is written in the boxes of a picture, and how large they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from fnn.utils.plots.drawing import Rectangle, Text, text_width
from fnn.utils.plots.graph import Box, Group
from fnn.utils.plots.layout import Frame, Point, Sizes

SIZE = 10.0  # of the font, in points
ROW = 20.0  # the height of a row
MARGIN = 8.0  # beside the text of a cell
PAD = 12.0  # around the boxes of a nested model

DARK, LIGHT, BORDER, ARROW = "#263238", "#ffffff", "#263238", "#455a64"
GREEN, RED, FRAME = "#2e7d32", "#b23b3b", "#90a4ae"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A part of a row: its text, and its colors."""

    text: str
    bold: bool = False
    fill: str = LIGHT
    color: str = DARK

    @property
    def width(self) -> float:
        """The least width, in points."""
        return text_width(self.text, SIZE, self.bold) + 2 * MARGIN


@dataclasses.dataclass(frozen=True)
class Options:
    """What a picture shows, by Keras's names."""

    show_shapes: bool = False
    show_dtype: bool = False
    show_layer_names: bool = False
    show_layer_activations: bool = False
    show_trainable: bool = False

    def rows(self, box: Box) -> list[list[Cell]]:
        """The rows of a box: its title, its activation, its shapes, dtype and training."""
        title = box.kind
        if self.show_layer_names:
            title = f"{box.name} ({box.kind})"
        rows = [[Cell(title, bold=True, fill=DARK, color=LIGHT)]]
        if self.show_layer_activations and box.activation is not None:
            rows.append([Cell(f"Activation: {box.activation}")])
        last = []
        if self.show_shapes:
            if box.inputs is not None:
                last.append(Cell(f"Input shape: {shown(box.inputs)}"))
            last.append(Cell(f"Output shape: {shown(box.outputs)}"))
        if self.show_dtype:
            last.append(Cell(f"Output dtype: {box.dtype}"))
        if self.show_trainable and box.trainable is not None:
            word, fill = "Non-trainable", RED
            if box.trainable:
                word, fill = "Trainable", GREEN
            last.append(Cell(word, bold=True, fill=fill, color=LIGHT))
        if last:
            rows.append(last)
        return rows


def shown(shape: Any) -> str:
    """A shape, or a structure of shapes, as Keras writes it.

    >>> shown((None, 3)), shown(((None, 3), (None, 4))), shown({"a": (None, 3)})
    ('(None, 3)', '[(None, 3), (None, 4)]', 'a: (None, 3)')
    """
    if isinstance(shape, dict):
        return ", ".join(f"{name}: {shown(part)}" for name, part in shape.items())
    if isinstance(shape, (tuple, list)) and any(map(_is_shape, shape)):
        return f"[{', '.join(map(shown, shape))}]"
    return str(shape)


def _is_shape(part: Any) -> bool:
    return isinstance(part, (tuple, list, dict))


class LabelSizes(Sizes):
    """The sizes of boxes and frames for what they show, in a direction of the flow."""

    def __init__(self, options: Options, rankdir: str) -> None:
        self.options = options
        self.rankdir = rankdir

    def box(self, box: Box) -> Point:
        """The size of a box."""
        rows = self.options.rows(box)
        size = (max(map(_width, rows)), ROW * len(rows))
        return self.turned(size)

    def turned(self, size: Point) -> Point:
        """(width, height) as (across, along) the flow, or back."""
        if self.rankdir in ("LR", "RL"):
            return size[1], size[0]
        return size

    def frame(self, group: Group) -> Frame:
        """The room around the boxes of a nested model; its title stands above them."""
        title = text_width(group.name, SIZE, bold=True) + 2 * MARGIN
        if self.rankdir in ("LR", "RL"):
            return Frame(before=0, after=0, left=PAD + ROW, right=PAD)
        if self.rankdir == "BT":
            return Frame(before=0, after=ROW, left=PAD, right=PAD, title=title)
        return Frame(before=ROW, after=0, left=PAD, right=PAD, title=title)


def _width(row: Iterable[Cell]) -> float:
    return sum(cell.width for cell in row)


def label(
    rows: list[list[Cell]],
    x: float,
    y: float,
    width: float,
) -> list[Any]:
    """The rectangles and texts of a box; the cells of a row share its width."""
    things: list[Any] = []
    for number, row in enumerate(rows):
        top = y + ROW * number
        spare = (width - _width(row)) / len(row)
        left = x
        for cell in row:
            size = cell.width + spare
            things.append(Rectangle(left, top, size, ROW, cell.fill, BORDER))
            middle = (left + size / 2, top + ROW / 2)
            things.append(Text(*middle, cell.text, SIZE, cell.color, cell.bold))
            left += size
    return things
