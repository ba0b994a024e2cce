"""Images: colors, sizes, borders, patches, and how alike two images are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.image
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.tree import Tree
from fnn.ops.control import saturate_cast
from fnn.ops.spatial import Sizes, conv, is_last, per_axis, to_channels_last
from fnn.runtime.arithmetic import finfo

Methods = Literal["linear", "bilinear", "cubic", "bicubic", "lanczos3", "lanczos5"]
_RESIZE = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
_SCALE = ("linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic")


def check_images(name: str, images: Array) -> None:
    """Raises ValueError for what is no image and no batch of images."""
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{name}: expected one image (three axes) or a batch (four axes), received shape "
            f"{images.shape}"
        )


def as_batch(images: Array) -> Array:
    """A batch of images; of one image a batch of one."""
    if images.ndim == 4:
        return images
    return images[None]


def _channel_axis(data_format: str | None) -> int:
    if is_last(data_format):
        return -1
    return -3


def _first_of_space(images: Array, data_format: str | None) -> int:
    """The axis of the height; the next is that of the width."""
    if is_last(data_format):
        return images.ndim - 3
    return images.ndim - 2


def _float_dtype(images: Array) -> Tree:
    """The dtype of images of floats, float32 for others."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.dtype
    return jnp.dtype("float32")


def rgb_to_grayscale(images: Array, data_format: str | None = None) -> Array:
    """One channel of brightness of three of red, green and blue."""
    check_images("rgb_to_grayscale", images)
    axis = _channel_axis(data_format)
    channels = images.shape[axis]
    if channels not in (1, 3):
        raise ValueError(
            f"rgb_to_grayscale: expected 3 channels, or 1, received {channels} in shape "
            f"{images.shape}"
        )
    if channels == 1:
        return images
    dtype = _float_dtype(images)
    weights = jnp.asarray([0.2989, 0.5870, 0.1140], dtype)
    floats = images.astype(dtype)
    gray = jnp.tensordot(floats, weights, axes=(axis, -1))
    return jnp.expand_dims(gray, axis).astype(images.dtype)


def _channels(name: str, images: Array, axis: int) -> list[Array]:
    check_images(name, images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{name}: expected images of floats, received {images.dtype}")
    parts = jnp.split(images, 3, axis)
    return [jnp.squeeze(part, axis) for part in parts]


def rgb_to_hsv(images: Array, data_format: str | None = None) -> Array:
    """Hue, saturation and value of red, green and blue."""
    axis = _channel_axis(data_format)
    tiny = finfo(images.dtype).eps if images.dtype.kind not in "iub" else 0
    images = jnp.where(jnp.abs(images) < tiny, images * 0, images)
    red, green, blue = _channels("rgb_to_hsv", images, axis)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    spread = value - jnp.minimum(jnp.minimum(red, green), blue)
    saturation = spread / jnp.where(value > 0, value, 1.0)
    saturation = jnp.where(value > 0, saturation, 0.0)
    norm = 1.0 / (6.0 * jnp.where(spread > 0, spread, 1.0))
    of_green = norm * (blue - red) + 2 / 6
    of_blue = norm * (red - green) + 4 / 6
    hue = jnp.where(value == green, of_green, of_blue)
    hue = jnp.where(value == red, norm * (green - blue), hue)
    of_colors = jnp.where(spread > 0, hue, 0.0)
    hue = of_colors + (hue < 0.0).astype(hue.dtype)
    return jnp.stack([hue, saturation, value], axis=axis)


def hsv_to_rgb(images: Array, data_format: str | None = None) -> Array:
    """Red, green and blue of hue, saturation and value."""
    axis = _channel_axis(data_format)
    hue, saturation, value = _channels("hsv_to_rgb", images, axis)
    angle = jnp.mod(hue, 1.0) * 6.0
    parts = (
        jnp.clip(jnp.abs(angle - 3.0) - 1.0, 0.0, 1.0),
        jnp.clip(2.0 - jnp.abs(angle - 2.0), 0.0, 1.0),
        jnp.clip(2.0 - jnp.abs(angle - 4.0), 0.0, 1.0),
    )
    gray = 1.0 - saturation
    colors = [value * (gray + saturation * part) for part in parts]
    return jnp.stack(colors, axis=axis)


def _cropped_to_ratio(
    images: Array, size: tuple[int, int], axes: tuple[int, int]
) -> Array:
    """The middle of images, as high and wide in proportion as `size`."""
    height, width = (images.shape[axis] for axis in axes)
    rows = int(width * size[0] / size[1])
    columns = int(height * size[1] / size[0])
    rows = max(min(height, rows), 1)
    columns = max(min(width, columns), 1)
    top = int((height - rows) / 2)
    left = int((width - columns) / 2)
    images = lax.slice_in_dim(images, top, top + rows, axis=axes[0])
    return lax.slice_in_dim(images, left, left + columns, axis=axes[1])


def _padded_to_ratio(
    images: Array,
    size: tuple[int, int],
    axes: tuple[int, int],
    fill_value: float,
) -> Array:
    """Images with a border, as high and wide in proportion as `size`."""
    height, width = (images.shape[axis] for axis in axes)
    rows = int(width * size[0] / size[1])
    columns = int(height * size[1] / size[0])
    top = int((max(height, rows) - height) / 2)
    left = int((max(width, columns) - width) / 2)
    pads = [(0, 0)] * images.ndim
    if top > 0:
        pads[axes[0]] = (top, top)
    elif left > 0:
        pads[axes[1]] = (left, left)
    else:
        return images
    images = images.astype(jnp.result_type(images.dtype, float))
    return jnp.pad(images, pads, constant_values=fill_value)


def resize(
    images: Array,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Array:
    """Images of another height and width."""
    check_images("resize", images)
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(
            f"resize: expected size to be two positive integers, received {size}"
        )
    if interpolation not in _RESIZE or fill_mode != "constant":
        raise ValueError(
            f"resize: expected interpolation among {', '.join(_RESIZE)} and "
            f"fill_mode='constant', received {interpolation!r} and {fill_mode!r}"
        )
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError(
            "resize: expected crop_to_aspect_ratio or pad_to_aspect_ratio, received both"
        )
    first = _first_of_space(images, data_format)
    axes = (first, first + 1)
    source = images
    if crop_to_aspect_ratio:
        source = _cropped_to_ratio(images, size, axes)
    if pad_to_aspect_ratio:
        source = _padded_to_ratio(images, size, axes, fill_value)
    shape = [*source.shape]
    shape[axes[0]], shape[axes[1]] = size
    found: Array = jax.image.resize(source, shape, interpolation, antialias=antialias)
    if found.dtype == images.dtype:
        return found
    if jnp.issubdtype(images.dtype, jnp.integer):
        found = jnp.round(found)
    return saturate_cast(found, images.dtype)


def scale_and_translate(
    images: Array,
    output_shape: Sequence[int],
    scale: Array,
    translation: Array,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> Array:
    """Images scaled and moved along some axes, into arrays of another shape."""
    if method not in (*_SCALE, "lanczos3", "lanczos5"):
        raise ValueError(
            f"scale_and_translate: expected method among {', '.join(_SCALE)}, lanczos3 and "
            f"lanczos5, received {method!r}"
        )
    result: Array = jax.image.scale_and_translate(
        images,
        tuple(output_shape),
        tuple(spatial_dims),
        jnp.asarray(scale),
        jnp.asarray(translation),
        method,
        antialias,
    )
    return result


def _third(first: int | None, last: int | None, target: int | None, size: int) -> Tree:
    """A border (in front, behind), one of which follows from the size that is wanted."""
    if (first, last, target).count(None) != 1:
        raise ValueError(
            "expected two of the borders on both sides and the target size along each axis, "
            f"received {first}, {last} and {target}; leave one of the three out"
        )
    if first is None:
        first = target - last - size  # type: ignore[operator]
    if last is None:
        last = target - first - size  # type: ignore[operator]
    return first, last


def _check_borders(name: str, *borders: int) -> None:
    if min(borders) < 0:
        raise ValueError(
            f"{name}: expected borders of 0 or more, received {borders} "
            "(top, bottom, left, right)"
        )


def pad_images(
    images: Array,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Images with zeros around them."""
    check_images("pad_images", images)
    first = _first_of_space(images, data_format)
    height, width = images.shape[first : first + 2]
    rows = _third(top_padding, bottom_padding, target_height, height)
    columns = _third(left_padding, right_padding, target_width, width)
    _check_borders("pad_images", *rows, *columns)
    pads = [(0, 0)] * images.ndim
    pads[first], pads[first + 1] = rows, columns
    return jnp.pad(images, pads)


def crop_images(
    images: Array,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Images without their borders."""
    check_images("crop_images", images)
    first = _first_of_space(images, data_format)
    height, width = images.shape[first : first + 2]
    given = (
        (top_cropping, bottom_cropping, target_height, height, first),
        (left_cropping, right_cropping, target_width, width, first + 1),
    )
    for before, behind, target, size, axis in given:
        # Sizes shrink here, so a border is what the target leaves of them.
        missing = None if target is None else 2 * size - target
        start, end = _third(before, behind, missing, size)
        _check_borders("crop_images", start, end, size - start - end)
        images = lax.slice_in_dim(images, start, size - end, axis=axis)
    return images


def extract_patches(
    images: Array,
    size: Sizes,
    strides: Sizes | None = None,
    dilation_rate: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Patches of images as vectors in the axis of the channels."""
    if not isinstance(size, int) and len(size) not in (2, 3):
        raise ValueError(
            f"extract_patches: expected size to be 2 or 3 integers, received {size}"
        )
    count = 2 if isinstance(size, int) else len(size)
    return _patches(images, count, size, strides, dilation_rate, padding, data_format)


def extract_patches_3d(
    volumes: Array,
    size: Sizes,
    strides: Sizes | None = None,
    dilation_rate: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Patches of volumes as vectors in the axis of the channels."""
    if not isinstance(size, int) and len(size) != 3:
        raise ValueError(
            f"extract_patches_3d: expected size to be 3 integers, received {size}"
        )
    return _patches(volumes, 3, size, strides, dilation_rate, padding, data_format)


def _patches(
    images: Array,
    count: int,
    size: Sizes,
    strides: Sizes | None,
    dilation_rate: Sizes,
    padding: str,
    data_format: str | None,
) -> Array:
    window = per_axis(size, count)
    channels = images.shape[-1 if is_last(data_format) else -1 - count]
    whole = channels * math.prod(window)
    # Each output of the convolution takes one element of the patch.
    kernel = jnp.eye(whole, dtype=images.dtype).reshape(*window, channels, whole)
    batch = images if images.ndim == count + 2 else images[None]
    patches = conv(
        batch, kernel, strides or window, padding, data_format, dilation_rate
    )
    return patches if images.ndim == count + 2 else patches[0]


def gaussian(size: int, sigma: Tree, dtype: Tree) -> Array:
    """Weights of a Gaussian window that add up to 1."""
    middle = (size - 1) / 2
    places = jnp.arange(size, dtype=dtype) - jnp.asarray(middle, dtype)
    weights = jnp.exp(-0.5 * (places / sigma) ** 2)
    return weights / jnp.sum(weights)


def ssim(
    image1: Array,
    image2: Array,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Array:
    """How alike images are in structure, 1 for equal ones (Wang et al. 2004)."""
    check_images("ssim", image1)
    check_images("ssim", image2)
    dtype = _float_dtype(image1)
    weights = gaussian(filter_size, filter_sigma, dtype)
    kernel = jnp.outer(weights, weights)[:, :, None, None]

    def planes(image: Array) -> Array:
        """(batch * channels, height, width, 1)"""
        batch = to_channels_last(as_batch(image.astype(dtype)), data_format)
        batch = jnp.moveaxis(batch, -1, 1)  # (batch, channels, height, width)
        return batch.reshape(-1, *batch.shape[2:], 1)

    mean: Callable[[Array], Array] = lambda x: conv(x, kernel)
    a, b = planes(image1), planes(image2)
    mean_a, mean_b = mean(a), mean(b)
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    covariance = mean(a * b) - mean_a * mean_b
    variances = mean(a * a) - mean_a * mean_a
    variances = variances + mean(b * b) - mean_b * mean_b
    above = (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
    below = (mean_a * mean_a + mean_b * mean_b + c1) * (variances + c2)
    channels = image1.shape[_channel_axis(data_format)]
    found = jnp.mean(above / below, axis=(1, 2, 3))  # (batch * channels,)
    found = found.reshape(-1, channels).mean(axis=-1)
    if image1.ndim == 3:
        found = found[0]
    return found.astype(image1.dtype)
