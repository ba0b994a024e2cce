"""Backups: the newest snapshot of a training in one safetensors file, and the one before."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fnn.runtime.files import write_atomically
from fnn.runtime.processes import local, writes
from fnn.saving import tensors
from fnn.saving.snapshots import Arrays, Json, Leaf, Specs
from fnn.saving.tensors import FileError, FilePath

NEWEST, BEFORE = "training.safetensors", "before.safetensors"
JSON = "training.json"  # the name of the array that holds the JSON


class FileStore:
    """A folder with one file, written as a whole; with `double` the one before stays, too."""

    def __init__(self, folder: FilePath, double: bool = False) -> None:
        self.folder = Path(os.path.expanduser(folder))
        self.double = double

    def begin(self) -> None:
        """Nothing: the folder is made when the first file is written."""

    def end(self) -> None:
        """Nothing."""

    def names(self) -> list[str]:
        """The files that exist, the newest last."""
        return [name for name in (BEFORE, NEWEST) if (self.folder / name).is_file()]

    def describe(self, name: str) -> tuple[Json, Specs]:
        """The JSON and the arrays. Raises FileError if the file is damaged."""
        path = self.folder / name
        arrays = tensors.load(path)
        if JSON not in arrays:
            raise FileError(
                f"expected a backup in {path}, received one of an older fnn, without the "
                "position in the data; remove it to start over"
            )
        described = tensors.parse(arrays.pop(JSON).tobytes())
        return described, arrays

    def read(self, name: str, like: Mapping[str, Leaf]) -> Arrays:
        """The arrays of these names, verified."""
        _, arrays = self.describe(name)
        return {found: np.asarray(arrays[found]) for found in like}

    def write(self, name: str, arrays: Arrays, described: Json) -> None:
        """Writes the file; durable when it returns. Of several processes the first one does."""
        arrays = local(arrays)
        if not writes():
            return
        text = json.dumps(described, allow_nan=False).encode()
        as_array = np.frombuffer(text, np.uint8)
        data = tensors.encode({**arrays, JSON: as_array})
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = self.folder / NEWEST
        if self.double and newest.is_file():
            # At each moment one of the two is complete.
            os.replace(newest, self.folder / BEFORE)
        write_atomically(newest, lambda file: file.write(data))

    def remove(self, name: str) -> None:
        """Removes a file."""
        if not writes():
            return
        (self.folder / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> str:
        """Renames a damaged file."""
        aside = f"{name}.damaged"
        os.replace(self.folder / name, self.folder / aside)
        return aside

    def clear(self) -> None:
        """Removes the files, and the folder if nothing else is in it."""
        for name in self.names():
            self.remove(name)
        if not writes():
            return
        with contextlib.suppress(OSError):
            self.folder.rmdir()
