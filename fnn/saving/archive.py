"""A saved model: a zip of JSON and safetensors, written whole or not at all, read as data."""

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
from typing import Any

import numpy as np

from fnn.core import tree
from fnn.runtime.files import write_whole
from fnn.saving.description import describe
from fnn.saving.tensors import (
    HEADER_LIMIT,
    PIECE,
    FileError,
    Tensors,
    damaged,
    encode,
    parse,
)

FORMAT = 1
MEMBERS = ("manifest.json", "config.json", "weights.safetensors")


def save_model(model: Any, path: Any, overwrite: bool = True) -> None:
    """Writes `model`, its network, its weights, how it was compiled: what `model.save` does.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> fnn.models.save_model(model, "model.fnn")
    >>> fnn.models.load_model("model.fnn").count_params()
    3
    """
    model.train_state  # noqa: B018 - says so if there are no weights yet
    config = json.dumps(describe(model), indent=1, allow_nan=False).encode()
    weights = _weights(model)
    digests = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in (("config.json", config), ("weights.safetensors", weights))
    }
    manifest = json.dumps(
        {"format": "fnn", "version": FORMAT, "sha256": digests}
    ).encode()

    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in zip(MEMBERS, (manifest, config, weights), strict=True):
                archive.writestr(name, data)

    write_whole(path, write, overwrite=overwrite)


def save_weights(model: Any, path: Any, overwrite: bool = True) -> None:
    """Writes the weights of `model` as one safetensors file."""
    data = _weights(model)
    write_whole(path, lambda file: file.write(data), overwrite=overwrite)


def _weights(model: Any) -> bytes:
    return encode(named(model.train_state))


def load_weights(model: Any, path: Any) -> None:
    """Gives `model` the weights of a file by `save_weights` or `save`.

    Safetensors files of other programs are read if names and shapes are those of the model. They
    have no checksum, so damage to their values goes unnoticed: a warning is logged (`fnn`).
    """
    with _open(path) as file:
        start = file.read(16)
        if start[:2] == b"PK":
            with _saved_in(file, path) as saved:
                return assign(model, saved.weights(model.train_state))
        if start[8:9] != b"{":
            _refuse_others(path, start, [])
        file.seek(0)
        tensors = Tensors(file, file.size, path)
        _check_weights(tensors.tensors, model.train_state, path)
        assign(model, tensors.load())


class _Pieces(io.BufferedReader):
    """A file that is never asked for more than it has, nor for more at once than a header takes."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self.size - self.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        if size > HEADER_LIMIT:
            raise ValueError(f"{size} bytes where {HEADER_LIMIT} are allowed")
        return super().read(size)


def _open(path: Any) -> _Pieces:
    """The file at `path`. Raises FileError for those that others wrote, saying what they are."""
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.is_dir():
        raise IsADirectoryError(
            f"expected the path of a file, received the folder {target}"
        )
    if not target.is_file():
        raise FileNotFoundError(
            f"expected a file, received {target}, where there is none"
        )
    return _Pieces(target)


_OF_KERAS = (
    "written by Keras; load it there, and give a model of the same layers "
    "model.set_weights(keras_model.get_weights())"
)
_WEIGHTS_ALONE = (
    "which holds weights and no network; make the model, and model.load_weights(path)"
)
_OF_NUMPY = "written by NumPy; load it by np.load, then model.set_weights(arrays)"
_OF_TORCH = (
    "written by PyTorch; save its tensors by safetensors, or model.set_weights(arrays)"
)


def _refuse_others(path: Any, start: bytes, members: list[str]) -> None:
    """Raises FileError for a file that another program wrote, or one of weights alone."""
    header = int.from_bytes(start[:8], "little")
    for met, what in (
        (
            start.startswith(b"\x89HDF\r\n\x1a\n") or "metadata.json" in members,
            _OF_KERAS,
        ),
        (start[8:9] == b"{" and header <= HEADER_LIMIT, _WEIGHTS_ALONE),
        (
            start.startswith(b"\x93NUMPY") or any(m.endswith(".npy") for m in members),
            _OF_NUMPY,
        ),
        (any(m.endswith("data.pkl") for m in members), _OF_TORCH),
    ):
        if met:
            raise FileError(f"expected a file that fnn wrote, received {path}, {what}")


class SavedModel:
    """What an open file by `save_model` holds: its `config`, and `weights` when asked for."""

    def __init__(self, archive: zipfile.ZipFile, path: Any) -> None:
        self.archive, self.path = archive, path
        infos = archive.infolist()
        names = tuple(info.filename for info in infos)
        if names != MEMBERS:
            raise damaged(
                path,
                f"expected the members {MEMBERS} in this order, received {names!r:.200}",
            )
        for info in infos:
            if (
                info.compress_type != zipfile.ZIP_STORED
                or info.file_size != info.compress_size
            ):
                raise damaged(
                    path, f"expected {info.filename} stored as it is, not compressed"
                )
            if info.flag_bits & 1:
                raise damaged(path, f"{info.filename} is encrypted")
        described = parse(archive.read(MEMBERS[0]))
        if described.get("format") != "fnn":
            raise damaged(path, "it is not a file of fnn")
        version, self.digests = described["version"], described["sha256"]
        if type(version) is not int or version < 1:
            raise damaged(path, f"its version is {version!r}")
        if version > FORMAT:
            raise FileError(
                f"expected {path} in format {FORMAT} or older, received format {version}; "
                "install a newer fnn"
            )
        self._verify(MEMBERS[1])
        self.config = parse(archive.read(MEMBERS[1]))

    def _verify(self, name: str) -> None:
        total = hashlib.sha256()
        with self.archive.open(name) as member:
            while piece := member.read(PIECE):
                total.update(piece)
        if total.hexdigest() != self.digests[name]:
            raise damaged(self.path, f"the checksum of {name} differs")

    def weights(self, like: Any) -> dict[str, np.ndarray]:
        """The arrays by their paths, which are those of the state `like`.

        Raises FileError, before anything of their size is allocated, if they are others.
        """
        size = self.archive.getinfo(MEMBERS[2]).file_size
        if size > tree.nbytes(named(like)) + HEADER_LIMIT:
            raise damaged(
                self.path, f"its {size} bytes of weights are more than its network has"
            )
        self._verify(MEMBERS[2])
        with self.archive.open(MEMBERS[2]) as member:
            tensors = Tensors(member, size, self.path)
            _check_weights(tensors.tensors, like, self.path)
            return tensors.load("spared")  # the manifest has one


@contextlib.contextmanager
def opened(path: Any) -> Iterator[SavedModel]:
    """A saved model, its configuration verified. Raises FileError for one that is not whole."""
    with _open(path) as file, _saved_in(file, path) as saved:
        yield saved


@contextlib.contextmanager
def _saved_in(file: _Pieces, path: Any) -> Iterator[SavedModel]:
    """The saved model in an open file."""
    with refused(path):
        file.seek(0)
        start = file.read(16)
        _refuse_others(path, start, [])
        with zipfile.ZipFile(file) as archive:
            _refuse_others(path, start, archive.namelist())
            yield SavedModel(archive, path)


def unmakeable(path: Any, what: str) -> FileError:
    """The error for a whole file whose network cannot be made."""
    return FileError(
        f"expected a network that can be made, received {path}, which fails: {what}"
    )


@contextlib.contextmanager
def refused(
    path: Any, says: Callable[[Any, str], FileError] = damaged
) -> Iterator[None]:
    """Turns whatever the content of a file makes fail into the one error of files."""
    try:
        yield
    except FileError:
        raise
    except RecursionError as error:
        raise says(path, "it is nested too deep") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of the disk
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise says(
            path, f"{kind}{error}" if str(error) else type(error).__name__
        ) from error


def named(state: Any) -> dict[str, Any]:
    """Every leaf of params and state by its path in a file."""
    return {
        "/".join((part, *where)): leaf
        for part, branch in (("params", state.params), ("state", state.state))
        for where, leaf in tree.flatten(branch)
    }


def _check_weights(found: Mapping[str, Any], state: Any, path: Any) -> None:
    """Raises FileError listing every difference of names, shapes and dtypes."""
    wanted = named(state)
    lines = [f"{name}: missing in the file" for name in wanted if name not in found]
    lines += [f"{name}: not in the model" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        ours, theirs = wanted[name], found[name]
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


def assign(model: Any, weights: dict[str, np.ndarray]) -> None:
    """Puts weights by their paths into `model`."""
    now = model.train_state
    parts = {
        part: tree.fill(
            branch,
            tree.unflatten(
                (where, tree.owned(weights["/".join((part, *where))]))
                for where, _ in tree.flatten(branch)
            ),
        )
        for part, branch in (("params", now.params), ("state", now.state))
    }
    model.train_state = now.replace(**parts)
