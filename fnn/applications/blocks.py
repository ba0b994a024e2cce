"""Blocks: what the blocks of several families need: layers in a row, widths, paddings."""

from __future__ import annotations

from fnn.applications.application import channel_axis
from fnn.core.layer import Layer
from fnn.symbolic.node import Node


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


def padding_to_halve(x: Node, window: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding of images for a convolution with strides of 2.

    It is one less on the first side where the size is even or unknown.

    >>> padding_to_halve(fnn.Input((8, 9, 3)), 5)
    ((1, 2), (2, 2))
    """
    half = window // 2
    shape = list(x.shape[1:])
    del shape[channel_axis() - 1]
    height, width = (size or 0 for size in shape)
    return (half - 1 + height % 2, half), (half - 1 + width % 2, half)
