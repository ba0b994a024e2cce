"""Blocks: what the blocks of several families need: layers in a row, widths, paddings."""

from __future__ import annotations

from typing import Any

from fnn.core.layer import Layer
from fnn.layers import BatchNormalization, ZeroPadding2D
from fnn.runtime.settings import settings
from fnn.symbolic.node import Node


def channel_axis() -> int:
    """The axis of the channels of a batch of images, as `fnn.config` says.

    >>> channel_axis()
    3
    """
    return 1 if settings.channels_first else 3


def normalization(name: str | None = None, **given: Any) -> BatchNormalization:
    """A batch normalization of the channels.

    >>> normalization(epsilon=1e-5).axis
    3
    """
    return BatchNormalization(axis=channel_axis(), name=name, **given)


def through(x: Node, *layers: Layer) -> Node:
    """x after all these layers.

    >>> through(fnn.Input((4,)), fnn.layers.Dense(3), fnn.layers.Dense(2)).shape
    (None, 2)
    """
    for layer in layers:
        x = layer(x)
    return x


def channels(x: Node) -> int:
    """The number of channels of images.

    >>> channels(fnn.Input((8, 8, 3)))
    3
    """
    number: int = x.shape[channel_axis()]
    return number


def multiple_of_eight(width: float) -> int:
    """The multiple of 8 nearest to `width`, but at least 8 and at least 0.9 of `width`.

    >>> multiple_of_eight(20.1), multiple_of_eight(11)
    (24, 16)
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    if rounded < 0.9 * width:
        rounded += 8
    return rounded


def padded_to_halve(x: Node, window: int, name: str) -> Node:
    """x with the padding for a convolution with strides of 2.

    It is one less on the first side where the size is even or unknown.

    >>> padded_to_halve(fnn.Input((8, 9, 3)), 5, "pad").owner.padding
    ((1, 2), (2, 2))
    """
    half = window // 2
    shape = list(x.shape[1:])
    del shape[channel_axis() - 1]
    height, width = (size or 0 for size in shape)
    padding = ((half - 1 + height % 2, half), (half - 1 + width % 2, half))
    return through(x, ZeroPadding2D(padding, name=name))
