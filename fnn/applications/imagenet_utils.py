"""ImageNet: preprocessing of images as published networks expect it, and names of its classes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fnn.core import arguments
from fnn.core.tree import Tree
from fnn.datasets.finding import Remote, file_of
from fnn.runtime.settings import settings
from fnn.symbolic.node import Node

__all__ = ["decode_predictions", "preprocess_input"]

Decoded: TypeAlias = list[list[tuple[str, str, Any]]]

CLASSES = 1000
CLASS_INDEX = Remote(
    "imagenet_class_index.json",
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)
FORMATS = ("channels_last", "channels_first")
MODES = ("caffe", "tf", "torch")

# Of the training set: of blue, green, red from 0 to 255, and of red, green, blue from 0 to 1.
MEAN_OF_BGR = (103.939, 116.779, 123.68)
MEAN_OF_RGB = (0.485, 0.456, 0.406)
DEVIATION_OF_RGB = (0.229, 0.224, 0.225)


def preprocess_input(
    x: Tree, data_format: str | None = None, mode: str = "caffe"
) -> Tree:
    """Images with values from 0 to 255 as published networks expect them, in three modes.

    "caffe": blue, green, red instead of red, green, blue, minus the mean of ImageNet.
    "tf": x / 127.5 - 1, from -1 to 1.
    "torch": x / 255, minus the mean of ImageNet, divided by its standard deviation.

    `x` is an array or a node, of one image or a batch; integers become floats first. Unlike Keras,
    which writes the results of NumPy arrays into `x` too, `x` stays as it is. Raises ValueError for
    another mode or data format.

    >>> preprocess_input(np.array([[[0, 0, 255]]]), mode="tf").tolist()
    [[[-1.0, -1.0, 1.0]]]
    >>> preprocess_input(np.array([[[0.0, 0.0, 255.0]]])).round(2).tolist()
    [[[151.06, -116.78, -123.68]]]
    """
    if mode not in MODES:
        raise arguments.wrong("preprocess_input", "mode", f"to be one of {MODES}", mode)
    if data_format is None:
        data_format = settings.image_data_format
    if data_format not in FORMATS:
        expected = f"to be one of {FORMATS}"
        raise arguments.wrong("preprocess_input", "data_format", expected, data_format)
    x = _as_floats(x)
    _check_images(x, mode, data_format)
    if mode == "tf":
        return x / 127.5 - 1.0
    after = 0  # axes after the channels
    if data_format == "channels_first":
        after = 2
    if mode == "torch":
        x = x / 255.0 - _of_channels(MEAN_OF_RGB, x, after)
        return x / _of_channels(DEVIATION_OF_RGB, x, after)
    reverse = (..., slice(None, None, -1), *(slice(None),) * after)
    return x[reverse] - _of_channels(MEAN_OF_BGR, x, after)


def _check_images(x: Tree, mode: str, data_format: str) -> None:
    """Raises ValueError unless x is one image or a batch, of 3 channels if each has a mean."""
    axis = -1 if data_format == "channels_last" else -3
    fits = len(x.shape) >= 3 and (mode == "tf" or x.shape[axis] == 3)
    if not fits:
        raise ValueError(
            "preprocess_input: expected one image or a batch, with 3 channels at axis "
            f"{axis}, received shape {tuple(x.shape)}; give grey images three equal channels"
        )


def _of_channels(values: tuple[float, ...], x: Tree, after: int) -> np.ndarray:
    """Values of the channels, to broadcast to `x`, which has `after` axes after the channels."""
    before = len(x.shape) - 1 - after
    shape = (1,) * before + (3,) + (1,) * after
    return np.asarray(values, x.dtype).reshape(shape)


def _as_floats(x: Tree) -> Tree:
    if not hasattr(x, "shape"):
        x = np.asarray(x)
    if np.issubdtype(x.dtype, np.integer) or x.dtype == bool:
        if isinstance(x, Node):
            return x * np.ones((), settings.floatx)
        return x.astype(settings.floatx)
    return x


def decode_predictions(preds: Tree, top: int = 5) -> Decoded:
    """The `top` most probable classes of each example: `(number in WordNet, name, probability)`.

    `preds` are predictions `(batch, 1000)` of a network with the classes of ImageNet. The names are
    read from Keras's file `imagenet_class_index.json`, which is downloaded once. Raises ValueError
    for another shape, FileNotFoundError if the file is missing and cannot be downloaded.

    >>> preds = np.eye(1000)[[1]]
    >>> decode_predictions(preds, top=1)  # doctest: +SKIP
    [[('n01443537', 'goldfish', np.float64(1.0))]]
    """
    shape = np.shape(preds)
    if len(shape) != 2 or shape[1] != CLASSES:
        raise ValueError(
            f"decode_predictions: expected predictions of shape (batch, {CLASSES}), received shape "
            f"{shape}; pass the outputs of a network with the classes of ImageNet"
        )
    names = _names(file_of("models", CLASS_INDEX, CLASS_INDEX.name, kind="models"))
    decoded: Decoded = []
    for scores in np.asarray(preds):
        best = scores.argsort()[::-1][:top]
        decoded.append([(*names[str(number)], scores[number]) for number in best])
    return decoded


@functools.lru_cache(1)
def _names(path: Path) -> dict[str, tuple[str, str]]:
    """By number of the class: (number in WordNet, name)."""
    found: dict[str, tuple[str, str]] = json.loads(path.read_text())
    return found


def preprocessing(mode: str | None) -> Callable[..., Tree]:
    """`preprocess_input` of a family of networks, with the mode of their weights.

    With None it returns images as they are, for networks that prepare them in layers of their own.

    >>> preprocessing("tf")(np.array([[[255]]])).tolist()
    [[[1.0]]]
    """

    def prepared(x: Tree, data_format: str | None = None) -> Tree:
        if mode is None:
            return x
        return preprocess_input(x, data_format, mode)

    prepared.__name__ = prepared.__qualname__ = "preprocess_input"
    prepared.__doc__ = f'`imagenet_utils.preprocess_input` in the mode "{mode}".'
    if mode is None:
        prepared.__doc__ = "The images as they are: layers of the network prepare them."
    return prepared
