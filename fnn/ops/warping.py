"""Images looked up at other coordinates, and filters over them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.ndimage
from jax import Array, lax
from jax.typing import DTypeLike

from fnn.core.tree import Tree
from fnn.ops.images import as_batch, check_images, gaussian
from fnn.ops.spatial import from_channels_last, to_channels_last
from fnn.random import Seed, draw_key

_ORDERS = {"nearest": 0, "bilinear": 1}
_FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")


# With arrays as coordinates, which its annotation leaves out.
_look_up: Callable[..., Array] = jax.scipy.ndimage.map_coordinates


def _order(
    name: str,
    interpolation: str,
    fill_mode: str = "constant",
) -> int:
    if interpolation not in _ORDERS or fill_mode not in _FILL_MODES:
        raise ValueError(
            f"{name}: expected interpolation 'nearest' or 'bilinear' and fill_mode among "
            f"{', '.join(_FILL_MODES)}, received {interpolation!r} and {fill_mode!r}"
        )
    return _ORDERS[interpolation]


def _as_batch(
    name: str,
    images: Array,
    data_format: str | None,
) -> Array:
    """(batch, height, width, channels)"""
    check_images(name, images)
    return to_channels_last(as_batch(images), data_format)


def _as_given(
    batch: Array,
    images: Array,
    data_format: str | None,
) -> Array:
    """The layout of `images` again."""
    found = from_channels_last(batch, data_format)
    if images.ndim == 3:
        return found[0]
    return found


def map_coordinates(
    inputs: Array,
    coordinates: Array,
    order: int,
    fill_mode: str = "constant",
    fill_value: float = 0,
) -> Array:
    """The array at coordinates between its elements, of order 0 (nearest) or 1 (linear)."""
    if coordinates.ndim < 2 or coordinates.shape[0] != inputs.ndim:
        raise ValueError(
            f"map_coordinates: expected coordinates of shape ({inputs.ndim}, ...), a row for "
            f"each axis, received {coordinates.shape}"
        )
    if order not in (0, 1) or fill_mode not in _FILL_MODES:
        raise ValueError(
            f"map_coordinates: expected order 0 or 1 and fill_mode among "
            f"{', '.join(_FILL_MODES)}, received {order} and {fill_mode!r}"
        )
    return _look_up(inputs, coordinates, order, fill_mode, fill_value)


def _mirrored(index: Array, size: int) -> Array:
    """d c b | a b c d | c b a"""
    last = size - 1
    return jnp.abs((index + last) % (2 * last) - last)


def _reflected(index: Array, size: int) -> Array:
    """d c b a | a b c d | d c b a"""
    index = index % (2 * size)
    return jnp.minimum(index, 2 * size - 1 - index)


# The index inside an axis of some size that an index outside it stands for.
_INSIDE: dict[str, Callable[[Array, int], Array]] = {
    "constant": lambda index, size: jnp.clip(index, 0, size - 1),
    "nearest": lambda index, size: jnp.clip(index, 0, size - 1),
    "wrap": lambda index, size: index % size,
    "mirror": _mirrored,
    "reflect": _reflected,
}


def _neighbours(places: Array, order: int) -> list[tuple[Array, Array]]:
    """The (indices, weights) of the elements around places on one axis."""
    if order == 0:
        nearest = lax.round(places)
        return [(nearest.astype("int32"), jnp.ones_like(places))]
    below = jnp.floor(places)
    weight = places - below
    index = below.astype("int32")
    return [(index, 1 - weight), (index + 1, weight)]


def sampled(
    batch: Array,
    rows: Array,
    columns: Array,
    order: int,
    fill_mode: str = "constant",
    fill_value: float = 0,
) -> Array:
    """The pixels of each image at places between its own, of order 0 (nearest) or 1 (linear).

    `batch` is (batch, height, width, channels); `rows` and `columns` are (batch, ...), or
    (1, ...) if they are the same for all images. Returns (batch, ..., channels).
    """
    size, height, width, channels = batch.shape
    pixels = batch.reshape(size, height * width, channels)
    shape = (size, *rows.shape[1:])
    rows, columns = jnp.broadcast_to(rows, shape), jnp.broadcast_to(columns, shape)

    def take(image: Array, index: Array) -> Array:
        return image.at[index].get(mode="promise_in_bounds")

    inside = _INSIDE[fill_mode]
    total: Array | float = 0.0
    # Whole pixels are gathered: channels lie side by side, and share their indices.
    for row, row_weight in _neighbours(rows, order):
        for column, column_weight in _neighbours(columns, order):
            index = inside(row, height) * width + inside(column, width)
            part = jax.vmap(take)(pixels, index)  # (batch, ..., channels)
            if fill_mode == "constant":
                in_rows = (row >= 0) & (row < height)
                held = in_rows & (column >= 0) & (column < width)
                fill = jnp.asarray(fill_value, part.dtype)
                part = jnp.where(held[..., None], part, fill)
            total = total + (row_weight * column_weight)[..., None] * part
    if jnp.issubdtype(batch.dtype, jnp.integer):
        total = lax.round(jnp.asarray(total))
    return jnp.asarray(total).astype(batch.dtype)


def _positions(height: int, width: int, dtype: DTypeLike) -> Array:
    """The row and the column of each pixel, (2, 1, height, width)."""
    return jnp.indices((height, width), dtype=dtype)[:, None]


def affine_transform(
    images: Array,
    transform: Array,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    """Images turned, scaled, sheared and moved, by eight numbers each.

    The output at (x, y) is the input at (a0 x + a1 y + a2, b0 x + b1 y + b2); c0 and c1 are 0.
    """
    order = _order("affine_transform", interpolation, fill_mode)
    batch = _as_batch("affine_transform", images, data_format)
    if transform.ndim not in (1, 2):
        raise ValueError(
            "affine_transform: expected a transform of 8 numbers, or one for each image, "
            f"received shape {transform.shape}"
        )
    height, width = batch.shape[1:3]
    y, x = _positions(height, width, transform.dtype)
    numbers = transform.reshape(-1, 8, 1, 1)  # one column for each image, or for all
    a0, a1, a2, b0, b1, b2 = (numbers[:, place] for place in range(6))
    rows = (y * b1 + x * b0) + b2
    columns = (y * a1 + x * a0) + a2
    found = sampled(batch, rows, columns, order, fill_mode, fill_value)
    return _as_given(found, images, data_format)


def homography(start: Array, end: Array) -> Array:
    """The eight numbers that map four end points onto four start points."""
    x, y = end[..., 0], end[..., 1]  # (batch, 4)
    zeros, ones = jnp.zeros_like(x), jnp.ones_like(x)
    start_x, start_y = start[..., 0], start[..., 1]
    of_x = [x, y, ones, zeros, zeros, zeros, -start_x * x, -start_x * y]
    of_y = [zeros, zeros, zeros, x, y, ones, -start_y * x, -start_y * y]
    equations = [jnp.stack(of_x, -1), jnp.stack(of_y, -1)]  # each (batch, 4, 8)
    rows = jnp.concatenate(equations, axis=1)  # (batch, 8, 8)
    targets = jnp.concatenate([start_x, start_y], axis=-1)
    result: Array = jnp.linalg.solve(rows, targets[..., None])
    return result[..., 0]


def perspective_transform(
    images: Array,
    start_points: Array,
    end_points: Array,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    """Images whose four start points (x, y) move to the end points."""
    order = _order("perspective_transform", interpolation)
    batch = _as_batch("perspective_transform", images, data_format)
    shape = start_points.shape
    if shape != end_points.shape or shape[-2:] != (4, 2) or len(shape) > 3:
        raise ValueError(
            "perspective_transform: expected start and end points of shape (4, 2), or "
            f"(batch, 4, 2), received {shape} and {end_points.shape}"
        )
    start = start_points.astype("float32").reshape(-1, 4, 2)
    end = end_points.astype("float32").reshape(-1, 4, 2)
    numbers = homography(start, end).reshape(-1, 8, 1, 1)
    n = [numbers[:, place] for place in range(8)]
    height, width = batch.shape[1:3]
    y, x = _positions(height, width, "float32")
    scale = n[6] * x + n[7] * y + 1.0
    columns = (n[0] * x + n[1] * y + n[2]) / scale
    rows = (n[3] * x + n[4] * y + n[5]) / scale
    found = sampled(batch, rows, columns, order, "constant", fill_value)
    return _as_given(found, images, data_format)


def _filtered(batch: Array, kernel: Array) -> Array:
    """Each channel convolved with one kernel (height, width), at the same size."""
    channels = batch.shape[-1]
    kernel = kernel[:, :, None, None]
    kernel = jnp.tile(kernel, (1, 1, 1, channels))
    return lax.conv_general_dilated(
        batch,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def gaussian_blur(
    images: Array,
    kernel_size: tuple[int, int] = (3, 3),
    sigma: Tree = (1.0, 1.0),
    data_format: str | None = None,
) -> Array:
    """Images, each element a mean of those around it with Gaussian weights."""
    batch = _as_batch("gaussian_blur", images, data_format)
    width, height = (
        gaussian(size, jnp.asarray(one, batch.dtype), batch.dtype)
        for size, one in zip(kernel_size, sigma, strict=True)
    )
    return _as_given(_filtered(batch, jnp.outer(height, width)), images, data_format)


def sobel_edges(images: Array, data_format: str | None = None) -> Array:
    """How images change along y and x, in a new last axis."""
    batch = _as_batch("sobel_edges", images, data_format)
    along_x = jnp.asarray([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], batch.dtype)
    edges = (_filtered(batch, along_x.T), _filtered(batch, along_x))
    given = [_as_given(edge, images, data_format) for edge in edges]
    return jnp.stack(given, axis=-1)


def elastic_transform(
    images: Array,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Seed = None,
    data_format: str | None = None,
) -> Array:
    """Images with smooth random shifts of each element."""
    order = _order("elastic_transform", interpolation, fill_mode)
    batch = _as_batch("elastic_transform", images, data_format)
    size, height, width = batch.shape[:3]
    window = int(6 * sigma) | 1
    # Keras draws the shifts along both axes from one key: they are equal.
    shape = (size, height, width)
    noise = jax.random.normal(draw_key(seed), shape, batch.dtype)
    weights = gaussian(window, jnp.asarray(sigma, batch.dtype), batch.dtype)
    kernel = jnp.outer(weights, weights)
    noise = (noise * sigma)[..., None]  # (batch, height, width, 1)
    shift = _filtered(noise, kernel)[..., 0] * alpha
    y, x = _positions(height, width, batch.dtype)
    found = sampled(batch, y + shift, x + shift, order, fill_mode, fill_value)
    return _as_given(found.astype(images.dtype), images, data_format)
