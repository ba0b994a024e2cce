"""Resizing: images of another size on the host, by the interpolations that Keras names."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]  # of the distance in pixels


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1, 1 - x, 0)


def _cubic(x: np.ndarray, b: float, c: float) -> np.ndarray:
    """The cubic kernels of Mitchell and Netravali (1988)."""
    near = (12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b
    far = (-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x
    far = far + 8 * b + 24 * c
    return np.where(x < 1, near, np.where(x < 2, far, 0)) / 6


def _lanczos(x: np.ndarray, radius: int) -> np.ndarray:
    return np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


def _gaussian(x: np.ndarray) -> np.ndarray:
    # Of deviation 1/2, up to 3 deviations.
    return np.where(x < 1.5, np.exp(-2 * x**2), 0)


KERNELS: dict[str, Kernel] = {
    "bilinear": _triangle,
    "bicubic": functools.partial(_cubic, b=0, c=0.5),
    "lanczos3": functools.partial(_lanczos, radius=3),
    "lanczos5": functools.partial(_lanczos, radius=5),
    "gaussian": _gaussian,
    "mitchellcubic": functools.partial(_cubic, b=1 / 3, c=1 / 3),
}
INTERPOLATIONS = ("nearest", "area", *KERNELS)


def resized(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """An image of another size, float32.   (height, width, channels) -> (*size, channels)

    As `ops.image.resize` without antialiasing, and "area", "gaussian" and "mitchellcubic" beside
    its interpolations; in NumPy, since JAX would compile for each size of an image.

    >>> resized(np.array([[[0.0], [4.0]]]), (1, 4), "bilinear")[0, :, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    image = image.astype(np.float32)
    height, width, channels = image.shape
    new_height, new_width = size
    if (height, width) == (new_height, new_width):
        return image
    found: np.ndarray
    if interpolation == "nearest":
        rows = _nearest(height, new_height)
        found = image[rows][:, _nearest(width, new_width)]
        return found
    weights = _weights(height, new_height, interpolation)
    lines = weights @ image.reshape(height, -1)
    lines = lines.reshape(new_height, width, channels)
    found = _weights(width, new_width, interpolation) @ lines
    return found


def _nearest(before: int, after: int) -> np.ndarray:
    """The index of the pixel behind each new one along an axis."""
    centers = (np.arange(after, dtype=np.float32) + np.float32(0.5)) * before / after
    return np.floor(centers).astype(int)


@functools.lru_cache(maxsize=256)
def _weights(before: int, after: int, interpolation: str) -> np.ndarray:
    """What each pixel adds to each new one along an axis.   (after, before)"""
    scale = before / after
    pixels = np.arange(before)
    if interpolation == "area":
        first = np.arange(after)[:, None] * scale  # (after, 1)
        last = np.minimum(first + scale, pixels + 1)
        weights = np.maximum(last - np.maximum(first, pixels), 0)  # (after, before)
    else:
        centers = (np.arange(after)[:, None] + 0.5) * scale - 0.5  # (after, 1)
        weights = KERNELS[interpolation](np.abs(centers - pixels))
    found: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return found.astype(np.float32)


def cropped_to_ratio(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest part in the middle of an image with the aspect ratio of `size`."""
    height, width, _ = image.shape
    tall, wide = size
    rows = max(min(height, int(width * tall / wide)), 1)
    columns = max(min(width, int(height * wide / tall)), 1)
    top = int((height - rows) / 2)
    left = int((width - columns) / 2)
    return image[top : top + rows, left : left + columns]


def padded_to_ratio(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image in the middle of the smallest black one with the aspect ratio of `size`."""
    height, width, _ = image.shape
    tall, wide = size
    rows = max(height, int(width * tall / wide))
    columns = max(width, int(height * wide / tall))
    above = int((rows - height) / 2)
    before = int((columns - width) / 2)
    # As in Keras, the same number of pixels at both sides.
    return np.pad(image, ((above, above), (before, before), (0, 0)))
