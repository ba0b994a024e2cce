"""VGG: plain networks of small convolutions (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from functools import partial

from fnn import layers
from fnn.applications.application import Application, Parts, application
from fnn.applications.blocks import through
from fnn.applications.heads import predictions
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.keras_arguments import Arguments
from fnn.applications.published import published
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
        conv = layers.Conv2D(filters, 3, padding="same", activation="relu")
        for index in range(1, number + 1):
            x = through(x, conv.replace(name=f"block{block}_conv{index}"))
        x = through(x, layers.MaxPooling2D(2, name=f"block{block}_pool"))
    return x


def _classifier(x: Node, given: Arguments) -> Node:
    wide = [layers.Dense(4096, "relu", name=name) for name in ("fc1", "fc2")]
    return predictions(through(x, layers.Flatten(name="flatten"), *wide), given)


def vgg(title: str, convolutions: tuple[int, ...], module: str) -> Application:
    """The function of a VGG network."""
    name = title.lower()
    facts = published(title, name, name)
    parts = Parts(partial(features, convolutions=convolutions), _classifier)
    return application(facts, parts, module)


VGG16 = vgg("VGG16", (2, 2, 3, 3, 3), __name__)
