"""EfficientNetV2: EfficientNet with fused convolutions in the first stages (Tan and Le 2021)."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from fnn.applications.application import family
from fnn.applications.blocks import channel_axis, channels, through
from fnn.applications.efficientnet import Block, Design, efficientnet, facts_of
from fnn.applications.imagenet_utils import (
    DEVIATION_OF_RGB,
    MEAN_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Arguments, Given
from fnn.applications.published import Published
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

ORDER = (
    "include_top weights input_tensor input_shape pooling classes classifier_activation"
    " include_preprocessing name"
)
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


@family(ORDER)
def _version_2(
    facts: Published,
    design: Design,
    *args: Any,
    include_preprocessing: bool = True,
    **named: Unpack[Given],
) -> Model:
    """`include_preprocessing=False` leaves out the layers that scale images from 0 to 255."""
    is_base = design.blocks is BASE
    scaled = partial(_scaled, scales=include_preprocessing, is_base=is_base)
    return efficientnet(Arguments(**named), facts, design, scaled)


def _scaled(x: Node, scales: bool, is_base: bool) -> Node:
    if not scales:
        return x
    if not is_base or channels(x) != 3:
        return through(x, Rescaling(1 / 128, offset=-1.0))
    variance = [deviation**2 for deviation in DEVIATION_OF_RGB]
    norm = Normalization(channel_axis(), list(MEAN_OF_RGB), variance)
    return through(x, Rescaling(1 / 255), norm)


EfficientNetV2B0 = _version_2(facts_of("V2B0", 224), Design(2, 32, BASE))
EfficientNetV2B1 = _version_2(facts_of("V2B1", 240), Design(2, 32, BASE, 1.0, 1.1))
EfficientNetV2B2 = _version_2(facts_of("V2B2", 260), Design(2, 32, BASE, 1.1, 1.2))
EfficientNetV2B3 = _version_2(facts_of("V2B3", 300), Design(2, 32, BASE, 1.2, 1.4))
EfficientNetV2S = _version_2(facts_of("V2S", 384), Design(2, 24, SMALL))
EfficientNetV2M = _version_2(facts_of("V2M", 480), Design(2, 24, MEDIUM))
EfficientNetV2L = _version_2(facts_of("V2L", 480), Design(2, 32, LARGE))
