"""MobileNetV2: residual blocks that are wide inside and narrow outside (Sandler et al. 2018)."""

from __future__ import annotations

from functools import partial

from fnn.applications.application import (
    Arguments,
    Shape,
    Weights,
    assembled,
    normalization,
    predictions,
)
from fnn.applications.blocks import (
    channels,
    multiple_of_eight,
    padding_to_halve,
    through,
)
from fnn.applications.imagenet_utils import CLASSES, decode_predictions, preprocessing
from fnn.applications.mobilenet import check_published, trained_size
from fnn.applications.published import Published, files
from fnn.core.layer import Activation, Layer
from fnn.layers import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    ReLU,
    ZeroPadding2D,
)
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
    return assembled(given, facts, partial(_features, alpha=alpha), _classifier)


def _features(x: Node, alpha: float) -> Node:
    conv = _conv(multiple_of_eight(32 * alpha), "Conv1", 3, 2)
    x = through(x, conv, _norm("bn_Conv1"), _relu("Conv1_relu"))
    number = 0
    for expansion, filters, blocks, strides in STAGES:
        width = multiple_of_eight(int(filters * alpha))
        for _ in range(blocks):
            x = _block(x, expansion, width, strides, number)
            strides = 1
            number += 1
    conv = _conv(multiple_of_eight(1280 * max(alpha, 1.0)), "Conv_1")
    return through(x, conv, _norm("Conv_1_bn"), _relu("out_relu"))


def _conv(filters: int, name: str, window: int = 1, strides: int = 1) -> Conv2D:
    return Conv2D(filters, window, strides, "same", use_bias=False, name=name)


def _norm(name: str) -> Layer:
    return normalization(name, momentum=0.999)


def _relu(name: str) -> ReLU:
    return ReLU(6.0, name=name)


def _block(x: Node, expansion: int, filters: int, strides: int, number: int) -> Node:
    inputs = x
    prefix = f"block_{number}_"
    if number == 0:
        prefix = "expanded_conv_"
    else:
        name = f"{prefix}expand"
        conv = _conv(expansion * channels(x), name)
        x = through(x, conv, _norm(f"{name}_BN"), _relu(f"{name}_relu"))
    padding = "same"
    if strides == 2:
        padding = "valid"
        x = ZeroPadding2D(padding_to_halve(x, 3), name=f"{prefix}pad")(x)
    name = f"{prefix}depthwise"
    x = through(
        x,
        DepthwiseConv2D(3, strides, padding, use_bias=False, name=name),
        _norm(f"{name}_BN"),
        _relu(f"{name}_relu"),
        _conv(filters, f"{prefix}project"),
        _norm(f"{prefix}project_BN"),
    )
    if channels(inputs) == filters and strides == 1:
        x = Add(name=f"{prefix}add")([inputs, x])
    return x


def _classifier(x: Node, given: Arguments) -> Node:
    return predictions(GlobalAveragePooling2D()(x), given)
