"""Geometric: what layers share that look images up at other places, and boxes moved with them."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.fields import one_of, random_seed
from fnn.preprocessing.images import boxes
from fnn.preprocessing.images.base import (
    IMAGES,
    BaseImagePreprocessingLayer,
    Range,
    Transformation,
)

# A number, or the ends of an interval from which numbers are drawn.
Factor = float | tuple[float, float]

INTERPOLATIONS = ("nearest", "bilinear")


class Geometric(BaseImagePreprocessingLayer, loadable=False):
    """The base class of layers that look an image up at other places: a pixel (x, y) of the new
    image is that of the old one at the place that `matrix` gives.

    Masks are looked up at the nearest pixel, so that their values stay those of classes. A box
    becomes the smallest one around its four moved corners.
    """

    moves = True

    interpolation: str = one_of(INTERPOLATIONS, default="bilinear", kw_only=True)
    seed: int | None = random_seed(default=None, kw_only=True)
    fill_value: float = field(default=0.0, kw_only=True)

    def matrix(self, transformation: Transformation) -> Array:
        """The eight numbers (a0, a1, a2, b0, b1, b2, c0, c1) of each image.   (batch, 8)

        The place of (x, y) is (a0 x + a1 y + a2, b0 x + b1 y + b2), divided by c0 x + c1 y + 1.
        """
        raise NotImplementedError

    def looked_up(
        self, images: Array, transformation: Transformation, interpolation: str
    ) -> Array:
        """The images at the places that `matrix` gives."""
        raise NotImplementedError

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        interpolation = "nearest"
        if name == IMAGES:
            interpolation = self.interpolation
        return self.looked_up(values, transformation, interpolation)

    def moved(self, corners: Array, transformation: Transformation) -> Array:
        return moved(corners, self.matrix(transformation))

    def both_ways(self, name: str, low: float = -1.0, high: float = 1.0) -> Range:
        """The interval of a field: a number f is the interval from -f to f.

        Raises ValueError for numbers below `low` or above `high`.
        """
        given: Any = getattr(self, name)
        numbers = given
        if not isinstance(given, tuple):
            numbers = (given,)
        elif given[0] == -given[1]:
            numbers = (given[1],)  # so Keras writes a number in its configs
        if not all(low <= number <= high for number in numbers):
            expected = f"to be a number from {low} to {high}, or two such numbers"
            raise arguments.wrong(self, name, expected, given)
        if isinstance(given, tuple):
            return min(given), max(given)
        return -abs(given), abs(given)


def moved(corners: Array, matrix: Array) -> Array:
    """The smallest boxes around the moved corners of boxes (xyxy).   (batch, boxes, 4) -> same

    `matrix (batch, 8)` gives the old place of a new pixel, so its inverse moves a corner.
    """
    ones = jnp.ones_like(matrix[:, :1])
    whole = jnp.concatenate([matrix, ones], axis=1).reshape(-1, 3, 3)
    x1, y1, x2, y2 = boxes.numbers(corners)
    x = jnp.stack([x1, x2, x1, x2], axis=-1)  # (batch, boxes, 4)
    y = jnp.stack([y1, y1, y2, y2], axis=-1)
    points = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    found = jnp.einsum("bij,bncj->bnci", jnp.linalg.inv(whole), points)
    places = found[..., :2] / found[..., 2:]
    low, high = places.min(axis=2), places.max(axis=2)
    return jnp.concatenate([low, high], axis=-1)
