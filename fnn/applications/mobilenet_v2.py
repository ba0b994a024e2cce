"""MobileNetV2: residual blocks that are wide inside and narrow outside (Sandler et al. 2018)."""

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
    normalization,
    through,
)
from fnn.applications.heads import classifier
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.keras_arguments import (
    Arguments,
    Given,
    check_published,
    trained_size,
)
from fnn.applications.published import Published, files
from fnn.core.layer import Layer
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")

# (expansion, filters, number of blocks, strides of the first); table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)  # with published weights
SIZES = (96, 128, 160, 192, 224)


@family("input_shape alpha")
def _mobilenet_v2(
    facts: Published,
    sizes: tuple[int, ...],
    *args: Any,
    alpha: float = 1.0,
    **named: Unpack[Given],
) -> Model:
    """`alpha` scales the number of filters of all layers. Weights are published for `alpha` 0.35,
    0.5, 0.75, 1, 1.3, 1.4 and square images of 96, 128, 160, 192 and 224. Keras publishes no
    checksum of them, so a download, over HTTPS, is checked by its length alone, with a warning.
    """
    given = Arguments(**named)
    check_published(given, facts.title, "alpha", alpha, ALPHAS)
    size, height = trained_size(facts.title, given, sizes)
    given = given._replace(name=given.name or f"mobilenetv2_{alpha:0.2f}_{height}")
    body, top = partial(_features, alpha=alpha), partial(classifier, name=None)
    return assembled(given, _published(alpha, size), body, top)


def _published(alpha: float = 1.0, size: int = 224) -> Published:
    stem = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{size}"
    return Published("MobileNetV2", "", *files("mobilenet_v2", stem, "_no_top"), size)


def _features(x: Node, alpha: float) -> Node:
    first = conv(multiple_of_eight(32 * alpha), "Conv1", 3, 2)
    x = through(x, first, norm("bn_Conv1"), layers.ReLU(6.0, name="Conv1_relu"))
    number = 0
    for expansion, filters, blocks, strides in STAGES:
        filters = multiple_of_eight(int(filters * alpha))
        for index in range(blocks):
            prefix = f"block_{number}_" if number else "expanded_conv_"
            width = expansion * channels(x) if number else 0
            block = Inverted(prefix, width, filters, strides=1 if index else strides)
            x = inverted(x, block, _normalized, f"{prefix}pad")
            number += 1
    last = conv(multiple_of_eight(1280 * max(alpha, 1.0)), "Conv_1")
    return through(x, last, norm("Conv_1_bn"), layers.ReLU(6.0, name="out_relu"))


def _normalized(layer: Layer) -> Normalized:
    relu = layers.ReLU(6.0, name=f"{layer.name}_relu")
    return layer, norm(f"{layer.name}_BN"), relu


def norm(name: str) -> Layer:
    """A batch normalization with the momentum of this family.

    >>> norm("a").momentum
    0.999
    """
    return normalization(name, momentum=0.999)


MobileNetV2 = _mobilenet_v2(_published(), SIZES)
