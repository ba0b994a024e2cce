"""MobileNetV2: residual blocks that are wide inside and narrow outside (Sandler et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from fnn import layers
from fnn.applications.application import assembled
from fnn.applications.blocks import (
    channels,
    multiple_of_eight,
    normalization,
    padded_to_halve,
    through,
)
from fnn.applications.heads import classifier
from fnn.applications.imagenet_utils import CLASSES, decode_predictions, preprocessing
from fnn.applications.keras_arguments import Arguments, Shape, Weights
from fnn.applications.mobilenet import check_published, trained_size
from fnn.applications.published import Published, files
from fnn.core.layer import Activation, Layer
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")

# (expansion, filters, number of blocks, strides of the first); table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # with published weights
SIZES = (96, 128, 160, 192, 224)


def MobileNetV2(  # noqa: N802 - Keras's name
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
) -> Model:
    """MobileNetV2, with Keras's arguments, layers and weights.

    (batch, 224, 224, 3) -> (batch, 1000) with all defaults.
    `alpha` scales the number of filters of all layers. Other arguments are as in `VGG16`. Weights
    are published for `alpha` 0.35, 0.5, 0.75, 1, 1.3, 1.4 and square images of 96, 128, 160, 192
    and 224. Raises ValueError for arguments that do not fit together or to the weights.

    >>> model = fnn.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=5)
    >>> model.output_shape
    (None, 5)
    """
    given = Arguments.among(locals())
    check_published(given, "MobileNetV2", "alpha", alpha, ALPHAS)
    size, height = trained_size("MobileNetV2", given, SIZES)
    stem = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{size}"
    remotes = files("mobilenet_v2", stem, "_no_top")
    model = name or f"mobilenetv2_{alpha:0.2f}_{height}"
    facts = Published("MobileNetV2", model, *remotes, size)
    given = given._replace(name=model)
    top = partial(classifier, name=None)
    return assembled(given, facts, partial(_features, alpha=alpha), top)


def _features(x: Node, alpha: float) -> Node:
    first = conv(multiple_of_eight(32 * alpha), "Conv1", 3, 2)
    x = through(x, first, norm("bn_Conv1"), layers.ReLU(6.0, name="Conv1_relu"))
    number = 0
    for expansion, filters, blocks, strides in STAGES:
        filters = multiple_of_eight(int(filters * alpha))
        for index in range(blocks):
            prefix = f"block_{number}_" if number else "expanded_conv_"
            width = expansion * channels(x) if number else 0
            block = Inverted(prefix, width, filters, strides=1 if index else strides)
            x = inverted(x, block, _normalized, f"{prefix}pad")
            number += 1
    last = conv(multiple_of_eight(1280 * max(alpha, 1.0)), "Conv_1")
    return through(x, last, norm("Conv_1_bn"), layers.ReLU(6.0, name="out_relu"))


def _normalized(layer: Layer) -> Normalized:
    relu = layers.ReLU(6.0, name=f"{layer.name}_relu")
    return layer, norm(f"{layer.name}_BN"), relu


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
    depthwise = layers.DepthwiseConv2D(
        block.window, block.strides, padding, use_bias=False, name=name
    )
    x = through(x, *normalized(depthwise))
    if excited:
        x = excited(x)
    x = through(x, *normalized(conv(block.filters, f"{prefix}project"))[:2])
    if block.strides == 1 and channels(inputs) == block.filters:
        x = layers.Add(name=f"{prefix}add")([inputs, x])
    return x


def conv(filters: int, name: str, window: int = 1, strides: int = 1) -> Layer:
    """A convolution without bias.

    >>> conv(8, "a", 3, 2).strides
    2
    """
    return layers.Conv2D(filters, window, strides, "same", use_bias=False, name=name)


def norm(name: str) -> Layer:
    """A batch normalization with the momentum of this family.

    >>> norm("a").momentum
    0.999
    """
    return normalization(name, momentum=0.999)
