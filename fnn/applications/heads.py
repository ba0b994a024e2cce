"""Heads: the last layers, which classify images or make one vector of each."""

from __future__ import annotations

from typing import Any

from fnn.applications.blocks import through
from fnn.applications.keras_arguments import Arguments
from fnn.layers import Dense, GlobalAveragePooling2D, GlobalMaxPooling2D
from fnn.symbolic.node import Node


def classifier(x: Node, given: Arguments, name: str | None = "avg_pool") -> Node:
    """The mean over the image, by a layer of this name, and a dense layer."""
    return predictions(GlobalAveragePooling2D(name=name)(x), given)


def predictions(x: Node, given: Arguments, **options: Any) -> Node:
    """The last dense layer of a classifier."""
    activation = given.classifier_activation
    dense = Dense(given.classes, activation, name="predictions", **options)
    return through(x, dense)


def pooled(x: Node, given: Arguments) -> Node:
    """Without a classifier: one vector an image, or the features as they are."""
    return _pooled(x, given.pooling, None)


def pooled_by_name(x: Node, given: Arguments) -> Node:
    """As `pooled`, by layers with the names "avg_pool" and "max_pool"."""
    return _pooled(x, given.pooling, f"{given.pooling}_pool")


def _pooled(x: Node, pooling: str | None, name: str | None) -> Node:
    if pooling is None:
        return x
    kinds = {"avg": GlobalAveragePooling2D, "max": GlobalMaxPooling2D}
    return through(x, kinds[pooling](name=name))
