"""Visualization: training curves, and images with their predicted classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fnn.runtime.optional import optional

# Of matplotlib, which is imported when a figure is drawn.
Figure: TypeAlias = Any
Axes: TypeAlias = Any

Curves: TypeAlias = dict[str, list[float]]

TRAINING_COLOR = "#1f6fb4"
VALIDATION_COLOR = "#e07b1a"
WRONG_COLOR = "#c4262e"
MOST_IMAGES = 40


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
    given: Any = getattr(history, "history", history)
    curves: Curves = dict(given)
    names = [name.removeprefix("val_") for name in curves]
    names = list(dict.fromkeys(names))  # each once
    names.sort(key=lambda name: name != "loss")  # the loss first, others in their order
    count = max(map(len, curves.values()), default=0)
    if not count:
        raise ValueError(
            f"expected a history with at least one epoch, received {curves!r}; call fit first"
        )
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    size = (4.4 * columns, 3.3 * rows)  # in inches
    figure, panels = _figure(figure, rows, columns, size)
    epochs = getattr(history, "epoch", ()) or range(count)
    epochs = [epoch + 1 for epoch in epochs]  # shown from 1
    for axes, name in zip(panels, names, strict=False):
        _draw_curves(axes, name, epochs, curves)
    for axes in panels[len(names) :]:
        axes.remove()
    return _finish(figure, path)


def plot_predictions(
    images: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    path: str | Path | None = None,
    *,
    figure: Figure = None,
) -> Figure:
    """Plots images with their predicted classes, wrong ones in red; returns the figure.

    images `(n, height, width)` or `(n, height, width, 1 or 3)`; labels and predicted `(n,)`
    classes, or `(n, classes)` one-hot labels and probabilities; the class of the largest entry is
    shown. The first 40 images are drawn; the title counts all. `path` and `figure` are as in
    `plot_history`.
    Raises TypeError for a model, ValueError unless there are as many labels and predictions as
    images, ImportError without matplotlib.

    >>> images = np.zeros((3, 8, 8))
    >>> figure = fnn.visualization.plot_predictions(images, [3, 1, 4], [3, 1, 9])
    >>> figure.axes[2].get_title()
    '9, is 4'
    """
    _check_no_models(images=images, labels=labels, predicted=predicted)
    images = np.asarray(images)
    truth, _ = _classes(labels)
    classes, probabilities = _classes(predicted)
    same_length = 0 < len(images) == len(truth) == len(classes)
    if not same_length or images.ndim not in (3, 4):
        raise ValueError(
            "expected images (n, height, width) with n labels and n predictions, received shapes "
            f"{images.shape}, {np.shape(labels)} and {np.shape(predicted)}; predict these images"
        )
    shown = min(len(images), MOST_IMAGES)
    columns = min(shown, 8)
    rows = math.ceil(shown / columns)
    size = (1.3 * columns + 0.4, 1.62 * rows + 0.6)
    figure, panels = _figure(figure, rows, columns, size)
    # Gray levels from 0 to 1, alike for all images.
    low = images.min()
    high = max(images.max(), low + 1e-12)
    gray = (images[:shown] - low) / (high - low)
    for i, axes in enumerate(panels[:shown]):
        _draw_image(axes, gray[i], truth[i], classes[i], probabilities[i])
    for axes in panels[shown:]:
        axes.remove()
    right = int(np.sum(truth == classes))
    counts = f"{right} of {len(truth)} right"
    figure.suptitle(f"Predicted classes, {counts} (wrong ones in red)")
    return _finish(figure, path)


def _check_no_models(**arrays: object) -> None:
    for argument, value in arrays.items():
        if hasattr(value, "predict"):
            name = getattr(value, "name", None)
            raise TypeError(
                f"plot_predictions draws arrays, received the model {name!r} as {argument}; "
                "call plot_predictions(images, labels, model.predict(images))"
            )


def _draw_image(
    axes: Axes,
    image: np.ndarray,
    label: object,
    predicted: object,
    probability: float | None,
) -> None:
    """One image, with its predicted class above and the probability below."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    if predicted == label:
        axes.set_title(str(predicted), color="black")
        axes.spines[:].set(color="0.75", linewidth=0.8)
    else:
        title = f"{predicted}, is {label}"
        axes.set_title(title, color=WRONG_COLOR, weight="bold")
        axes.spines[:].set(color=WRONG_COLOR, linewidth=2.5)
    below = ""
    if probability is not None:
        below = f"{probability:.0%}"
    axes.set_xlabel(below, fontsize=8, color="0.35")
    axes.set(xticks=[], yticks=[])


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
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


class _Classes(NamedTuple):
    classes: np.ndarray  # (n,)
    probabilities: Sequence[float | None]  # of these classes; None if not known


def _classes(values: ArrayLike) -> _Classes:
    """The classes, from class numbers (n,) or from probabilities (n, classes)."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] > 1:
        classes = values.argmax(axis=1)  # (n,)
        return _Classes(classes, values.max(axis=1))
    return _Classes(values.reshape(-1), [None] * values.size)


def _figure(
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


def _finish(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        figure.figure.savefig(path, dpi=150)  # a subfigure saves the whole figure
    return figure
