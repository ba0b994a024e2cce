"""Perspective: a layer that shows images as if seen from the side."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, random

from fnn.core.fields import fraction
from fnn.core.tree import Tree
from fnn.ops import warping
from fnn.preprocessing.augmentation.geometric import Factor, Geometric
from fnn.preprocessing.images.base import (
    Transformation,
    drawn_from,
    images_of,
    take_each,
)
from fnn.random import Seed


class RandomPerspective(Geometric):
    """In training some images with their corners moved, as if seen from the side.   same -> same

    The probability for each image is drawn from `factor`: from 0 to a number, or from a pair.
    A corner (x, y) moves by up to half of `scale` times x and y, so that the one at the top left
    stays. What comes from outside the image is `fill_value`. Masks and boxes move along; a box
    becomes the smallest one around its moved corners.
    Raises ValueError unless `factor` and `scale` are between 0 and 1.

    >>> RandomPerspective(seed=1)(jnp.ones((2, 5, 5, 3)), training=True).shape
    (2, 5, 5, 3)
    """

    intervals = {"factor": (0.0, 1.0)}
    positional = (
        "factor",
        "scale",
        "interpolation",
        "fill_value",
        "seed",
        "data_format",
    )

    factor: Factor = 1.0
    scale: float = fraction(default=1.0)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, height, width = self.sizes(data)
        of_chance, of_choice, of_corners = random.split(self.key(seed), 3)
        chance = drawn_from(self.interval("factor"), of_chance, count)
        far = 0.5 * self.scale
        shifts = drawn_from((-far, far), of_corners, count, 4, 2)
        right, bottom = width - 1, height - 1
        corners = [[0, 0], [right, 0], [0, bottom], [right, bottom]]
        start = jnp.asarray(corners, "float32")
        start = jnp.broadcast_to(start, (count, 4, 2))
        return {
            "apply_perspective": random.uniform(of_choice, (count,)) < chance,
            "start_points": start,
            "end_points": start + start * shifts,
            "input_shape": images_of(data).shape,
        }

    def matrix(self, transformation: Transformation) -> Array:
        return warping.homography(
            transformation["start_points"], transformation["end_points"]
        )

    def looked_up(
        self, images: Array, transformation: Transformation, interpolation: str
    ) -> Array:
        new = warping.perspective_transform(
            images,
            transformation["start_points"],
            transformation["end_points"],
            interpolation,
            self.fill_value,
            self.data_format,
        )
        return take_each(transformation["apply_perspective"], new, images)

    def moved(self, corners: Array, transformation: Transformation) -> Array:
        chosen = transformation["apply_perspective"][:, None, None]
        return jnp.where(chosen, super().moved(corners, transformation), corners)
