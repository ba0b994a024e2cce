"""Effects: images that are gray, inverted, coarse, blurred, erased or bent, drawn for each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.fields import fraction, one_of, random_seed
from fnn.core.tree import Tree
from fnn.ops.images import rgb_to_grayscale
from fnn.ops.spatial import from_channels_last, is_last, to_channels_last
from fnn.ops.warping import sampled
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Range,
    between,
    drawn_from,
    images_of,
    per_image,
    take_each,
)
from fnn.preprocessing.images.contrast import BYTES
from fnn.random import Seed

Drawn = dict[str, Any]
Factor = float | Range
FILL_MODES = ("reflect", "constant", "nearest", "wrap", "mirror")


def chosen(layer: BaseImagePreprocessingLayer, data: Tree, key: Array) -> Array:
    """Which images a layer acts on, each with a probability from its interval `factor`."""
    count, _, _ = layer.sizes(data)
    first, second = random.split(key)
    probability = drawn_from(layer.interval("factor"), first, count)
    return random.uniform(second, (count,)) < probability


class RandomGrayscale(BaseImagePreprocessingLayer):
    """In training images in gray with probability `factor`.   same shape -> same shape

    The three channels of a gray image are equal. Images keep their dtype.
    Raises ValueError unless `factor` is between 0 and 1, and in training without a key.

    >>> RandomGrayscale(1.0)(jnp.asarray([[[[10.0, 20, 30]]]])).round(2).tolist()
    [[[[18.149999618530273, 18.149999618530273, 18.149999618530273]]]]
    """

    positional = ("factor", "data_format", "seed")

    factor: float = fraction(default=0.5)
    seed: int | None = random_seed(default=None, kw_only=True)

    def cast(self, images: Array) -> Array:
        return images

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Array:
        """Which images become gray.   (batch,)"""
        count, _, _ = self.sizes(data)
        return random.uniform(self.key(seed), (count,)) < self.factor

    def transform_images(
        self, images: Array, transformation: Array, training: bool = True
    ) -> Array:
        gray = rgb_to_grayscale(images, self.data_format)
        return take_each(transformation, gray, images)


class RandomInvert(BaseImagePreprocessingLayer):
    """In training images inverted: the largest value less each value.   same shape -> same shape

    `factor` is the probability, or an interval from which it is drawn for each image; a number f
    is the interval from 0 to f, as everywhere in Keras. Integers become float32.
    Raises ValueError for wrong arguments, and in training without a key.

    >>> RandomInvert((1.0, 1.0))(jnp.asarray([[[[0.0], [55.0]]]])).ravel().tolist()
    [255.0, 200.0]
    """

    intervals = {"factor": (0, 1)}
    positional = ("factor", "value_range", "seed", "data_format")

    factor: Factor = 1.0
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        return {"apply_inversion": chosen(self, data, self.key(seed))}

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        inverted = self.value_range[1] - images
        return take_each(transformation["apply_inversion"], inverted, images)


class RandomPosterization(BaseImagePreprocessingLayer):
    """In training images with fewer bits a channel.   same shape -> same shape

    `factor` is the largest number of bits, drawn for each image from 1 to below it, or an interval
    (lowest, highest); equal ends are that number of bits. Integers become float32.
    Raises ValueError unless `factor` is between 1 and 8, and in training without a key.

    >>> RandomPosterization((1, 1))(jnp.asarray([[[[100.0], [200.0]]]])).ravel().tolist()
    [0.0, 128.0]
    """

    intervals = {"factor": (1, 8)}
    positional = ("factor", "value_range", "data_format", "seed")

    factor: Factor
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None, kw_only=True)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        count, _, _ = self.sizes(data)
        low, high = map(int, self.interval("factor"))
        bits = jnp.full((count,), low)
        if low != high:
            bits = random.randint(self.key(seed), (count,), low, high)
        return {"shift_factor": (8 - bits).astype("uint8")}

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        shift = per_image(transformation["shift_factor"])
        values = between(images, self.value_range, BYTES)
        values = jnp.clip(values, *BYTES).astype("uint8")
        coarse = jnp.left_shift(jnp.right_shift(values, shift), shift)
        return between(coarse.astype(images.dtype), BYTES, self.value_range)


class RandomErasing(BaseImagePreprocessingLayer):
    """In training a rectangle of each image filled.   same shape -> same shape

    `factor` is the probability, or an interval of it; `scale` the interval of the fraction
    of the area: the sides are those of the image times square roots of two numbers from it.
    `fill_value` is a number, one for each of three channels, or None for noise. Integers become
    float32 (Zhong et al. 2020).
    Raises ValueError for wrong arguments, and in training without a key.

    >>> erase = RandomErasing((1.0, 1.0), scale=(0.25, 0.25), fill_value=0)
    >>> int((erase(jnp.ones((1, 8, 8, 1))) == 0).sum())
    16
    """

    intervals = {"factor": (0, 1), "scale": (0, 1)}
    positional = (
        *("factor", "scale", "fill_value", "value_range", "seed"),
        "data_format",
    )

    factor: Factor = 1.0
    scale: Factor = (0.02, 0.33)
    fill_value: float | tuple[float, float, float] | None = None
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        count, height, width = self.sizes(data)
        first, second, third, fourth = random.split(self.key(seed), 4)
        areas = drawn_from(self.interval("scale"), first, count, 2)
        sides = jnp.sqrt(areas)
        places = random.uniform(second, (count, 2))
        columns = _strips(width, sides[:, 0], places[:, 0])
        rows = _strips(height, sides[:, 1], places[:, 1])
        masks = rows[:, :, None] & columns[:, None, :]  # (batch, height, width)
        channel = 1
        if is_last(self.data_format):
            channel = -1
        return {
            "apply_erasing": chosen(self, data, third),
            "batch_masks": jnp.expand_dims(masks, channel),
            "fill_value": self._filling(data, fourth),
        }

    def _filling(self, data: Tree, key: Array) -> Array:
        """The new values, to broadcast to the images."""
        if self.fill_value is None:
            noise = random.normal(key, images_of(data).shape)
            filling = noise * self.value_range[1]
        else:
            filling = jnp.asarray(self.fill_value, "float32").reshape(1, 1, 1, -1)
            filling = from_channels_last(filling, self.data_format)
        return jnp.clip(filling, *self.value_range)

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        filling = transformation["fill_value"].astype(images.dtype)
        erased = jnp.where(transformation["batch_masks"], filling, images)
        return take_each(transformation["apply_erasing"], erased, images)


def _strips(length: int, side: Array, place: Array) -> Array:
    """True from a start on, for a fraction `side` of an axis.   (batch,) -> (batch, length)"""
    wide = side * length
    start = place * (length - wide)
    end = start + wide
    positions = jnp.arange(length, dtype=side.dtype)[None]
    return (positions >= start[:, None]) & (positions < end[:, None])


class RandomGaussianBlur(BaseImagePreprocessingLayer):
    """In training blurred images.   same shape -> same shape

    `factor` is the probability, or an interval of it; `kernel_size` the odd number of pixels that
    a new one is made of, or (width, height); `sigma` the interval from which the deviations along
    both axes are drawn for each image. Values are cut to `value_range`. Integers become float32.
    Raises ValueError for wrong arguments, and in training without a key.

    >>> image = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(9.0)
    >>> new = RandomGaussianBlur((1.0, 1.0), 3, (1.0, 1.0))(image)[0, 1, :, 0]
    >>> [round(value, 1) for value in new.tolist()]
    [1.1, 1.8, 1.1]
    """

    intervals = {"factor": (0, 1), "sigma": (0, 1)}
    positional = (
        *("factor", "kernel_size", "sigma", "value_range", "data_format"),
        "seed",
    )

    factor: Factor = 1.0
    kernel_size: int | tuple[int, int] = 3
    sigma: Factor = 1.0
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None, kw_only=True)

    def validate(self) -> None:
        arguments.integers(self, "kernel_size", 2)
        if any(size % 2 == 0 for size in self._sizes):
            expected = "to be odd, so that a pixel is in the middle"
            raise arguments.wrong(self, "kernel_size", expected, self.kernel_size)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """(width, height)"""
        return arguments.integers(self, "kernel_size", 2)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        count, _, _ = self.sizes(data)
        first, second = random.split(self.key(seed))
        sigma = drawn_from(self.interval("sigma"), second, count, 2)
        return {
            "should_apply_blur": chosen(self, data, first),
            "blur_factor": sigma + 1e-6,
        }

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        sigma = transformation["blur_factor"].reshape(-1, 2)
        blurred = to_channels_last(images, self.data_format)
        for axis, size, deviation in zip((2, 1), self._sizes, sigma.T, strict=True):
            blurred = _blurred(blurred, axis, size, deviation)
        blurred = from_channels_last(blurred, self.data_format)
        new = take_each(transformation["should_apply_blur"], blurred, images)
        return jnp.clip(new, *self.value_range)


def _blurred(images: Array, axis: int, size: int, sigma: Array) -> Array:
    """Means of `size` neighbours along an axis, with weights of a Gaussian of each image."""
    half = size // 2
    distances = jnp.arange(-half, half + 1, dtype="float32")
    weights = jnp.exp(-0.5 * (distances[None] / sigma[:, None]) ** 2)
    weights = weights / weights.sum(-1, keepdims=True)
    weights = weights.astype(images.dtype)
    ends = [(0, 0)] * 4
    ends[axis] = (half, half)
    padded = jnp.pad(images, ends)
    blurred = jnp.zeros_like(images)
    for offset in range(size):
        places = [slice(None)] * 4
        places[axis] = slice(offset, offset + images.shape[axis])
        blurred += padded[tuple(places)] * per_image(weights[:, offset])
    return blurred


class RandomElasticTransform(BaseImagePreprocessingLayer):
    """In training images bent by smooth random shifts.   same shape -> same shape

    `factor` is the probability, or an interval of it; `scale` the interval of the strength, drawn
    for each image. Segmentation masks are bent in the same way; bounding boxes cannot be. Values
    are cut to `value_range`. Integers become float32 (Simard et al. 2003).
    Raises ValueError for wrong arguments, for bounding boxes, and in training without a key.

    >>> bent = RandomElasticTransform((1.0, 1.0), seed=1)(jnp.eye(8)[None, :, :, None] * 255)
    >>> bent.shape, bool((bent[0, :, :, 0] == jnp.eye(8) * 255).all())
    ((1, 8, 8, 1), False)
    """

    intervals = {"factor": (0, 1), "scale": (0, 1)}
    positional = (
        *("factor", "scale", "interpolation", "fill_mode", "fill_value"),
        *("value_range", "seed", "data_format"),
    )

    factor: Factor = 1.0
    scale: Factor = 1.0
    interpolation: str = one_of(("nearest", "bilinear"), default="bilinear")
    fill_mode: str = one_of(FILL_MODES, default="reflect")
    fill_value: float = 0.0
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        count, _, _ = self.sizes(data)
        first, second, third = random.split(self.key(seed), 3)
        return {
            "apply_transform": chosen(self, data, first),
            "distortion_factor": drawn_from(self.interval("scale"), second, count),
            "seed": third,
        }

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        bent = self._bent(images, transformation, self.interpolation)
        return jnp.clip(bent, *self.value_range)

    def transform_segmentation_masks(
        self, segmentation_masks: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        return self._bent(segmentation_masks, transformation, "nearest")

    def transform_bounding_boxes(
        self, bounding_boxes: Tree, transformation: Drawn, training: bool = True
    ) -> Tree:
        raise ValueError(
            "RandomElasticTransform: expected data without 'bounding_boxes', which it cannot bend, "
            "received some; use segmentation masks, or RandomRotation and RandomShear"
        )

    def _bent(self, images: Array, drawn: Drawn, interpolation: str) -> Array:
        batch = to_channels_last(images, self.data_format)
        count, height, width, _ = batch.shape
        strength = jnp.broadcast_to(drawn["distortion_factor"], (count,))
        alpha = max(height, width) * 0.1 * strength
        sigma = min(height, width) * 0.05 * strength
        # Keras draws the shifts along both axes from one key: they are equal.
        noise = random.normal(self.key(drawn["seed"]), (count, height, width))
        noise = noise * sigma[:, None, None]
        noise = smoothing(height, sigma) @ noise @ smoothing(width, sigma)
        shift = noise * alpha[:, None, None]
        y, x = jnp.indices((height, width), dtype="float32")[:, None]
        order = ("nearest", "bilinear").index(interpolation)
        new = sampled(
            batch, y + shift, x + shift, order, self.fill_mode, self.fill_value
        )
        new = from_channels_last(new.astype(images.dtype), self.data_format)
        return take_each(drawn["apply_transform"], new, images)


def smoothing(length: int, sigma: Array) -> Array:
    """The matrix of a Gaussian filter along an axis of zeros beyond its ends.

    It is cut at about three deviations, which the axis must have.   (batch,) -> (batch, n, n)
    """
    distance = jnp.arange(1 - length, length, dtype=sigma.dtype)[None]
    wide = sigma[:, None]
    divisor = jnp.where(wide > 0, wide, 1)
    weights = jnp.exp(-0.5 * (distance / divisor) ** 2)
    half = ((6 * wide).astype("int32") | 1) // 2
    weights = jnp.where(jnp.abs(distance) <= half, weights, 0)
    weights = weights / weights.sum(-1, keepdims=True)
    places = jnp.arange(length)
    offsets = places[None, :] - places[:, None]
    return weights[:, offsets + length - 1]
