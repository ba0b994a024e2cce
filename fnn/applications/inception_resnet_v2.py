"""InceptionResNetV2: residual blocks of parallel branches (Szegedy et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

from fnn import layers
from fnn.applications.application import Parts, application
from fnn.applications.blocks import conv, normalization, relu, through
from fnn.applications.branches import Branch, Builder, Conv, Join, half, join
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.inception_v3 import STEM
from fnn.applications.keras_layers import CustomScaleLayer
from fnn.applications.published import published
from fnn.symbolic.node import Node

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


class Residuals(NamedTuple):
    """relu(x + scale * convolutions(x)), several times."""

    kind: str
    number: int
    scale: float
    channels: int
    branches: tuple[Branch, ...]


WIDE = ((Conv(192, 1),), (Conv(192, 1), Conv(224, (1, 3)), Conv(256, (3, 1))))
TALL = ((Conv(192, 1),), (Conv(128, 1), Conv(160, (1, 7)), Conv(192, (7, 1))))
DEEP = (
    (Conv(32, 1),),
    (Conv(32, 1), Conv(32, 3)),
    (Conv(32, 1), Conv(48, 3), Conv(64, 3)),
)
MIXED_5B = join(
    "mixed_5b",
    (Conv(96, 1),),
    (Conv(48, 1), Conv(64, 5)),
    (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
    ("mean", Conv(64, 1)),
)
MIXED_6A = join(
    "mixed_6a", (half(384),), (Conv(256, 1), Conv(256, 3), half(384)), ("max",)
)
MIXED_7A = join(
    "mixed_7a",
    (Conv(256, 1), half(384)),
    (Conv(256, 1), half(288)),
    (Conv(256, 1), Conv(288, 3), half(320)),
    ("max",),
)
STAGES = (
    (MIXED_5B, Residuals("block35", 10, 0.17, 320, DEEP)),
    (MIXED_6A, Residuals("block17", 20, 0.1, 1088, TALL)),
    (MIXED_7A, Residuals("block8", 10, 0.2, 2080, WIDE)),
)


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((75, 75, 3))).shape
    (None, 1, 1, 1536)
    """
    build = Builder()
    x = build.steps(x, STEM)
    for mixed, residuals in STAGES:
        x = build.steps(x, (mixed,))
        for index in range(1, residuals.number + 1):
            x = _residual(build, x, residuals, f"{residuals.kind}_{index}")
    return through(
        x,
        conv(1536, "conv_7b"),
        normalization("conv_7b_bn", scale=False),
        relu("conv_7b_ac"),
    )


def _residual(build: Builder, x: Node, block: Residuals, name: str) -> Node:
    y = build.steps(x, (Join(f"{name}_mixed", block.branches),))
    y = layers.Conv2D(block.channels, 1, padding="same", name=f"{name}_conv")(y)
    is_last = name == "block8_10"
    scale = 1.0 if is_last else block.scale
    x = CustomScaleLayer(scale, name=build.new("custom_scale_layer"))([x, y])
    return x if is_last else through(x, relu(f"{name}_ac"))


FACTS = published("InceptionResNetV2", *["inception_resnet_v2"] * 2, size=299, least=75)
InceptionResNetV2 = application(FACTS, Parts(features), __name__)
