"""Curves: the history of a training, a panel for each metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

from fnn.runtime.optional import optional
from fnn.visualization.figures import (
    TRAINING_COLOR,
    VALIDATION_COLOR,
    WIDEST,
    Axes,
    Figure,
    as_svg,
    finish,
    new_figure,
)

Curves: TypeAlias = dict[str, list[float]]


def plot_history(
    history: object,
    path: str | Path | None = None,
    *,
    figure: Figure = None,
) -> Figure:
    """Plots one panel for each metric, with training and validation curves; returns the figure.

    `history` is the result of `fit`, or its dict of lists. `path` saves the figure, in the format
    of the file name's ending; a notebook shows the returned figure. `figure` is an existing figure
    or subfigure to draw into.
    Raises ValueError for a history without epochs, ImportError without matplotlib.

    >>> figure = fnn.visualization.plot_history({"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    >>> [axes.get_title() for axes in figure.axes]
    ['Loss']
    """
    curves = _curves(history)
    names = _names(curves)
    count = max(map(len, curves.values()), default=0)
    if not count:
        raise ValueError(
            f"expected a history with at least one epoch, received {curves!r}; call fit first"
        )
    rows, columns, size = _grid(len(names))
    figure, panels = new_figure(figure, rows, columns, size)
    epochs = getattr(history, "epoch", ()) or range(count)
    epochs = [epoch + 1 for epoch in epochs]  # shown from 1
    for axes, name in zip(panels, names, strict=False):
        _draw_curves(axes, name, epochs, curves)
    for axes in panels[len(names) :]:
        axes.remove()
    return finish(figure, path)


def history_svg(history: object) -> str:
    """The curves as SVG for a page, in the color of its text."""
    _, _, size = _grid(len(_names(_curves(history))))
    return as_svg(lambda figure: plot_history(history, figure=figure), size)


def _curves(history: object) -> Curves:
    given: Any = getattr(history, "history", history)
    return dict(given)


def _names(curves: Curves) -> list[str]:
    """The metrics, each once: the loss first, others in their order."""
    names = [name.removeprefix("val_") for name in curves]
    names = list(dict.fromkeys(names))
    names.sort(key=lambda name: name != "loss")
    return names


def _grid(panels: int) -> tuple[int, int, tuple[float, float]]:
    """(rows, columns, size in inches)."""
    columns = min(panels, 3)
    rows = math.ceil(panels / max(columns, 1))
    return rows, columns, (min(4.4 * columns, WIDEST), 2.9 * rows)


def _draw_curves(
    axes: Axes,
    name: str,
    epochs: list[int],
    curves: Curves,
) -> None:
    """The training and validation curves of one metric."""
    with optional("matplotlib", extra="plot"):
        from matplotlib.ticker import MaxNLocator

    for key, label, color, marker in (
        (name, "training", TRAINING_COLOR, "o"),
        (f"val_{name}", "validation", VALIDATION_COLOR, "s"),
    ):
        values = curves.get(key, [])
        if len(values):
            # With validation_freq=3 there is a value for every third epoch.
            every = max(len(epochs) // len(values), 1)
            at = epochs[every - 1 :: every][: len(values)]
            axes.plot(
                at,
                values,
                color=color,
                marker=marker,
                markersize=4,
                label=label,
            )
    label = name.replace("_", " ")
    title = label[:1].upper() + label[1:]  # the rest may hold capitals
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
