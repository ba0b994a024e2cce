"""Keras arguments: those that all networks have, and what does not fit together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypedDict

from fnn import activations
from fnn.applications.blocks import channel_axis
from fnn.applications.imagenet_utils import CLASSES
from fnn.applications.published import Published
from fnn.core import arguments
from fnn.core.layer import Activation
from fnn.datasets.finding import file_of
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.settings import settings
from fnn.runtime.warning import warn
from fnn.symbolic.node import Node

Shape: TypeAlias = Sequence[int | None]
Weights: TypeAlias = str | os.PathLike[str] | None


class Given(TypedDict, total=False):
    """The arguments of Keras that all networks have, as a user gives them by name."""

    include_top: bool
    weights: Weights
    input_tensor: Node | None
    input_shape: Shape | None
    pooling: str | None
    classes: int
    classifier_activation: Activation
    name: str | None


class Arguments(NamedTuple):
    """The same, with their defaults."""

    include_top: bool = True
    weights: Weights = "imagenet"
    input_tensor: Node | None = None
    input_shape: Shape | None = None
    pooling: str | None = None
    classes: int = CLASSES
    classifier_activation: Activation = "softmax"
    name: str | None = None


def check(given: Arguments, facts: Published) -> None:
    """Raises ValueError for arguments that do not fit together, TypeError for another tensor."""
    title = facts.title
    if settings.channels_first and not facts.channels_first:
        raise ValueError(
            f"{title}: expected the data format channels_last, received channels_first; call "
            'fnn.config.set_image_data_format("channels_last")'
        )
    if given.pooling not in (None, "avg", "max"):
        expected = 'to be None, "avg" or "max"'
        raise arguments.wrong(title, "pooling", expected, given.pooling)
    if given.input_tensor is not None and not isinstance(given.input_tensor, Node):
        refuse_keras(given.input_tensor)
        raise TypeError(
            f"{title}: expected input_tensor to be a node such as fnn.Input((224, 224, 3)), "
            f"received {arguments.shown(given.input_tensor)}; call the model on arrays"
        )
    if given.include_top and given.weights is not None:
        _check_classifier(given, title)


def _check_classifier(given: Arguments, title: str) -> None:
    """Raises ValueError unless published weights fit the classifier."""
    if given.weights == "imagenet" and given.classes != CLASSES:
        advice = "pass include_top=False and a Dense layer of your own, or weights=None"
        expected = f'to be {CLASSES} with weights="imagenet"'
        raise arguments.wrong(title, "classes", expected, given.classes, advice)
    activation = given.classifier_activation
    allowed = (activations.get(None), activations.get("softmax"))
    if activations.get(activation) not in allowed:
        expected = 'to be None or "softmax" with given weights'
        advice = "pass None and apply another function to the outputs"
        raise arguments.wrong(
            title, "classifier_activation", expected, activation, advice
        )


def path_of_weights(given: Arguments, facts: Published) -> Path | None:
    """The file of the weights, downloaded if it is Keras's and not there yet."""
    if given.weights is None:
        return None
    if given.weights == "imagenet":
        remote = facts.with_top if given.include_top else facts.without_top
        return file_of("models", remote, remote.name, kind="models")
    path = Path(given.weights).expanduser()
    if not path.is_file():
        raise ValueError(
            f'{facts.title}: expected weights to be None, "imagenet" or the path of a file, '
            f"received {given.weights!r}; no such file is there"
        )
    return path


def check_published(
    given: Arguments,
    title: str,
    argument: str,
    received: float,
    allowed: tuple[float, ...],
) -> None:
    """Raises ValueError if no weights are published for an argument."""
    if given.weights == "imagenet" and received not in allowed:
        expected = f'to be one of {allowed} with weights="imagenet"'
        raise arguments.wrong(title, argument, expected, received)


def trained_size(
    title: str, given: Arguments, sizes: tuple[int, ...]
) -> tuple[int, int | None]:
    """(size of the images that published weights are for, height in the name of the model).

    The size is that of the images if it is among `sizes`, else 224, with a warning.

    >>> trained_size("MobileNet", Arguments(input_shape=(160, 160, 3)), (128, 160))
    (160, 160)
    """
    height: int | None = None
    if given.input_shape:
        sides = list(given.input_shape)
        del sides[channel_axis() - 1]
        height = sides[0]
        if sides == [height, height] and height in sizes:
            return height, height
    elif given.include_top:
        return 224, 224
    if given.weights != "imagenet":
        return 224, height
    warn(
        f"{title}: published weights are for square images of {sizes} pixels; for images of "
        f"shape {given.input_shape}, those of 224 are loaded"
    )
    return 224, 224


def image_shape(given: Arguments, facts: Published) -> tuple[int | None, ...]:
    """The shape of an image: the given one, checked, else the published one.

    Without classifier, sizes are unknown if not given.
    """
    default = _with_channels(3, facts.size, facts.size)
    fixed = given.include_top and not facts.any_size
    if given.input_shape is None:
        if fixed:
            return default
        return _with_channels(3, None, None)
    if not isinstance(given.input_shape, Sequence):
        expected = f"to be like {default}"
        raise arguments.wrong(facts.title, "input_shape", expected, given.input_shape)
    shape = tuple(given.input_shape)
    is_published = given.weights == "imagenet"
    expected = _fault(shape, is_published, fixed, default, facts.least)
    if expected:
        raise arguments.wrong(facts.title, "input_shape", expected, shape)
    channels = shape[channel_axis() - 1]
    if not is_published and channels not in (1, 3):
        warn(
            f"{facts.title}: images have 1 or 3 channels as a rule, these have {channels} (shape "
            f"{shape}); ignore this if it is what you mean"
        )
    return shape


def _with_channels(
    channels: int, height: int | None, width: int | None
) -> tuple[int | None, ...]:
    if settings.channels_first:
        return channels, height, width
    return height, width, channels


def _fault(
    shape: tuple[int | None, ...],
    is_published: bool,
    fixed: bool,
    default: tuple[int | None, ...],
    least: int,
) -> str:
    """What is expected of a shape that does not have it; empty for a right one."""
    if len(shape) != 3:
        return "to have three numbers"
    axis = channel_axis() - 1
    sides = shape[:axis] + shape[axis + 1 :]
    if is_published and fixed and shape != default:
        return f'to be {default} with include_top=True and weights="imagenet"'
    if is_published and shape[axis] != 3:
        return 'to have 3 channels with weights="imagenet"'
    if any(side is not None and side < least for side in sides):
        return f"to have at least {least} x {least} pixels"
    if fixed and None in shape:
        return "without None with include_top=True"
    return ""
