"""Counts: a confusion matrix, and the distributions of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from fnn.visualization.figures import (
    TRAINING_COLOR,
    WIDEST,
    Axes,
    Figure,
    finish,
    new_figure,
)
from fnn.visualization.images import classes_of, refuse_models

MOST_NUMBERS = 20  # classes up to which each count is written
MOST_WEIGHTS = 24  # panels


def plot_confusion_matrix(
    labels: ArrayLike,
    predicted: ArrayLike,
    names: Sequence[object] | None = None,
    path: str | Path | None = None,
    *,
    figure: Figure = None,
) -> Figure:
    """Plots how many examples of each class (rows) are predicted as which (columns).

    labels and predicted are `(n,)` classes from 0, or `(n, classes)` one-hot labels and
    probabilities. `names` are those of the classes. The color is the fraction of a row, so that
    rare classes are visible; up to 20 classes the counts are written in the cells. `path` and
    `figure` are as in `plot_history`; returns the figure.
    Raises TypeError for a model, ValueError unless there are as many labels as predictions, all
    of them classes from 0, ImportError without matplotlib.

    >>> figure = fnn.visualization.plot_confusion_matrix([0, 1, 1], [0, 1, 0])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '0', '1', '1']
    """
    refuse_models("plot_confusion_matrix", labels=labels, predicted=predicted)
    counts = _confusion(labels, predicted, len(names or ()))
    classes = len(counts)
    shown = list(map(str, range(classes) if names is None else names))
    longest = max(map(len, shown))
    side = min(1.5 + 0.42 * classes, 6.5) + min(0.085 * longest, 2.5)
    figure, (axes,) = new_figure(figure, 1, 1, (side, side))
    totals = counts.sum(axis=1, keepdims=True)  # (classes, 1)
    fractions = counts / np.maximum(totals, 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if classes <= MOST_NUMBERS:
        font_size = min(10.0, 110 / max(classes, 8))
        _write_counts(axes, counts, fractions, font_size)
    every = math.ceil(classes / 25)  # of the labels, so that they do not overlap
    ticks = range(0, classes, every)
    rotation = 90 if longest > 2 else 0
    axes.set_xticks(ticks, shown[::every], rotation=rotation)
    axes.set_yticks(ticks, shown[::every])
    right = int(np.trace(counts))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{right} of {counts.sum()} right")
    return finish(figure, path)


def _confusion(labels: ArrayLike, predicted: ArrayLike, least: int) -> np.ndarray:
    """The counts `(classes, classes)`, true classes along the first axis."""
    truth, guess = classes_of(labels).classes, classes_of(predicted).classes
    both = np.concatenate([truth, guess])
    whole = both.astype(int)
    if (
        not both.size
        or len(truth) != len(guess)
        or (whole != both).any()
        or whole.min() < 0
    ):
        raise ValueError(
            "plot_confusion_matrix: expected n classes from 0 and n predictions, received shapes "
            f"{np.shape(labels)} and {np.shape(predicted)}; pass model.predict(x), or classes as "
            "integers"
        )
    classes = max(int(whole.max()) + 1, least)
    counts = np.zeros((classes, classes), int)
    cells = (truth.astype(int), guess.astype(int))
    np.add.at(counts, cells, 1)
    return counts


def _write_counts(
    axes: Axes,
    counts: np.ndarray,
    fractions: np.ndarray,
    size: float,
) -> None:
    for (row, column), count in np.ndenumerate(counts):
        # Of the cell, not of the page around it.
        color = "white" if fractions[row, column] > 0.5 else "#30363d"
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            color=color,
            fontsize=size,
        )


def plot_weights(
    weights: Any,
    path: str | Path | None = None,
    *,
    figure: Figure = None,
) -> Figure:
    """Plots a histogram of each array of weights, with its mean and standard deviation.

    `weights` is a model, or a tree of arrays: `model.params`, or gradients of the same structure.
    The first 24 arrays are drawn. Values that are not finite are counted in the title. `path` and
    `figure` are as in `plot_history`; returns the figure.
    Raises ValueError for a tree without numbers, ImportError without matplotlib.

    >>> figure = fnn.visualization.plot_weights({"dense": {"bias": np.ones(4)}})
    >>> figure.axes[0].get_title()
    'dense/bias'
    """
    params = getattr(weights, "params", weights)
    found = [(path, np.asarray(leaf)) for path, leaf in _leaves(params)]
    found = [(path, leaf) for path, leaf in found if leaf.size][:MOST_WEIGHTS]
    if not found:
        raise ValueError(
            f"plot_weights: expected a model or a tree of arrays, received {type(weights)} without "
            "numbers; build the model first"
        )
    columns = min(len(found), 4)
    rows = math.ceil(len(found) / columns)
    size = (min(3.0 * columns, WIDEST), 1.9 * rows)
    figure, panels = new_figure(figure, rows, columns, size)
    for axes, (title, leaf) in zip(panels, found, strict=False):
        _draw_histogram(axes, title, leaf.astype("float64").reshape(-1))
    for axes in panels[len(found) :]:
        axes.remove()
    return finish(figure, path)


def _leaves(params: Any) -> list[tuple[str, Any]]:
    """The arrays of a tree with their paths; dicts in their own order."""
    if isinstance(params, dict):
        found = []
        for name, branch in params.items():
            for path, leaf in _leaves(branch):
                found.append((f"{name}/{path}".rstrip("/"), leaf))
        return found
    return [("", leaf) for leaf in jax.tree.leaves(params)]


def _draw_histogram(axes: Axes, title: str, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        title += f"\n{len(values) - len(finite)} not finite"
    if finite.size:
        bins = min(40, max(8, finite.size // 8))
        axes.hist(finite, bins=bins, color=TRAINING_COLOR)
        axes.set_xlabel(f"{finite.mean():.3g} ± {finite.std():.3g}", fontsize=8)
    longest = max(map(len, title.split("\n")))
    font_size = min(9.0, 240 / max(longest, 1))
    axes.set_title(title, fontsize=max(font_size, 4.5))
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
