"""Blocks: what the blocks of several families need: layers in a row, widths, paddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

from fnn.core.layer import Layer
from fnn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    ZeroPadding2D,
)
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


def conv(
    filters: float,
    name: str | None,
    window: int | tuple[int, int] = 1,
    strides: int = 1,
    padding: str = "same",
    **given: Any,
) -> Conv2D:
    """A convolution without bias.

    >>> conv(8, "a", 3, 2).strides
    2
    """
    return Conv2D(
        int(filters), window, strides, padding, use_bias=False, name=name, **given
    )


def relu(name: str | None) -> Layer:
    """The activation as a layer of this name.

    >>> relu("a").activation
    'relu'
    """
    return Activation("relu", name=name)


class Names:
    """Names of layers that have none, numbered in the order in which they are added, as in Keras.

    >>> names = Names()
    >>> [names.new("conv2d") for _ in range(3)]
    ['conv2d', 'conv2d_1', 'conv2d_2']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def new(self, kind: str) -> str:
        """`kind`, `kind_1`, ..."""
        number = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{number}" if number else kind


def through(x: Node | list[Node], *layers: Layer) -> Node:
    """x after all these layers, at least one; the first takes several inputs as a list.

    >>> through(fnn.Input((4,)), fnn.layers.Dense(3), fnn.layers.Dense(2)).shape
    (None, 2)
    """
    y: Any = x
    for layer in layers:
        y = layer(y)
    return cast(Node, y)


def channels(x: Node) -> int:
    """The number of channels of images.

    >>> channels(fnn.Input((8, 8, 3)))
    3
    """
    number: int = x.shape[channel_axis()]
    return number


def multiple_of_eight(width: float, least: float = 0.9) -> int:
    """The multiple of 8 nearest to `width`, but at least 8 and at least `least` times `width`.

    >>> multiple_of_eight(20.1), multiple_of_eight(11), multiple_of_eight(11, 0)
    (24, 16, 8)
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    if rounded < least * width:
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


class Inverted(NamedTuple):
    """A residual block that is wide inside and narrow outside."""

    prefix: str  # of the names of its layers
    width: int  # channels inside; 0 for those of its inputs
    filters: int
    window: int = 3
    strides: int = 1


Normalized: TypeAlias = tuple[Layer, Layer, Layer]


def inverted(
    x: Node,
    block: Inverted,
    normalized: Callable[[Layer], Normalized],
    pad: str,
    excited: Callable[[Node], Node] | None = None,
) -> Node:
    """x wider, convolved channel by channel, narrow again, plus x where the shapes allow it.

    `normalized` adds a normalization and an activation to a convolution, `pad` is the name of the
    padding, `excited` comes before x gets narrow.
    """
    inputs, prefix, padding = x, block.prefix, "same"
    if block.width:
        x = through(x, *normalized(conv(block.width, f"{prefix}expand")))
    if block.strides == 2:
        padding = "valid"
        x = padded_to_halve(x, block.window, pad)
    name = f"{prefix}depthwise"
    depthwise = DepthwiseConv2D(
        block.window, block.strides, padding, use_bias=False, name=name
    )
    x = through(x, *normalized(depthwise))
    if excited:
        x = excited(x)
    x = through(x, *normalized(conv(block.filters, f"{prefix}project"))[:2])
    if block.strides == 1 and channels(inputs) == block.filters:
        x = Add(name=f"{prefix}add")([inputs, x])
    return x
