"""The functions of images, under the name that Keras has for them too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fnn.ops.images import resize
from fnn.utils import array_to_img, img_to_array, load_img, save_img

__all__ = ["array_to_img", "img_to_array", "load_img", "save_img", "smart_resize"]


def smart_resize(
    x: np.ndarray | jax.Array,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    data_format: str = "channels_last",
) -> np.ndarray | jax.Array:
    """Images cut to the aspect ratio of `size` around the middle, then resized to it.

    (..., height, width, channels) -> (..., *size, channels)   NumPy arrays stay NumPy arrays.
    Raises ValueError for a `size` that is not two positive integers.

    >>> smart_resize(np.ones((4, 8, 1)), (2, 2)).shape
    (2, 2, 1)
    """
    images = jnp.asarray(x)
    if jnp.issubdtype(images.dtype, jnp.integer):
        images = images.astype(jnp.float32)
    resized = resize(
        images,
        size,
        interpolation=interpolation,
        crop_to_aspect_ratio=True,
        data_format=data_format,
    )
    if isinstance(x, np.ndarray):
        return np.array(resized)
    return resized
