"""Cropping: a layer that cuts windows out of images at random places."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core.fields import positive, random_seed
from fnn.core.tree import Tree
from fnn.ops.images import resize
from fnn.preprocessing.images import boxes
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Transformation,
    images_of,
)
from fnn.preprocessing.images.resizing import size_in_ratio
from fnn.random import Seed


class RandomCrop(BaseImagePreprocessingLayer):
    """In training a window of each image at its own random place.
    (batch, rows, columns, channels) -> (batch, height, width, channels)

    In inference, and for images that are not larger than the window, the largest part in the
    middle with the proportions of the window, resized to it. So the outputs always have one size.
    Masks and boxes move along; a box is cut at the borders of the window, and the label of one
    outside becomes -1. Keras uses one place for all images of a batch, and does nothing in
    inference.
    Raises ValueError unless height and width are positive integers.

    >>> images = jnp.broadcast_to(jnp.arange(9.0).reshape(1, 3, 3, 1), (2, 3, 3, 1))
    >>> RandomCrop(2, 2, seed=1)(images)[..., 0].tolist()
    [[[0.0, 1.0], [3.0, 4.0]], [[1.0, 2.0], [4.0, 5.0]]]
    """

    positional = ("height", "width", "seed", "data_format")

    height: int = positive()
    width: int = positive()
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, height, width = self.sizes(data)
        drawn = {"input_shape": images_of(data).shape}
        if not training or height <= self.height or width <= self.width:
            return drawn
        of_height, of_width = random.split(self.key(seed))
        top = random.randint(of_height, (count,), 0, height - self.height + 1)
        left = random.randint(of_width, (count,), 0, width - self.width + 1)
        return {**drawn, "h_start": top, "w_start": left}

    def in_inference(self, data: Tree) -> Tree:
        return self.transformed(data, training=False)

    def _window(self, transformation: Any) -> tuple[Any, Any, int, int]:
        """(top, left, height, width) of the part of each image that is kept."""
        if "h_start" in transformation:
            top, left = transformation["h_start"], transformation["w_start"]
            return top[:, None], left[:, None], self.height, self.width  # (batch, 1)
        height, width = self.height_width(transformation["input_shape"])
        rows, columns = size_in_ratio((height, width), (self.height, self.width))
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def _cut(self, images: Array, transformation: Any, interpolation: str) -> Array:
        if "h_start" not in transformation:
            return resize(
                images,
                (self.height, self.width),
                interpolation,
                crop_to_aspect_ratio=True,
                data_format=self.data_format,
            )
        first = int(self.data_format == "channels_first")
        sizes = [*images.shape[1:]]
        sizes[first : first + 2] = self.height, self.width

        def window(image: Array, top: Array, left: Array) -> Array:
            start = [jnp.zeros_like(top)] * 3
            start[first : first + 2] = top, left
            return lax.dynamic_slice(image, start, sizes)

        starts = transformation["h_start"], transformation["w_start"]
        return jax.vmap(window)(images, *starts)

    def transform_images(
        self, images: Array, transformation: Transformation, training: bool = True
    ) -> Array:
        return self._cut(self.cast(images), transformation, "bilinear")

    def transform_segmentation_masks(
        self,
        segmentation_masks: Array,
        transformation: Transformation,
        training: bool = True,
    ) -> Array:
        return self._cut(segmentation_masks, transformation, "nearest")

    def transform_bounding_boxes(
        self,
        bounding_boxes: Tree,
        transformation: Transformation,
        training: bool = True,
    ) -> Tree:
        size = self.height_width(transformation["input_shape"])
        new = self.corners(bounding_boxes, *size)
        top, left, height, width = self._window(transformation)
        cut = boxes.crop(new["boxes"], top, left, height, width)
        scale = [self.width / width, self.height / height] * 2
        new["boxes"] = cut * jnp.asarray(scale, cut.dtype)[None, None]
        new = boxes.clip_to_image_size(new, self.height, self.width)
        return self.as_given(new, self.height, self.width)
