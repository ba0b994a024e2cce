"""Image folders: batches of the images in a folder, read lazily and ahead by threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fnn.data.batches import seed_of
from fnn.data.images import check_color_mode, img_to_array, load_img
from fnn.data.labelled_files import (
    FileBatches,
    Folder,
    Labels,
    Read,
    check_found,
    labelled_files,
    targets_of,
)
from fnn.data.resizing import (
    INTERPOLATIONS,
    cropped_to_ratio,
    padded_to_ratio,
    resized,
)

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_folder(
    directory: Folder,
    image_size: int | tuple[int, int] = (256, 256),
    *,
    labels: Labels = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    shuffle: bool = True,
    seed: int | None = None,
    unreadable: str = "raise",
    interpolation: str = "bilinear",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    follow_links: bool = False,
) -> FileBatches:
    """Batches of the images in a folder, of one size, with the names of its folders as labels.

    Yields (images, labels): images (batch, height, width, channels), float32 from 0 to 255;
    labels by `label_mode`: "int" (batch,), "binary" (batch, 1), "categorical" (batch, classes), or
    images alone for None. `labels` is "inferred" from the folders, None, or a list by sorted path.
    Files are read when their batch is due, a few ahead, by threads. `shuffle` gives each pass an
    order of its own, by `seed`. A file that is no image raises ValueError with its path, or is
    left out with a warning for `unreadable="skip"`. `fnn.data.split` cuts the stream in two. The
    other arguments are those of `fnn.utils.image_dataset_from_directory`. Raises ValueError for
    other arguments and for a folder without images.

    >>> import os
    >>> from fnn.utils import save_img
    >>> for name in ("cats", "dogs"):
    ...     os.makedirs(f"animals/{name}")
    ...     for number in range(3):
    ...         save_img(f"animals/{name}/{number}.png", np.zeros((4, 6, 3)))
    >>> animals = image_folder("animals", (8, 8), batch_size=4)
    >>> [x.shape for x, y in animals], animals.class_names
    ([(4, 8, 8, 3), (2, 8, 8, 3)], ['cats', 'dogs'])
    >>> train, valid = fnn.data.split(1 / 3, stratify=True)(animals)
    >>> [y.tolist() for x, y in valid]
    [[0, 1]]
    """
    if unreadable not in ("raise", "skip"):
        raise ValueError(
            f'image_folder: expected unreadable as "raise" or "skip", received {unreadable!r}'
        )
    read = image_reader(
        "image_folder",
        image_size,
        color_mode,
        interpolation,
        crop_to_aspect_ratio,
        pad_to_aspect_ratio,
        data_format,
    )
    files = labelled_files(directory, IMAGES, labels, class_names, follow_links)
    check_found(files, directory, IMAGES)
    return FileBatches(
        files,
        targets_of(files, label_mode),
        read,
        np.stack,
        batch_size,
        seed_of(shuffle, seed),
        skips=unreadable == "skip",
    )


def image_reader(
    function: str,
    image_size: int | tuple[int, int],
    color_mode: str,
    interpolation: str,
    crop: bool,
    pad: bool,
    data_format: str | None,
) -> Read:
    """The function that reads a file as an array of one size.

    Raises ValueError, in the name of `function`, for other arguments than Keras's.
    """
    check_color_mode(function, color_mode)
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if len(image_size) != 2 or not all(int(n) == n > 0 for n in image_size):
        raise ValueError(
            f"{function}: expected image_size as (height, width), received {image_size!r}"
        )
    interpolation = interpolation.lower()
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{function}: expected interpolation among {', '.join(INTERPOLATIONS)}, received "
            f"{interpolation!r}"
        )
    if crop and pad:
        raise ValueError(
            f"{function}: expected crop_to_aspect_ratio or pad_to_aspect_ratio, received both"
        )

    def read(path: str) -> np.ndarray:
        image = img_to_array(load_img(path, color_mode), "channels_last")
        if crop:
            image = cropped_to_ratio(image, image_size)
        elif pad:
            image = padded_to_ratio(image, image_size)
        return img_to_array(resized(image, image_size, interpolation), data_format)

    return read
