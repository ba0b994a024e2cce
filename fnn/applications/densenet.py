"""DenseNet: each layer reads the outputs of all before it in its block (Huang et al. 2017)."""

from __future__ import annotations

from functools import partial

from fnn.applications.application import (
    Application,
    application,
    normalization,
    pooled_by_name,
)
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.layers import (
    Activation,
    AveragePooling2D,
    Concatenate,
    Conv2D,
    MaxPooling2D,
    ZeroPadding2D,
)
from fnn.symbolic.node import Node

__all__ = [
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing("torch")

GROWTH = 32  # channels that each layer adds


def features(x: Node, blocks: tuple[int, ...]) -> Node:
    """Blocks of so many layers, with half the size and half the channels in between.

    >>> features(fnn.Input((64, 64, 3)), (2, 2)).shape
    (None, 8, 8, 128)
    """
    x = ZeroPadding2D(3)(x)
    x = Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _normalized(x, "conv1_bn", "conv1_relu")
    x = ZeroPadding2D(1)(x)
    x = MaxPooling2D(3, strides=2, name="pool1")(x)
    channels = 64
    for block, number in enumerate(blocks, 2):
        if block > 2:
            channels //= 2
            x = _transition(x, channels, f"pool{block - 1}")
        for index in range(1, number + 1):
            x = _grown(x, f"conv{block}_block{index}")
        channels += number * GROWTH
    return _normalized(x, "bn", "relu")


def _normalized(x: Node, name: str, name_of_relu: str) -> Node:
    x = normalization(name, epsilon=1.001e-5)(x)
    y: Node = Activation("relu", name=name_of_relu)(x)
    return y


def _transition(x: Node, channels: int, name: str) -> Node:
    x = _normalized(x, f"{name}_bn", f"{name}_relu")
    x = Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")(x)
    y: Node = AveragePooling2D(2, name=f"{name}_pool")(x)
    return y


def _grown(x: Node, name: str) -> Node:
    """x with the channels of one more layer."""
    y = _normalized(x, f"{name}_0_bn", f"{name}_0_relu")
    y = Conv2D(4 * GROWTH, 1, use_bias=False, name=f"{name}_1_conv")(y)
    y = _normalized(y, f"{name}_1_bn", f"{name}_1_relu")
    y = Conv2D(GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
    joined: Node = Concatenate(name=f"{name}_concat")([x, y])
    return joined


def densenet(blocks: tuple[int, ...]) -> Application:
    """The function of a DenseNet; its number counts convolutions and dense layers."""
    title = f"DenseNet{2 * sum(blocks) + len(blocks) + 1}"
    name = title.lower()
    facts = published(title, name, "densenet", channels_first=False)
    body = partial(features, blocks=blocks)
    return application(facts, body, __name__, without_top=pooled_by_name)


DenseNet121 = densenet((6, 12, 24, 16))
DenseNet169 = densenet((6, 12, 32, 32))
DenseNet201 = densenet((6, 12, 48, 32))
