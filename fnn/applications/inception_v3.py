"""InceptionV3: parallel branches of convolutions (Szegedy et al. 2016)."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from fnn.applications.application import (
    application,
    channel_axis,
    normalization,
)
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.layers import Activation, AveragePooling2D, Concatenate, Conv2D, MaxPooling2D
from fnn.symbolic.node import Node

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")

Sizes: TypeAlias = int | tuple[int, int]
# "average", "max" (which halves the size), or a convolution: (filters, kernel size).
Step: TypeAlias = str | tuple[int, Sizes]

WIDE, HIGH = (1, 7), (7, 1)


class Builder:
    """Adds layers, those without a name numbered in the order in which they are added, as in Keras.

    >>> build = Builder()
    >>> build.branch(fnn.Input((75, 75, 3)), (8, 1), "max", (8, 3)).owner.name
    'activation_1'
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def name(self, kind: str) -> str:
        """`kind`, `kind_1`, ..."""
        number = self._counts[kind]
        self._counts[kind] += 1
        if number == 0:
            return kind
        return f"{kind}_{number}"

    def stem(self, x: Node) -> Node:
        """The first layers, which make the image eight times smaller."""
        x = self.halved(x, 32)
        x = self.convolved(x, 32, 3, padding="valid")
        x = self.branch(x, (64, 3), "max", (80, 1))
        x = self.convolved(x, 192, 3, padding="valid")
        return self.branch(x, "max")

    def branch(self, x: Node, *steps: Step) -> Node:
        """Poolings and convolutions, one after the other."""
        for step in steps:
            if step == "average":
                name = self.name("average_pooling2d")
                x = AveragePooling2D(3, strides=1, padding="same", name=name)(x)
            elif step == "max":
                name = self.name("max_pooling2d")
                x = MaxPooling2D(3, strides=2, name=name)(x)
            elif isinstance(step, tuple):
                x = self.convolved(x, *step)
        return x

    def halved(self, x: Node, filters: int) -> Node:
        """A convolution that halves the size."""
        return self.convolved(x, filters, 3, strides=2, padding="valid")

    def convolved(
        self,
        x: Node,
        filters: int,
        size: Sizes,
        strides: int = 1,
        padding: str = "same",
    ) -> Node:
        """relu(normalization(convolution(x)))"""
        name = self.name("conv2d")
        x = Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
        x = normalization(self.name("batch_normalization"), scale=False)(x)
        y: Node = Activation("relu", name=self.name("activation"))(x)
        return y

    def joined(self, branches: list[Node], name: str | None) -> Node:
        """The channels of all branches."""
        if name is None:
            name = self.name("concatenate")
        y: Node = Concatenate(axis=channel_axis(), name=name)(branches)
        return y


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((75, 75, 3))).shape
    (None, 1, 1, 2048)
    """
    build = Builder()
    x = build.stem(x)
    for number, filters in enumerate((32, 64, 64)):
        x = build.joined(_branches_5x5(build, x, filters), f"mixed{number}")
    halves = [
        build.halved(x, 384),
        build.halved(build.branch(x, (64, 1), (96, 3)), 96),
        build.branch(x, "max"),
    ]
    x = build.joined(halves, "mixed3")
    for number, filters in enumerate((128, 160, 160, 192), 4):
        x = build.joined(_branches_7x7(build, x, filters), f"mixed{number}")
    halves = [
        build.halved(build.branch(x, (192, 1)), 320),
        build.halved(build.branch(x, (192, 1), (192, WIDE), (192, HIGH)), 192),
        build.branch(x, "max"),
    ]
    x = build.joined(halves, "mixed8")
    for index in range(2):
        x = build.joined(
            _split_branches(build, x, f"mixed9_{index}"), f"mixed{9 + index}"
        )
    return x


def _branches_5x5(build: Builder, x: Node, filters: int) -> list[Node]:
    return [
        build.branch(x, (64, 1)),
        build.branch(x, (48, 1), (64, 5)),
        build.branch(x, (64, 1), (96, 3), (96, 3)),
        build.branch(x, "average", (filters, 1)),
    ]


def _branches_7x7(build: Builder, x: Node, filters: int) -> list[Node]:
    twice: list[Step] = [(filters, HIGH), (filters, WIDE), (filters, HIGH)]
    return [
        build.branch(x, (192, 1)),
        build.branch(x, (filters, 1), (filters, WIDE), (192, HIGH)),
        build.branch(x, (filters, 1), *twice, (192, WIDE)),
        build.branch(x, "average", (192, 1)),
    ]


def _split_branches(build: Builder, x: Node, name: str) -> list[Node]:
    return [
        build.branch(x, (320, 1)),
        _split(build, build.branch(x, (384, 1)), name),
        _split(build, build.branch(x, (448, 1), (384, 3)), None),
        build.branch(x, "average", (192, 1)),
    ]


def _split(build: Builder, x: Node, name: str | None) -> Node:
    wide = build.branch(x, (384, (1, 3)))
    high = build.branch(x, (384, (3, 1)))
    return build.joined([wide, high], name)


InceptionV3 = application(
    published("InceptionV3", "inception_v3", "inception_v3", size=299, least=75),
    features,
    __name__,
)
