"""Colors: layers that change brightness, contrast, saturation and hue of images."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, random

from fnn.core.fields import random_seed
from fnn.core.tree import Tree
from fnn.ops.images import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv
from fnn.preprocessing.augmentation.geometric import Factor
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Range,
    Transformation,
    between,
    drawn_from,
    per_image,
)
from fnn.random import Seed

EPSILON = 1e-7


class Recoloring(BaseImagePreprocessingLayer, loadable=False):
    """The base class of layers that change the colors of images, by a number for each image.

    Labels, masks and boxes stay. The new values are cut to `value_range`.
    """

    intervals = {"factor": (-1.0, 1.0)}
    positional: ClassVar[tuple[str, ...]] = (
        "factor",
        "value_range",
        "data_format",
        "seed",
    )

    factor: Factor
    value_range: Range = (0, 255)
    seed: int | None = random_seed(default=None, kw_only=True)

    def draw(self, data: Tree, seed: Seed) -> Array:
        """A number for each image from the interval `factor`."""
        count, _, _ = self.sizes(data)
        return drawn_from(self.interval("factor"), self.key(seed), count)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        return {"factor": self.draw(data, seed)}

    def recolored(self, images: Array, transformation: Any) -> Array:
        """The new images, whose values may be outside of the range."""
        raise NotImplementedError

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        return self.clipped(self.recolored(values, transformation))

    def clipped(self, values: Array) -> Array:
        """The values inside of `value_range`."""
        return jnp.clip(values, *sorted(self.value_range))

    @property
    def channels(self) -> int:
        """The axis of the channels."""
        if self.data_format == "channels_first":
            return -3
        return -1


class RandomBrightness(Recoloring):
    """In training each image brighter or darker by its own number.   same shape -> same

    The number is drawn from -`factor` to `factor`, or from a pair, as a fraction of `value_range`.
    Images of integers become floats. Raises ValueError for a factor outside of -1 to 1.

    >>> RandomBrightness((0.5, 0.5), value_range=(0, 1))(jnp.array([[[[0.2, 0.7]]]])).tolist()
    [[[[0.699999988079071, 1.0]]]]
    """

    positional = ("factor", "value_range", "seed")

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        low, high = sorted(self.value_range)
        delta = self.draw(data, seed) * (high - low)
        return {"rgb_delta": per_image(delta)}

    def recolored(self, images: Array, transformation: Any) -> Array:
        delta: Array = transformation["rgb_delta"]
        return images + delta.astype(images.dtype)


class RandomContrast(Recoloring):
    """In training each image with the differences from its mean changed.   same shape -> same

    (x - mean) * c + mean for each channel, with c from 1 to 1 + `factor`, or for a pair (a, b)
    from 1 - a to 1 + b.
    Raises ValueError for a factor outside of 0 to 1.

    >>> images = jnp.array([[[[10.0], [30.0]]]])
    >>> high = RandomContrast((0.5, 0.5), seed=1)(images).ravel()
    >>> bool(high[1] - high[0] <= 30), high.mean().item()
    (True, 20.0)
    """

    intervals = {"factor": (0.0, 1.0)}
    positional = ("factor", "value_range", "seed")

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, _, _ = self.sizes(data)
        down, up = self.interval("factor")
        factor = drawn_from((1.0 - down, 1.0 + up), self.key(seed), count)
        return {"contrast_factor": per_image(factor)}

    def recolored(self, images: Array, transformation: Any) -> Array:
        axes = (1, 2)
        if self.data_format == "channels_first":
            axes = (2, 3)
        mean = jnp.mean(images, axis=axes, keepdims=True)
        factor: Array = transformation["contrast_factor"]
        return (images - mean) * factor.astype(images.dtype) + mean


class RandomSaturation(Recoloring):
    """In training each image with colors stronger or paler by its own factor.   same -> same

    With f from -`factor` to `factor`, or from a pair, the saturation is multiplied by f / (1 - f):
    0.5 changes nothing, 0 or less leaves gray, and 1 gives the strongest colors.
    Images have three channels. Raises ValueError for a factor outside of -1 to 1.

    >>> RandomSaturation((0.0, 0.0))(jnp.array([[[[9.0, 3.0, 6.0]]]])).tolist()
    [[[[9.0, 9.0, 9.0]]]]
    """

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        factor = self.draw(data, seed)
        return {"factor": factor / (1 - factor + EPSILON)}

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        hue, saturation, value = _of_hsv(values, self)
        factor = transformation["factor"].reshape(-1, 1, 1)
        saturation = self.clipped(saturation * factor.astype(values.dtype))
        return _from_hsv((hue, saturation, value), self)


class RandomHue(Recoloring):
    """In training each image with its colors turned around the circle of hues.   same -> same

    A number from 0 to `factor`, or from a pair, times a drawn sign: 1 is half of the circle.
    Images have three channels, with values in `value_range`.
    Raises ValueError for a factor outside of 0 to 1.

    >>> red = jnp.array([[[[255.0, 0.0, 0.0]]]])
    >>> RandomHue((1.0, 1.0))(red).round().tolist()  # to the other side
    [[[[0.0, 255.0, 255.0]]]]
    """

    intervals = {"factor": (0.0, 1.0)}

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        of_sign, of_factor = random.split(self.key(seed))
        factor = self.draw(data, of_factor)
        sign = random.rademacher(of_sign, factor.shape, factor.dtype)
        return {"factor": sign * factor * 0.5}

    def recolored(self, images: Array, transformation: Any) -> Array:
        values = between(images, self.value_range, (0, 1))
        hue, saturation, value = _of_hsv(values, self)
        shift = transformation["factor"].reshape(-1, 1, 1)
        hue = hue + shift.astype(images.dtype)
        hue = jnp.where(hue > 1, hue - 1, hue)
        hue = jnp.where(hue < 0, hue + 1, hue)
        new = jnp.clip(_from_hsv((hue, saturation, value), self), 0, 1)
        new = between(new, (0, 1), self.value_range)
        return new.astype(images.dtype)


class RandomColorDegeneration(Recoloring):
    """In training each image mixed with its gray version, by its own factor.   same -> same

    x + f * (gray - x) with f from -`factor` to `factor`, or from a pair: 1 is gray, and a negative
    number makes colors stronger. Raises ValueError for a factor outside of -1 to 1.

    >>> gray = RandomColorDegeneration((1.0, 1.0))(jnp.array([[[[90.0, 30.0, 60.0]]]]))
    >>> bool(jnp.ptp(gray) < 1e-4)
    True
    """

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        return {"factor": per_image(self.draw(data, seed))}

    def recolored(self, images: Array, transformation: Any) -> Array:
        gray = rgb_to_grayscale(images, self.data_format)
        factor: Array = transformation["factor"]
        return images + factor.astype(images.dtype) * (gray - images)


class RandomSharpness(Recoloring):
    """In training each image sharper or softer by its own factor.   same shape -> same

    With f from 0 to `factor`, or from a pair: 0 is a mean of each pixel and those around it, 0.5
    the image itself, and above the details are stronger. Outside of the image are zeros.
    Raises ValueError for a factor outside of 0 to 1.

    >>> images = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1].set(13.0)
    >>> RandomSharpness((0.0, 0.0))(images)[0, :, :, 0].round().tolist()
    [[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]
    """

    intervals = {"factor": (0.0, 1.0)}

    def recolored(self, images: Array, transformation: Any) -> Array:
        axis = 1
        if self.data_format == "channels_first":
            axis = 2
        around = _sum_of_three(_sum_of_three(images, axis), axis + 1)
        smooth = around / 13 + images * (4 / 13)
        factor = per_image(transformation["factor"] * 2).astype(images.dtype)
        return images + (1 - factor) * (smooth - images)


def _sum_of_three(images: Array, axis: int) -> Array:
    """Each element plus those before and after it along an axis; zeros are outside."""
    pads = [(0, 0)] * images.ndim
    pads[axis] = (1, 1)
    padded = jnp.moveaxis(jnp.pad(images, pads), axis, 0)
    sums = padded[:-2] + padded[1:-1] + padded[2:]
    return jnp.moveaxis(sums, 0, axis)


def _of_hsv(images: Array, layer: Recoloring) -> tuple[Array, Array, Array]:
    """Hue, saturation and value of images.   (batch, height, width) each"""
    hsv = rgb_to_hsv(images, layer.data_format)
    hue, saturation, value = jnp.moveaxis(hsv, layer.channels, 0)
    return hue, saturation, value


def _from_hsv(parts: tuple[Array, Array, Array], layer: Recoloring) -> Array:
    hsv = jnp.stack(parts, axis=layer.channels)
    return hsv_to_rgb(hsv, layer.data_format)
