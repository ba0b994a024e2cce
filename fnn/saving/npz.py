"""Npz: NumPy's zip of arrays by name, without pickle and within the bounds of the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

import jax
import numpy as np
from numpy.lib import format as npy

from fnn.saving import zips
from fnn.saving.tensors import PIECE, AnyArrays, damaged, on_host
from fnn.saving.zips import Zip

_MOST_AXES = 32
# Of plain arrays; what stands there is parsed as Python's literals.
_MOST_HEADER = 1000
_ENDING = ".npy"


class Entry(NamedTuple):
    """An array in a file: its shape and dtype, that of the file, and whether in Fortran's order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    fortran: bool


def check(arrays: AnyArrays) -> None:
    """Raises ValueError for names that no zip may have and dtypes that the format does not know."""
    for name, array in arrays.items():
        if not zips.is_plain(name):
            raise ValueError(
                f"expected names that are plain paths in an .npz file, received {name!r}; rename "
                'the layer, or save the weights as "weights.safetensors"'
            )
        dtype = np.dtype(array.dtype)
        if np.dtype(npy.dtype_to_descr(dtype)) != dtype:
            raise ValueError(
                f"expected dtypes of NumPy in an .npz file, received {dtype} at {name}; save the "
                'weights as "weights.safetensors"'
            )


def write(file: IO[bytes], arrays: AnyArrays) -> None:
    """Writes the arrays one at a time, as `numpy.savez(file, **arrays)` would."""
    members: zips.Members = {}
    for name, array in arrays.items():
        members[name + _ENDING] = _writer(array)
    zips.write(file, members)


def _writer(array: np.ndarray | jax.Array) -> zips.MemberWriter:
    return lambda member: npy.write_array(member, on_host(array), allow_pickle=False)


class Arrays:
    """The arrays of an open `.npz`: shapes are read at once, values by `load`.

    Raises FileError for objects, for records, and for a shape that does not fill its member.
    """

    def __init__(self, archive: Zip) -> None:
        self.archive = archive
        self.entries = {
            name.removesuffix(_ENDING): self._entry(name) for name in archive.names
        }

    def _entry(self, name: str) -> Entry:
        with self.archive.open(name) as member:
            entry = _header(member)
            at = member.tell()
        problem = ""
        if entry.dtype.hasobject or entry.dtype.names or entry.dtype.subdtype:
            problem = f"{name} holds {entry.dtype}, not numbers"
        elif len(entry.shape) > _MOST_AXES or min(entry.shape, default=0) < 0:
            problem = f"{name} has a shape that is not a list of sizes"
        else:
            needed = at + math.prod(entry.shape) * entry.dtype.itemsize
            size = self.archive.size(name)
            if needed != size:
                problem = f"{name} has {size} bytes, but its shape needs {needed}"
        if problem:
            raise damaged(self.archive.path, problem)
        return entry

    def load(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The arrays of these names, copied into memory, little endian and in C order."""
        return {name: self._array(name, self.entries[name]) for name in names}

    def _array(self, name: str, entry: Entry) -> np.ndarray:
        array = np.empty(math.prod(entry.shape), entry.stored)
        data = array.view(np.uint8)
        with self.archive.open(name + _ENDING) as member:
            _header(member)
            for at in range(0, len(data), PIECE):
                piece = data[at : at + PIECE]
                piece[:] = np.frombuffer(member.read(len(piece)), np.uint8)
            # At the end the checksum is verified.
            member.read(1)
        shaped = array.reshape(entry.shape, order="F" if entry.fortran else "C")
        return np.array(shaped, entry.dtype, order="C", copy=None)


def _header(member: IO[bytes]) -> Entry:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0
    if version != (1, 0):
        read = npy.read_array_header_2_0
    shape, fortran, dtype = read(member, max_header_size=_MOST_HEADER)
    return Entry(dtype.newbyteorder("="), shape, dtype, fortran)
