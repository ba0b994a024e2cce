"""Flipping: a layer that mirrors images."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, random

from fnn.core.fields import one_of, random_seed
from fnn.core.tree import Tree
from fnn.preprocessing.images import boxes
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Transformation,
    images_of,
    per_image,
)
from fnn.random import Seed

_MODES = ("horizontal", "vertical", "horizontal_and_vertical")


class RandomFlip(BaseImagePreprocessingLayer):
    """In training each image mirrored with probability 0.5.   same shape -> same

    `mode` says how: "horizontal" exchanges left and right, "vertical" top and bottom, and
    "horizontal_and_vertical" both at once, with one draw, as in Keras; for two draws put two
    layers in a row. Masks and boxes are mirrored along.
    Raises ValueError for other modes.

    >>> images = jnp.broadcast_to(jnp.arange(3.0).reshape(1, 3, 1, 1), (4, 3, 1, 1))
    >>> RandomFlip("vertical", seed=0)(images)[:, :, 0, 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]
    """

    moves = True

    positional = ("mode", "seed", "data_format")

    mode: str = one_of(_MODES, default="horizontal_and_vertical")
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, _, _ = self.sizes(data)
        flips = random.bernoulli(self.key(seed), 0.5, (count,))
        return {"flips": per_image(flips), "input_shape": images_of(data).shape}

    @property
    def _flips(self) -> tuple[bool, bool]:
        """Whether the layer exchanges left and right, and top and bottom."""
        return "horizontal" in self.mode, "vertical" in self.mode

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        height_axis = 1
        if self.data_format == "channels_first":
            height_axis = 2
        left_right, top_bottom = self._flips
        axes = (height_axis,) * top_bottom + (height_axis + 1,) * left_right
        return jnp.where(transformation["flips"], jnp.flip(values, axes), values)

    def moved(self, corners: Array, transformation: Transformation) -> Array:
        height, width = self.size_of(transformation)
        x1, y1, x2, y2 = boxes.numbers(corners)
        left_right, top_bottom = self._flips
        if left_right:
            x1, x2 = width - x2, width - x1
        if top_bottom:
            y1, y2 = height - y2, height - y1
        flips = transformation["flips"][..., 0]  # (batch, 1, 1)
        return jnp.where(flips, boxes.stacked([x1, y1, x2, y2]), corners)
