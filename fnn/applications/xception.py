"""Xception: residual blocks of separable convolutions (Chollet 2017)."""

from __future__ import annotations

from fnn import layers
from fnn.applications.application import application
from fnn.applications.blocks import normalization, through
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
        conv = layers.Conv2D(filters, 3, strides, use_bias=False, name=name)
        relu = layers.Activation("relu", name=f"{name}_act")
        x = through(x, conv, normalization(f"{name}_bn"), relu)
    for number, filters in ((2, 128), (3, 256), (4, 728)):
        x = _halved(x, (filters, filters), f"block{number}")
    for number in range(5, 13):
        x = layers.Add()([_separable(x, (728, 728, 728), f"block{number}"), x])
    x = _halved(x, (728, 1024), "block13")
    for index, filters in ((1, 1536), (2, 2048)):
        name = f"block14_sepconv{index}"
        x = _convolved(x, filters, name)
        x = layers.Activation("relu", name=f"{name}_act")(x)
    return x


def _halved(x: Node, filters: tuple[int, ...], name: str) -> Node:
    """A residual block that halves the size."""
    conv = layers.Conv2D(filters[-1], 1, 2, padding="same", use_bias=False)
    shortcut = through(x, conv, normalization())
    pool = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")
    y: Node = layers.Add()([through(_separable(x, filters, name), pool), shortcut])
    return y


def _separable(x: Node, filters: tuple[int, ...], name: str) -> Node:
    """Activations and convolutions; no activation begins the second block, which follows one."""
    for index, number in enumerate(filters, 1):
        layer = f"{name}_sepconv{index}"
        if layer != "block2_sepconv1":
            x = layers.Activation("relu", name=f"{layer}_act")(x)
        x = _convolved(x, number, layer)
    return x


def _convolved(x: Node, filters: int, name: str) -> Node:
    conv = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)
    return through(x, conv, normalization(f"{name}_bn"))


Xception = application(
    published("Xception", "xception", "xception", size=299, least=71),
    features,
    __name__,
)
