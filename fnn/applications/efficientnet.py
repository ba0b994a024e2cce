"""EfficientNet: depth, width and size of images scaled together (Tan and Le 2019)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple, Unpack

import numpy as np

from fnn import layers
from fnn.applications.application import Body, assembled, family
from fnn.applications.blocks import (
    channel_axis,
    channels,
    conv,
    multiple_of_eight,
    normalization,
    padded_to_halve,
    through,
)
from fnn.applications.heads import pooled_by_name, predictions
from fnn.applications.imagenet_utils import (
    DEVIATION_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Arguments, Given
from fnn.applications.published import Published, files
from fnn.core.layer import Layer
from fnn.initializers.scaling import VarianceScaling
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)

STORAGE = "https://storage.googleapis.com/keras-applications"
CONV_INITIALIZER = VarianceScaling(2.0, "fan_out", "truncated_normal")
DENSE_INITIALIZER = VarianceScaling(1 / 3, "fan_out", "uniform")
_conv = partial(conv, kernel_initializer=CONV_INITIALIZER)


class Block(NamedTuple):
    """Equal blocks in a row."""

    window: int
    repeats: int
    filters: int
    expansion: int
    strides: int  # of the first one
    fused: bool = False  # a convolution in place of an expanding and a depthwise one


class Design(NamedTuple):
    """One EfficientNet of the first or second version."""

    version: int
    stem: int  # filters of the first convolution
    blocks: tuple[Block, ...]
    width: float = 1.0  # times the filters
    depth: float = 1.0  # times the blocks
    dropout: float = 0.2  # before the classifier

    def filters(self, number: int) -> int:
        """`number` times the width, as a multiple of 8; the first version keeps 0.9 of it.

        >>> Design(1, 32, (), 1.1).filters(10), Design(2, 32, (), 1.1).filters(10)
        (16, 8)
        """
        least = 0.9 if self.version == 1 else 0
        return multiple_of_eight(self.width * number, least)


def facts_of(kind: str, size: int) -> Published:
    """The published facts of an EfficientNet.

    >>> facts_of("V2B0", 224).without_top.name
    'efficientnetv2-b0_notop.h5'
    """
    name = f"efficientnet{kind.lower().replace('v2', 'v2-')}"
    return Published(f"EfficientNet{kind}", name, *files(STORAGE, name), size)


def efficientnet(
    given: Arguments, facts: Published, design: Design, prepared: Body
) -> Model:
    """The model of an EfficientNet, whose layers follow `prepared`."""

    def body(x: Node) -> Node:
        return features(prepared(x), design)

    top = partial(_classifier, dropout=design.dropout)
    return assembled(given, facts, body, top, pooled_by_name)


def features(x: Node, design: Design) -> Node:
    """The layers between preprocessing and classifier.

    >>> features(fnn.Input((32, 32, 3)), Design(1, 32, (Block(3, 1, 16, 1, 1),))).shape
    (None, 16, 16, 1280)
    """
    stem = _conv(design.filters(design.stem), "stem_conv", 3, 2)
    x = through(_halved(x, stem, 3, design), *_norm("stem_", design))
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


def _halved(x: Node, layer: Layer, window: int, design: Design) -> Node:
    """x after a layer with strides of 2; the first version pads by a layer of its own."""
    if design.version == 1:
        x = padded_to_halve(x, window, f"{layer.name}_pad")
        layer = layer.replace(padding="valid")
    return through(x, layer)


def _norm(prefix: str, design: Design) -> tuple[Layer, Layer]:
    norm = normalization(f"{prefix}bn", momentum=0.99 if design.version == 1 else 0.9)
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
        wide = _conv(narrow * block.expansion, f"{prefix}expand_conv", *expand)
        x = through(x, wide, *_norm(f"{prefix}expand_", design))
    if not block.fused:
        x = through(_depthwise(x, block, prefix, design), *_norm(prefix, design))
        x = _excited(x, narrow // 4, prefix)
    norm, activation = _norm(f"{prefix}project_", design)
    x = through(x, _conv(block.filters, f"{prefix}project_conv", *project), norm)
    if block.expansion == 1 and block.fused:
        x = through(x, activation)
    if block.strides == 1 and narrow == block.filters:
        if rate > 0:
            shape = (None, 1, 1, 1)  # all of an example
            drop = layers.Dropout(rate, noise_shape=shape, name=f"{prefix}drop")
            x = through(x, drop)
        x = layers.Add(name=f"{prefix}add")([x, inputs])
    return x


def _depthwise(x: Node, block: Block, prefix: str, design: Design) -> Node:
    layer = layers.DepthwiseConv2D(
        block.window,
        block.strides,
        "same",
        use_bias=False,
        depthwise_initializer=CONV_INITIALIZER,
        name=f"{prefix}dwconv{'' if design.version == 1 else 2}",
    )
    if block.strides == 2:
        return _halved(x, layer, block.window, design)
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
    return through([x, y], layers.Multiply(name=f"{prefix}se_excite"))


def _classifier(x: Node, given: Arguments, dropout: float) -> Node:
    """The mean over the image, dropout, and a dense layer."""
    drop = layers.Dropout(dropout, name="top_dropout")
    x = through(x, layers.GlobalAveragePooling2D(name="avg_pool"), drop)
    return predictions(x, given, kernel_initializer=DENSE_INITIALIZER)


def _prepared(x: Node, is_published: bool) -> Node:
    x = through(x, layers.Rescaling(1 / 255), _identity(channels(x)))
    if is_published:
        # The published files hold standard deviations in place of the variances.
        x = through(x, layers.Rescaling([d**-0.5 for d in DEVIATION_OF_RGB]))
    return x


def _identity(channels: int) -> Layer:
    """A normalization that changes nothing until it gets other weights or is adapted."""
    axis = channel_axis()
    layer = layers.Normalization(axis)
    examples = np.array([1.0, -1.0]).reshape(2, 1, 1, 1)  # mean 0, variance 1
    layer.adapt(np.repeat(examples, channels, axis))
    return layer


@family()
def _version_1(
    facts: Published, design: Design, *args: Any, **named: Unpack[Given]
) -> Model:
    given = Arguments(**named)
    prepared = partial(_prepared, is_published=given.weights == "imagenet")
    return efficientnet(given, facts, design, prepared)


BLOCKS = (  # table 1 of the paper
    Block(3, 1, 16, 1, 1),
    Block(3, 2, 24, 6, 2),
    Block(5, 2, 40, 6, 2),
    Block(3, 3, 80, 6, 2),
    Block(5, 3, 112, 6, 1),
    Block(5, 4, 192, 6, 2),
    Block(3, 1, 320, 6, 1),
)


EfficientNetB0 = _version_1(facts_of("B0", 224), Design(1, 32, BLOCKS, 1.0, 1.0, 0.2))
EfficientNetB1 = _version_1(facts_of("B1", 240), Design(1, 32, BLOCKS, 1.0, 1.1, 0.2))
EfficientNetB2 = _version_1(facts_of("B2", 260), Design(1, 32, BLOCKS, 1.1, 1.2, 0.3))
EfficientNetB3 = _version_1(facts_of("B3", 300), Design(1, 32, BLOCKS, 1.2, 1.4, 0.3))
EfficientNetB4 = _version_1(facts_of("B4", 380), Design(1, 32, BLOCKS, 1.4, 1.8, 0.4))
EfficientNetB5 = _version_1(facts_of("B5", 456), Design(1, 32, BLOCKS, 1.6, 2.2, 0.4))
EfficientNetB6 = _version_1(facts_of("B6", 528), Design(1, 32, BLOCKS, 1.8, 2.6, 0.5))
EfficientNetB7 = _version_1(facts_of("B7", 600), Design(1, 32, BLOCKS, 2.0, 3.1, 0.5))
