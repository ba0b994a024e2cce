"""InceptionResNetV2: residual blocks of parallel branches (Szegedy et al. 2017)."""

from __future__ import annotations

from jax import Array

from fnn.applications.application import (
    application,
    normalization,
)
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.inception_v3 import Builder, Step
from fnn.applications.published import published
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.layers import Activation, Conv2D
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


# Of a kind of block: the scale of its residuals, and its branches.
BLOCKS: dict[str, tuple[float, tuple[tuple[Step, ...], ...]]] = {
    "block35": (
        0.17,
        (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
    ),
    "block17": (0.1, (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))),
    "block8": (0.2, (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))),
}


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((75, 75, 3))).shape
    (None, 1, 1, 1536)
    """
    build = Builder()
    x = build.stem(x)
    branches = [
        build.branch(x, (96, 1)),
        build.branch(x, (48, 1), (64, 5)),
        build.branch(x, (64, 1), (96, 3), (96, 3)),
        build.branch(x, "average", (64, 1)),
    ]
    x = _blocks(build, build.joined(branches, "mixed_5b"), "block35", 320, 10)
    halves = [
        build.halved(x, 384),
        build.halved(build.branch(x, (256, 1), (256, 3)), 384),
        build.branch(x, "max"),
    ]
    x = _blocks(build, build.joined(halves, "mixed_6a"), "block17", 1088, 20)
    halves = [
        build.halved(build.branch(x, (256, 1)), 384),
        build.halved(build.branch(x, (256, 1)), 288),
        build.halved(build.branch(x, (256, 1), (288, 3)), 320),
        build.branch(x, "max"),
    ]
    x = _blocks(build, build.joined(halves, "mixed_7a"), "block8", 2080, 9)
    x = _added(build, x, "block8", 10, 2080, scale=1.0)
    x = Conv2D(1536, 1, use_bias=False, name="conv_7b")(x)
    x = normalization("conv_7b_bn", scale=False)(x)
    y: Node = Activation("relu", name="conv_7b_ac")(x)
    return y


def _blocks(build: Builder, x: Node, kind: str, channels: int, number: int) -> Node:
    """relu(x + scale * convolutions(x)), several times."""
    scale = BLOCKS[kind][0]
    for index in range(1, number + 1):
        x = _added(build, x, kind, index, channels, scale)
        x = Activation("relu", name=f"{kind}_{index}_ac")(x)
    return x


def _added(
    build: Builder, x: Node, kind: str, index: int, channels: int, scale: float
) -> Node:
    """x + scale * convolutions(x)"""
    name = f"{kind}_{index}"
    branches = [build.branch(x, *steps) for steps in BLOCKS[kind][1]]
    y = build.joined(branches, f"{name}_mixed")
    y = Conv2D(channels, 1, padding="same", name=f"{name}_conv")(y)
    name = build.name("custom_scale_layer")
    out: Node = CustomScaleLayer(scale, name=name)([x, y])
    return out


InceptionResNetV2 = application(
    published(
        "InceptionResNetV2",
        "inception_resnet_v2",
        "inception_resnet_v2",
        size=299,
        least=75,
    ),
    features,
    __name__,
)
