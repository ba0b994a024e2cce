"""VGG: plain networks of small convolutions (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from functools import partial

from fnn.applications.application import (
    Application,
    Arguments,
    application,
    predictions,
)
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.published import published
from fnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from fnn.symbolic.node import Node

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("caffe")


def features(x: Node, convolutions: tuple[int, ...]) -> Node:
    """Blocks of so many convolutions and a pooling that halves the size.

    >>> features(fnn.Input((32, 32, 3)), (1, 1, 1, 1, 1)).shape
    (None, 1, 1, 512)
    """
    for block, number in enumerate(convolutions, 1):
        filters = min(64 * 2 ** (block - 1), 512)
        for index in range(1, number + 1):
            name = f"block{block}_conv{index}"
            x = Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


def _classifier(x: Node, given: Arguments) -> Node:
    x = Flatten(name="flatten")(x)
    x = Dense(4096, activation="relu", name="fc1")(x)
    x = Dense(4096, activation="relu", name="fc2")(x)
    return predictions(x, given)


def vgg(
    title: str,
    convolutions: tuple[int, ...],
    module: str,
) -> Application:
    """The function of a VGG network."""
    name = title.lower()
    facts = published(title, name, name)
    body = partial(features, convolutions=convolutions)
    return application(facts, body, module, _classifier)


VGG16 = vgg("VGG16", (2, 2, 3, 3, 3), __name__)
