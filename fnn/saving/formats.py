"""Formats: the kinds of files, chosen by name when writing and by content when reading."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fnn.saving.reading import BoundedReader, open_file, refused
from fnn.saving.tensors import HEADER_LIMIT, FileError, FilePath
from fnn.saving.zips import Zip

Writer: TypeAlias = Callable[[Any, FilePath, bool], None]


@dataclass
class Format:
    """A kind of file. The modules that read and write it set its functions.

    `is_kind(start, members)` recognises it by its first 16 bytes and the names in its zip.
    `save_model(model, path, overwrite)` and `save_weights(model, path, overwrite)` write it if the
    name has one of these endings. `load_model(opened, custom_objects, compile)` returns a model,
    `load_weights(model, opened, skip_mismatch, strict)` a `LoadReport`. `check_model(model)` raises
    what `save_model` would, and for what it would leave out. `advice` follows on "a file ..." in
    the error where there is no function.
    """

    is_kind: Callable[[bytes, Sequence[str]], bool]
    advice: str
    models: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    save_model: Writer | None = None
    save_weights: Writer | None = None
    check_model: Callable[[Any], object] | None = None
    load_model: Callable[..., Any] | None = None
    load_weights: Callable[..., Any] | None = None


def _is_safetensors(start: bytes, members: Sequence[str]) -> bool:
    size = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and size <= HEADER_LIMIT


def _is_npz(start: bytes, members: Sequence[str]) -> bool:
    return bool(members) and all(name.endswith(".npy") for name in members)


FNN = Format(
    lambda start, members: "manifest.json" in members, "of fnn", models=(".fnn",)
)
SAFETENSORS = Format(
    _is_safetensors,
    "which holds weights and no network; create the model, then call model.load_weights(path)",
    weights=(".safetensors",),
)
NPZ = Format(
    _is_npz,
    "written by NumPy, which holds arrays and no network; create the model, then call "
    "model.load_weights(path)",
    weights=(".npz",),
)
KERAS = Format(
    lambda start, members: "metadata.json" in members, "of Keras", models=(".keras",)
)
HDF5 = Format(
    lambda start, members: start.startswith(b"\x89HDF\r\n\x1a\n"),
    "of Keras",
    models=(".h5", ".hdf5"),
    weights=(".weights.h5", ".h5", ".hdf5"),
)
_TORCH = Format(
    lambda start, members: any(m.endswith("data.pkl") for m in members),
    "written by PyTorch; load it there, then pass its state dict to "
    "fnn.saving.load_pytorch(model, state_dict, rules)",
)
_NPY = Format(
    lambda start, members: start.startswith(b"\x93NUMPY"),
    "written by NumPy; load it by np.load, then call model.set_weights(arrays)",
)
# Names of files that other programs read.
_FOREIGN = (".npy", ".onnx", ".pt", ".pth", ".bin", ".json", ".pkl")
FORMATS = (KERAS, HDF5, FNN, _TORCH, NPZ, _NPY, SAFETENSORS)


@dataclass
class Opened:
    """A file opened for reading: `zip` if it is one, and of which kind it is, None if unknown."""

    file: BoundedReader
    path: FilePath
    zip: Zip | None
    format: Format | None

    def reader(self, function: str) -> Callable[..., Any]:
        """The function of its format. Raises FileError, with advice, where it has none."""
        # Reading an unknown file says what is wrong in it.
        known = self.format
        if known is None:
            plain = function == "load_weights" and self.zip is None
            known = SAFETENSORS if plain else FNN
        found: Callable[..., Any] | None = getattr(known, function)
        if found is None:
            raise FileError(
                f"expected a file written by fnn, received {self.path}, {known.advice}"
            )
        return found


@contextlib.contextmanager
def opened(path: FilePath) -> Iterator[Opened]:
    """A file for reading, opened once. Raises FileError for what is wrong in it."""
    with open_file(path) as file, refused(path):
        start = file.read(16)
        file.seek(0)
        members = None
        if start.startswith(b"PK"):
            members = Zip(file, path)
        names = members.names if members is not None else ()
        kind = next((f for f in FORMATS if f.is_kind(start, names)), None)
        yield Opened(file, path, members, kind)


def of_name(
    path: FilePath, kind: Literal["models", "weights"], default: Format
) -> Format:
    """The format of a file of this name that is to hold `kind`.

    Raises ValueError for `.keras` as the name of weights, for that of weights as the name of a
    model, and for that of another library's file as either: no other program could read it.
    """
    name = os.fspath(path).lower()
    for candidate in FORMATS:
        write = candidate.save_model
        endings = candidate.models
        if kind == "weights":
            write, endings = candidate.save_weights, candidate.weights
        if write is not None and name.endswith(endings):
            return candidate
    if kind == "weights" and name.endswith(KERAS.models):
        raise ValueError(
            f"expected a name of a file of weights, received {path}, that of a whole model; use "
            "model.save, or a name that ends in .weights.h5 or .safetensors"
        )
    if kind == "weights" and name.endswith(_FOREIGN):
        raise ValueError(
            f"expected a name of a file of weights, received {path}; name it .safetensors, .npz or "
            ".weights.h5"
        )
    if kind == "models" and name.endswith(
        (*SAFETENSORS.weights, *NPZ.weights, *_FOREIGN)
    ):
        raise ValueError(
            f"expected a name of a file of a model, received {path}; name it .fnn or .keras, use "
            "model.save_weights for the weights alone, or model.export for a program"
        )
    return default
