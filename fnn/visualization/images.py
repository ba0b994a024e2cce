"""Images: with their predicted classes, and with maps of what a network looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fnn.visualization.figures import (
    WIDEST,
    WRONG_COLOR,
    Axes,
    Figure,
    finish,
    new_figure,
)

MOST_IMAGES = 40
EACH = 1.15  # the side of an image, in inches


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
    refuse_models("plot_predictions", images=images, labels=labels, predicted=predicted)
    images = np.asarray(images)
    truth, _ = classes_of(labels)
    classes, probabilities = classes_of(predicted)
    same_length = 0 < len(images) == len(truth) == len(classes)
    if not same_length or images.ndim not in (3, 4):
        raise ValueError(
            "expected images (n, height, width) with n labels and n predictions, received shapes "
            f"{images.shape}, {np.shape(labels)} and {np.shape(predicted)}; predict these images"
        )
    shown = min(len(images), MOST_IMAGES)
    columns = min(shown, 8)
    rows = math.ceil(shown / columns)
    size = (EACH * columns + 0.3, (EACH + 0.4) * rows + 0.5)
    figure, panels = new_figure(figure, rows, columns, size)
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
    return finish(figure, path)


def plot_heatmaps(
    images: ArrayLike,
    maps: ArrayLike,
    titles: Sequence[object] | None = None,
    path: str | Path | None = None,
    *,
    figure: Figure = None,
) -> Figure:
    """Plots maps over the images they explain, as `fnn.explain` makes them; returns the figure.

    images `(n, height, width)` or `(n, height, width, 1 or 3)`; maps `(n, h, w)` of any size, or
    with channels, of which the largest entry by size is shown. Each map has a scale of its own;
    one with both signs is red where positive and blue where negative. `titles` are one for each
    image. The first 40 images are drawn; `path` and `figure` are as in `plot_history`.
    Raises ValueError unless there are as many maps as images, ImportError without matplotlib.

    >>> images, maps = np.zeros((2, 8, 8)), np.ones((2, 3, 3))
    >>> figure = fnn.visualization.plot_heatmaps(images, maps, ["a", "b"])
    >>> [axes.get_title() for axes in figure.axes]
    ['a', 'b']
    """
    images, maps = np.asarray(images), np.asarray(maps)
    are_images = images.ndim in (3, 4) and maps.ndim in (3, 4)
    if not are_images or len(images) != len(maps):
        raise ValueError(
            "expected images (n, height, width) with n maps, received shapes "
            f"{images.shape} and {maps.shape}; explain these images"
        )
    shown = min(len(images), MOST_IMAGES)
    columns = min(shown, 6)
    rows = math.ceil(shown / columns)
    side = WIDEST / 6
    size = (side * columns, (side + 0.3) * rows)
    figure, panels = new_figure(figure, rows, columns, size)
    low = images.min()
    contrast = max(images.max() - low, 1e-12)
    gray = (images[:shown] - low) / contrast
    for i, axes in enumerate(panels[:shown]):
        _draw_map(axes, gray[i], maps[i])
        if titles is not None:
            axes.set_title(str(titles[i]), fontsize=_font_size(titles[i]))
    for axes in panels[shown:]:
        axes.remove()
    return finish(figure, path)


def _draw_map(
    axes: Axes,
    image: np.ndarray,
    values: np.ndarray,
) -> None:
    """An image in gray, and a map of its own size over it."""
    if values.ndim == 3:
        place = np.abs(values).argmax(axis=-1)[..., None]
        values = np.take_along_axis(values, place, axis=-1)[..., 0]
    height, width = image.shape[:2]
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    largest = max(np.abs(values).max(), 1e-12)
    options = {"cmap": "inferno", "vmin": 0.0}
    if values.min() < 0:
        options = {"cmap": "RdBu_r", "vmin": -largest}
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    strength = 0.25 + 0.65 * np.abs(values) / largest  # weak places show the image
    axes.imshow(values, extent=extent, vmax=largest, alpha=strength, **options)
    axes.set(xticks=[], yticks=[])


def refuse_models(function: str, **arrays: object) -> None:
    """Raises TypeError for a model among the arrays of a function that draws."""
    for argument, value in arrays.items():
        if hasattr(value, "predict"):
            name = getattr(value, "name", None)
            given = ["model.predict(images)" if n == "predicted" else n for n in arrays]
            call = ", ".join(given)
            raise TypeError(
                f"{function} draws arrays, received the model {name!r} as {argument}; "
                f"call {function}({call})"
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
        axes.set_title(str(predicted), fontsize=_font_size(predicted))
        axes.spines[:].set(color="0.6", linewidth=0.8)
    else:
        title = f"{predicted}, is {label}"
        if len(title) > 12:
            title = f"{predicted}\nis {label}"
        axes.set_title(
            title, color=WRONG_COLOR, weight="bold", fontsize=_font_size(title)
        )
        axes.spines[:].set(color=WRONG_COLOR, linewidth=2.5)
    below = ""
    if probability is not None:
        below = f"{probability:.0%}"
    axes.set_xlabel(below, fontsize=8, alpha=0.75)
    axes.set(xticks=[], yticks=[])


def _font_size(title: object) -> float:
    """The largest, up to 11, at which the longest line fits above an image."""
    longest = max(map(len, str(title).split("\n")))
    fitting = EACH * 72 / (0.68 * longest)
    return max(min(11.0, fitting), 4.0)


class Classes(NamedTuple):
    """Classes, and how likely they are."""

    classes: np.ndarray  # (n,)
    probabilities: Sequence[float | None]  # of these classes; None if not known


def classes_of(values: ArrayLike) -> Classes:
    """The classes, from class numbers (n,) or from probabilities (n, classes)."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] > 1:
        classes = values.argmax(axis=1)  # (n,)
        return Classes(classes, values.max(axis=1))
    return Classes(values.reshape(-1), [None] * values.size)
