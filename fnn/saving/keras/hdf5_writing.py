"""Writing HDF5 files by h5py, with a checksum that Keras does not look at."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fnn.runtime.optional import optional
from fnn.saving.keras import hdf5
from fnn.saving.keras.hdf5 import Group
from fnn.saving.reading import BoundedReader
from fnn.saving.tensors import FileError, FilePath, damaged

# An attribute of the root, as in the header of safetensors files.
CHECKSUM = "fnn_sha256"
_NEAR = 2**16  # bytes


def to_bytes(write: Callable[[Any], None], checksum: bool = True) -> bytes:
    """The bytes of a file that `write(file)` fills through h5py."""
    with optional("h5py", extra="hdf5"):
        import h5py
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        write(file)
    if checksum:
        digest = _digest(hdf5.read(target, target.getbuffer().nbytes))
        with h5py.File(target, "r+") as file:
            file.attrs[CHECKSUM] = digest
    return target.getvalue()


def verify(root: Group, path: FilePath, file: BoundedReader) -> None:
    """Raises FileError if a file that fnn wrote has changed; those of Keras have no checksum.

    An attribute that looks like a checksum is one, whatever its name, which may be damaged; and so
    is a file with the name of one that cannot be read.
    """
    attributes = root.attributes.items()
    found = [
        value for name, value in attributes if name == CHECKSUM or _is_digest(value)
    ]
    if not found:
        if _has_name(file):
            raise damaged(path, f"its attribute {CHECKSUM!r} cannot be read")
        return
    expected = found[0]
    if any(dataset.filters for _, dataset in root.datasets()):
        raise FileError(
            f"expected {path} as fnn wrote it, received it compressed, which takes its checksum "
            f"its meaning; delete the attribute {CHECKSUM!r} by h5py to load it"
        )
    if expected != _digest(root):
        raise FileError(
            f"expected {path} as fnn wrote it, received it damaged or changed: its checksum "
            f"differs; if the change is meant, delete the attribute {CHECKSUM!r} by h5py"
        )


def _has_name(file: BoundedReader) -> bool:
    """Whether the name of the checksum is where attributes of the root are: at either end."""
    end = file.seek(0, io.SEEK_END)
    for start in {0, max(0, end - _NEAR)}:
        file.seek(start)
        if CHECKSUM.encode() in file.read(_NEAR):
            return True
    return False


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _digest(root: Group) -> str:
    """SHA-256 of names, dtypes, shapes and values, and of the attributes of the root."""
    total = hashlib.sha256()
    for name in sorted(root.attributes):
        if name != CHECKSUM:
            total.update(f"{name}={root.attributes[name]!r};".encode())
    for path, dataset in sorted(root.datasets(), key=lambda item: item[0]):
        described = f"{path}:{dataset.dtype}{list(dataset.shape)};"
        total.update(described.encode())
        values = np.ascontiguousarray(dataset.read())
        total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
