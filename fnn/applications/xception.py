"""Xception: residual blocks of separable convolutions (Chollet 2017)."""

from __future__ import annotations

from fnn import layers
from fnn.applications.application import Parts, application
from fnn.applications.blocks import conv, normalization, relu, through
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.symbolic.node import Node

__all__ = ["Xception", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((71, 71, 3))).shape
    (None, 3, 3, 2048)
    """
    for name, filters, strides in (("conv1", 32, 2), ("conv2", 64, 1)):
        name = f"block1_{name}"
        first = conv(filters, name, 3, strides, "valid")
        x = through(x, first, normalization(f"{name}_bn"), relu(f"{name}_act"))
    for number, filters in ((2, 128), (3, 256), (4, 728)):
        x = _halved(x, (filters, filters), f"block{number}")
    for number in range(5, 13):
        x = layers.Add()([_separable(x, (728, 728, 728), f"block{number}"), x])
    x = _halved(x, (728, 1024), "block13")
    for index, filters in ((1, 1536), (2, 2048)):
        name = f"block14_sepconv{index}"
        x = through(_convolved(x, filters, name), relu(f"{name}_act"))
    return x


def _halved(x: Node, filters: tuple[int, ...], name: str) -> Node:
    """A residual block that halves the size."""
    shortcut = through(x, conv(filters[-1], None, strides=2), normalization())
    pool = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")
    x = through(_separable(x, filters, name), pool)
    return through([x, shortcut], layers.Add())


def _separable(x: Node, filters: tuple[int, ...], name: str) -> Node:
    """Activations and convolutions; no activation begins the second block, which follows one."""
    for index, number in enumerate(filters, 1):
        layer = f"{name}_sepconv{index}"
        if layer != "block2_sepconv1":
            x = through(x, relu(f"{layer}_act"))
        x = _convolved(x, number, layer)
    return x


def _convolved(x: Node, filters: int, name: str) -> Node:
    layer = layers.SeparableConv2D(
        filters, 3, padding="same", use_bias=False, name=name
    )
    return through(x, layer, normalization(f"{name}_bn"))


FACTS = published("Xception", "xception", "xception", size=299, least=71)
Xception = application(FACTS, Parts(features), __name__)
