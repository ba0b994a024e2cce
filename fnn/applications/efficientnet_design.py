"""EfficientNet design: the layers of both versions, which differ in their blocks."""

from __future__ import annotations

import math
from typing import NamedTuple

from fnn import layers
from fnn.applications.blocks import (
    channel_axis,
    channels,
    normalization,
    padded_to_halve,
    through,
)
from fnn.applications.keras_arguments import Arguments
from fnn.applications.published import Published, files
from fnn.core.layer import Layer
from fnn.initializers.scaling import VarianceScaling
from fnn.symbolic.node import Node

STORAGE = "https://storage.googleapis.com/keras-applications"
CONV_INITIALIZER = VarianceScaling(2.0, "fan_out", "truncated_normal")
DENSE_INITIALIZER = VarianceScaling(1 / 3, "fan_out", "uniform")


class Block(NamedTuple):
    """Equal blocks in a row."""

    window: int
    repeats: int
    filters: int
    expansion: int
    strides: int  # of the first one
    fused: bool = False  # a convolution in place of an expanding and a depthwise one


class Design(NamedTuple):
    """One EfficientNet."""

    version: int
    stem: int  # filters of the first convolution
    blocks: tuple[Block, ...]
    width: float = 1.0  # times the filters
    depth: float = 1.0  # times the blocks

    @property
    def momentum(self) -> float:
        """That of the batch normalizations."""
        return 0.99 if self.version == 1 else 0.9

    def filters(self, number: int) -> int:
        """`number` times the width, as a multiple of 8; the first version keeps 0.9 of it.

        >>> Design(1, 32, (), 1.1).filters(10), Design(2, 32, (), 1.1).filters(10)
        (16, 8)
        """
        exact = self.width * number
        rounded = max(8, int(exact + 4) // 8 * 8)
        if self.version == 1 and rounded < 0.9 * exact:
            rounded += 8
        return rounded


def facts_of(title: str, name: str, size: int) -> Published:
    """The published facts of an EfficientNet.

    >>> facts_of("EfficientNetB0", "efficientnetb0", 224).without_top.name
    'efficientnetb0_notop.h5'
    """
    return Published(title, name, *files(STORAGE, name), size)


def features(x: Node, design: Design) -> Node:
    """The layers between preprocessing and classifier.

    >>> features(fnn.Input((32, 32, 3)), Design(1, 32, (Block(3, 1, 16, 1, 1),))).shape
    (None, 16, 16, 1280)
    """
    x, padding = _padded(x, 3, "stem_conv_pad", design)
    stem = _conv(design.filters(design.stem), "stem_conv", 3, 2, padding)
    x = through(x, stem, *_norm("stem_", design))
    repeats = [math.ceil(design.depth * block.repeats) for block in design.blocks]
    total = sum(repeats)
    if design.version == 2:
        # As in Keras, where the last rates are above 0.2 in deeper networks.
        total = sum(block.repeats for block in design.blocks)
    number = 0
    for stage, block in enumerate(design.blocks):
        block = block._replace(filters=design.filters(block.filters))
        for index in range(repeats[stage]):
            prefix = f"block{stage + 1}{chr(ord('a') + index)}_"
            x = _block(x, block, 0.2 * number / total, prefix, design)
            block = block._replace(strides=1)
            number += 1
    top = _conv(design.filters(1280), "top_conv")
    return through(x, top, *_norm("top_", design))


def _padded(x: Node, window: int, name: str, design: Design) -> tuple[Node, str]:
    """x as a layer with strides of 2 takes it, and the padding that is left to the layer."""
    if design.version == 2:
        return x, "same"
    return padded_to_halve(x, window, name), "valid"


def _conv(
    filters: int, name: str, window: int = 1, strides: int = 1, padding: str = "same"
) -> layers.Conv2D:
    conv = layers.Conv2D(filters, window, strides, padding, use_bias=False, name=name)
    return conv.replace(kernel_initializer=CONV_INITIALIZER)


def _norm(prefix: str, design: Design) -> tuple[Layer, Layer]:
    norm = normalization(f"{prefix}bn", momentum=design.momentum)
    return norm, layers.Activation("swish", name=f"{prefix}activation")


def _block(x: Node, block: Block, rate: float, prefix: str, design: Design) -> Node:
    """The block on x, plus x where the shapes allow it; in training left out at `rate`."""
    inputs, narrow = x, channels(x)
    expand = project = (1, 1)  # windows and strides
    if block.fused and block.expansion > 1:
        expand = (block.window, block.strides)
    elif block.fused:
        project = (block.window, block.strides)
    if block.expansion > 1:
        conv = _conv(narrow * block.expansion, f"{prefix}expand_conv", *expand)
        x = through(x, conv, *_norm(f"{prefix}expand_", design))
    if not block.fused:
        x = through(_depthwise(x, block, prefix, design), *_norm(prefix, design))
        x = _excited(x, narrow // 4, prefix)
    norm, activation = _norm(f"{prefix}project_", design)
    x = through(x, _conv(block.filters, f"{prefix}project_conv", *project), norm)
    if block.expansion == 1 and block.fused:
        x = through(x, activation)
    if block.strides == 1 and narrow == block.filters:
        if rate > 0:
            x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{prefix}drop")(
                x
            )
        x = layers.Add(name=f"{prefix}add")([x, inputs])
    return x


def _depthwise(x: Node, block: Block, prefix: str, design: Design) -> Node:
    name, padding = f"{prefix}dwconv", "same"
    if block.strides == 2:
        x, padding = _padded(x, block.window, f"{name}_pad", design)
    if design.version == 2:
        name = f"{name}2"
    layer = layers.DepthwiseConv2D(
        block.window,
        block.strides,
        padding,
        use_bias=False,
        depthwise_initializer=CONV_INITIALIZER,
        name=name,
    )
    return through(x, layer)


def _excited(x: Node, narrow: int, prefix: str) -> Node:
    """Each channel times a factor between 0 and 1, computed from the means of all channels."""
    wide = channels(x)
    shape = [1, 1, 1]
    shape[channel_axis() - 1] = wide
    reduce = _conv(narrow, f"{prefix}se_reduce")
    expand = _conv(wide, f"{prefix}se_expand")
    y = through(
        x,
        layers.GlobalAveragePooling2D(name=f"{prefix}se_squeeze"),
        layers.Reshape(tuple(shape), name=f"{prefix}se_reshape"),
        reduce.replace(use_bias=True, activation="swish"),
        expand.replace(use_bias=True, activation="sigmoid"),
    )
    z: Node = layers.Multiply(name=f"{prefix}se_excite")([x, y])
    return z


def classifier(x: Node, given: Arguments, dropout: float) -> Node:
    """The mean over the image, dropout, and a dense layer."""
    dense = layers.Dense(
        given.classes,
        activation=given.classifier_activation,
        kernel_initializer=DENSE_INITIALIZER,
        name="predictions",
    )
    drop = layers.Dropout(dropout, name="top_dropout")
    return through(x, layers.GlobalAveragePooling2D(name="avg_pool"), drop, dense)
