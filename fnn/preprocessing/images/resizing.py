"""Resizing: images of another size, and the part in their middle; boxes and masks follow."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.fields import one_of, positive
from fnn.core.tree import Tree
from fnn.ops.images import crop_images, resize
from fnn.preprocessing.images import boxes
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer
from fnn.random import Seed

INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")
Size = tuple[int, int]


def size_in_ratio(size: Size, target: Size) -> Size:
    """The largest height and width in an image of `size` that have the ratio of `target`."""
    height, width = size
    tall, wide = target
    rows = max(min(height, int(width * tall / wide)), 1)
    columns = max(min(width, int(height * wide / tall)), 1)
    return rows, columns


def _around(target: np.ndarray, ratio: np.float32) -> np.ndarray:
    """The smallest height and width around those of `target` with the ratio width / height."""
    height, width = target
    if ratio > width / height:
        return np.asarray([height, height * ratio], "float32")
    return np.asarray([width / ratio, width], "float32")


class _Sized(BaseImagePreprocessingLayer, loadable=False):
    """The base class of layers that return images of one size, in training and in inference."""

    draws = False

    height: int = positive()
    width: int = positive()

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Size:
        """The height and width of the images given."""
        _, height, width = self.sizes(data)
        return height, width

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Size, training: bool = True
    ) -> Any:
        target = self.height, self.width
        corners = self.corners(bounding_boxes, *transformation)
        moved = self._moved(corners["boxes"], transformation)
        clipped = boxes.clip_to_image_size({**corners, "boxes": moved}, *target)
        kept = self._kept(bounding_boxes["boxes"], clipped["boxes"])
        return self.as_given({**clipped, "boxes": kept}, *target)

    def _moved(self, corners: Array, size: Size) -> Array:
        """Boxes (xyxy) of images of this size, in the new images."""
        raise NotImplementedError

    def _kept(self, given: Array, new: Array) -> Array:
        """The new boxes (xyxy), for those given."""
        return new


class Resizing(_Sized):
    """Images of `height` and `width`.   -> (batch, height, width, channels)

    Images keep their dtype: integers are rounded. `crop_to_aspect_ratio` cuts the borders off
    rather than distort what is in the images, `pad_to_aspect_ratio` adds borders of `fill_value`.
    `antialias` smooths images that become smaller. Segmentation masks take the nearest pixel.
    Raises ValueError for wrong arguments, and if both cropping and padding are asked for.

    >>> Resizing(1, 2).apply({}, {}, jnp.arange(8.0).reshape(1, 2, 4, 1))[0].ravel().tolist()
    [2.5, 4.5]
    """

    positional = (
        "height",
        "width",
        "interpolation",
        "crop_to_aspect_ratio",
        "pad_to_aspect_ratio",
        "fill_mode",
        "fill_value",
        "antialias",
        "data_format",
    )
    field_rules = (
        Rule(
            "pad_to_aspect_ratio",
            lambda layer: (
                not (layer.pad_to_aspect_ratio and layer.crop_to_aspect_ratio)
            ),
            "to be False with crop_to_aspect_ratio=True",
            "choose one of the two",
        ),
    )

    interpolation: str = one_of(INTERPOLATIONS, default="bilinear")
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    fill_mode: str = one_of(("constant",), default="constant")
    fill_value: float = 0.0
    antialias: bool = False

    def _resized(self, images: Array, interpolation: str) -> Array:
        return resize(
            images,
            (self.height, self.width),
            interpolation,
            self.antialias,
            self.crop_to_aspect_ratio,
            self.pad_to_aspect_ratio,
            self.fill_mode,
            self.fill_value,
            self.data_format,
        )

    def transform_images(
        self, images: Array, transformation: Tree = None, training: bool = True
    ) -> Array:
        return self._resized(images, self.interpolation)

    def transform_segmentation_masks(
        self,
        segmentation_masks: Array,
        transformation: Tree = None,
        training: bool = True,
    ) -> Array:
        return self._resized(segmentation_masks, "nearest")

    def _moved(self, corners: Array, size: Size) -> Array:
        # In float32, as Keras computes it: the borders are whole pixels.
        given = np.asarray(size, "float32")
        target = np.asarray([self.height, self.width], "float32")
        scale = target / given
        border = np.zeros(2, "float32")
        if self.pad_to_aspect_ratio:
            scale = np.full_like(scale, scale.min())
            border = (target - given * scale) // 2
        elif self.crop_to_aspect_ratio:
            enlarged = _around(target, given[1] / given[0])
            scale = enlarged / given
            border = -((enlarged - target) // 2)
        new = boxes.scaled(corners, x=scale[1], y=scale[0])
        return boxes.pad(new, *border)

    def _kept(self, given: Array, new: Array) -> Array:
        """Boxes of zeros, and of -1, pad images of fewer boxes: they become zeros."""
        absent = (given == 0).all(-1) | (given == -1).all(-1)
        return jnp.where(absent[..., None], 0, new)


class CenterCrop(_Sized):
    """The middle of images.   -> (batch, height, width, channels)

    Images that are too small are cut to the ratio of height and width, and enlarged to that size.
    Integers become float32.
    Raises ValueError for wrong arguments.

    >>> CenterCrop(1, 2).apply({}, {}, jnp.arange(12.0).reshape(1, 3, 4, 1))[0].ravel().tolist()
    [5.0, 6.0]
    """

    positional = ("height", "width", "data_format")

    def transform_images(
        self, images: Array, transformation: Tree = None, training: bool = True
    ) -> Array:
        images = self.cast(images)
        size = self.get_random_transformation(images)
        if not self._fits(size):
            return resize(
                images,
                (self.height, self.width),
                crop_to_aspect_ratio=True,
                data_format=self.data_format,
            )
        return crop_images(
            images,
            top_cropping=(size[0] - self.height) // 2,
            left_cropping=(size[1] - self.width) // 2,
            target_height=self.height,
            target_width=self.width,
            data_format=self.data_format,
        )

    def transform_segmentation_masks(
        self,
        segmentation_masks: Array,
        transformation: Tree = None,
        training: bool = True,
    ) -> Array:
        return self.transform_images(segmentation_masks)

    def _fits(self, size: Size) -> bool:
        return size[0] >= self.height and size[1] >= self.width

    def _moved(self, corners: Array, size: Size) -> Array:
        target = rows, columns = self.height, self.width
        if not self._fits(size):
            rows, columns = size_in_ratio(size, target)
        top = (size[0] - rows) // 2
        left = (size[1] - columns) // 2
        part = boxes.crop(corners, top, left, rows, columns)
        return boxes.scaled(part, self.width / columns, self.height / rows)


class MaxNumBoundingBoxes(BaseImagePreprocessingLayer):
    """The first `max_number` bounding boxes of each image; images of fewer get `fill_value`.

    The images pass as they are. It takes a dict with `"bounding_boxes"`, and needs their
    `bounding_box_format`.
    Raises ValueError unless `max_number` is a positive integer.

    >>> layer = MaxNumBoundingBoxes(2, bounding_box_format="xyxy")
    >>> found = {"boxes": jnp.ones((1, 1, 4)), "labels": jnp.ones((1, 1), "int32")}
    >>> data = {"images": jnp.ones((1, 2, 2, 3)), "bounding_boxes": found}
    >>> layer.apply({}, {}, data)[0]["bounding_boxes"]["labels"].tolist()
    [[1, -1]]
    """

    draws = False

    max_number: int = positive()
    fill_value: int = -1

    def transform_images(
        self, images: Array, transformation: Tree = None, training: bool = True
    ) -> Array:
        return images

    def transform_bounding_boxes(
        self, bounding_boxes: Any, transformation: Tree = None, training: bool = True
    ) -> Any:
        new = dict(bounding_boxes)
        for name in ("boxes", "labels"):
            first = jnp.asarray(new[name])[:, : self.max_number]
            ends = [(0, 0)] * first.ndim
            ends[1] = (0, self.max_number - first.shape[1])
            new[name] = jnp.pad(first, ends, constant_values=self.fill_value)
        return new
