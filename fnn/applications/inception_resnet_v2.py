"""InceptionResNetV2: residual blocks of parallel branches (Szegedy et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from fnn import layers
from fnn.applications.application import application
from fnn.applications.blocks import normalization, through
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.inception_v3 import STEM, Branch, Builder, Conv, Join, half
from fnn.applications.published import published
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.symbolic.node import Node

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


class CustomScaleLayer(Layer):
    """x + scale * y.   (x, y) -> same shape

    >>> CustomScaleLayer(0.5).apply({}, {}, (jnp.ones(2), jnp.ones(2)))[0].tolist()
    [1.5, 1.5]
    """

    scale: float

    def apply(
        self,
        params: Params,
        state: State,
        x: tuple[Array, Array],
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return x[0] + self.scale * x[1], state


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
MIXED_5B: tuple[Branch, ...] = (
    (Conv(96, 1),),
    (Conv(48, 1), Conv(64, 5)),
    (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
    ("mean", Conv(64, 1)),
)
MIXED_6A = ((half(384),), (Conv(256, 1), Conv(256, 3), half(384)), ("max",))
MIXED_7A = (
    (Conv(256, 1), half(384)),
    (Conv(256, 1), half(288)),
    (Conv(256, 1), Conv(288, 3), half(320)),
    ("max",),
)
STAGES = (
    (Join(MIXED_5B, "mixed_5b"), Residuals("block35", 10, 0.17, 320, DEEP)),
    (Join(MIXED_6A, "mixed_6a"), Residuals("block17", 20, 0.1, 1088, TALL)),
    (Join(MIXED_7A, "mixed_7a"), Residuals("block8", 10, 0.2, 2080, WIDE)),
)


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((75, 75, 3))).shape
    (None, 1, 1, 1536)
    """
    build = Builder()
    x = build.steps(x, STEM)
    for join, residuals in STAGES:
        x = build.steps(x, (join,))
        for index in range(1, residuals.number + 1):
            x = _residual(build, x, residuals, f"{residuals.kind}_{index}")
    return through(
        x,
        layers.Conv2D(1536, 1, use_bias=False, name="conv_7b"),
        normalization("conv_7b_bn", scale=False),
        layers.Activation("relu", name="conv_7b_ac"),
    )


def _residual(build: Builder, x: Node, block: Residuals, name: str) -> Node:
    y = build.steps(x, (Join(block.branches, f"{name}_mixed"),))
    y = layers.Conv2D(block.channels, 1, padding="same", name=f"{name}_conv")(y)
    is_last = name == "block8_10"
    scale = 1.0 if is_last else block.scale
    x = CustomScaleLayer(scale, name=build.name("custom_scale_layer"))([x, y])
    return x if is_last else through(x, layers.Activation("relu", name=f"{name}_ac"))


InceptionResNetV2 = application(
    published("InceptionResNetV2", *["inception_resnet_v2"] * 2, size=299, least=75),
    features,
    __name__,
)
