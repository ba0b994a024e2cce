"""MobileNet: depthwise separable convolutions (Howard et al. 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from fnn import layers
from fnn.applications.application import assembled, family
from fnn.applications.blocks import conv, normalization, through
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

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")

ALPHAS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}  # with published weights
SIZES = (128, 160, 192, 224)


@family("input_shape alpha depth_multiplier dropout")
def _mobilenet(
    facts: Published,
    sizes: tuple[int, ...],
    *args: Any,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 0.001,
    **named: Unpack[Given],
) -> Model:
    """`alpha` scales the number of filters of all layers, `depth_multiplier` those of the depthwise
    convolutions, `dropout` is the rate before the classifier. Weights are published for `alpha`
    0.25, 0.5, 0.75, 1 and square images of 128, 160, 192 and 224. Keras publishes no checksum of
    them, so a download, over HTTPS, is checked by its length alone, with a warning.
    """
    given = Arguments(**named)
    check_published(given, facts.title, "alpha", alpha, tuple(ALPHAS))
    check_published(given, facts.title, "depth_multiplier", depth_multiplier, (1,))
    size, height = trained_size(facts.title, given, sizes)
    given = given._replace(name=given.name or f"mobilenet_{alpha:0.2f}_{height}")
    body = partial(_features, alpha=alpha, depth_multiplier=depth_multiplier)
    top = partial(_classifier, dropout=dropout)
    return assembled(given, _published(alpha, size), body, top)


def _published(alpha: float = 1.0, size: int = 224) -> Published:
    stem = f"mobilenet_{ALPHAS.get(alpha)}_{size}_tf"
    return Published("MobileNet", "", *files("mobilenet", stem, "_no_top"), size)


def _features(x: Node, alpha: float, depth_multiplier: int) -> Node:
    x = through(x, *_convolved(32 * alpha, "conv1", 3, 2))
    filters = 64
    for number in range(1, 14):  # table 1 of the paper
        strides, padding = 1, "same"
        if number in (2, 4, 6, 12):
            strides, padding, filters = 2, "valid", 2 * filters
            pad = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")
            x = through(x, pad)
        name = f"conv_dw_{number}"
        depthwise = layers.DepthwiseConv2D(
            3, strides, padding, depth_multiplier, use_bias=False, name=name
        )
        x = through(x, depthwise, *_norm_and_relu(name))
        x = through(x, *_convolved(filters * alpha, f"conv_pw_{number}"))
    return x


def _convolved(
    filters: float, name: str, window: int = 1, strides: int = 1
) -> tuple[Layer, ...]:
    return conv(filters, name, window, strides), *_norm_and_relu(name)


def _norm_and_relu(name: str) -> tuple[Layer, Layer]:
    return normalization(f"{name}_bn"), layers.ReLU(6.0, name=f"{name}_relu")


def _classifier(x: Node, given: Arguments, dropout: float) -> Node:
    return through(
        x,
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Dropout(dropout, name="dropout"),
        layers.Conv2D(given.classes, 1, padding="same", name="conv_preds"),
        layers.Reshape((given.classes,), name="reshape_2"),
        layers.Activation(given.classifier_activation, name="predictions"),
    )


MobileNet = _mobilenet(_published(), SIZES)
