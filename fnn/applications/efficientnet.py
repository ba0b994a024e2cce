"""EfficientNet: depth, width and size of images scaled together (Tan and Le 2019)."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fnn.applications.application import application
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
    DEVIATION_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Application
from fnn.layers import Normalization, Rescaling
from fnn.symbolic.node import Node

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)

BLOCKS = (  # table 1 of the paper
    Block(3, 1, 16, 1, 1),
    Block(3, 2, 24, 6, 2),
    Block(5, 2, 40, 6, 2),
    Block(3, 3, 80, 6, 2),
    Block(5, 3, 112, 6, 1),
    Block(5, 4, 192, 6, 2),
    Block(3, 1, 320, 6, 1),
)


def _all_layers(x: Node, design: Design, is_published: bool = False) -> Node:
    x = through(x, Rescaling(1 / 255), _identity(channels(x)))
    if is_published:
        # The published files hold standard deviations in place of the variances.
        x = Rescaling([1 / math.sqrt(number) for number in DEVIATION_OF_RGB])(x)
    return features(x, design)


def _identity(channels: int) -> Normalization:
    """A normalization that changes nothing until it gets other weights or is adapted."""
    layer = Normalization(channel_axis())
    shape = [2, 1, 1, 1]
    shape[channel_axis()] = channels
    signs = np.ones(shape)
    signs[1] = -1
    layer.adapt(signs)  # mean 0, variance 1
    return layer


def _scaled(
    number: int, width: float, depth: float, size: int, dropout: float
) -> Application:
    title = f"EfficientNetB{number}"
    design = Design(1, 32, BLOCKS, width, depth)
    return application(
        facts_of(title, title.lower(), size),
        partial(_all_layers, design=design),
        __name__,
        partial(classifier, dropout=dropout),
        pooled_by_name,
        partial(_all_layers, design=design, is_published=True),
    )


EfficientNetB0 = _scaled(0, 1.0, 1.0, 224, 0.2)
EfficientNetB1 = _scaled(1, 1.0, 1.1, 240, 0.2)
EfficientNetB2 = _scaled(2, 1.1, 1.2, 260, 0.3)
EfficientNetB3 = _scaled(3, 1.2, 1.4, 300, 0.3)
EfficientNetB4 = _scaled(4, 1.4, 1.8, 380, 0.4)
EfficientNetB5 = _scaled(5, 1.6, 2.2, 456, 0.4)
EfficientNetB6 = _scaled(6, 1.8, 2.6, 528, 0.5)
EfficientNetB7 = _scaled(7, 2.0, 3.1, 600, 0.5)
