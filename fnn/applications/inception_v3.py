"""InceptionV3: parallel branches of convolutions (Szegedy et al. 2016)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, TypeAlias

from fnn import layers
from fnn.applications.application import application
from fnn.applications.blocks import channel_axis, normalization, through
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.symbolic.node import Node

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


class Conv(NamedTuple):
    """relu(normalization(convolution(x)))"""

    filters: int
    window: int | tuple[int, int]
    strides: int = 1
    padding: str = "same"


class Join(NamedTuple):
    """The channels of all branches."""

    branches: tuple[Branch, ...]
    name: str | None = None


Step: TypeAlias = "Conv | Join | str"  # "mean", or "max", which halves the size
Branch: TypeAlias = "tuple[Step, ...]"


class Builder:
    """Adds layers, those without a name numbered in the order in which they are added, as in Keras.

    >>> build = Builder()
    >>> build.steps(fnn.Input((75, 75, 3)), (Conv(8, 1), "max", Conv(8, 3))).owner.name
    'activation_1'
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def name(self, kind: str) -> str:
        """`kind`, `kind_1`, ..."""
        number = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{number}" if number else kind

    def steps(self, x: Node, steps: Branch) -> Node:
        """x after these steps, one after the other."""
        for step in steps:
            if isinstance(step, Join):
                x = self._joined([self.steps(x, one) for one in step.branches], step)
            elif isinstance(step, Conv):
                conv = layers.Conv2D(*step, use_bias=False, name=self.name("conv2d"))
                norm = normalization(self.name("batch_normalization"), scale=False)
                relu = layers.Activation("relu", name=self.name("activation"))
                x = through(x, conv, norm, relu)
            elif step == "max":
                x = layers.MaxPooling2D(3, 2, name=self.name("max_pooling2d"))(x)
            else:
                name = self.name("average_pooling2d")
                x = layers.AveragePooling2D(3, 1, "same", name=name)(x)
        return x

    def _joined(self, branches: list[Node], join: Join) -> Node:
        name = join.name or self.name("concatenate")
        y: Node = layers.Concatenate(channel_axis(), name=name)(branches)
        return y


def half(filters: int) -> Conv:
    """A convolution that halves the size.

    >>> half(8).strides
    2
    """
    return Conv(filters, 3, 2, "valid")


def _of_5x5(name: str, filters: int) -> Join:
    return Join(
        (
            (Conv(64, 1),),
            (Conv(48, 1), Conv(64, 5)),
            (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
            ("mean", Conv(filters, 1)),
        ),
        name,
    )


def _of_7x7(name: str, filters: int) -> Join:
    wide, high = Conv(filters, WIDE), Conv(filters, HIGH)
    return Join(
        (
            (Conv(192, 1),),
            (Conv(filters, 1), wide, Conv(192, HIGH)),
            (Conv(filters, 1), high, wide, high, Conv(192, WIDE)),
            ("mean", Conv(192, 1)),
        ),
        name,
    )


def _split(name: str, inner: str) -> Join:
    both = ((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))
    return Join(
        (
            (Conv(320, 1),),
            (Conv(384, 1), Join(both, inner)),
            (Conv(448, 1), Conv(384, 3), Join(both)),
            ("mean", Conv(192, 1)),
        ),
        name,
    )


WIDE, HIGH = (1, 7), (7, 1)
STEM: Branch = (  # makes the image eight times smaller
    half(32),
    Conv(32, 3, padding="valid"),
    Conv(64, 3),
    "max",
    Conv(80, 1),
    Conv(192, 3, padding="valid"),
    "max",
)
FEATURES: Branch = (
    *STEM,
    _of_5x5("mixed0", 32),
    _of_5x5("mixed1", 64),
    _of_5x5("mixed2", 64),
    Join(((half(384),), (Conv(64, 1), Conv(96, 3), half(96)), ("max",)), "mixed3"),
    _of_7x7("mixed4", 128),
    _of_7x7("mixed5", 160),
    _of_7x7("mixed6", 160),
    _of_7x7("mixed7", 192),
    Join(
        (
            (Conv(192, 1), half(320)),
            (Conv(192, 1), Conv(192, WIDE), Conv(192, HIGH), half(192)),
            ("max",),
        ),
        "mixed8",
    ),
    _split("mixed9", "mixed9_0"),
    _split("mixed10", "mixed9_1"),
)


def features(x: Node) -> Node:
    """The layers before the classifier.

    >>> features(fnn.Input((75, 75, 3))).shape
    (None, 1, 1, 2048)
    """
    return Builder().steps(x, FEATURES)


InceptionV3 = application(
    published("InceptionV3", "inception_v3", "inception_v3", size=299, least=75),
    features,
    __name__,
)
