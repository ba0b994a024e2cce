"""Visualization: training curves, and images with what the model made of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fnn.runtime.optional import optional

TRAINING, VALIDATION, WRONG = "#1f6fb4", "#e07b1a", "#c4262e"
MOST_IMAGES = 40


def plot_history(
    history: Any, path: str | Path | None = None, *, figure: Any = None
) -> Any:
    """One panel a metric, training and validation curves together; returns the figure.

    `history` is what `fit` returns, or its dict of lists. `path` saves the figure, in the format
    of the ending; in a notebook the figure shows itself as the value of a cell. `figure` draws
    into a figure or subfigure of yours instead.
    Raises ValueError for a history without epochs, ImportError without matplotlib.

    >>> figure = fnn.visualization.plot_history({"loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    >>> [axes.get_title() for axes in figure.axes]
    ['Loss']
    """
    curves = dict(getattr(history, "history", history))
    names = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    names.sort(key=lambda name: name != "loss")  # the loss first, the rest as they come
    count = max(map(len, curves.values()), default=0)
    if not count:
        raise ValueError(
            f"expected a history with at least one epoch, received {curves!r}; call fit first"
        )
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure, panels = _figure(figure, rows, columns, (4.4 * columns, 3.3 * rows))
    epochs = list(getattr(history, "epoch", ())) or list(range(count))
    for axes, name in zip(panels, names, strict=False):
        _curves(axes, name, [epoch + 1 for epoch in epochs], curves)
    for axes in panels[len(names) :]:
        axes.remove()
    return _finish(figure, path)


def plot_predictions(
    images: Any,
    labels: Any,
    predicted: Any,
    path: str | Path | None = None,
    *,
    figure: Any = None,
) -> Any:
    """A grid of images under their predicted classes, wrong ones in red; returns the figure.

    images `(n, height, width)` or `(n, height, width, 1 or 3)`; labels and predicted `(n,)`
    classes, or `(n, classes)` one-hot and probabilities, whose largest is shown. The first 40
    images are drawn; the title counts over all. `path` and `figure` are those of `plot_history`.
    Raises TypeError for a model, ValueError unless there are as many labels and predictions as
    images, ImportError without matplotlib.

    >>> images = np.zeros((3, 8, 8))
    >>> figure = fnn.visualization.plot_predictions(images, [3, 1, 4], [3, 1, 9])
    >>> figure.axes[2].get_title()
    '9, is 4'
    """
    for name, value in (
        ("images", images),
        ("labels", labels),
        ("predicted", predicted),
    ):
        if hasattr(value, "predict"):
            raise TypeError(
                f"plot_predictions draws arrays, received the model {value.name!r} as {name}; "
                "call plot_predictions(images, labels, model.predict(images))"
            )
    images, (truth, _), (guess, share) = (
        np.asarray(images),
        _classes(labels),
        _classes(predicted),
    )
    if not 0 < len(images) == len(truth) == len(guess) or images.ndim not in (3, 4):
        raise ValueError(
            "expected images (n, height, width) with n labels and n predictions, received shapes "
            f"{images.shape}, {np.shape(labels)} and {np.shape(predicted)}; predict these images"
        )
    shown = min(len(images), MOST_IMAGES)
    columns = min(shown, 8)
    rows = math.ceil(shown / columns)
    figure, panels = _figure(
        figure, rows, columns, (1.3 * columns + 0.4, 1.62 * rows + 0.6)
    )
    low, high = images.min(), max(images.max(), images.min() + 1e-12)
    for axes, image, is_class, says, sure in zip(
        panels, images, truth, guess, share, strict=False
    ):
        wrong = is_class != says
        axes.imshow((image - low) / (high - low), cmap="gray_r", vmin=0, vmax=1)
        title = f"{says}, is {is_class}" if wrong else f"{says}"
        axes.set_title(
            title, color=WRONG if wrong else "black", weight="bold" if wrong else None
        )
        axes.set_xlabel("" if sure is None else f"{sure:.0%}", fontsize=8, color="0.35")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(
            color=WRONG if wrong else "0.75", linewidth=2.5 if wrong else 0.8
        )
    for axes in panels[shown:]:
        axes.remove()
    right = int(np.sum(truth == guess))
    figure.suptitle(
        f"Predicted classes, {right} of {len(truth)} right (wrong ones in red)"
    )
    return _finish(figure, path)


def _curves(axes: Any, name: str, epochs: list[int], curves: dict[str, Any]) -> None:
    with optional("matplotlib", extra="plot"):
        from matplotlib.ticker import MaxNLocator

    for key, label, color, marker in (
        (name, "training", TRAINING, "o"),
        (f"val_{name}", "validation", VALIDATION, "s"),
    ):
        values = curves.get(key, ())
        if len(values):  # with validation_freq=3 there is one in every third epoch
            every = max(len(epochs) // len(values), 1)
            at = epochs[every - 1 :: every][: len(values)]
            axes.plot(at, values, color=color, marker=marker, markersize=4, label=label)
    words = name.replace("_", " ")
    axes.set(title=words[:1].upper() + words[1:], xlabel="epoch", ylabel=words)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _classes(values: Any) -> tuple[np.ndarray, Any]:
    """Classes, and for each the probability given to it (None where only classes are known)."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] > 1:
        return values.argmax(axis=1), values.max(axis=1)
    return values.reshape(-1), [None] * values.size


def _figure(
    figure: Any, rows: int, columns: int, size: tuple[float, float]
) -> tuple[Any, list[Any]]:
    """The given figure, or a new one, and its panels."""
    with optional("matplotlib", extra="plot"):
        from matplotlib import pyplot

    if figure is None:
        figure = pyplot.figure(figsize=size, layout="constrained")
        pyplot.close(
            figure
        )  # out of pyplot's list: a notebook shows it once, nothing piles up
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _finish(figure: Any, path: str | Path | None) -> Any:
    if path is not None:
        figure.figure.savefig(path, dpi=150)  # of a subfigure: the whole
    return figure
