"""Arrays as a safetensors file: written with a checksum, read in pieces after every check."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

CHECKSUM = (
    "fnn_sha256"  # in the metadata of the header, which other programs leave alone
)
HEADER_LIMIT = 100_000_000  # of the format
PIECE = 2**20

Arrays = dict[str, np.ndarray]

DTYPES: dict[str, np.dtype[Any]] = {
    code: np.dtype(dtype)
    for code, dtype in {
        "BOOL": bool, "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
        "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
        "C64": "<c8", "BF16": jnp.bfloat16, "F8_E4M3": jnp.float8_e4m3fn,
        "F8_E5M2": jnp.float8_e5m2,
    }.items()
}  # fmt: skip


class FileError(ValueError):
    """A file that is damaged, of another format, or does not fit the model."""


def damaged(path: Any, what: str) -> FileError:
    """The error for a file that is not whole."""
    return FileError(
        f"expected a whole file, received {path}, which is damaged or not a saved model: {what}"
    )


def parse(data: bytes) -> dict[str, Any]:
    """A JSON object, strictly: no key twice, no NaN or infinity. Raises ValueError."""
    parsed = json.loads(
        data,
        object_pairs_hook=_no_key_twice,
        parse_constant=_finite,
        parse_float=_finite,
    )
    if not isinstance(parsed, dict):
        raise ValueError("expected a JSON object")
    return parsed


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in a JSON object")
    return found


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"the number {number} is not finite")
    return value


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a safetensors file of these arrays, in whose header is their checksum."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(arrays, metadata={"format": "fnn", CHECKSUM: _checksum(arrays)})


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, dtypes, shapes and values, whatever their order in the file."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        total.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


class Tensor(NamedTuple):
    """Where an array stands in a file: its bytes from `start` to `end` after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class Tensors:
    """The arrays in an open safetensors file of `size` bytes: first their shapes, then `load`.

    Raises FileError for a header that is not one of safetensors or says more than the file holds.
    """

    def __init__(self, file: Any, size: int, path: Any) -> None:
        self.file, self.path = file, path
        try:
            header, length = _header(file, size)
            self.metadata = _metadata(header.pop("__metadata__", {}))
            self.tensors = {
                name: _tensor(name, entry) for name, entry in header.items()
            }
            self._check_places(size - 8 - length)
        except (ValueError, TypeError, EOFError, RecursionError) as error:
            raise damaged(
                path, f"its weights: {error or type(error).__name__}"
            ) from error

    def _check_places(self, size: int) -> None:
        """Raises ValueError unless the arrays fill the file, one after the other."""
        at = 0
        for name, tensor in self._in_order():
            if tensor.start != at:
                raise ValueError(
                    f"{name} starts at byte {tensor.start} instead of {at}"
                )
            at = tensor.end
        if at > size:
            raise ValueError(f"the file ends {at - size} bytes early")
        if at < size:
            raise ValueError(f"the arrays end at byte {at} of {size}")

    def _in_order(self) -> list[tuple[str, Tensor]]:
        return sorted(
            self.tensors.items(), key=lambda item: (item[1].start, item[1].end)
        )

    def load(
        self, checksum: Literal["required", "noted", "spared"] = "noted"
    ) -> Arrays:
        """Every array, in memory of its own. Raises FileError if the checksum differs.

        Files of other programs have none: that is an error, or logged as a warning, or all right.
        """
        claimed = self._claimed(checksum)
        total = sum(tensor.end - tensor.start for tensor in self.tensors.values())
        if total > (memory := _memory()):
            raise FileError(
                f"expected weights that fit into the memory of this machine ({memory} bytes), "
                f"received {self.path} with {total} bytes of them"
            )
        arrays = {name: self._load(tensor) for name, tensor in self._in_order()}
        if claimed is not None and claimed != _checksum(arrays):
            raise damaged(self.path, "the checksum of its weights differs")
        return arrays

    def _claimed(self, checksum: str) -> str | None:
        claimed = self.metadata.get(CHECKSUM)
        if claimed is not None:
            return claimed
        # fnn writes nothing but the format and the checksum: another entry is a checksum whose name
        # is damaged.
        if self.metadata.get("format") == "fnn" and len(self.metadata) > 1:
            raise damaged(self.path, "the checksum of its weights is missing")
        if checksum == "required":
            raise FileError(
                f"expected a file with a checksum, received {self.path}, which has none: an older "
                "fnn or another program wrote it, and damage to it would go unnoticed; remove it "
                "to start anew"
            )
        if checksum == "noted":
            logging.getLogger("fnn").warning(
                "%s has no checksum (another program or an older fnn wrote it): its weights are "
                "used unverified; save them again to add one",
                self.path,
            )
        return None

    def _load(self, tensor: Tensor) -> np.ndarray:
        try:
            array = np.empty(tensor.shape, tensor.dtype)
        except (
            ValueError,
            MemoryError,
        ) as error:  # ValueError of sizes beside one that is 0
            raise damaged(self.path, f"its weights: {error}") from error
        data = array.reshape(-1).view(np.uint8)
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            try:
                piece[:] = np.frombuffer(_read(self.file, len(piece)), np.uint8)
            except EOFError as error:
                raise damaged(self.path, str(error)) from error
        return array


def load(path: Any) -> Arrays:
    """The arrays of a safetensors file that has a checksum. Raises FileError if it is not whole."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return Tensors(file, size, path).load("required")


def _header(file: Any, size: int) -> tuple[dict[str, Any], int]:
    """The header of a file of `size` bytes, and how many of them it takes."""
    length = int.from_bytes(_read(file, 8), "little")
    if length > HEADER_LIMIT:
        raise ValueError(
            "not a safetensors file, which begins with the size of its header"
        )
    if length > size - 8:
        raise ValueError(
            f"the file ends within its header, {length + 8 - size} bytes early"
        )
    return parse(_read(file, length)), length


def _read(file: Any, count: int) -> bytes:
    """So many bytes of a file. Raises EOFError if there are fewer."""
    data: bytes = file.read(count)
    if len(data) < count:
        raise EOFError(f"it ends {count - len(data)} bytes early")
    return data


def _metadata(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(
        isinstance(v, str) for v in given.values()
    ):
        raise ValueError("expected metadata of strings")
    return given


def _tensor(name: str, entry: Any) -> Tensor:
    """An entry of the header, after every check that it allows alone."""
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise ValueError(f"{name} needs dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(
            f"{name} is of dtype {str(code)[:40]!r}, which is none of {list(DTYPES)}"
        )
    if (
        not _are_sizes(shape)
        or not _are_sizes(offsets)
        or len(offsets) != 2
        or len(shape) > 32
    ):
        raise ValueError(f"{name} has a shape or offsets that are no lists of sizes")
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[code].itemsize:
        raise ValueError(
            f"{name} takes {end - start} bytes, which its shape and dtype do not"
        )
    return Tensor(DTYPES[code], tuple(shape), start, end)


def _are_sizes(given: Any) -> bool:
    return isinstance(given, list) and all(
        type(n) is int and 0 <= n < 2**63 for n in given
    )


def _memory() -> int:
    """How many bytes of memory the machine has; beyond all files where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63
