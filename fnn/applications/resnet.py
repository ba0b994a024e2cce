"""ResNet: residual networks (He et al. 2016), and their second version with activations first."""

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
from fnn.layers import Activation, Add, Conv2D, MaxPooling2D, ZeroPadding2D
from fnn.symbolic.node import Node

__all__ = [
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing("caffe")

EPSILON = 1.001e-5
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def features(x: Node, blocks: tuple[int, ...], activations_first: bool) -> Node:
    """The layers before the classifier: four stages of `blocks` residual blocks.

    >>> features(fnn.Input((64, 64, 3)), (1, 1, 1, 1), activations_first=False).shape
    (None, 2, 2, 2048)
    """
    x = ZeroPadding2D(3, name="conv1_pad")(x)
    x = Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    if not activations_first:
        x = _normalized(x, "conv1")
    x = ZeroPadding2D(1, name="pool1_pad")(x)
    x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, number in enumerate(blocks):
        filters = 64 * 2**stage
        name = f"conv{stage + 2}"
        if activations_first:
            strides = 1 if stage == 3 else 2
            x = _stage_v2(x, filters, number, strides, name)
        else:
            strides = 1 if stage == 0 else 2
            x = _stage(x, filters, number, strides, name)
    if activations_first:
        x = _normalized(x, "post")
    return x


def _normalized(x: Node, name: str) -> Node:
    x = normalization(f"{name}_bn", epsilon=EPSILON)(x)
    y: Node = Activation("relu", name=f"{name}_relu")(x)
    return y


def _stage(x: Node, filters: int, blocks: int, strides: int, name: str) -> Node:
    """The first block of the stage changes size and channels."""
    x = _block(x, filters, strides, f"{name}_block1", changes=True)
    for number in range(2, blocks + 1):
        x = _block(x, filters, 1, f"{name}_block{number}", changes=False)
    return x


def _block(x: Node, filters: int, strides: int, name: str, changes: bool) -> Node:
    """relu(x + convolutions(x))"""
    shortcut = x
    if changes:
        shortcut = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
        shortcut = normalization(f"{name}_0_bn", epsilon=EPSILON)(shortcut)
    x = Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv")(x)
    x = _normalized(x, f"{name}_1")
    x = Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = _normalized(x, f"{name}_2")
    x = Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    x = normalization(f"{name}_3_bn", epsilon=EPSILON)(x)
    x = Add(name=f"{name}_add")([shortcut, x])
    y: Node = Activation("relu", name=f"{name}_out")(x)
    return y


def _stage_v2(x: Node, filters: int, blocks: int, strides: int, name: str) -> Node:
    """The first block of the stage changes the channels, the last one the size."""
    x = _block_v2(x, filters, 1, f"{name}_block1", changes=True)
    for number in range(2, blocks):
        x = _block_v2(x, filters, 1, f"{name}_block{number}", changes=False)
    return _block_v2(x, filters, strides, f"{name}_block{blocks}", changes=False)


def _block_v2(x: Node, filters: int, strides: int, name: str, changes: bool) -> Node:
    """x + convolutions(relu(x))"""
    shortcut = x
    x = _normalized(x, f"{name}_preact")
    if changes:
        shortcut = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
    elif strides > 1:
        shortcut = MaxPooling2D(1, strides=strides)(shortcut)
    x = Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(x)
    x = _normalized(x, f"{name}_1")
    x = ZeroPadding2D(1, name=f"{name}_2_pad")(x)
    x = Conv2D(filters, 3, strides, use_bias=False, name=f"{name}_2_conv")(x)
    x = _normalized(x, f"{name}_2")
    x = Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    y: Node = Add(name=f"{name}_out")([shortcut, x])
    return y


def residual(depth: int, module: str, version: str = "") -> Application:
    """The function of a residual network, of version "" or "V2"."""
    title = f"ResNet{depth}{version}"
    facts = published(title, title.lower(), "resnet")
    body = partial(features, blocks=DEPTHS[depth], activations_first=version == "V2")
    return application(facts, body, module, without_top=pooled_by_name)


ResNet50 = residual(50, __name__)
ResNet101 = residual(101, __name__)
ResNet152 = residual(152, __name__)
