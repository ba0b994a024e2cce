"""Keras's functions for folders of files: images, texts and sounds, with labels by folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from fnn.data.batches import seed_of
from fnn.data.image_folders import IMAGES, image_reader
from fnn.data.labelled_files import (
    FileBatches,
    Folder,
    LabelledFiles,
    Labels,
    Read,
    Together,
    check_found,
    labelled_files,
    targets_of,
)
from fnn.data.sounds import read_sound, resampled
from fnn.runtime.processes import say

Stream: TypeAlias = FileBatches | list[FileBatches]


def image_dataset_from_directory(
    directory: Folder,
    labels: Labels = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: int | tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Stream:
    """Batches of the images in a folder, of one size, with the names of its folders as labels.

    Yields (images, labels): images (batch, height, width, channels), float32 from 0 to 255;
    labels by `label_mode`: "int" (batch,), "binary" (batch, 1), "categorical" (batch, classes), or
    images alone for None. `labels` is "inferred" from the folders, None, or a list by sorted
    path. `shuffle` gives each pass an order of its own. `validation_split` with `subset`
    "training" or "validation" takes a part, the same for the same `seed`; "both" returns the two.
    The stream has `class_names` and `file_paths`, in Keras's order. `interpolation` is one of
    Keras's names, without antialiasing, as there. `format` has no effect: the batches are NumPy
    arrays. Raises ValueError for other arguments and for a folder without images.

    >>> import os
    >>> from fnn.utils import save_img
    >>> for name in ("cats", "dogs"):
    ...     os.makedirs(f"animals/{name}")
    ...     save_img(f"animals/{name}/1.png", np.zeros((4, 6, 3)))
    >>> animals = image_dataset_from_directory("animals", image_size=(8, 8), seed=0)
    Found 2 files belonging to 2 classes.
    >>> [(x.shape, y.shape) for x, y in animals], animals.class_names
    ([((2, 8, 8, 3), (2,))], ['cats', 'dogs'])
    """
    read = image_reader(
        "image_dataset_from_directory",
        image_size,
        color_mode,
        interpolation,
        crop_to_aspect_ratio,
        pad_to_aspect_ratio,
        data_format,
    )
    files = _Files(directory, IMAGES, labels, class_names, follow_links, verbose)
    parts = _Parts(shuffle, seed, validation_split, subset)
    return _streams(files, parts, read, np.stack, label_mode, batch_size)


def text_dataset_from_directory(
    directory: Folder,
    labels: Labels = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Stream:
    """Batches of the `.txt` files in a folder, with the names of its folders as labels.

    Yields (texts, labels): texts (batch,), an array of strings, each cut after `max_length`
    characters; the other arguments are those of `image_dataset_from_directory`. Raises ValueError
    for other arguments and for a folder without texts.

    >>> import os
    >>> os.makedirs("reviews/good")
    >>> with open("reviews/good/1.txt", "w") as file:
    ...     _ = file.write("a fine film")
    >>> reviews = text_dataset_from_directory("reviews", max_length=6)
    Found 1 files belonging to 1 classes.
    >>> list(reviews)
    [(array(['a fine'], dtype=object), array([0], dtype=int32))]
    """

    def read(path: str) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()[:max_length]

    def together(texts: list[str]) -> np.ndarray:
        return np.array(texts, dtype=object)

    files = _Files(directory, (".txt",), labels, class_names, follow_links, verbose)
    parts = _Parts(shuffle, seed, validation_split, subset)
    return _streams(files, parts, read, together, label_mode, batch_size)


def audio_dataset_from_directory(
    directory: Folder,
    labels: Labels = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    sampling_rate: int | None = None,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Stream:
    """Batches of the `.wav` files in a folder, with the names of its folders as labels.

    Yields (sounds, labels): sounds (batch, samples, channels), float32 from -1 to 1. Sounds are
    cut or padded with zeros to `output_sequence_length` (which `fit` needs unless all are equally
    long), else padded to the longest of the batch, and resampled to `sampling_rate` if given.
    The other arguments are those of `image_dataset_from_directory`. Raises ValueError for other
    arguments, for a folder without sounds, and for `ragged=True`.

    >>> import os, wave
    >>> os.makedirs("words/yes")
    >>> with wave.open("words/yes/1.wav", "wb") as file:
    ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
    ...     file.writeframes(np.array([0, 16384, -32768], "<i2").tobytes())
    >>> words = audio_dataset_from_directory("words", output_sequence_length=4, verbose=False)
    >>> [sounds[0, :, 0].tolist() for sounds, _ in words]
    [[0.0, 0.5, -1.0, 0.0]]
    """
    if ragged:
        raise ValueError(
            "audio_dataset_from_directory: expected ragged=False, received True; arrays have one "
            "length, pass output_sequence_length"
        )
    if sampling_rate is not None and (
        type(sampling_rate) is not int or sampling_rate < 1
    ):
        raise ValueError(
            "audio_dataset_from_directory: expected sampling_rate as a positive integer, received "
            f"{sampling_rate!r}"
        )

    def read(path: str) -> np.ndarray:
        sound, rate = read_sound(path)
        if sampling_rate not in (None, rate):
            sound = resampled(sound, rate, int(sampling_rate or rate))
        return sound[:output_sequence_length]

    def together(sounds: list[np.ndarray]) -> np.ndarray:
        length = output_sequence_length or max(map(len, sounds))
        padded = []
        for sound in sounds:
            missing = length - len(sound)
            padded.append(np.pad(sound, ((0, missing), (0, 0))))
        return np.stack(padded)

    files = _Files(directory, (".wav",), labels, class_names, follow_links, verbose)
    parts = _Parts(shuffle, seed, validation_split, subset)
    return _streams(files, parts, read, together, label_mode, batch_size)


class _Files(NamedTuple):
    """Where files are looked for, and their labels."""

    directory: Folder
    formats: tuple[str, ...]
    labels: Labels
    class_names: Sequence[str] | None
    follow_links: bool
    verbose: bool

    def found(self, label_mode: str | None) -> LabelledFiles:
        """The files in sorted order, without labels if there is no mode for them."""
        labels = self.labels if label_mode is not None else None
        files = labelled_files(
            self.directory, self.formats, labels, self.class_names, self.follow_links
        )
        if self.verbose:
            classes = ""
            if files.names is not None:
                classes = f" belonging to {len(files.names)} classes"
            say(f"Found {len(files.paths)} files{classes}.")
        return files


class _Parts:
    """The order of the files of a folder, and the parts that are taken of it."""

    def __init__(
        self,
        shuffle: bool,
        seed: int | None,
        validation_split: float | None,
        subset: str | None,
    ) -> None:
        if subset not in (None, "training", "validation", "both"):
            raise ValueError(
                'expected subset as "training", "validation" or "both", received '
                f"{subset!r}"
            )
        if bool(validation_split) != bool(subset):
            raise ValueError(
                "expected validation_split and subset together, received "
                f"{validation_split=} and {subset=}"
            )
        if validation_split and not 0 < validation_split < 1:
            raise ValueError(
                f"expected validation_split between 0 and 1, received {validation_split}"
            )
        if validation_split and shuffle and seed is None:
            raise ValueError(
                "expected a seed for shuffled files that are split, received None; pass the same "
                "seed for both subsets, so that no file is in both"
            )
        self.seed = seed_of(shuffle, seed)
        self.fraction = validation_split
        self.subset = subset

    def ordered(self, files: LabelledFiles) -> LabelledFiles:
        """The files in Keras's order for the seed."""
        order = np.arange(len(files.paths))
        if self.seed is not None:
            np.random.RandomState(self.seed).shuffle(order)
        return files.taken(order.tolist())

    def cut(self, count: int) -> list[tuple[slice, int | None]]:
        """The files of each stream, and the seed of its shuffling."""
        if not self.fraction:
            return [(slice(0, count), self.seed)]
        first = count - int(self.fraction * count)
        parts = []
        if self.subset != "validation":
            say(f"Using {first} files for training.")
            parts.append((slice(0, first), self.seed))
        if self.subset != "training":
            say(f"Using {count - first} files for validation.")
            seed = None if self.subset == "both" else self.seed
            parts.append((slice(first, count), seed))
        return parts


def _streams(
    files: _Files,
    parts: _Parts,
    read: Read,
    together: Together,
    label_mode: str | None,
    batch_size: int | None,
) -> Stream:
    """The stream of each part."""
    found = parts.ordered(files.found(label_mode))
    targets = targets_of(found, label_mode)
    where = f" for the subset {parts.subset}" if parts.subset else ""
    streams = []
    for part, seed in parts.cut(len(found.paths)):
        indices = range(len(found.paths))[part]
        own = found.taken(indices)
        check_found(own, files.directory, files.formats, where)
        goals = None if targets is None else targets[part]
        streams.append(FileBatches(own, goals, read, together, batch_size, seed))
    return streams if parts.subset == "both" else streams[0]
