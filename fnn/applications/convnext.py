"""ConvNeXt: convolutions in the layout of transformers (Liu et al. 2022)."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from fnn import layers
from fnn.applications.application import assembled, family
from fnn.applications.blocks import through
from fnn.applications.heads import pooled
from fnn.applications.imagenet_utils import (
    DEVIATION_OF_RGB,
    MEAN_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Arguments, Given
from fnn.applications.keras_layers import LayerScale
from fnn.applications.published import Published, files
from fnn.core.layer import Layer
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = [
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing(None)

# Of ImageNet, of red, green and blue from 0 to 255.
MEAN = [255 * mean for mean in MEAN_OF_RGB]
VARIANCE = [(255 * deviation) ** 2 for deviation in DEVIATION_OF_RGB]


class _Design(NamedTuple):
    depth: int  # blocks of the third stage; the others have three
    width: int  # channels of the first stage, doubled in each later one


@family("include_top include_preprocessing")
def _convnext(
    facts: Published,
    design: _Design,
    *args: Any,
    include_preprocessing: bool = True,
    **named: Unpack[Given],
) -> Model:
    """`include_preprocessing=False` leaves out the layer that normalizes images from 0 to 255."""
    given = Arguments(**named)
    prefix = given.name or facts.name

    def body(x: Node) -> Node:
        if include_preprocessing and x.shape[-1] == 3:
            layer = f"{prefix}_prestem_normalization"
            norm = layers.Normalization(mean=MEAN, variance=VARIANCE, name=layer)
            x = through(x, norm)
        return _features(x, design, prefix)

    given = given._replace(name=prefix)
    return assembled(given, facts, body, _classifier, _without_classifier)


def _features(x: Node, design: _Design, name: str) -> Node:
    for stage, depth in enumerate((3, 3, design.depth, 3)):
        width = design.width * 2**stage
        x = _smaller(width, stage, name)(x)
        for index in range(depth):
            x = x + through(x, *_branch(width, f"{name}_stage_{stage}_block_{index}"))
    return x


def _norm(name: str | None = None) -> Layer:
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def _smaller(width: int, stage: int, name: str) -> Layer:
    """Layers that halve the size of the images, or quarter it before the first stage."""
    if stage == 0:
        conv = layers.Conv2D(width, 4, 4, name=f"{name}_stem_conv")
        norm = _norm(f"{name}_stem_layernorm")
        return layers.Sequential([conv, norm], name=f"{name}_stem")
    prefix, number = f"{name}_downsampling", stage - 1
    norm = _norm(f"{prefix}_layernorm_{number}")
    conv = layers.Conv2D(width, 2, 2, name=f"{prefix}_conv_{number}")
    return layers.Sequential([norm, conv], name=f"{prefix}_block_{number}")


def _branch(width: int, prefix: str) -> tuple[Layer, ...]:
    name = f"{prefix}_depthwise_conv"
    return (
        layers.Conv2D(width, 7, padding="same", groups=width, name=name),
        _norm(f"{prefix}_layernorm"),
        layers.Dense(4 * width, name=f"{prefix}_pointwise_conv_1"),
        layers.Activation("gelu", name=f"{prefix}_gelu"),
        layers.Dense(width, name=f"{prefix}_pointwise_conv_2"),
        LayerScale(1e-6, width, name=f"{prefix}_layer_scale"),
        layers.Activation("linear", name=f"{prefix}_identity"),
    )


def _classifier(x: Node, given: Arguments) -> Node:
    prefix, activation = f"{given.name}_head", given.classifier_activation
    return through(
        x,
        layers.GlobalAveragePooling2D(name=f"{prefix}_gap"),
        _norm(f"{prefix}_layernorm"),
        layers.Dense(given.classes, activation, name=f"{prefix}_dense"),
    )


def _without_classifier(x: Node, given: Arguments) -> Node:
    return through(pooled(x, given), _norm())


def _published(size: str) -> Published:
    name = f"convnext_{size.lower()}"
    remotes = files("convnext", name)
    return Published(f"ConvNeXt{size}", name, *remotes, channels_first=False)


ConvNeXtTiny = _convnext(_published("Tiny"), _Design(9, 96))
ConvNeXtSmall = _convnext(_published("Small"), _Design(27, 96))
ConvNeXtBase = _convnext(_published("Base"), _Design(27, 128))
ConvNeXtLarge = _convnext(_published("Large"), _Design(27, 192))
ConvNeXtXLarge = _convnext(_published("XLarge"), _Design(27, 256))
