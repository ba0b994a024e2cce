"""MobileNet: depthwise separable convolutions (Howard et al. 2017)."""

from __future__ import annotations

from functools import partial

from fnn import layers
from fnn.applications.application import assembled
from fnn.applications.blocks import channel_axis, normalization, through
from fnn.applications.imagenet_utils import CLASSES, decode_predictions, preprocessing
from fnn.applications.keras_arguments import Arguments, Shape, Weights
from fnn.applications.published import Published, files
from fnn.core import arguments
from fnn.core.layer import Activation, Layer
from fnn.models import Model
from fnn.runtime.warning import warn
from fnn.symbolic.node import Node

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")

ALPHAS = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}  # with published weights
SIZES = (128, 160, 192, 224)


def MobileNet(  # noqa: N802 - Keras's name
    input_shape: Shape | None = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 0.001,
    include_top: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
) -> Model:
    """MobileNet, with Keras's arguments, layers and weights.

    (batch, 224, 224, 3) -> (batch, 1000) with all defaults.
    `alpha` scales the number of filters of all layers, `depth_multiplier` those of the depthwise
    convolutions, `dropout` is the rate before the classifier. Other arguments are as in `VGG16`.
    Weights are published for `alpha` 0.25, 0.5, 0.75, 1 and square images of 128, 160, 192 and 224.
    Raises ValueError for arguments that do not fit together or to the weights.

    >>> fnn.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=5).output_shape
    (None, 5)
    """
    given = Arguments.among(locals())
    check_published(given, "MobileNet", "alpha", alpha, tuple(ALPHAS))
    check_published(given, "MobileNet", "depth_multiplier", depth_multiplier, (1,))
    size, height = trained_size("MobileNet", given, SIZES)
    stem = f"mobilenet_{ALPHAS.get(alpha)}_{size}_tf"
    remotes = files("mobilenet", stem, "_no_top")
    model = name or f"mobilenet_{alpha:0.2f}_{height}"
    facts = Published("MobileNet", model, *remotes, size)
    body = partial(_features, alpha=alpha, depth_multiplier=depth_multiplier)
    top = partial(_classifier, dropout=dropout)
    return assembled(given._replace(name=model), facts, body, top)


def check_published(
    given: Arguments,
    title: str,
    argument: str,
    received: float,
    allowed: tuple[float, ...],
) -> None:
    """Raises ValueError if no weights are published for an argument."""
    if given.weights == "imagenet" and received not in allowed:
        expected = f'to be one of {allowed} with weights="imagenet"'
        raise arguments.wrong(title, argument, expected, received)


def trained_size(
    title: str, given: Arguments, sizes: tuple[int, ...]
) -> tuple[int, int | None]:
    """(size of the images that published weights are for, height in the name of the model).

    The size is that of the images if it is among `sizes`, else 224, with a warning.

    >>> trained_size("MobileNet", Arguments(input_shape=(160, 160, 3)), SIZES)
    (160, 160)
    """
    height: int | None = None
    if given.input_shape:
        sides = list(given.input_shape)
        del sides[channel_axis() - 1]
        height = sides[0]
        if sides == [height, height] and height in sizes:
            return height, height
    elif given.include_top:
        return 224, 224
    if given.weights != "imagenet":
        return 224, height
    warn(
        f"{title}: published weights are for square images of {sizes} pixels; for images of "
        f"shape {given.input_shape}, those of 224 are loaded"
    )
    return 224, 224


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
    conv = layers.Conv2D(
        int(filters), window, strides, "same", use_bias=False, name=name
    )
    return conv, *_norm_and_relu(name)


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
