"""Plot model: Keras's `plot_model` and `model_to_dot`."""

from __future__ import annotations

import itertools
import os
from typing import Any, TypeAlias

from fnn.runtime.files import write_atomically
from fnn.utils.plots.dot import Dot, dot_of
from fnn.utils.plots.drawing import Control, Drawing, Line, Point, Rectangle, Text
from fnn.utils.plots.graph import Box, graph_of
from fnn.utils.plots.labels import (
    ARROW,
    DARK,
    FRAME,
    MARGIN,
    ROW,
    SIZE,
    LabelSizes,
    Options,
    label,
)
from fnn.utils.plots.layout import Curve, Layout, layout_of

Model: TypeAlias = Any  # of `fnn.models`

DIRECTIONS = ("TB", "LR", "BT", "RL")
STRAIGHT = ("line", "polyline")
SPLINES = ("ortho", "curved", "spline", *STRAIGHT)
EDGE = 10.0  # of the picture, in points


class Picture:
    """A drawn model, which a notebook shows: `svg` is its text, `write` makes files of it."""

    def __init__(self, drawing: Drawing, dot: Dot, dpi: float) -> None:
        self.drawing = drawing
        self.dot = dot
        self.dpi = dpi

    @property
    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        return self.drawing.svg()

    def _repr_svg_(self) -> str:
        return self.svg

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a file in the format of its name: svg, dot, or an image by matplotlib."""
        name = os.fspath(path)
        _, suffix = os.path.splitext(name)
        format = suffix[1:].lower() or "png"
        if format == "svg":
            content = self.svg.encode()
        elif format in ("dot", "gv"):
            content = str(self.dot).encode()
        else:
            content = self.drawing.image(format, self.dpi)
        write_atomically(path, lambda file: file.write(content))


def plot_model(
    model: Model,
    to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Picture:
    """Draws the graph of a model into a file, and returns the picture for a notebook.

    The name of the file gives the format: "svg", "dot", or "png", "pdf" and others by matplotlib;
    None writes no file. A box is a layer, with its class, and its name (`show_layer_names`), the
    shapes of its inputs and outputs, the dtype of its outputs, its activation, and whether its
    weights learn. `rankdir` is the direction of the flow: "TB" down, "LR" to the right, "BT",
    "RL". `expand_nested` draws the layers of models inside it, in a frame. `dpi` is the resolution
    of images. `splines` is "line" or "polyline" for straight arrows; all other names of Graphviz
    give curves. Graphviz is not needed. Raises ValueError for a model that does not know its input
    shape, ImportError for an image without matplotlib.

    >>> x = fnn.Input((8,), name="x")
    >>> hidden = fnn.layers.Dense(8, "relu", name="hidden")(x)
    >>> model = fnn.Model(x, fnn.layers.Add(name="sum")([x, hidden]))
    >>> picture = plot_model(model, "model.svg", show_shapes=True, show_layer_names=True)
    >>> "hidden (Dense)" in picture.svg, "Output shape: (None, 8)" in picture.svg
    (True, True)
    """
    options = Options(
        show_shapes,
        show_dtype,
        show_layer_names,
        show_layer_activations,
        show_trainable,
    )
    _check_names(rankdir, splines)
    group = graph_of(model, expand_nested)
    dot = dot_of(group, options, rankdir, dpi, splines)
    sizes = LabelSizes(options, rankdir)
    drawing = _Pen(sizes, splines).draw(layout_of(group, sizes))
    picture = Picture(drawing, dot, dpi)
    if to_file is not None:
        picture.write(to_file)
    return picture


def model_to_dot(
    model: Model,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: float = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Dot:
    """The graph of a model in the language of Graphviz; `str` of it is the source.

    Arguments are those of `plot_model`; `subgraph` gives a cluster, to be put into another graph.
    Raises ValueError for a model that does not know its input shape.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
    >>> [line for line in str(model_to_dot(model)).splitlines() if "->" in line]
    ['n0 -> n1;']
    """
    options = Options(
        show_shapes,
        show_dtype,
        show_layer_names,
        show_layer_activations,
        show_trainable,
    )
    _check_names(rankdir, splines)
    group = graph_of(model, expand_nested)
    return dot_of(group, options, rankdir, dpi, splines, subgraph)


def _check_names(rankdir: str, splines: str) -> None:
    for name, given, known in (
        ("rankdir", rankdir, DIRECTIONS),
        ("splines", splines, SPLINES),
    ):
        if given not in known:
            raise ValueError(
                f"plot_model: expected {name} among {', '.join(known)}, received {given!r}"
            )


class _Pen:
    """Draws a layout in a direction of the flow."""

    def __init__(self, sizes: LabelSizes, splines: str) -> None:
        self.sizes = sizes
        self.straight = splines in STRAIGHT

    def draw(self, layout: Layout) -> Drawing:
        """The frames, then the arrows, then the boxes."""
        width, height = self.sizes.turned((layout.width, layout.height))
        self.extent = width, height
        frames: list[Any] = []
        boxes: list[Any] = []
        for place in layout.places:
            x, y, wide, high = self.rectangle(place)
            if isinstance(place.content, Box):
                rows = self.sizes.options.rows(place.content)
                boxes += label(rows, x, y, wide)
            else:
                frames.append(Rectangle(x, y, wide, high, "none", FRAME, dashed=True))
                at = (x + MARGIN, y + ROW / 2 + 2)
                title = place.content.name
                boxes.append(Text(*at, title, SIZE, DARK, bold=True, centered=False))
        lines = [self.line(curve) for curve in layout.curves]
        things = [*frames, *lines, *boxes]
        return Drawing(width + 2 * EDGE, height + 2 * EDGE, things)

    def rectangle(self, place: Any) -> tuple[float, float, float, float]:
        """(x, y, width, height) of a place."""
        corner = (place.across + place.width, place.along + place.height)
        first = self.point((place.across, place.along))
        last = self.point(corner)
        left, right = sorted((first[0], last[0]))
        top, bottom = sorted((first[1], last[1]))
        return left, top, right - left, bottom - top

    def point(self, at: Point) -> Point:
        """(x, y) of (across, along)."""
        x, y = self.sizes.turned(at)
        if self.sizes.rankdir == "BT":
            y = self.extent[1] - y
        if self.sizes.rankdir == "RL":
            x = self.extent[0] - x
        return x + EDGE, y + EDGE

    def line(self, curve: Curve) -> Line:
        """The arrow through some points; parts that go across are curved."""
        points = [self.point(at) for at in curve.points]
        controls: list[Control] = []
        for (a, first), (b, last) in itertools.pairwise(curve.points):
            if self.straight or min(abs(a - b), abs(first - last)) < 0.5:
                controls.append(None)
                continue
            middle = (first + last) / 2
            before, after = self.point((a, middle)), self.point((b, middle))
            controls.append((before, after))
        return Line(points, ARROW, controls, curve.has_head)
