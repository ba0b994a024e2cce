"""Drawing: rectangles, lines and text, as SVG by itself and as other images by matplotlib."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from html import escape
from typing import Any, TypeAlias

from fnn.runtime.optional import optional

Point: TypeAlias = tuple[float, float]
# The two points of control of a curved part of a line; None for a straight one.
Control: TypeAlias = tuple[Point, Point] | None
Axes: TypeAlias = Any  # of matplotlib

FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
# The widths of characters of DejaVu Sans in hundredths of the font size; 64 for all others.
WIDTHS = {
    28: "'ijlIJ",
    33: " ,./:;\\|",
    37: "f-",
    40: "()[]t!r",
    48: '"*_`',
    53: "sz?",
    57: "cLFk",
    60: "vxyPTYao",
    68: "KAVBRXZC",
    75: "UHNDG&",
    80: "OQw",
    85: "#+<=>^~M",
    97: "%mW@",
}
WIDTH_OF = {
    character: width / 100
    for width, characters in WIDTHS.items()
    for character in characters
}
BOLD = 1.12  # how much wider bold characters are


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a line of text, about."""
    width = sum(WIDTH_OF.get(character, 0.64) for character in text) * size
    return width * BOLD if bold else width


@dataclasses.dataclass
class Rectangle:
    """A filled rectangle with a border, dashed or not."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    border: str
    dashed: bool = False


@dataclasses.dataclass
class Text:
    """A line of text around a point in its middle; or from it on, to the right."""

    x: float
    y: float
    text: str
    size: float
    color: str
    bold: bool = False
    centered: bool = True


@dataclasses.dataclass
class Line:
    """An arrow through some points, (x, y); curved parts have two points of control."""

    points: list[Point]
    color: str
    curved: list[Control]  # for each part
    has_head: bool = True

    @property
    def parts(self) -> Iterator[tuple[Point, Control]]:
        """The end of each part, and its points of control."""
        return zip(self.points[1:], self.curved, strict=True)


@dataclasses.dataclass
class Drawing:
    """What is drawn, in points, from the upper left corner; later things lie above others."""

    width: float
    height: float
    things: list[Rectangle | Text | Line]

    def svg(self) -> str:
        """The drawing as the text of an SVG file."""
        size = f"{self.width:.0f}", f"{self.height:.0f}"
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}pt" height="{size[1]}pt" '
            f'viewBox="0 0 {size[0]} {size[1]}" font-family="{FONT}">',
            '<rect width="100%" height="100%" fill="white"/>',
        ]
        for thing in self.things:
            lines += _svg(thing)
        return "\n".join([*lines, "</svg>", ""])

    def image(self, format: str, dpi: float) -> bytes:
        """The drawing as an image file of a format that matplotlib writes."""
        with optional("matplotlib", extra="plot"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

        inches = (self.width / 72, self.height / 72)
        figure = Figure(figsize=inches, dpi=dpi)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.axis("off")
        for thing in self.things:
            _draw(axes, thing)
        file = io.BytesIO()
        figure.savefig(file, format=format, dpi=dpi, facecolor="white")
        return file.getvalue()


def _svg(thing: Rectangle | Text | Line) -> Iterator[str]:
    if isinstance(thing, Rectangle):
        dashes = ' stroke-dasharray="4 3"' if thing.dashed else ""
        yield (
            f'<rect x="{thing.x:.1f}" y="{thing.y:.1f}" width="{thing.width:.1f}" '
            f'height="{thing.height:.1f}" fill="{thing.fill}" stroke="{thing.border}"{dashes}/>'
        )
    elif isinstance(thing, Text):
        anchor = "middle" if thing.centered else "start"
        weight = ' font-weight="bold"' if thing.bold else ""
        # The middle of capital letters is about 0.36 of the font size above the line.
        y = thing.y + 0.36 * thing.size
        yield (
            f'<text x="{thing.x:.1f}" y="{y:.1f}" font-size="{thing.size:g}" fill="{thing.color}" '
            f'text-anchor="{anchor}"{weight}>{escape(thing.text)}</text>'
        )
    else:
        steps = [f"M {_at(thing.points[0])}"]
        for point, control in thing.parts:
            if control is None:
                steps.append(f"L {_at(point)}")
            else:
                steps.append(f"C {_at(control[0])} {_at(control[1])} {_at(point)}")
        yield f'<path d="{" ".join(steps)}" fill="none" stroke="{thing.color}"/>'
        if thing.has_head:
            corners = " ".join(map(_at, _arrowhead(thing)))
            yield f'<polygon points="{corners}" fill="{thing.color}"/>'


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _arrowhead(line: Line) -> list[Point]:
    """The corners of the triangle at the end of an arrow."""
    before, (x, y) = line.points[-2:]
    if line.curved[-1] is not None:
        before = line.curved[-1][1]
    dx, dy = x - before[0], y - before[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1.0
    dx, dy = 6 * dx / length, 6 * dy / length
    left = (x - dx - dy / 2, y - dy + dx / 2)
    right = (x - dx + dy / 2, y - dy - dx / 2)
    return [(x, y), left, right]


def _draw(axes: Axes, thing: Rectangle | Text | Line) -> None:
    """Adds a thing to the axes of a figure of matplotlib."""
    with optional("matplotlib", extra="plot"):
        from matplotlib import patches

    if isinstance(thing, Text):
        _write(axes, thing)
    elif isinstance(thing, Rectangle):
        corner = (thing.x, thing.y)
        patch = patches.Rectangle(corner, thing.width, thing.height, linewidth=1)
        patch.set(facecolor=thing.fill, edgecolor=thing.border)
        if thing.dashed:
            patch.set_linestyle((0, (4, 3)))
        axes.add_patch(patch)
    else:
        line = patches.PathPatch(_path(thing), fill=False, linewidth=1)
        line.set_edgecolor(thing.color)
        axes.add_patch(line)
        if thing.has_head:
            head = patches.Polygon(
                _arrowhead(thing), closed=True, facecolor=thing.color
            )
            axes.add_patch(head)


def _write(axes: Axes, thing: Text) -> None:
    axes.text(
        thing.x,
        thing.y,
        thing.text,
        fontsize=thing.size,
        color=thing.color,
        weight="bold" if thing.bold else "normal",
        family="DejaVu Sans",
        ha="center" if thing.centered else "left",
        va="center_baseline",
        parse_math=False,
    )


def _path(line: Line) -> Any:
    """The path of an arrow, of matplotlib."""
    with optional("matplotlib", extra="plot"):
        from matplotlib.path import Path

    points, codes = [line.points[0]], [Path.MOVETO]
    for point, control in line.parts:
        if control is None:
            points.append(point)
            codes.append(Path.LINETO)
        else:
            points += [*control, point]
            codes += [Path.CURVE4] * 3
    return Path(points, codes)
