"""DenseNet: each layer reads the outputs of all before it in its block (Huang et al. 2017)."""

from __future__ import annotations

from functools import partial

from fnn import layers
from fnn.applications.application import Application, Parts, application
from fnn.applications.blocks import conv, normalization, relu, through
from fnn.applications.heads import pooled_by_name
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.core.layer import Layer
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
    x = through(
        x,
        layers.ZeroPadding2D(3),
        conv(64, "conv1_conv", 7, 2, "valid"),
        *_normalized("conv1_bn", "conv1_relu"),
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(3, strides=2, name="pool1"),
    )
    channels = 64
    for block, number in enumerate(blocks, 2):
        if block > 2:
            channels //= 2
            name = f"pool{block - 1}"
            x = through(
                x,
                *_normalized(f"{name}_bn", f"{name}_relu"),
                conv(channels, f"{name}_conv"),
                layers.AveragePooling2D(2, name=f"{name}_pool"),
            )
        for index in range(1, number + 1):
            x = _grown(x, f"conv{block}_block{index}")
        channels += number * GROWTH
    return through(x, *_normalized("bn", "relu"))


def _normalized(name: str, name_of_relu: str) -> tuple[Layer, Layer]:
    return normalization(name, epsilon=1.001e-5), relu(name_of_relu)


def _grown(x: Node, name: str) -> Node:
    """x with the channels of one more layer."""
    y = through(
        x,
        *_normalized(f"{name}_0_bn", f"{name}_0_relu"),
        conv(4 * GROWTH, f"{name}_1_conv"),
        *_normalized(f"{name}_1_bn", f"{name}_1_relu"),
        conv(GROWTH, f"{name}_2_conv", 3),
    )
    return through([x, y], layers.Concatenate(name=f"{name}_concat"))


def densenet(blocks: tuple[int, ...]) -> Application:
    """The function of a DenseNet; its number counts convolutions and dense layers."""
    title = f"DenseNet{2 * sum(blocks) + len(blocks) + 1}"
    name = title.lower()
    facts = published(title, name, "densenet", channels_first=False)
    parts = Parts(partial(features, blocks=blocks), without_top=pooled_by_name)
    return application(facts, parts, __name__)


DenseNet121 = densenet((6, 12, 24, 16))
DenseNet169 = densenet((6, 12, 32, 32))
DenseNet201 = densenet((6, 12, 48, 32))
