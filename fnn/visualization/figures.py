"""Figures: matplotlib's figures, their panels and colors, as files and as SVG for a notebook."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from fnn.runtime.optional import optional

# Of matplotlib, which is imported when a figure is drawn.
Figure: TypeAlias = Any
Axes: TypeAlias = Any

# Visible on white and on black.
TRAINING_COLOR = "#2b7bba"
VALIDATION_COLOR = "#e07b1a"
WRONG_COLOR = "#e0353d"
WIDEST = 9.5  # inches: what a notebook shows without making it smaller

_INK = "#0a0b0c"  # stands for the color of the text around a figure


def new_figure(
    figure: Figure,
    rows: int,
    columns: int,
    size: tuple[float, float],
) -> tuple[Figure, list[Axes]]:
    """The given figure, or a new one, and its panels."""
    with optional("matplotlib", extra="plot"):
        from matplotlib import pyplot

    if figure is None:
        figure = pyplot.figure(figsize=size, layout="constrained")
        # Closed for pyplot only, so that a notebook shows it once and pyplot does not keep it.
        pyplot.close(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    return figure, list(panels.flat)


def finish(figure: Figure, path: str | Path | None) -> Figure:
    """Saves the figure, if there is a path, and returns it."""
    if path is not None:
        figure.figure.savefig(path, dpi=150)  # a subfigure saves the whole figure
    return figure


def as_svg(draw: Callable[[Figure], object], size: tuple[float, float]) -> str:
    """A figure as SVG in the color of the text around it, on the background of the page."""
    with optional("matplotlib", extra="plot"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure as NewFigure

    settings: Any = {"axes.facecolor": "none"}
    for part in ("text", "xtick", "ytick"):
        settings[f"{part}.color"] = _INK
    for part in ("labelcolor", "edgecolor"):
        settings[f"axes.{part}"] = _INK
    # Not by pyplot: if it chose its backend in here, that would be undone at the end.
    with rc_context(settings):
        figure = NewFigure(figsize=size, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    style = 'style="max-width: 100%; height: auto"'
    return re.sub("<svg", f"<svg {style}", text, count=1)
