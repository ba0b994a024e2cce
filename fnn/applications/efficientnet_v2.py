"""EfficientNetV2: EfficientNet with fused convolutions in the first stages (Tan and Le 2021)."""

from __future__ import annotations

from functools import partial

from fnn.applications.application import assembled, member
from fnn.applications.blocks import channel_axis, channels, through
from fnn.applications.efficientnet_design import (
    Block,
    Design,
    classifier,
    facts_of,
    features,
)
from fnn.applications.heads import pooled_by_name
from fnn.applications.imagenet_utils import (
    CLASSES,
    DEVIATION_OF_RGB,
    MEAN_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Arguments, Shape, Weights
from fnn.applications.published import Published
from fnn.core.layer import Activation
from fnn.layers import Normalization, Rescaling
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = [
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)

BASE = (
    Block(3, 1, 16, 1, 1, fused=True),
    Block(3, 2, 32, 4, 2, fused=True),
    Block(3, 2, 48, 4, 2, fused=True),
    Block(3, 3, 96, 4, 2),
    Block(3, 5, 112, 6, 1),
    Block(3, 8, 192, 6, 2),
)
SMALL = (  # table 4 of the paper
    Block(3, 2, 24, 1, 1, fused=True),
    Block(3, 4, 48, 4, 2, fused=True),
    Block(3, 4, 64, 4, 2, fused=True),
    Block(3, 6, 128, 4, 2),
    Block(3, 9, 160, 6, 1),
    Block(3, 15, 256, 6, 2),
)
MEDIUM = (
    Block(3, 3, 24, 1, 1, fused=True),
    Block(3, 5, 48, 4, 2, fused=True),
    Block(3, 5, 80, 4, 2, fused=True),
    Block(3, 7, 160, 4, 2),
    Block(3, 14, 176, 6, 1),
    Block(3, 18, 304, 6, 2),
    Block(3, 5, 512, 6, 1),
)
LARGE = (
    Block(3, 4, 32, 1, 1, fused=True),
    Block(3, 7, 64, 4, 2, fused=True),
    Block(3, 7, 96, 4, 2, fused=True),
    Block(3, 10, 192, 4, 2),
    Block(3, 19, 224, 6, 1),
    Block(3, 25, 384, 6, 2),
    Block(3, 7, 640, 6, 1),
)


def _scaled(
    facts: Published,
    design: Design,
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Activation = "softmax",
    include_preprocessing: bool = True,
    name: str | None = None,
) -> Model:
    given = Arguments.among(locals())

    def body(x: Node) -> Node:
        if include_preprocessing:
            x = _preprocessed(x, is_base=design.blocks is BASE)
        return features(x, design)

    top = partial(classifier, dropout=0.2)
    return assembled(given, facts, body, top, pooled_by_name)


def _preprocessed(x: Node, is_base: bool) -> Node:
    if not is_base or channels(x) != 3:
        return through(x, Rescaling(1 / 128, offset=-1.0))
    variance = [deviation**2 for deviation in DEVIATION_OF_RGB]
    norm = Normalization(channel_axis(), list(MEAN_OF_RGB), variance)
    return through(x, Rescaling(1 / 255), norm)


def _published(kind: str, size: int) -> Published:
    return facts_of(f"EfficientNetV2{kind}", f"efficientnetv2-{kind.lower()}", size)


EfficientNetV2B0 = member(_scaled, _published("B0", 224), Design(2, 32, BASE))
EfficientNetV2B1 = member(_scaled, _published("B1", 240), Design(2, 32, BASE, 1.0, 1.1))
EfficientNetV2B2 = member(_scaled, _published("B2", 260), Design(2, 32, BASE, 1.1, 1.2))
EfficientNetV2B3 = member(_scaled, _published("B3", 300), Design(2, 32, BASE, 1.2, 1.4))
EfficientNetV2S = member(_scaled, _published("S", 384), Design(2, 24, SMALL))
EfficientNetV2M = member(_scaled, _published("M", 480), Design(2, 24, MEDIUM))
EfficientNetV2L = member(_scaled, _published("L", 480), Design(2, 32, LARGE))
