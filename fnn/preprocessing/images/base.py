"""Base: what every layer of images shares: batches, dicts of data, randomness, value ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.layers.shared.dropping import seeded_key
from fnn.layers.shared.spatial import DATA_FORMATS
from fnn.preprocessing.images import boxes
from fnn.random import Seed, draw_key
from fnn.runtime.arithmetic import float_dtype

IMAGES, MASKS = "images", "segmentation masks"
Range = tuple[float, float]
# What a draw decided for a batch: any pytree, with an entry for each image at the front.
Transformation = Tree


def images_of(data: Tree) -> Array:
    """The images of a dict of data; images alone are returned as they are."""
    images: Array = data
    if isinstance(data, dict):
        images = data["images"]
    return images


def _check_data(layer: BaseImagePreprocessingLayer, data: Tree) -> None:
    """Raises ValueError unless the inputs are images, or a dict with images and their targets."""
    if isinstance(data, dict) and "images" not in data:
        raise arguments.wrong_inputs(
            layer,
            "to be images or a dict with 'images'",
            data,
            f"the keys are {list(data)}; add 'images'",
        )
    images = images_of(data)
    if len(getattr(images, "shape", ())) not in (3, 4):
        raise arguments.wrong_inputs(
            layer,
            "of 4 axes (batch, height, width, channels), or of 3 for one image",
            images,
            "reshape them, e.g. images[..., None] of gray images",
        )
    if isinstance(data, dict) and "bounding_boxes" in data:
        if layer.bounding_box_format is None:
            raise arguments.wrong(
                layer,
                "bounding_box_format",
                "to be given for inputs with 'bounding_boxes'",
                None,
                f"e.g. {type(layer).__name__}(..., bounding_box_format='xyxy')",
            )
        boxes.check(layer, data["bounding_boxes"])


class BaseImagePreprocessingLayer(Layer, loadable=False):
    """The base class of layers of images: one image, a batch, or a dict of images and targets.

    A dict has `"images"` and perhaps `"labels"`, `"bounding_boxes"` (a dict of `"boxes"` and
    `"labels"`) and `"segmentation_masks"`, which move along with the images; other entries pass.

    A subclass draws for the whole batch in `get_random_transformation` (any pytree, or None) and
    defines `transform_images`; those of `transform_labels`, `transform_bounding_boxes` and
    `transform_segmentation_masks` that it leaves out return their input. All of them get batches.
    In inference nothing is drawn and none of them is called: the images are `cast`, all else is
    returned. Layers with `draws = False` act always, as `training` says.
    Raises ValueError for other inputs, and for bounding boxes without `bounding_box_format`.

    >>> class Darker(BaseImagePreprocessingLayer):
    ...     def get_random_transformation(self, data, training=True, seed=None):
    ...         return jax.random.uniform(self.key(seed), (self.sizes(data)[0],))
    ...     def transform_images(self, images, transformation, training=True):
    ...         return self.cast(images) * per_image(transformation)
    >>> ctx = fnn.Context(train=True, key=jax.random.key(0))
    >>> images = jnp.ones((2, 4, 4, 3))
    >>> darker, _ = Darker().apply({}, {}, images, ctx)
    >>> bool((darker < images).all()), bool((darker[0] == darker[1]).any())
    (True, False)
    """

    training_alone = True
    automatic_axes = True
    # The layer draws random numbers in training, and does nothing in inference.
    draws: ClassVar[bool] = True
    # In training the layer moves what is in the images: `changed` does the same to images and
    # masks, `moved` to the corners of boxes.
    moves: ClassVar[bool] = False
    # The smallest and largest number of each field that is an interval of numbers.
    intervals: ClassVar[dict[str, Range]] = {}
    # The fields that are arguments by position, in Keras's order, if some of a base are.
    positional: ClassVar[tuple[str, ...]] = ()
    input_rules = (_check_data,)

    bounding_box_format: str | None = one_of(
        (None, *boxes.FORMATS), default=None, kw_only=True
    )
    data_format: str | None = one_of(DATA_FORMATS, default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.intervals:
            if getattr(self, name) is not None:
                self.interval(name)
        value_range = getattr(self, "value_range", None)
        if value_range is not None and not _is_pair(value_range):
            expected = "to be the smallest and largest value of a pixel"
            raise arguments.wrong(
                self, "value_range", expected, value_range, "e.g. (0, 255)"
            )

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        return list(dict.fromkeys((*cls.positional, *own)))

    def interval(self, name: str) -> Range:
        """The interval of a field: a number f is the interval from -f, or the bound, to f.

        Raises ValueError for what is no interval, or has no point between the bounds.
        """
        given: Any = getattr(self, name)
        low, high = self.intervals[name]
        if _is_pair(given) and given[0] <= high and given[1] >= low:
            return min(given), max(given)
        if isinstance(given, (int, float)) and low <= given <= high:
            return max(-abs(given), low), abs(given)
        expected = f"to be a number from {low} to {high}, or two such numbers"
        raise arguments.wrong(self, name, expected, given)

    def key(self, seed: Seed = None) -> Array:
        """The random key of one draw, by default that of the field `seed`."""
        if seed is None:
            seed = getattr(self, "seed", None)
        return draw_key(seed)

    def sizes(self, data: Tree) -> tuple[int, int, int]:
        """(images in the batch, height, width)"""
        shape = images_of(data).shape
        count = 1
        if len(shape) == 4:
            count = shape[0]
        return count, *self.height_width(shape)

    def height_width(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The height and width of images of this shape."""
        if self.data_format == "channels_first":
            return shape[-2], shape[-1]
        return shape[-3], shape[-2]

    def corners(self, bounding_boxes: Tree, height: int, width: int) -> dict[str, Tree]:
        """A dict of boxes in the format of the layer, as xyxy."""
        source = self.bounding_box_format or "xyxy"
        new: dict[str, Tree] = boxes.convert_format(
            bounding_boxes, source, "xyxy", height, width
        )
        return new

    def as_given(self, bounding_boxes: Tree, height: int, width: int) -> Tree:
        """A dict of boxes (xyxy) in the format of the layer."""
        target = self.bounding_box_format or "xyxy"
        return boxes.convert_format(bounding_boxes, "xyxy", target, height, width)

    def cast(self, images: Array) -> Array:
        """The images in the dtype that the layer computes in: its own, or one of floats."""
        return images.astype(self.dtype or float_dtype(images))

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        """What is drawn for a batch of data; None if nothing is."""
        return None

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        """The new images, in training; if the layer `moves`, masks too. `name` says which."""
        raise TypeError(
            f"expected {type(self).__name__} to define transform_images, received a class without "
            "it; return the new images from it"
        )

    def moved(self, corners: Array, transformation: Transformation) -> Array:
        """Boxes (xyxy) in the new images of a layer that `moves`.   (batch, boxes, 4) -> same"""
        raise NotImplementedError

    def moved_boxes(self, bounding_boxes: Tree, transformation: Transformation) -> Tree:
        """A dict of boxes and labels in the new images, in the format of the layer.

        Boxes are cut at the borders of the image; the label of a box outside of it becomes -1.
        """
        height, width = self.size_of(transformation)
        new = self.corners(bounding_boxes, height, width)
        new["boxes"] = self.moved(new["boxes"], transformation)
        new = boxes.clip_to_image_size(new, height, width)
        return self.as_given(new, height, width)

    def size_of(self, transformation: Transformation) -> tuple[int, int]:
        """The height and width of the images of which this was drawn."""
        return self.height_width(transformation["input_shape"])

    def transform_images(
        self, images: Array, transformation: Transformation, training: bool = True
    ) -> Array:
        """The new images."""
        images = self.cast(images)
        if not training:
            return images
        return self.changed(images, transformation, IMAGES)

    def transform_labels(
        self, labels: Tree, transformation: Transformation, training: bool = True
    ) -> Tree:
        """The labels of the new images."""
        return labels

    def transform_bounding_boxes(
        self,
        bounding_boxes: Tree,
        transformation: Transformation,
        training: bool = True,
    ) -> Tree:
        """The boxes of the new images, a dict of `"boxes"` and `"labels"`, in the same format."""
        if not (self.moves and training):
            return bounding_boxes
        return self.moved_boxes(bounding_boxes, transformation)

    def transform_segmentation_masks(
        self,
        segmentation_masks: Array,
        transformation: Transformation,
        training: bool = True,
    ) -> Array:
        """The masks of the new images."""
        if not (self.moves and training):
            return segmentation_masks
        return self.changed(segmentation_masks, transformation, MASKS)

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        """The new images, or the dict of new data; one image is a batch of one."""
        if images_of(x).ndim == 4:
            return self._batch_applied(x, ctx), state
        batch = jax.tree.map(lambda leaf: leaf[None], x)
        new = self._batch_applied(batch, ctx.replace(rows=None))
        return jax.tree.map(lambda leaf: leaf[0], new), state

    def _batch_applied(self, data: Tree, ctx: Context) -> Tree:
        if not self.draws:
            return self.transformed(data, ctx.train, rows=ctx.rows)
        if not ctx.train:
            return self.in_inference(data)
        return self.transformed(data, True, seeded_key(self, ctx), ctx.rows)

    def in_inference(self, data: Tree) -> Tree:
        """What a layer that draws returns in inference: the images cast, all else as it is."""
        if isinstance(data, dict):
            return {**data, "images": self.cast(data["images"])}
        return self.cast(data)

    def among(self, transformation: Transformation, rows: Array) -> Transformation:
        """What was drawn, for a batch of which only the images where `rows` is True are real."""
        return transformation

    def transformed(
        self,
        data: Tree,
        training: bool = True,
        seed: Seed = None,
        rows: Array | None = None,
    ) -> Tree:
        """A batch of images, or a dict of data, after one draw."""
        drawn = self.get_random_transformation(data, training=training, seed=seed)
        if rows is not None:
            drawn = self.among(drawn, rows)
        named = {"transformation": drawn, "training": training}
        if not isinstance(data, dict):
            return self.transform_images(data, **named)
        data = dict(data)
        transforms: dict[str, Callable[..., Tree]] = {
            "images": self.transform_images,
            "bounding_boxes": self.transform_bounding_boxes,
            "labels": self.transform_labels,
            "segmentation_masks": self.transform_segmentation_masks,
        }
        for name, transform in transforms.items():
            if name == "bounding_boxes" and name in data:
                data[name] = boxes.as_floats(data[name])
            if name in data:
                data[name] = transform(data[name], **named)
        return data


def _is_pair(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(item, (int, float)) for item in value)


def per_image(numbers: Array) -> Array:
    """One number for each image, to broadcast to the batch.   (batch,) -> (batch, 1, 1, 1)"""
    return numbers.reshape(-1, 1, 1, 1)


def drawn_from(interval: Range, key: Array, *shape: int) -> Array:
    """Random numbers from an interval."""
    low, high = interval
    return random.uniform(key, shape, minval=low, maxval=high)


def between(images: Array, source: Range, target: Range) -> Array:
    """Images of one value range in another: the ends of `source` become those of `target`."""
    low, high = sorted(source)
    new_low, new_high = sorted(target)
    if (low, high) == (new_low, new_high):
        return images
    images = images.astype(float_dtype(images))
    return (images - low) / (high - low) * (new_high - new_low) + new_low


def take_each(chosen: Array, new: Array, old: Array) -> Array:
    """The new image where `chosen (batch,)` is True, else the old one."""
    return jnp.where(per_image(chosen), new, old)
