"""ConvNeXt: convolutions in the layout of transformers (Liu et al. 2022)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn import layers
from fnn.applications.application import assembled, member
from fnn.applications.blocks import through
from fnn.applications.heads import pooled
from fnn.applications.imagenet_utils import (
    CLASSES,
    DEVIATION_OF_RGB,
    MEAN_OF_RGB,
    decode_predictions,
    preprocessing,
)
from fnn.applications.keras_arguments import Arguments, Shape, Weights
from fnn.applications.published import Published, files
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import fraction, positive
from fnn.core.layer import Activation, Layer, Params, State
from fnn.core.tree import SpecTree
from fnn.layers.shared.dropping import drop
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


class LayerScale(Layer):
    """x * gamma, a weight for each channel.   (..., projection_dim) -> same

    `init_values` is what all of `gamma` starts with, small so that a deep network starts as nearly
    the identity (Touvron et al. 2021).
    Raises ValueError unless the inputs have `projection_dim` channels.

    >>> layer, x = LayerScale(0.5, 3), jnp.ones((1, 3))
    >>> layer.apply(*layer.init(jax.random.key(0), x), x)[0].tolist()
    [[0.5, 0.5, 0.5]]
    """

    masking = "pass"

    init_values: float
    projection_dim: int = positive()

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.projection_dim,)
        gamma = jnp.full(shape, self.init_values, self.weight_dtype)
        return {"gamma": gamma}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        gamma = jnp.expand_dims(params["gamma"], tuple(range(x.ndim - 1)))
        return x * gamma, state


class StochasticDepth(Layer):
    """In training all of an example is 0 with probability `drop_path_rate`, else x / (1 - rate).

    (batch, ...) -> same. For the branch of a residual block, which is then the identity
    (Huang et al. 2016). Raises ValueError in training without a key.

    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> y, _ = StochasticDepth(0.5).apply({}, {}, jnp.ones((8, 2)), ctx)
    >>> sorted({tuple(example) for example in y.tolist()})
    [(0.0, 0.0), (2.0, 2.0)]
    """

    masking = "pass"

    drop_path_rate: float = fraction()

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        shape = (x.shape[0], *[1] * (x.ndim - 1))
        return drop(self, x, self.drop_path_rate, ctx, shape=shape), state


class _Design(NamedTuple):
    depth: int  # blocks of the third stage; the others have three
    width: int  # channels of the first stage, doubled in each later one


def _convnext(
    facts: Published,
    design: _Design,
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: Weights = "imagenet",
    input_tensor: Node | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Activation = "softmax",
    name: str | None = None,
) -> Model:
    name = name or facts.name
    given = Arguments.among(locals())

    def body(x: Node) -> Node:
        if include_preprocessing and x.shape[-1] == 3:
            layer = f"{name}_prestem_normalization"
            norm = layers.Normalization(mean=MEAN, variance=VARIANCE, name=layer)
            x = through(x, norm)
        return _features(x, design, name)

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


ConvNeXtTiny = member(_convnext, _published("Tiny"), _Design(9, 96))
ConvNeXtSmall = member(_convnext, _published("Small"), _Design(27, 96))
ConvNeXtBase = member(_convnext, _published("Base"), _Design(27, 128))
ConvNeXtLarge = member(_convnext, _published("Large"), _Design(27, 192))
ConvNeXtXLarge = member(_convnext, _published("XLarge"), _Design(27, 256))
