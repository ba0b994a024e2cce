"""Affine: layers that turn, move, zoom and shear images."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, random

from fnn.core import arguments
from fnn.core.fields import one_of
from fnn.core.tree import Tree
from fnn.ops import warping
from fnn.preprocessing.augmentation.geometric import Factor, Geometric
from fnn.preprocessing.images.base import Transformation, drawn_from, images_of
from fnn.random import Seed

_FILL_MODES = ("reflect", "wrap", "constant", "nearest")


def _matrix(*numbers: Array | float) -> Array:
    """Six numbers of each image, and two zeros.   (batch,) each -> (batch, 8)"""
    columns = jnp.broadcast_arrays(*numbers, 0.0, 0.0)
    return jnp.stack(columns, axis=-1)


class Affine(Geometric, loadable=False):
    """The base class of layers that turn, move, zoom or shear: no c0 and c1 in the matrix."""

    fill_mode: str = one_of(_FILL_MODES, default="reflect", kw_only=True)

    def looked_up(
        self, images: Array, transformation: Transformation, interpolation: str
    ) -> Array:
        return warping.affine_transform(
            images,
            self.matrix(transformation),
            interpolation,
            self.fill_mode,
            self.fill_value,
            self.data_format,
        )


class RandomRotation(Affine):
    """In training each image turned about its centre by its own angle.   same shape -> same

    The angle is drawn from `factor` as a fraction of a full turn: 0.1 is -36 to 36 degrees, a pair
    the ends of the interval. What comes from outside the image is filled by `fill_mode`:
    "reflect" (d c b a | a b c d), "constant" (`fill_value`), "wrap" or "nearest".
    Masks and boxes turn along; a box becomes the smallest one around its turned corners.
    Raises ValueError for a factor outside of -1 to 1.

    >>> images = jnp.eye(3)[None, :, :, None]
    >>> RandomRotation((0.25, 0.25))(images)[0, :, :, 0].round().tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """

    intervals = {"factor": (-1.0, 1.0)}
    positional = (
        "factor",
        "fill_mode",
        "interpolation",
        "seed",
        "fill_value",
        "data_format",
    )

    factor: Factor

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, height, width = self.sizes(data)
        low, high = self.interval("factor")
        angle = drawn_from((low * 360.0, high * 360.0), self.key(seed), count)
        radians = angle * (math.pi / 180)
        cos, sin = jnp.cos(radians), jnp.sin(radians)
        x, y = 0.5 * (width - 1), 0.5 * (height - 1)  # the centre stays
        move_x = x - x * cos + y * sin
        move_y = y - x * sin - y * cos
        matrix = _matrix(cos, -sin, move_x, sin, cos, move_y)
        return {
            "angle": angle,
            "rotation_matrix": matrix,
            "batch_size": count,
            "image_height": height,
            "image_width": width,
        }

    def matrix(self, transformation: Transformation) -> Array:
        matrix: Array = transformation["rotation_matrix"]
        return matrix

    def size_of(self, transformation: Transformation) -> tuple[int, int]:
        return transformation["image_height"], transformation["image_width"]


class RandomTranslation(Affine):
    """In training each image moved by its own distance.   same shape -> same

    The distances are drawn from `height_factor` (down) and `width_factor` (to the right), as
    fractions of the height and the width: 0.2 is -0.2 to 0.2, a pair the ends of the interval.
    `fill_mode` as in `RandomRotation`. Masks and boxes move along.
    Raises ValueError for factors outside of -1 to 1.

    >>> images = jnp.arange(4.0).reshape(1, 1, 4, 1)
    >>> RandomTranslation(0.0, (0.25, 0.25), "constant")(images).ravel().tolist()
    [0.0, 0.0, 1.0, 2.0]
    """

    positional = (
        "height_factor",
        "width_factor",
        "fill_mode",
        "interpolation",
        "seed",
        "fill_value",
        "data_format",
    )

    height_factor: Factor
    width_factor: Factor

    def validate(self) -> None:
        self.both_ways("height_factor")
        self.both_ways("width_factor")

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, height, width = self.sizes(data)
        of_height, of_width = random.split(self.key(seed))
        down = drawn_from(self.both_ways("height_factor"), of_height, count) * height
        right = drawn_from(self.both_ways("width_factor"), of_width, count) * width
        translations = jnp.stack([right, down], axis=-1)  # (batch, 2)
        return {"translations": translations, "input_shape": images_of(data).shape}

    def matrix(self, transformation: Transformation) -> Array:
        right, down = transformation["translations"].T
        return _matrix(1.0, 0.0, -right, 0.0, 1.0, -down)


class RandomZoom(Affine):
    """In training each image zoomed about its centre by its own factor.   same shape -> same

    `height_factor` 0.2 draws from -0.2 to 0.2, a pair gives the ends: -0.2 shows 80 % of the
    height, so that it zooms in, and 0.2 zooms out. `width_factor` is for the width; if it is None,
    the width is zoomed as the height. `fill_mode` as in `RandomRotation`. Masks and boxes move
    along.
    Raises ValueError for factors outside of -1 to 1, and for -1.

    >>> images = jnp.arange(4.0).reshape(1, 1, 4, 1)
    >>> RandomZoom(0.0, (-0.5, -0.5))(images).ravel().tolist()
    [0.75, 1.25, 1.75, 2.25]
    """

    positional = (
        "height_factor",
        "width_factor",
        "fill_mode",
        "interpolation",
        "seed",
        "fill_value",
        "data_format",
    )

    height_factor: Factor
    width_factor: Factor | None = None

    def validate(self) -> None:
        for name in ("height_factor", "width_factor"):
            given = getattr(self, name)
            if given is None:
                continue
            self.both_ways(name)
            if given == -1 or (isinstance(given, tuple) and -1 in given):
                expected = "to be above -1, at which nothing of the image would be left"
                raise arguments.wrong(self, name, expected, given)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, _, _ = self.sizes(data)
        of_height, of_width = random.split(self.key(seed))
        height_zoom = 1 + drawn_from(self.both_ways("height_factor"), of_height, count)
        width_zoom = height_zoom
        if self.width_factor is not None:
            width_zoom = 1 + drawn_from(self.both_ways("width_factor"), of_width, count)
        return {
            "height_zoom": height_zoom[:, None],
            "width_zoom": width_zoom[:, None],
            "input_shape": images_of(data).shape,
        }

    def matrix(self, transformation: Transformation) -> Array:
        height, width = self.size_of(transformation)
        zoom_x = transformation["width_zoom"][:, 0]
        zoom_y = transformation["height_zoom"][:, 0]
        left = (width - 1) / 2 * (1 - zoom_x)
        top = (height - 1) / 2 * (1 - zoom_y)
        return _matrix(zoom_x, 0.0, left, 0.0, zoom_y, top)


class RandomShear(Affine):
    """In training each image sheared by its own factors.   same shape -> same

    `x_factor` is how many pixels a row moves against the one above it, `y_factor` the same for
    columns: 0.3 draws from -0.3 to 0.3, a pair gives the ends of an interval within 0 to 1, and
    the direction is drawn. The corner at the top left stays. `fill_mode` as in `RandomRotation`.
    Masks and boxes move along.
    Raises ValueError for factors outside of 0 to 1.

    >>> shear = RandomShear((0.5, 0.5), fill_mode="constant", seed=1)
    >>> shear(jnp.ones((2, 3, 3, 1)), training=True).shape
    (2, 3, 3, 1)
    """

    positional = (
        "x_factor",
        "y_factor",
        "interpolation",
        "fill_mode",
        "fill_value",
        "data_format",
        "seed",
    )

    x_factor: Factor = 0.0
    y_factor: Factor = 0.0

    def validate(self) -> None:
        self.both_ways("x_factor", low=0.0)
        self.both_ways("y_factor", low=0.0)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, _, _ = self.sizes(data)
        of_sign, of_x, of_y = random.split(self.key(seed), 3)
        sign = random.rademacher(of_sign, (count, 1), "float32")
        shear_x = drawn_from(self.both_ways("x_factor", low=0.0), of_x, count)
        shear_y = drawn_from(self.both_ways("y_factor", low=0.0), of_y, count)
        factors = jnp.stack([shear_x, shear_y], axis=-1) * sign  # (batch, 2)
        return {"shear_factor": factors, "input_shape": images_of(data).shape}

    def matrix(self, transformation: Transformation) -> Array:
        shear_x, shear_y = transformation["shear_factor"].T
        return _matrix(1.0, shear_x, 0.0, shear_y, 1.0, 0.0)
