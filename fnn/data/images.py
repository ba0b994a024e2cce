"""Images: between files, Pillow's images and arrays."""

from __future__ import annotations

import io
import os
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fnn.runtime.optional import optional
from fnn.runtime.settings import settings
from fnn.runtime.warning import warn

Image: TypeAlias = Any  # of Pillow, which is imported when one is read or made
File: TypeAlias = str | os.PathLike[str] | io.BytesIO

COLOR_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
GRAYSCALE = ("L", "I;16", "I")  # kept as they are, with their depth


def _pillow() -> Any:
    with optional("pillow", extra="images"):
        from PIL import Image

    return Image


def load_img(
    path: File,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Image:
    """The image of a file, as one of Pillow; `img_to_array` makes an array of it.

    `color_mode` is "rgb", "grayscale" or "rgba". `target_size` is (height, width), by one of
    Pillow's interpolations (nearest, bilinear, bicubic, hamming, box, lanczos); with
    `keep_aspect_ratio` the image is cropped first. Raises ValueError for other names, ImportError
    without Pillow.

    >>> save_img("gray.png", np.zeros((2, 3, 1)))
    >>> load_img("gray.png", target_size=(4, 4)).size
    (4, 4)
    """
    check_color_mode("load_img", color_mode)
    if isinstance(path, io.BytesIO):
        image = _pillow().open(path)
    else:
        with open(path, "rb") as file:
            image = _pillow().open(io.BytesIO(file.read()))
    if color_mode != "grayscale" or image.mode not in GRAYSCALE:
        image = image.convert(COLOR_MODES[color_mode])
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    return _resized(image, target_size, interpolation, keep_aspect_ratio)


def check_color_mode(function: str, color_mode: str) -> None:
    """Raises ValueError unless it is one of the three."""
    if color_mode not in COLOR_MODES:
        raise ValueError(
            f"{function}: expected color_mode among {', '.join(COLOR_MODES)}, received "
            f"{color_mode!r}"
        )


def _resized(
    image: Image, size: tuple[int, int], interpolation: str, crop: bool
) -> Image:
    methods = {method.name.lower(): method for method in _pillow().Resampling}
    if interpolation not in methods:
        raise ValueError(
            f"load_img: expected interpolation among {', '.join(methods)}, received "
            f"{interpolation!r}"
        )
    height, width = size
    box = None
    if crop:
        columns = min(image.width, image.height * width // height)
        rows = min(image.height, image.width * height // width)
        left = (image.width - columns) // 2
        top = (image.height - rows) // 2
        box = (left, top, left + columns, top + rows)
    return image.resize((width, height), methods[interpolation], box=box)


def img_to_array(
    img: Image, data_format: str | None = None, dtype: DTypeLike | None = None
) -> np.ndarray:
    """An image of Pillow as an array (height, width, channels), float32 from 0 to 255.

    `data_format="channels_first"` gives (channels, height, width); the default is that of
    `fnn.config`, as is the dtype. Raises ValueError unless the
    image has one channel or several.

    >>> img_to_array(np.zeros((2, 3))).shape
    (2, 3, 1)
    """
    array = np.asarray(img, dtype=dtype or settings.floatx)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"img_to_array: expected an image of two or three axes, received shape {array.shape}"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if _channels_first(data_format):
        return array.transpose(2, 0, 1)
    return array


def array_to_img(
    x: ArrayLike,
    data_format: str | None = None,
    scale: bool = True,
    dtype: DTypeLike | None = None,
) -> Image:
    """An array (height, width, 1, 3 or 4 channels) as an image of Pillow.

    `scale` stretches the values, from the smallest to the largest, to 0 to 255; without it they
    must be in that range. Raises ValueError for other shapes, ImportError without Pillow.

    >>> array_to_img(np.arange(6).reshape(1, 2, 3)).getpixel((1, 0))
    (153, 204, 255)
    """
    array = np.asarray(x, dtype=dtype or settings.floatx)
    if array.ndim == 3 and _channels_first(data_format):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(
            "array_to_img: expected one image of 1, 3 or 4 channels, received an array of shape "
            f"{np.shape(x)}; take one of a batch, x[0], or add an axis, x[..., None]"
        )
    if scale:
        array = array - array.min()
        array = array / (array.max() or 1) * 255
    if array.shape[2] > 1:
        return _pillow().fromarray(array.astype("uint8"))
    if array.max() > 255:
        return _pillow().fromarray(array[:, :, 0].astype("int32"))
    return _pillow().fromarray(array[:, :, 0].astype("uint8"))


def save_img(
    path: File,
    x: ArrayLike,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: object,
) -> None:
    """Writes an array as an image file, in the format of its name or in `file_format`.

    `scale` is that of `array_to_img`; other arguments are those of Pillow's `save`. JPEG has no
    transparency: it is dropped, with a warning. Raises ValueError for other shapes.

    >>> save_img("picture.png", np.zeros((4, 4, 3)))
    >>> load_img("picture.png").size
    (4, 4)
    """
    name = file_format
    if name is None and not isinstance(path, io.BytesIO):
        name = os.path.splitext(path)[1][1:]
    name = (name or "").lower().replace("jpg", "jpeg")
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and name == "jpeg":
        warn("JPEG has no transparency: it is dropped")
        image = image.convert("RGB")
    image.save(path, format=name or None, **kwargs)


def _channels_first(data_format: str | None) -> bool:
    """Whether channels come first. Raises ValueError for another format than Keras's two."""
    if data_format not in (None, "channels_first", "channels_last"):
        raise ValueError(
            'expected data_format as "channels_last" or "channels_first", received '
            f"{data_format!r}"
        )
    return (data_format or settings.image_data_format) == "channels_first"
