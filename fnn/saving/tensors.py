"""Safetensors files: written with a checksum; checked before the arrays are read."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Mapping
from typing import IO, Any, Literal, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

# In the metadata of the header, which other programs ignore: the checksum, the names of dtypes that
# the format does not have, and the structure of a tree.
CHECKSUM = "fnn_sha256"
EXTENDED = "fnn_dtypes"
STRUCTURE = "fnn_tree"
HEADER_LIMIT = 100_000_000  # of the format
PIECE = 2**20  # bytes read at a time
# Files whose arrays have more axes are rejected.
_MOST_AXES = 32

Arrays = dict[str, np.ndarray]
AnyArrays = Mapping[str, np.ndarray | jax.Array]
FilePath = str | os.PathLike[str]

DTYPES: dict[str, np.dtype[Any]] = {
    code: np.dtype(dtype)
    for code, dtype in {
        "BOOL": bool, "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
        "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
        "C64": "<c8", "BF16": jnp.bfloat16, "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
    }.items()
}  # fmt: skip


_CODES = {dtype: code for code, dtype in DTYPES.items()}
# The others, whose arrays are stored as bytes (U8) with one more axis.
_OTHERS = """
complex128 int2 uint2 int4 uint4 float4_e2m1fn float8_e3m4 float8_e4m3 float8_e8m0fnu
float8_e4m3fnuz float8_e5m2fnuz float8_e4m3b11fnuz
"""
OTHER_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(jnp, name)) for name in _OTHERS.split() if hasattr(jnp, name)
}


class FileError(ValueError):
    """A file is damaged, has another format, or does not fit the model; a ValueError.

    >>> fnn.saving.FileError("expected a whole file").args
    ('expected a whole file',)
    """


def damaged(path: FilePath, problem: str) -> FileError:
    """The error for a damaged file."""
    return FileError(
        f"expected a whole file, received {path}, which is damaged or not a saved model: "
        f"{problem}"
    )


def parse(data: bytes) -> dict[str, Any]:
    """Parses a JSON object. Raises ValueError for duplicate keys, NaN and infinity."""
    parsed = json.loads(
        data,
        object_pairs_hook=_without_duplicates,
        parse_constant=_finite,
        parse_float=_finite,
    )
    if not isinstance(parsed, dict):
        raise ValueError("expected a JSON object")
    return parsed


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a JSON object has a duplicate key")
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {number} is not finite")
    return value


def encode(arrays: AnyArrays) -> bytes:
    """The bytes of a safetensors file of the arrays, with their checksum in the header."""
    file = io.BytesIO()
    write(file, arrays)
    return file.getvalue()


def write(
    file: IO[bytes],
    arrays: AnyArrays,
    metadata: Mapping[str, str] | None = None,
    checksum: bool = True,
) -> None:
    """Writes a safetensors file, one array at a time: only that one is copied to the host.

    With a `checksum` of names and values every array is copied twice.
    Raises ValueError for a dtype that arrays of JAX do not have, such as strings.
    """
    notes = {"format": "fnn", **(metadata or {})}
    entries: dict[str, Any] = {}
    others = {}
    at = 0
    for name in _order(arrays):
        array = arrays[name]
        dtype, shape = np.dtype(array.dtype), list(array.shape)
        code = _CODES.get(dtype.newbyteorder("<"))
        end = at + math.prod(shape) * dtype.itemsize
        if code is None:
            others[name] = _other_name(name, dtype)
            code, shape = "U8", [*shape, dtype.itemsize]
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": [at, end]}
        at = end
    if others:
        notes[EXTENDED] = json.dumps(others)
    if checksum:
        notes[CHECKSUM] = _checksum(arrays)
    header = json.dumps({"__metadata__": notes, **entries}, separators=(",", ":"))
    data = header.encode()
    # Arrays begin at a multiple of 8 bytes.
    data += b" " * (-len(data) % 8)
    file.write(len(data).to_bytes(8, "little"))
    file.write(data)
    for name in entries:
        _write_array(file, on_host(arrays[name]))


def _order(arrays: AnyArrays) -> list[str]:
    """Wide dtypes first, so that every array is aligned."""
    return sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))


def _other_name(name: str, dtype: np.dtype[Any]) -> str:
    if OTHER_DTYPES.get(dtype.name) != dtype:
        raise ValueError(f"expected an array of numbers at {name}, received {dtype}")
    return dtype.name


def on_host(array: np.ndarray | jax.Array) -> np.ndarray:
    """An array in C order and little endian; a copy is dropped as soon as it is not used."""
    if isinstance(array, jax.Array) and array.is_fully_addressable:
        # The array itself would keep its copy on the host: another one of the same buffers.
        shards = [shard.data for shard in array.addressable_shards]
        array = jax.make_array_from_single_device_arrays(
            array.shape, array.sharding, shards
        )
    found = np.asarray(array, order="C")
    return found.astype(found.dtype.newbyteorder("<"), copy=False)


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


def _write_array(file: IO[bytes], array: np.ndarray) -> None:
    data = _bytes_of(array)
    for start in range(0, len(data), PIECE):
        file.write(data[start : start + PIECE].data)


def _checksum(arrays: AnyArrays) -> str:
    """SHA-256 of names, dtypes, shapes and values; the order in the file does not matter."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = on_host(arrays[name])
        described = [name, str(array.dtype), list(array.shape)]
        total.update(json.dumps(described).encode())
        total.update(_bytes_of(array).data)
    return total.hexdigest()


class Tensor(NamedTuple):
    """The place of an array in a file: bytes from `start` to `end` after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class Tensors:
    """An open safetensors file of `size` bytes: shapes are read at once, arrays by `load`.

    Raises FileError if the header is not valid or describes more bytes than the file holds.
    """

    def __init__(
        self,
        file: IO[bytes],
        size: int,
        path: FilePath,
    ) -> None:
        self.file = file
        self.path = path
        try:
            header = _read_header(file, size)
            self.metadata = _metadata(header.entries.pop("__metadata__", {}))
            self.tensors = {
                name: _tensor(name, entry) for name, entry in header.entries.items()
            }
            self._extend(self.metadata.get(EXTENDED, "{}"))
            # Where the arrays begin.
            self.start = 8 + header.length
            self._check_places(size - self.start)
        except (ValueError, TypeError, EOFError, RecursionError) as error:
            problem = f"its weights: {error or type(error).__name__}"
            raise damaged(path, problem) from error

    def _extend(self, noted: str) -> None:
        """Gives arrays that are stored as bytes their dtype and shape."""
        for name, dtype in parse(noted.encode()).items():
            stored = self.tensors.get(name)
            if not isinstance(dtype, str) or dtype not in OTHER_DTYPES:
                raise ValueError(
                    f"{name!r:.40} has dtype {dtype!r:.40}, which is unknown"
                )
            known = OTHER_DTYPES[dtype]
            as_bytes = (np.uint8, known.itemsize)
            if stored is None or (stored.dtype, *stored.shape[-1:]) != as_bytes:
                raise ValueError(f"{name!r:.40} has no bytes of {dtype}")
            shape = stored.shape[:-1]
            self.tensors[name] = stored._replace(dtype=known, shape=shape)

    def _check_places(self, size: int) -> None:
        """Raises ValueError unless the arrays fill the file without gaps and overlaps."""
        at = 0
        for name, tensor in self._in_order():
            start = tensor.start
            if start != at:
                raise ValueError(f"{name} starts at byte {start} instead of {at}")
            at = tensor.end
        if at > size:
            raise ValueError(f"the file ends {at - size} bytes early")
        if at < size:
            raise ValueError(f"the arrays end at byte {at} of {size}")

    def _in_order(self) -> list[tuple[str, Tensor]]:

        def place(item: tuple[str, Tensor]) -> tuple[int, int]:
            tensor = item[1]
            return tensor.start, tensor.end

        return sorted(self.tensors.items(), key=place)

    def load(
        self,
        checksum: Literal["required", "warn", "optional"] = "warn",
    ) -> Arrays:
        """All arrays, copied into memory. Raises FileError if the checksum differs.

        `checksum` decides what happens if the file has none, like files of other programs.
        """
        expected = self._expected_checksum(checksum)
        # Linux may grant more memory than there is, and end the process later.
        total = sum(tensor.end - tensor.start for tensor in self.tensors.values())
        most = memory()
        if total > most:
            raise FileError(
                f"expected weights that fit into the memory of this machine ({most} "
                f"bytes), received {self.path} with {total} bytes of them"
            )
        arrays = {name: self._load(tensor) for name, tensor in self._in_order()}
        if expected is not None and expected != _checksum(arrays):
            raise damaged(self.path, "the checksum of its weights differs")
        return arrays

    def _expected_checksum(self, checksum: str) -> str | None:
        expected = self.metadata.get(CHECKSUM)
        if expected is not None:
            return expected
        # Any other entry than those of fnn is a checksum whose name is damaged.
        known = {"format", EXTENDED, STRUCTURE}
        if self.metadata.get("format") == "fnn" and self.metadata.keys() - known:
            raise damaged(self.path, "the checksum of its weights is missing")
        if checksum == "required":
            raise FileError(
                f"expected a file with a checksum, received {self.path}, which has none: an "
                "older fnn or another program wrote it, and damage to it cannot be "
                "detected; remove it to start from the beginning"
            )
        if checksum == "warn":
            logging.getLogger("fnn").warning(
                "%s has no checksum (another program or an older fnn wrote it): its weights "
                "are used unverified; save them again to add one",
                self.path,
            )
        return None

    def _load(self, tensor: Tensor) -> np.ndarray:
        try:
            array = np.empty(tensor.shape, tensor.dtype)
        except (ValueError, MemoryError) as error:
            # ValueError: huge sizes whose product is 0.
            raise damaged(self.path, f"its weights: {error}") from error
        # Read in pieces into the array, without a second copy of it.
        data = _bytes_of(array)
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            try:
                piece[:] = np.frombuffer(_read(self.file, len(piece)), np.uint8)
            except EOFError as error:
                raise damaged(self.path, str(error)) from error
        return array


def load(path: FilePath) -> Arrays:
    """The arrays of a safetensors file with a checksum. Raises FileError if it is damaged."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return Tensors(file, size, path).load("required")


class _Header(NamedTuple):
    """The header of a safetensors file, and its length in bytes."""

    entries: dict[str, Any]
    length: int


def _read_header(file: IO[bytes], size: int) -> _Header:
    length = int.from_bytes(_read(file, 8), "little")
    if length > HEADER_LIMIT:
        raise ValueError(
            "not a safetensors file, which begins with the size of its header"
        )
    missing = length + 8 - size
    if missing > 0:
        raise ValueError(f"the file ends within its header, {missing} bytes early")
    return _Header(parse(_read(file, length)), length)


def _read(file: IO[bytes], count: int) -> bytes:
    """`count` bytes of a file. Raises EOFError if there are fewer."""
    data = file.read(count)
    missing = count - len(data)
    if missing > 0:
        raise EOFError(f"it ends {missing} bytes early")
    return data


def _metadata(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ValueError("expected metadata of strings")
    if not all(isinstance(value, str) for value in given.values()):
        raise ValueError("expected metadata of strings")
    return given


def _tensor(name: str, entry: object) -> Tensor:
    """A checked entry of the header. Raises ValueError."""
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or entry.keys() != keys:
        raise ValueError(f"{name} needs dtype, shape and data_offsets")
    code = entry["dtype"]
    if not isinstance(code, str) or code not in DTYPES:
        shown = str(code)[:40]
        raise ValueError(f"{name} has dtype {shown!r}, not one of {list(DTYPES)}")
    shape = entry["shape"]
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"{name} has a shape that is not a list of sizes")
    offsets = entry["data_offsets"]
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} has offsets that are not a list of 2 sizes")
    start, end = offsets
    dtype = DTYPES[code]
    needed = math.prod(shape) * dtype.itemsize
    if end - start != needed:
        raise ValueError(
            f"{name} takes {end - start} bytes, but its shape and dtype need {needed}"
        )
    return Tensor(dtype, tuple(shape), start, end)


def _are_sizes(given: object) -> TypeGuard[list[int]]:
    if not isinstance(given, list):
        return False
    return all(type(n) is int and 0 <= n < 2**63 for n in given)


def memory() -> int:
    """The memory of the machine in bytes; practically unlimited if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63
