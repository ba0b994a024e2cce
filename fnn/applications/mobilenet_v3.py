"""MobileNetV3: blocks of MobileNetV2 with squeeze and excitation (Howard et al. 2019)."""

from __future__ import annotations

from typing import NamedTuple

from fnn.applications.application import (
    Arguments,
    Shape,
    Weights,
    assembled,
    member,
    normalization,
    pooled_by_name,
)
from fnn.applications.blocks import (
    channels,
    multiple_of_eight,
    padding_to_halve,
    through,
)
from fnn.applications.checksums import CHECKSUMS
from fnn.applications.imagenet_utils import CLASSES, decode_predictions, preprocessing
from fnn.applications.published import Published, files
from fnn.core import arguments
from fnn.core.layer import Activation as ActivationLike
from fnn.core.layer import Layer
from fnn.layers import (
    Activation,
    Add,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Multiply,
    ReLU,
    Rescaling,
    ZeroPadding2D,
)
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = [
    "MobileNetV3Large",
    "MobileNetV3Small",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)


class _Block(NamedTuple):
    expansion: float
    filters: int
    window: int = 3
    strides: int = 1
    excites: bool = False
    swish: bool = False  # instead of relu


class _Design(NamedTuple):
    size: str
    blocks: tuple[_Block, ...]
    width: int  # of the last layer before the classifier


# Tables 1 and 2 of the paper.
LARGE = (
    _Block(1, 16),
    _Block(4, 24, strides=2),
    _Block(3, 24),
    _Block(3, 40, 5, strides=2, excites=True),
    *[_Block(3, 40, 5, excites=True)] * 2,
    _Block(6, 80, strides=2, swish=True),
    _Block(2.5, 80, swish=True),
    *[_Block(2.3, 80, swish=True)] * 2,
    *[_Block(6, 112, excites=True, swish=True)] * 2,
    _Block(6, 160, 5, strides=2, excites=True, swish=True),
    *[_Block(6, 160, 5, excites=True, swish=True)] * 2,
)
SMALL = (
    _Block(1, 16, strides=2, excites=True),
    _Block(72 / 16, 24, strides=2),
    _Block(88 / 24, 24),
    _Block(4, 40, 5, strides=2, excites=True, swish=True),
    *[_Block(6, 40, 5, excites=True, swish=True)] * 2,
    *[_Block(3, 48, 5, excites=True, swish=True)] * 2,
    _Block(6, 96, 5, strides=2, excites=True, swish=True),
    *[_Block(6, 96, 5, excites=True, swish=True)] * 2,
)


def _mobilenet_v3(
    facts: Published,
    design: _Design,
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    minimalistic: bool = False,
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    classes: int = CLASSES,
    pooling: str | None = None,
    dropout_rate: float = 0.2,
    classifier_activation: ActivationLike = "softmax",
    include_preprocessing: bool = True,
    name: str | None = None,
) -> Model:
    given = Arguments.among(locals())
    facts = _published(design.size, alpha, minimalistic)
    if weights == "imagenet" and facts.with_top.name not in CHECKSUMS:
        expected = 'to be 1 (or 0.75 if not minimalistic) with weights="imagenet"'
        raise arguments.wrong(facts.title, "alpha", expected, alpha)

    def body(x: Node) -> Node:
        if include_preprocessing:
            x = Rescaling(1 / 127.5, -1.0)(x)
        return _features(x, design.blocks, alpha, not minimalistic)

    def top(x: Node, given: Arguments) -> Node:
        return through(
            x,
            GlobalAveragePooling2D(keepdims=True),
            Conv2D(multiple_of_eight(design.width * max(alpha, 1)), 1, name="conv_2"),
            _activation(not minimalistic),
            *[Dropout(dropout_rate)] * (dropout_rate > 0),
            Conv2D(given.classes, 1, name="logits"),
            Flatten(),
            Activation(given.classifier_activation, name="predictions"),
        )

    return assembled(given, facts, body, top, pooled_by_name)


def _published(size: str, alpha: float = 1.0, minimalistic: bool = False) -> Published:
    title = f"MobileNetV3{size}"
    kind = size.lower() + "_minimalistic" * minimalistic
    stem = f"weights_mobilenet_v3_{kind}_224_{float(alpha)}_float"
    remotes = files("mobilenet_v3", stem, "_no_top_v2")
    return Published(title, title, *remotes, any_size=True)


def _features(x: Node, blocks: tuple[_Block, ...], alpha: float, swish: bool) -> Node:
    x = through(x, _conv(16, "conv", 3, 2), _norm("conv_bn"), _activation(swish))
    for number, block in enumerate(blocks):
        block = block._replace(filters=multiple_of_eight(block.filters * alpha))
        if not swish:  # minimalistic
            block = block._replace(window=3, excites=False, swish=False)
        x = _inverted(x, block, number)
    conv = _conv(multiple_of_eight(6 * channels(x)), "conv_1")
    return through(x, conv, _norm("conv_1_bn"), _activation(swish))


def _conv(filters: int, name: str, window: int = 1, strides: int = 1) -> Conv2D:
    return Conv2D(filters, window, strides, "same", use_bias=False, name=name)


def _norm(name: str) -> Layer:
    return normalization(name, momentum=0.999)


def _activation(swish: bool) -> Layer:
    return Activation("hard_swish") if swish else ReLU()


def _inverted(x: Node, block: _Block, number: int) -> Node:
    """The block: wider, convolved channel by channel, narrow again, added to its inputs."""
    inputs = x
    width = multiple_of_eight(channels(x) * block.expansion)
    prefix = "expanded_conv_"
    if number > 0:
        prefix = f"expanded_conv_{number}_"
        name = f"{prefix}expand"
        x = through(
            x, _conv(width, name), _norm(f"{name}_bn"), _activation(block.swish)
        )
    name, padding = f"{prefix}depthwise", "same"
    if block.strides == 2:
        padding = "valid"
        x = ZeroPadding2D(padding_to_halve(x, block.window), name=f"{name}_pad")(x)
    layer = DepthwiseConv2D(
        block.window, block.strides, padding, use_bias=False, name=name
    )
    x = through(x, layer, _norm(f"{name}_bn"), _activation(block.swish))
    if block.excites:
        x = _excited(x, f"{prefix}squeeze_excite_")
    name = f"{prefix}project"
    x = through(x, _conv(block.filters, name), _norm(f"{name}_bn"))
    if block.strides == 1 and channels(inputs) == block.filters:
        x = Add(name=f"{prefix}add")([inputs, x])
    return x


def _excited(x: Node, prefix: str) -> Node:
    """x with each channel times a factor between 0 and 1 that all channels decide."""
    y = through(
        x,
        GlobalAveragePooling2D(keepdims=True, name=f"{prefix}avg_pool"),
        Conv2D(multiple_of_eight(channels(x) / 4), 1, name=f"{prefix}conv"),
        ReLU(name=f"{prefix}relu"),
        Conv2D(channels(x), 1, name=f"{prefix}conv_1"),
    )
    y = ReLU(6.0)(y + 3.0) * (1 / 6)  # hard_sigmoid
    z: Node = Multiply(name=f"{prefix}mul")([x, y])
    return z


MobileNetV3Large = member(
    _mobilenet_v3, _published("Large"), _Design("Large", LARGE, 1280)
)
MobileNetV3Small = member(
    _mobilenet_v3, _published("Small"), _Design("Small", SMALL, 1024)
)
