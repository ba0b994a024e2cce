"""Pipeline: layers of preprocessing one after the other."""

from __future__ import annotations

from fnn.layers.sequential import Chain


class Pipeline(Chain):
    """Layers of preprocessing one after the other, of images or of dicts of images and targets.

    Called alone, without `training`, it acts as in training.

    >>> from fnn.preprocessing.images.resizing import CenterCrop, Resizing
    >>> Pipeline([Resizing(4, 4), CenterCrop(2, 3)])(jnp.ones((1, 8, 9, 3))).shape
    (1, 2, 3, 3)
    """

    training_alone = True
