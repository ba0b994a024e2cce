"""MobileNetV3: blocks of MobileNetV2 with squeeze and excitation (Howard et al. 2019)."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from fnn import layers
from fnn.applications.application import assembled, family
from fnn.applications.blocks import (
    Inverted,
    Normalized,
    channels,
    conv,
    inverted,
    multiple_of_eight,
    through,
)
from fnn.applications.checksums import CHECKSUMS
from fnn.applications.heads import pooled_by_name
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.keras_arguments import Arguments, Given
from fnn.applications.mobilenet_v2 import norm
from fnn.applications.published import Published, files
from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = [
    "MobileNetV3Large",
    "MobileNetV3Small",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)

ORDER = (
    "input_shape alpha minimalistic include_top weights input_tensor classes pooling dropout_rate"
    " classifier_activation include_preprocessing name"
)
# Of each block: expansion, filters, window, strides, whether channels are excited, whether the
# activation is hard_swish instead of relu. Tables 1 and 2 of the paper.
BLOCKS = {
    "Large": [
        (1, 16, 3, 1, False, False),
        (4, 24, 3, 2, False, False),
        (3, 24, 3, 1, False, False),
        (3, 40, 5, 2, True, False),
        *[(3, 40, 5, 1, True, False)] * 2,
        (6, 80, 3, 2, False, True),
        (2.5, 80, 3, 1, False, True),
        *[(2.3, 80, 3, 1, False, True)] * 2,
        *[(6, 112, 3, 1, True, True)] * 2,
        (6, 160, 5, 2, True, True),
        *[(6, 160, 5, 1, True, True)] * 2,
    ],
    "Small": [
        (1, 16, 3, 2, True, False),
        (72 / 16, 24, 3, 2, False, False),
        (88 / 24, 24, 3, 1, False, False),
        (4, 40, 5, 2, True, True),
        *[(6, 40, 5, 1, True, True)] * 2,
        *[(3, 48, 5, 1, True, True)] * 2,
        (6, 96, 5, 2, True, True),
        *[(6, 96, 5, 1, True, True)] * 2,
    ],
}
WIDTHS = {"Large": 1280, "Small": 1024}  # of the last layer before the classifier


@family(ORDER)
def _mobilenet_v3(
    facts: Published,
    size: str,
    *args: Any,
    alpha: float = 1.0,
    minimalistic: bool = False,
    dropout_rate: float = 0.2,
    include_preprocessing: bool = True,
    **named: Unpack[Given],
) -> Model:
    """`alpha` scales the number of filters of all layers, `minimalistic` leaves out squeeze and
    excitation, hard swish and windows of 5, `dropout_rate` is the rate before the classifier.
    `include_preprocessing=False` leaves out the layer that scales images from 0 to 255. Weights are
    published for `alpha` 0.75 and 1, if minimalistic for 1.
    """
    given = Arguments(**named)
    facts = _published(size, alpha, minimalistic)
    if given.weights == "imagenet" and facts.with_top.name not in CHECKSUMS:
        expected = 'to be 1 (or 0.75 if not minimalistic) with weights="imagenet"'
        raise arguments.wrong(facts.title, "alpha", expected, alpha)

    def body(x: Node) -> Node:
        if include_preprocessing:
            x = through(x, layers.Rescaling(1 / 127.5, -1.0))
        return _features(x, size, alpha, minimalistic)

    def top(x: Node, given: Arguments) -> Node:
        width = multiple_of_eight(WIDTHS[size] * max(alpha, 1))
        drop = [layers.Dropout(dropout_rate)] if dropout_rate > 0 else []
        return through(
            x,
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(width, 1, name="conv_2"),
            _activation(not minimalistic),
            *drop,
            layers.Conv2D(given.classes, 1, name="logits"),
            layers.Flatten(),
            layers.Activation(given.classifier_activation, name="predictions"),
        )

    return assembled(given, facts, body, top, pooled_by_name)


def _published(size: str, alpha: float = 1.0, minimalistic: bool = False) -> Published:
    title = f"MobileNetV3{size}"
    kind = size.lower() + "_minimalistic" * minimalistic
    stem = f"weights_mobilenet_v3_{kind}_224_{float(alpha)}_float"
    remotes = files("mobilenet_v3", stem, "_no_top_v2")
    return Published(title, title, *remotes, any_size=True)


def _features(x: Node, size: str, alpha: float, minimalistic: bool) -> Node:
    outer = partial(_normalized, swish=not minimalistic)
    x = through(x, *outer(conv(16, "conv", 3, 2)))
    for number, block in enumerate(BLOCKS[size]):
        expansion, filters, window, strides, excites, swish = block
        if minimalistic:
            window, excites, swish = 3, False, False
        prefix = f"expanded_conv_{number}_" if number else "expanded_conv_"
        width = multiple_of_eight(channels(x) * expansion) if number else 0
        filters = multiple_of_eight(filters * alpha)
        excited = partial(_excited, prefix=f"{prefix}squeeze_excite_")
        x = inverted(
            x,
            Inverted(prefix, width, filters, window, strides),
            partial(_normalized, swish=swish),
            f"{prefix}depthwise_pad",
            excited if excites else None,
        )
    return through(x, *outer(conv(multiple_of_eight(6 * channels(x)), "conv_1")))


def _normalized(layer: Layer, swish: bool) -> Normalized:
    return layer, norm(f"{layer.name}_bn"), _activation(swish)


def _activation(swish: bool) -> Layer:
    return layers.Activation("hard_swish") if swish else layers.ReLU()


def _excited(x: Node, prefix: str) -> Node:
    """x with each channel times a factor between 0 and 1 that all channels decide."""
    y = through(
        x,
        layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}avg_pool"),
        layers.Conv2D(multiple_of_eight(channels(x) / 4), 1, name=f"{prefix}conv"),
        layers.ReLU(name=f"{prefix}relu"),
        layers.Conv2D(channels(x), 1, name=f"{prefix}conv_1"),
    )
    y = layers.ReLU(6.0)(y + 3.0) * (1 / 6)  # hard_sigmoid
    return through([x, y], layers.Multiply(name=f"{prefix}mul"))


MobileNetV3Large = _mobilenet_v3(_published("Large"), "Large")
MobileNetV3Small = _mobilenet_v3(_published("Small"), "Small")
