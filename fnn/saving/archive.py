"""Saved models: a zip of JSON and safetensors, written atomically, read without executing code."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import jax
import numpy as np

from fnn.core import tree
from fnn.core.layer import Params, State
from fnn.runtime.files import write_atomically
from fnn.saving.description import Describable, describe
from fnn.saving.tensors import (
    HEADER_LIMIT,
    PIECE,
    FileError,
    FilePath,
    Tensor,
    Tensors,
    damaged,
    encode,
    parse,
)

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
MEMBERS = (MANIFEST, CONFIG, WEIGHTS)


class HasWeights(Protocol):
    """The weights of a model: its train state."""

    @property
    def params(self) -> Params: ...

    @property
    def state(self) -> State: ...


class Model(Describable, Protocol):
    """A model (`fnn.Model`, which this package must not import)."""

    train_state: Any


def save_model(
    model: Model,
    path: FilePath,
    overwrite: bool = True,
) -> None:
    """Writes the network, the weights and the `compile` arguments, like `model.save`.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> fnn.models.save_model(model, "model.fnn")
    >>> fnn.models.load_model("model.fnn").count_params()
    3
    """
    # Raises an error if there are no weights yet.
    model.train_state  # noqa: B018
    config = json.dumps(describe(model), indent=1, allow_nan=False).encode()
    weights = _encoded_weights(model)
    digests = {
        CONFIG: hashlib.sha256(config).hexdigest(),
        WEIGHTS: hashlib.sha256(weights).hexdigest(),
    }
    manifest = {"format": "fnn", "version": FORMAT, "sha256": digests}

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest).encode())
            archive.writestr(CONFIG, config)
            archive.writestr(WEIGHTS, weights)

    write_atomically(path, write, overwrite=overwrite)


def save_weights(
    model: Model,
    path: FilePath,
    overwrite: bool = True,
) -> None:
    """Writes the weights of `model` as a safetensors file."""
    data = _encoded_weights(model)
    write_atomically(path, lambda file: file.write(data), overwrite=overwrite)


def _encoded_weights(model: Model) -> bytes:
    return encode(named(model.train_state))


def load_weights(model: Model, path: FilePath) -> None:
    """Loads into `model` the weights of a file written by `save_weights` or `save`.

    Safetensors files of other programs are read if names and shapes match the model. They have no
    checksum, so damage to their values cannot be detected: a warning is logged (logger `fnn`).
    """
    with _open(path) as file:
        start = file.read(16)
        # A zip file: `save_model` wrote it.
        if start[:2] == b"PK":
            with _saved_in(file, path) as saved:
                return assign(model, saved.weights(model.train_state))
        if start[8:9] != b"{":
            _reject_foreign(path, start, [])
        file.seek(0)
        # Shapes are compared before memory is allocated.
        tensors = Tensors(file, file.size, path)
        _check_weights(tensors.tensors, model.train_state, path)
        assign(model, tensors.load())


class _BoundedReader(io.BufferedReader):
    """A file whose `read` never allocates more than the file holds or a header may take."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self.size - self.tell(), 0)
        if size is None or size < 0:
            size = left
        size = min(size, left)
        if size > HEADER_LIMIT:
            raise ValueError(f"{size} bytes, where {HEADER_LIMIT} are allowed")
        return super().read(size)


def _open(path: FilePath) -> _BoundedReader:
    """The file at `path`. Raises FileNotFoundError or IsADirectoryError if it is not a file."""
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.is_dir():
        raise IsADirectoryError(
            f"expected the path of a file, received the folder {target}"
        )
    if not target.is_file():
        raise FileNotFoundError(
            f"expected a file, received {target}, where there is none"
        )
    return _BoundedReader(target)


_FROM_KERAS = (
    "written by Keras; load it there, build the same layers in fnn, and call "
    "model.set_weights(keras_model.get_weights())"
)
_WEIGHTS_ONLY = (
    "which holds weights and no network; create the model, then call "
    "model.load_weights(path)"
)
_FROM_NUMPY = (
    "written by NumPy; load it by np.load, then call model.set_weights(arrays)"
)
_FROM_TORCH = (
    "written by PyTorch; save its tensors with safetensors, or call "
    "model.set_weights(arrays)"
)


def _reject_foreign(
    path: FilePath,
    start: bytes,
    members: list[str],
) -> None:
    """Raises FileError for a file of another program, or of weights only."""
    found = _foreign(start, members)
    if found:
        raise FileError(f"expected a file written by fnn, received {path}, {found}")


def _foreign(start: bytes, members: list[str]) -> str:
    if start.startswith(b"\x89HDF\r\n\x1a\n") or "metadata.json" in members:
        return _FROM_KERAS
    header_size = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header_size <= HEADER_LIMIT:
        return _WEIGHTS_ONLY
    if start.startswith(b"\x93NUMPY") or any(m.endswith(".npy") for m in members):
        return _FROM_NUMPY
    if any(m.endswith("data.pkl") for m in members):
        return _FROM_TORCH
    return ""


class SavedModel:
    """An open file written by `save_model`: reads `config` at once, `weights` when called."""

    def __init__(self, archive: zipfile.ZipFile, path: FilePath) -> None:
        self.archive = archive
        self.path = path
        self._check_members(archive.infolist())
        manifest = parse(archive.read(MANIFEST))
        if manifest.get("format") != "fnn":
            raise damaged(path, "it is not a file of fnn")
        version = manifest["version"]
        self.digests = manifest["sha256"]
        if type(version) is not int or version < 1:
            raise damaged(path, f"its version is {version!r}")
        if version > FORMAT:
            raise FileError(
                f"expected {path} in format {FORMAT} or older, received format {version}; "
                "install a newer fnn"
            )
        self._verify(CONFIG)
        self.config = parse(archive.read(CONFIG))

    def _check_members(self, infos: list[zipfile.ZipInfo]) -> None:
        names = tuple(info.filename for info in infos)
        if names != MEMBERS:
            received = f"{names!r:.200}"
            raise damaged(
                self.path,
                f"expected the members {MEMBERS} in this order, received {received}",
            )
        # Compressed members could be much larger than the file.
        for info in infos:
            stored = info.compress_type == zipfile.ZIP_STORED
            if not stored or info.file_size != info.compress_size:
                problem = f"expected {info.filename} to be stored uncompressed"
                raise damaged(self.path, problem)
            if info.flag_bits & 1:
                raise damaged(self.path, f"{info.filename} is encrypted")

    def _verify(self, name: str) -> None:
        total = hashlib.sha256()
        with self.archive.open(name) as member:
            # In pieces: weights may not fit twice into memory.
            while piece := member.read(PIECE):
                total.update(piece)
        if total.hexdigest() != self.digests[name]:
            raise damaged(self.path, f"the checksum of {name} differs")

    def weights(self, like: HasWeights) -> dict[str, np.ndarray]:
        """The arrays by their paths.

        Raises FileError if names, shapes or dtypes differ from `like`, before it allocates memory
        for them.
        """
        size = self.archive.getinfo(WEIGHTS).file_size
        # The file may be longer by its header at most.
        if size > tree.nbytes(named(like)) + HEADER_LIMIT:
            problem = f"its {size} bytes of weights are more than its network has"
            raise damaged(self.path, problem)
        self._verify(WEIGHTS)
        with self.archive.open(WEIGHTS) as member:
            tensors = Tensors(member, size, self.path)
            _check_weights(tensors.tensors, like, self.path)
            # The checksum in the manifest was verified above.
            return tensors.load("optional")


@contextlib.contextmanager
def opened(path: FilePath) -> Iterator[SavedModel]:
    """The saved model in a file. Raises FileError if its config is damaged."""
    with _open(path) as file, _saved_in(file, path) as saved:
        yield saved


@contextlib.contextmanager
def _saved_in(file: _BoundedReader, path: FilePath) -> Iterator[SavedModel]:
    """The saved model in an open file."""
    with refused(path):
        file.seek(0)
        start = file.read(16)
        _reject_foreign(path, start, [])
        with zipfile.ZipFile(file) as archive:
            _reject_foreign(path, start, archive.namelist())
            yield SavedModel(archive, path)


def unmakeable(path: FilePath, problem: str) -> FileError:
    """The error for an undamaged file whose network cannot be created."""
    return FileError(
        f"expected a network that can be created, received {path}, which fails: {problem}"
    )


@contextlib.contextmanager
def refused(
    path: FilePath,
    error_for: Callable[[FilePath, str], FileError] = damaged,
) -> Iterator[None]:
    """Turns any exception caused by the content of a file into a FileError."""
    try:
        yield
    except FileError:
        raise
    except RecursionError as error:
        raise error_for(path, "it is nested too deep") from error
    except Exception as error:
        # Errors of the disk are passed on.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise error_for(path, _shown(error)) from error


def _shown(error: Exception) -> str:
    name = type(error).__name__
    if not str(error):
        return name
    if isinstance(error, ValueError):
        return str(error)
    return f"{name}: {error}"


def named(weights: HasWeights) -> dict[str, jax.Array]:
    """Every leaf of params and state by its path in a file."""
    found = {}
    for part in ("params", "state"):
        for path, leaf in tree.flatten(getattr(weights, part)):
            found[_name(part, path)] = leaf
    return found


def _name(part: str, path: tree.Path) -> str:
    return "/".join((part, *path))


def _check_weights(
    found: Mapping[str, Tensor],
    weights: HasWeights,
    path: FilePath,
) -> None:
    """Raises FileError listing every difference of names, shapes and dtypes."""
    wanted = named(weights)
    lines = [f"{name}: missing in the file" for name in wanted if name not in found]
    lines += [f"{name}: not in the model" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        ours = wanted[name]
        theirs = found[name]
        if tuple(ours.shape) != theirs.shape or ours.dtype != theirs.dtype:
            lines.append(
                f"{name}: expected {ours.dtype}{list(ours.shape)}, "
                f"found {theirs.dtype}{list(theirs.shape)}"
            )
    if lines:
        raise FileError(
            f"expected weights for this model in {path}, received differences:\n  "
            + "\n  ".join(sorted(lines))
        )


def assign(model: Model, weights: dict[str, np.ndarray]) -> None:
    """Sets the weights of `model`, given by their paths."""
    now = model.train_state
    parts = {}
    for part in ("params", "state"):
        branch = getattr(now, part)
        leaves = [
            (path, tree.owned(weights[_name(part, path)]))
            for path, _ in tree.flatten(branch)
        ]
        parts[part] = tree.fill(branch, tree.unflatten(leaves))
    model.train_state = now.replace(**parts)
