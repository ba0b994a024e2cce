"""ResNet: residual networks (He et al. 2016), and their second version with activations first."""

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
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing("caffe")

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def features(x: Node, blocks: tuple[int, ...], activations_first: bool) -> Node:
    """The layers before the classifier: four stages of `blocks` residual blocks.

    The first block of a stage changes the channels; it halves the size too, which with
    `activations_first` the last one does.

    >>> features(fnn.Input((64, 64, 3)), (1, 1, 1, 1), activations_first=False).shape
    (None, 2, 2, 2048)
    """
    block = _block_v2 if activations_first else _block
    whole, halving = (3, -1) if activations_first else (0, 0)  # a stage, a block
    x = through(x, layers.ZeroPadding2D(3, name="conv1_pad"))
    x = through(x, layers.Conv2D(64, 7, strides=2, name="conv1_conv"))
    if not activations_first:
        x = through(x, *_normalized("conv1"))
    x = through(x, layers.ZeroPadding2D(1, name="pool1_pad"))
    x = through(x, layers.MaxPooling2D(3, strides=2, name="pool1_pool"))
    for stage, number in enumerate(blocks):
        for index in range(number):
            halves = stage != whole and index == halving % number
            name = f"conv{stage + 2}_block{index + 1}"
            x = block(x, 64 * 2**stage, 2 if halves else 1, name, changes=index == 0)
    if activations_first:
        x = through(x, *_normalized("post"))
    return x


def _norm(name: str) -> Layer:
    return normalization(f"{name}_bn", epsilon=1.001e-5)


def _normalized(name: str) -> tuple[Layer, Layer]:
    return _norm(name), relu(f"{name}_relu")


def _block(x: Node, filters: int, strides: int, name: str, changes: bool) -> Node:
    """relu(x + convolutions(x))"""
    wide, shortcut = 4 * filters, x
    if changes:
        widened = layers.Conv2D(wide, 1, strides, name=f"{name}_0_conv")
        shortcut = through(x, widened, _norm(f"{name}_0"))
    x = through(
        x,
        layers.Conv2D(filters, 1, strides, name=f"{name}_1_conv"),
        *_normalized(f"{name}_1"),
        layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv"),
        *_normalized(f"{name}_2"),
        layers.Conv2D(wide, 1, name=f"{name}_3_conv"),
        _norm(f"{name}_3"),
    )
    return through([shortcut, x], layers.Add(name=f"{name}_add"), relu(f"{name}_out"))


def _block_v2(x: Node, filters: int, strides: int, name: str, changes: bool) -> Node:
    """x + convolutions(relu(x))"""
    wide, shortcut = 4 * filters, x
    x = through(x, *_normalized(f"{name}_preact"))
    if changes:
        shortcut = through(x, layers.Conv2D(wide, 1, strides, name=f"{name}_0_conv"))
    elif strides > 1:
        shortcut = through(shortcut, layers.MaxPooling2D(1, strides))
    x = through(
        x,
        conv(filters, f"{name}_1_conv"),
        *_normalized(f"{name}_1"),
        layers.ZeroPadding2D(1, name=f"{name}_2_pad"),
        conv(filters, f"{name}_2_conv", 3, strides, "valid"),
        *_normalized(f"{name}_2"),
        layers.Conv2D(wide, 1, name=f"{name}_3_conv"),
    )
    return through([shortcut, x], layers.Add(name=f"{name}_out"))


def residual(depth: int, module: str, version: str = "") -> Application:
    """The function of a residual network, of version "" or "V2"."""
    title = f"ResNet{depth}{version}"
    facts = published(title, title.lower(), "resnet")
    body = partial(features, blocks=DEPTHS[depth], activations_first=version == "V2")
    return application(facts, Parts(body, without_top=pooled_by_name), module)


ResNet50 = residual(50, __name__)
ResNet101 = residual(101, __name__)
ResNet152 = residual(152, __name__)
