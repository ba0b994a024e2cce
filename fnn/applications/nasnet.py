"""NASNet-A: cells that a search found (Zoph et al. 2018)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from fnn.applications.application import (
    Arguments,
    Shape,
    Weights,
    assembled,
    member,
    normalization,
    predictions,
)
from fnn.applications.blocks import padding_to_halve, through
from fnn.applications.imagenet_utils import CLASSES, decode_predictions, preprocessing
from fnn.applications.published import Published, files
from fnn.core import arguments
from fnn.core.layer import Activation as ActivationLike
from fnn.core.layer import Layer
from fnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Concatenate,
    Conv2D,
    Cropping2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
    SeparableConv2D,
    ZeroPadding2D,
)
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = ["NASNetLarge", "NASNetMobile", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


class _Design(NamedTuple):
    filters: (
        int  # of a cell of the first stage; twice and four times that in the next ones
    )
    blocks: int  # cells of each stage that keep the size
    stem_filters: int
    skip_reduction: bool  # whether the cell after a reduction skips over it


def _nasnet(
    facts: Published,
    design: _Design,
    input_shape: Shape | None = None,
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: ActivationLike = "softmax",
    name: str | None = None,
) -> Model:
    if input_shape is None and input_tensor is None:
        input_shape = (facts.size, facts.size, 3)
    elif input_shape is not None and None in input_shape:
        # Where two cells of different size meet, the sizes decide which layers there are.
        expected = "to have a known height and width"
        raise arguments.wrong(facts.title, "input_shape", expected, input_shape)
    given = Arguments.among(locals())
    return assembled(given, facts, partial(_features, design=design), _classifier)


class _Cell(NamedTuple):
    filters: int
    block: str  # the end of the names of its layers
    numbers: Iterator[int]  # of the activations in all cells


def _features(x: Node, design: _Design) -> Node:
    x = through(x, _conv(design.stem_filters, "stem_conv1", 3, 2), _norm("stem_bn1"))
    before = None
    numbers = itertools.count()
    for number in (1, 2):
        cell = _Cell(design.filters * number // 4, f"stem_{number}", numbers)
        x, before = _reduction(x, before, cell), x
    for level in range(3):
        width = design.filters * 2**level
        first = level * design.blocks
        if level > 0:
            inputs = x
            x = _reduction(inputs, before, _Cell(width, f"reduce_{first}", numbers))
            first += 1
            if not design.skip_reduction:
                before = inputs
        for number in range(first, first + design.blocks):
            x, before = _normal(x, before, _Cell(width, str(number), numbers)), x
    return through(x, _relu(numbers))


def _classifier(x: Node, given: Arguments) -> Node:
    return predictions(GlobalAveragePooling2D()(x), given)


def _relu(numbers: Iterator[int]) -> Activation:
    """Named in the order of creation, as in Keras; by default it is that of the graph."""
    number = next(numbers)
    return Activation("relu", name=f"activation_{number}" if number else "activation")


def _norm(name: str) -> Layer:
    return normalization(name, momentum=0.9997)


def _conv(filters: int, name: str, window: int = 1, strides: int = 1) -> Conv2D:
    conv = Conv2D(filters, window, strides, use_bias=False, name=name)
    return conv.replace(kernel_initializer="he_normal")


def _separable(x: Node, window: int, name: str, cell: _Cell, strides: int = 1) -> Node:
    """Two separable convolutions, each after relu and before batch normalization."""
    name = f"{name}_{cell.block}"
    x = _relu(cell.numbers)(x)
    padding = "same"
    if strides == 2:
        padding = "valid"
        pads = padding_to_halve(x, window)
        x = ZeroPadding2D(pads, name=f"separable_conv_1_pad_{name}")(x)

    def layers(number: int, strides: int, padding: str) -> tuple[Layer, Layer]:
        prefix = f"separable_conv_{number}_"
        layer = SeparableConv2D(cell.filters, window, strides, padding, use_bias=False)
        return layer.replace(name=f"{prefix}{name}"), _norm(f"{prefix}bn_{name}")

    x = through(x, *layers(1, strides, padding), _relu(cell.numbers))
    return through(x, *layers(2, 1, "same"))


def _adjusted(before: Node | None, x: Node, cell: _Cell) -> Node:
    """The inputs of the cell before, in the size of `x` and with the channels of the cell."""
    block = cell.block
    if before is None:
        return x
    if before.shape[-2] != x.shape[-2]:
        before = Activation("relu", name=f"adjust_relu_1_{block}")(before)
        shifted = through(
            before, ZeroPadding2D(((0, 1), (0, 1))), Cropping2D(((1, 0), (1, 0)))
        )
        halves = []
        for number, y in enumerate((before, shifted), 1):
            pool = AveragePooling2D(1, 2, name=f"adjust_avg_pool_{number}_{block}")
            conv = _conv(cell.filters // 2, f"adjust_conv_{number}_{block}")
            halves.append(through(y, pool, conv))
        before = Concatenate()(halves)
    elif before.shape[-1] != cell.filters:
        conv = _conv(cell.filters, f"adjust_conv_projection_{block}")
        before = through(before, _relu(cell.numbers), conv)
    else:
        return before
    return through(before, _norm(f"adjust_bn_{block}"))


def _projected(x: Node, kind: str, cell: _Cell) -> Node:
    conv = _conv(cell.filters, f"{kind}_conv_1_{cell.block}")
    return through(x, _relu(cell.numbers), conv, _norm(f"{kind}_bn_1_{cell.block}"))


def _added(x: Node, y: Node, name: str | None = None) -> Node:
    z: Node = Add(name=name)([x, y])
    return z


def _normal(x: Node, before: Node | None, cell: _Cell) -> Node:
    """The cell that keeps the size (figure 4 of the paper)."""
    before = _adjusted(before, x, cell)
    h = _projected(x, "normal", cell)

    def separable(x: Node, window: int, name: str) -> Node:
        return _separable(x, window, f"normal_{name}", cell)

    def average(x: Node, name: str) -> Node:
        name = f"normal_{name}_{cell.block}"
        return through(x, AveragePooling2D(3, 1, "same", name=name))

    pairs = [
        (separable(h, 5, "left1"), separable(before, 3, "right1")),
        (separable(before, 5, "left2"), separable(before, 3, "right2")),
        (average(h, "left3"), before),
        (average(before, "left4"), average(before, "right4")),
        (separable(h, 3, "left5"), h),
    ]
    parts = [before]
    for number, pair in enumerate(pairs, 1):
        parts.append(_added(*pair, f"normal_add_{number}_{cell.block}"))
    y: Node = Concatenate(name=f"normal_concat_{cell.block}")(parts)
    return y


def _reduction(x: Node, before: Node | None, cell: _Cell) -> Node:
    """The cell that halves the size (figure 4 of the paper)."""
    before = _adjusted(before, x, cell)
    h = _projected(x, "reduction", cell)

    def name(part: str) -> str:
        return f"reduction_{part}_{cell.block}"

    def separable(x: Node, window: int, part: str, strides: int = 2) -> Node:
        return _separable(x, window, f"reduction_{part}", cell, strides)

    padded = ZeroPadding2D(padding_to_halve(h, 3), name=name("pad_1"))(h)
    left, right = separable(h, 5, "left1"), separable(before, 7, "right1")
    first = _added(left, right, name("add_1"))
    left = MaxPooling2D(3, 2, name=name("left2"))(padded)
    second = _added(left, separable(before, 7, "right2"), name("add_2"))
    left = AveragePooling2D(3, 2, name=name("left3"))(padded)
    third = _added(left, separable(before, 5, "right3"), name("add3"))
    left = AveragePooling2D(3, 1, "same", name=name("left4"))(first)
    fourth = _added(second, left)
    left = separable(first, 3, "left4", strides=1)
    right = MaxPooling2D(3, 2, name=name("right5"))(padded)
    fifth = _added(left, right, name("add4"))
    y: Node = Concatenate(name=name("concat"))([second, third, fourth, fifth])
    return y


def _published(size: str, pixels: int) -> Published:
    name = f"nasnet_{size.lower()}"
    remotes = [
        file._replace(url=file.url.replace("nasnet_", "NASNet-").replace("_", "-"))
        for file in files("nasnet", name, "_no_top")
    ]
    with_top, without_top = remotes
    title = f"NASNet{size}"
    return Published(title, name, with_top, without_top, pixels, channels_first=False)


NASNetLarge = member(_nasnet, _published("Large", 331), _Design(168, 6, 96, True))
NASNetMobile = member(_nasnet, _published("Mobile", 224), _Design(44, 4, 32, False))
