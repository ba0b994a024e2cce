"""InceptionV3: parallel branches of convolutions (Szegedy et al. 2016)."""

from __future__ import annotations

from fnn.applications.application import Parts, application
from fnn.applications.branches import Branch, Builder, Conv, Join, half, join
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.symbolic.node import Node

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


def _of_5x5(name: str, filters: int) -> Join:
    return join(
        name,
        (Conv(64, 1),),
        (Conv(48, 1), Conv(64, 5)),
        (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
        ("mean", Conv(filters, 1)),
    )


def _of_7x7(name: str, filters: int) -> Join:
    wide, high = Conv(filters, WIDE), Conv(filters, HIGH)
    return join(
        name,
        (Conv(192, 1),),
        (Conv(filters, 1), wide, Conv(192, HIGH)),
        (Conv(filters, 1), high, wide, high, Conv(192, WIDE)),
        ("mean", Conv(192, 1)),
    )


def _split(name: str, inner: str) -> Join:
    both = (Conv(384, (1, 3)),), (Conv(384, (3, 1)),)
    return join(
        name,
        (Conv(320, 1),),
        (Conv(384, 1), join(inner, *both)),
        (Conv(448, 1), Conv(384, 3), join(None, *both)),
        ("mean", Conv(192, 1)),
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
    join("mixed3", (half(384),), (Conv(64, 1), Conv(96, 3), half(96)), ("max",)),
    _of_7x7("mixed4", 128),
    _of_7x7("mixed5", 160),
    _of_7x7("mixed6", 160),
    _of_7x7("mixed7", 192),
    join(
        "mixed8",
        (Conv(192, 1), half(320)),
        (Conv(192, 1), Conv(192, WIDE), Conv(192, HIGH), half(192)),
        ("max",),
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


FACTS = published("InceptionV3", "inception_v3", "inception_v3", size=299, least=75)
InceptionV3 = application(FACTS, Parts(features), __name__)
