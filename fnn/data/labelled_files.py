"""Labelled files: the files of a folder with their classes, in Keras's order, as batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fnn.data.ahead import made_ahead
from fnn.data.batches import Batch, Batches
from fnn.runtime.warning import warn

Folder: TypeAlias = str | os.PathLike[str]
Labels: TypeAlias = Any  # "inferred", None or a list of integers
Read: TypeAlias = Callable[[str], Any]  # what a file holds
Together: TypeAlias = Callable[[list[Any]], np.ndarray]  # one array of several of these

THREADS = 8  # that read files


class LabelledFiles(NamedTuple):
    """The paths of files, the class number of each, and the names of the classes."""

    paths: list[str]
    numbers: list[int] | None = None
    names: list[str] | None = None

    def taken(self, order: Sequence[int]) -> LabelledFiles:
        """The files at these positions, in this order.

        >>> LabelledFiles(["a", "b"], [0, 1], ["cat", "dog"]).taken([1])
        LabelledFiles(paths=['b'], numbers=[1], names=['cat', 'dog'])
        """
        paths = [self.paths[i] for i in order]
        if self.numbers is None:
            return self._replace(paths=paths)
        numbers = [self.numbers[i] for i in order]
        return self._replace(paths=paths, numbers=numbers)


def labelled_files(
    directory: Folder,
    formats: tuple[str, ...],
    labels: Labels = "inferred",
    class_names: Sequence[str] | None = None,
    follow_links: bool = False,
) -> LabelledFiles:
    """The files of some formats in a folder, sorted within each class, with their labels.

    Raises ValueError for labels or class names that do not fit.
    """
    directory = os.fspath(directory)
    if labels == "inferred":
        return _by_folder(directory, formats, class_names, follow_links)
    if class_names is not None:
        raise ValueError(
            'expected class_names with labels="inferred" alone, received '
            f"{class_names=} and {labels=}"
        )
    paths = _inside(directory, formats, follow_links)
    if labels is None:
        return LabelledFiles(paths)
    if not isinstance(labels, (list, tuple)) or len(labels) != len(paths):
        raise ValueError(
            f'expected labels as "inferred", None or a list of {len(paths)} integers, one for each '
            f"file in {directory} by sorted path, received {labels!r}"
        )
    names = [str(label) for label in sorted(set(labels))]
    return LabelledFiles(paths, list(labels), names)


def _by_folder(
    directory: str,
    formats: tuple[str, ...],
    class_names: Sequence[str] | None,
    follow_links: bool,
) -> LabelledFiles:
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    folders = sorted(name for name in names if name[0] != ".")
    if class_names is not None:
        if not set(class_names) <= set(folders):
            raise ValueError(
                f"expected class_names among the folders {folders} in {directory}, "
                f"received {list(class_names)}"
            )
        folders = list(class_names)
    paths, numbers = [], []
    for number, name in enumerate(folders):
        found = _inside(os.path.join(directory, name), formats, follow_links)
        paths += found
        numbers += [number] * len(found)
    return LabelledFiles(paths, numbers, folders)


def _inside(folder: str, formats: tuple[str, ...], follow_links: bool) -> list[str]:
    """The files in a folder and the folders in it, sorted by folder and name."""
    paths = []
    for root, _, names in sorted(os.walk(folder, followlinks=follow_links)):
        for name in sorted(names):
            if name.lower().endswith(formats):
                paths.append(os.path.join(root, name))
    return paths


def check_found(
    files: LabelledFiles,
    directory: Folder,
    formats: tuple[str, ...],
    where: str = "",
) -> None:
    """Raises ValueError if there are no files."""
    if not files.paths:
        raise ValueError(
            f"expected files of the formats {', '.join(formats)} in {os.fspath(directory)}, "
            f"received none{where}; with inferred labels they lie in a folder for each class"
        )


def targets_of(files: LabelledFiles, label_mode: str | None) -> np.ndarray | None:
    """The labels of all files as one array; None without labels."""
    if label_mode not in ("int", "categorical", "binary", None):
        raise ValueError(
            'expected label_mode as "int", "categorical", "binary" or None, received '
            f"{label_mode!r}"
        )
    if files.numbers is None or files.names is None or label_mode is None:
        return None
    numbers = np.array(files.numbers, "int32")
    if label_mode == "int":
        return numbers
    if label_mode == "categorical":
        one_hot: np.ndarray = np.eye(len(files.names), dtype="float32")[numbers]
        return one_hot
    if len(files.names) != 2:
        raise ValueError(
            f'expected two classes for label_mode="binary", received {files.names}; use "int" or '
            '"categorical"'
        )
    return numbers[:, None].astype("float32")


class _Unreadable(NamedTuple):
    """Stands for a file that cannot be read."""

    error: ValueError


class FileBatches(Batches):
    """Batches of what `read` finds in files, read ahead by threads.

    `together` makes one array of several of these. A file that cannot be read raises ValueError
    with its path, or with `skips` is left out of this pass and the next ones, with a warning.
    """

    def __init__(
        self,
        files: LabelledFiles,
        targets: np.ndarray | None,
        read: Read,
        together: Together,
        batch_size: int | None,
        seed: int | None = None,
        skips: bool = False,
    ) -> None:
        workers = min(THREADS, os.cpu_count() or 1)
        count = len(files.paths)
        super().__init__(count, self._batch, batch_size, seed, workers, targets)
        self.class_names = files.names
        self.read = read
        self.together = together
        self.skips = skips
        self._paths = files.paths
        self._all_targets = targets
        self._left_out: set[int] = set()  # indices of files that cannot be read

    @property
    def file_paths(self) -> list[str]:
        """The paths of the files, in their order before shuffling."""
        return [self._paths[i] for i in self.indices]

    def batches_of(self, order: np.ndarray) -> Iterator[Batch]:
        """The batches of the files with these numbers; only the last may be smaller."""
        size = self.batch_size or 1
        readable = [i for i in order if i not in self._left_out]
        most = 2 * self.workers + size
        found = made_ahead(self._read, readable, self.workers, most)
        kept: list[int] = []
        values: list[Any] = []
        for index, value in zip(readable, found, strict=True):
            if isinstance(value, _Unreadable):
                self._leave_out(index, value.error)
                continue
            kept.append(index)
            values.append(value)
            if len(kept) == size:
                yield self._joined(kept, values)
                kept, values = [], []
        if kept:
            yield self._joined(kept, values)
        if not len(self.indices):
            raise ValueError(
                f"expected files that can be read, received {len(self._left_out)} that cannot; the "
                "warnings name them"
            )

    def _batch(self, indices: np.ndarray) -> Batch:
        values = [self._read(i) for i in indices]
        return self._joined(list(indices), values)

    def _joined(self, indices: list[int], values: list[Any]) -> Batch:
        found = self.together(values)
        if self._all_targets is None:
            return found
        return found, self._all_targets[indices]

    def _read(self, index: int) -> Any:
        """What a file holds. Raises ValueError with its path, unless files are skipped."""
        path = self._paths[index]
        try:
            return self.read(path)
        except ImportError:
            raise
        except Exception as error:
            failure = ValueError(
                f"{path} cannot be read: {error}; repair or remove the file "
                '(fnn.data.image_folder leaves such files out with unreadable="skip")'
            )
            failure.__cause__ = error
            if not self.skips:
                raise failure from error
            return _Unreadable(failure)

    def _leave_out(self, index: int, error: ValueError) -> None:
        self._left_out.add(index)
        self.indices = self.indices[self.indices != index]
        warn(f"{self._paths[index]} cannot be read and is left out: {error.__cause__}")
