"""Contrast: images whose values are spread over their range, and inverted above a threshold."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.fields import positive, random_seed
from fnn.core.tree import Tree
from fnn.ops.spatial import from_channels_last, is_last, to_channels_last
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Range,
    between,
    drawn_from,
    per_image,
)
from fnn.random import Seed
from fnn.runtime.arithmetic import float_dtype

BYTES = (0, 255)


class AutoContrast(BaseImagePreprocessingLayer):
    """Each channel of each image stretched to the whole `value_range`.   same shape -> same shape

    A channel of one value stays as it is. It acts in inference too. Integers become float32.
    Raises ValueError unless `value_range` is two numbers.

    >>> AutoContrast().apply({}, {}, jnp.asarray([50.0, 75, 100]).reshape(1, 3, 1, 1))[0].ravel()
    Array([  0. , 127.5, 255. ], dtype=float32)
    """

    draws = False

    value_range: Range = BYTES

    def transform_images(
        self, images: Array, transformation: Tree = None, training: bool = True
    ) -> Array:
        images = self.cast(images)
        values = between(images, self.value_range, BYTES)
        axes = (1, 2)
        if not is_last(self.data_format):
            axes = (2, 3)
        low = values.min(axes, keepdims=True)
        high = values.max(axes, keepdims=True)
        flat = high == low
        scale = 255.0 / jnp.where(flat, 1, high - low)
        spread = jnp.clip(values * scale - low * scale, 0.0, 255.0)
        return jnp.where(flat, images, between(spread, BYTES, self.value_range))


class Equalization(BaseImagePreprocessingLayer):
    """Values spread so that all are about equally frequent.   same shape -> same shape

    As in Keras, each channel has one histogram for the whole batch, of `bins` bins, and in
    inference images stay as they are. Integers become float32.
    Raises ValueError unless `value_range` is two numbers and `bins` a positive integer.

    >>> x = jnp.asarray([0.0, 0, 0, 9]).reshape(1, 2, 2, 1)
    >>> Equalization()(x, training=True).ravel().tolist()
    [0.0, 0.0, 0.0, 255.0]
    """

    draws = False
    positional = ("value_range", "bins", "data_format")

    value_range: Range = BYTES
    bins: int = positive(default=256)

    def among(self, transformation: Tree, rows: Array) -> Array:
        """Which examples of the batch count: those that pad it do not."""
        return rows

    def transform_images(
        self, images: Array, transformation: Array | None = None, training: bool = True
    ) -> Array:
        images = self.cast(images)
        if not training:
            return images
        counted = jnp.ones(len(images), bool)
        if transformation is not None:
            counted = transformation.astype(bool)
        values = between(images, self.value_range, BYTES)
        channels = to_channels_last(values, self.data_format)
        new = jax.vmap(self._equalized, (-1, None), -1)(channels, counted)
        new = from_channels_last(new, self.data_format)
        return between(new, BYTES, self.value_range).astype(images.dtype)

    def _equalized(self, values: Array, counted: Array) -> Array:
        """One channel of a batch, of values from 0 to 255.   (batch, height, width) -> same"""
        last = self.bins - 1
        bins = _divided(values.astype("float32") * last, 255).astype("int32")
        ones = jnp.broadcast_to(counted[:, None, None], bins.shape).astype("int32")
        counts = jnp.zeros(self.bins, "int32")
        counts = counts.at[jnp.clip(bins, 0, last)].add(ones)
        below = jnp.cumsum(counts)
        least = below[jnp.argmax(below > 0)]
        # Floats, since 255 times the number of pixels may not fit an integer.
        pixels = jnp.maximum(below[-1] - least, 1)
        spread = (below - least).astype("float32") * 255
        table = jnp.round(_divided(spread, pixels))
        places = _divided(values, 255) * last
        places = jnp.clip(places, 0, last).astype("int32")
        new = jnp.clip(table, 0, 255)[places].astype(values.dtype)
        return jnp.where((counts > 0).sum() <= 1, values, new)


class ContrastLimitedAdaptiveHistogramEqualization(BaseImagePreprocessingLayer):
    """Equalization by tiles, with a limit for the contrast.   same shape -> same shape

    The image is divided into `tile_grid_size` (rows, columns) tiles, each channel of which has its
    own histogram; what exceeds `clip_limit` times the mean count of a bin is spread over all bins
    (no limit at 0). Between the centers of tiles their results are interpolated. Images keep
    their dtype, and it acts in inference too (Zuiderveld 1994).
    Raises ValueError unless `value_range` and `tile_grid_size` are two numbers.

    >>> layer = ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(1, 1), clip_limit=0)
    >>> layer(jnp.asarray([10.0, 20, 30, 40]).reshape(1, 2, 2, 1)).ravel()
    Array([ 63.75, 127.5 , 191.25, 255.  ], dtype=float32)
    """

    draws = False
    positional = ("value_range", "clip_limit", "tile_grid_size", "data_format")

    value_range: Range = BYTES
    clip_limit: float = 4.0
    tile_grid_size: tuple[int, int] = positive(default=(8, 8))

    def transform_images(
        self, images: Array, transformation: Tree = None, training: bool = True
    ) -> Array:
        values = between(images.astype("float32"), self.value_range, BYTES)
        batch = jnp.moveaxis(to_channels_last(values, self.data_format), -1, 1)
        new = jax.vmap(jax.vmap(self._equalized))(batch)  # each channel by itself
        new = from_channels_last(jnp.moveaxis(new, 1, -1), self.data_format)
        return between(new, BYTES, self.value_range).astype(images.dtype)

    def _equalized(self, values: Array) -> Array:
        """One channel of one image, of values from 0 to 255.   (height, width) -> same"""
        height, width = values.shape
        rows, columns = self.tile_grid_size
        tall, wide = -(-height // rows), -(-width // columns)
        below, right = tall * rows - height, wide * columns - width
        if below > height or right > width:
            expected = (
                f"at most twice the height and width of the images, {height, width}"
            )
            raise arguments.wrong(self, "tile_grid_size", expected, self.tile_grid_size)
        pixels = jnp.pad(values, [(0, below), (0, right)], mode="symmetric")
        pixels = jnp.clip(pixels, 0, 255).astype("int32")
        tiles = pixels.reshape(rows, tall, columns, wide).swapaxes(1, 2)
        tables = jax.vmap(jax.vmap(self._table))(tiles)  # (rows, columns, 256)
        # Beyond the centers of the outer tiles their own table holds.
        tables = jnp.pad(tables, [(1, 1), (1, 1), (0, 0)], mode="edge")
        y, up = _tiles_around(rows, tall)
        x, left = _tiles_around(columns, wide)

        def looked_up(row: Array, column: Array) -> Array:
            return tables[row[:, None], column[None, :], pixels]

        left, up = left[None, :], up[:, None]
        top = looked_up(y, x) * (1 - left) + looked_up(y, x + 1) * left
        bottom = looked_up(y + 1, x) * (1 - left) + looked_up(y + 1, x + 1) * left
        return (top * (1 - up) + bottom * up)[:height, :width]

    def _table(self, tile: Array) -> Array:
        """The new value of each value in a tile of integers.   -> (256,)"""
        counts = jnp.zeros(256, "float32").at[tile.ravel()].add(1)
        if self.clip_limit > 0:
            limited = jnp.clip(counts, 0, self.clip_limit * tile.size / 256)
            counts = limited + (counts - limited).sum() / 256
        below = jnp.cumsum(counts)
        least = below.min()
        others = tile.size - least
        others = jnp.where(others == 0, 1, others)
        return jnp.clip((below - least) * 255 / others, 0, 255)


def _divided(values: Array, by: Tree) -> Array:
    """`values / by`, exactly, to be rounded: XLA would reorder it, and land next to an integer."""
    apart: Callable[..., tuple[Array, Array]] = lax.optimization_barrier
    above, below = apart((values, jnp.asarray(by, values.dtype)))
    return above / below


def _tiles_around(count: int, size: int) -> tuple[Array, Array]:
    """For each pixel along an axis: the tile whose center is before it, and how far it is on.

    Tiles are numbered from 1; 0 and count + 1 are beyond the borders.
    """
    pixels = jnp.arange(count * size, dtype="float32")
    place = (pixels - size / 2) / size + 1
    first = jnp.floor(place)
    return first.astype("int32"), place - first


class Solarization(BaseImagePreprocessingLayer):
    """Values inverted that are at least a threshold, after an addition.   same shape -> same shape

    In training each image gets one addition and one threshold, drawn from `addition_factor` and
    `threshold_factor`: fractions of the value range, or intervals of such. With the defaults
    every image is inverted. In inference images stay as they are. Integers become float32.
    Raises ValueError for wrong arguments, and in training without a key.

    >>> x = jnp.asarray([[0.0, 200]]).reshape(1, 1, 2, 1)
    >>> Solarization(seed=0)(x, training=True).ravel().tolist()
    [255.0, 55.0]
    """

    intervals = {"addition_factor": (0, 1), "threshold_factor": (0, 1)}

    addition_factor: float | Range = 0.0
    threshold_factor: float | Range = 0.0
    value_range: Range = BYTES
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> dict[str, Array]:
        keys = jax.random.split(self.key(seed))
        count = self.sizes(data)[0]
        drawn = {}
        names = ("addition_factor", "threshold_factor")
        for key, name in zip(keys, names, strict=True):
            low, high = self.interval(name)
            numbers = drawn_from((low, high * 255), key, count)
            drawn[name.replace("_factor", "s")] = per_image(numbers)
        return drawn

    def transform_images(
        self, images: Array, transformation: dict[str, Array], training: bool = True
    ) -> Array:
        images = self.cast(images)
        values = between(images, self.value_range, BYTES)
        additions = transformation["additions"].astype(images.dtype)
        values = jnp.clip(values + additions, 0, 255)
        thresholds = transformation["thresholds"].astype(images.dtype)
        new = jnp.where(values < thresholds, values, 255 - values)
        return between(new, BYTES, self.value_range).astype(float_dtype(images))
