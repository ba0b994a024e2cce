"""Sources: tensors by name, of a state dict or of safetensors files, read a few rows at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from fnn.saving.reading import refused
from fnn.saving.tensors import FileError, FilePath, Tensor, Tensors, damaged, parse

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# An index has about a hundred bytes for each tensor.
INDEX_LIMIT = 2**26


class Source(Protocol):
    """A tensor that is read in parts."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def read(self, rows: slice) -> np.ndarray:
        """These rows of the first axis; all of a scalar."""


Sources: TypeAlias = Mapping[str, Source]


class InMemory:
    """A tensor of PyTorch, or an array."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.shape: tuple[int, ...] = tuple(tensor.shape)
        self.dtype = tensor.dtype

    def read(self, rows: slice) -> np.ndarray:
        tensor = self.tensor
        if self.shape:
            tensor = tensor[rows]
        return as_array(tensor)


def as_array(tensor: Any) -> np.ndarray:
    """A tensor of PyTorch as an array of NumPy; arrays as they are."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    # NumPy does not know bfloat16 and float8, whose values float32 holds exactly.
    name = str(tensor.dtype)
    if name.startswith(("torch.bfloat", "torch.float8")):
        tensor = tensor.float()
    array: np.ndarray = tensor.numpy()
    return array


class InFile(NamedTuple):
    """A tensor of a safetensors file whose arrays begin at byte `start`."""

    file: IO[bytes]
    tensor: Tensor
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.tensor.dtype

    def read(self, rows: slice) -> np.ndarray:
        """The rows, mapped: they are in memory for as long as the array is used."""
        length = self.shape[0] if self.shape else 1
        start, stop, _ = rows.indices(length)
        count = stop - start
        shape = (count, *self.shape[1:]) if self.shape else ()
        size = self.tensor.end - self.tensor.start
        row = size // max(length, 1)
        if not row or count <= 0:
            return np.empty(shape, self.dtype)
        offset = self.start + self.tensor.start + start * row
        mapped = np.memmap(self.file, np.uint8, "r", offset, shape=(count * row,))
        return mapped.view(self.dtype).reshape(shape)


@contextlib.contextmanager
def opened(weights: FilePath | Mapping[str, Any]) -> Iterator[Sources]:
    """The tensors of a state dict, a safetensors file, an index of such, or a folder of a model."""
    if hasattr(weights, "state_dict"):
        raise TypeError(
            "expected a state dict, or the path of a file, received a module; pass "
            "model.state_dict()"
        )
    if isinstance(weights, Mapping):
        yield {str(name): InMemory(tensor) for name, tensor in weights.items()}
        return
    path = _file_of(weights)
    with contextlib.ExitStack() as files:
        if path.suffix == ".json":
            yield _of_shards(path, files)
        else:
            yield _of_file(path, files)


def _file_of(given: FilePath) -> Path:
    """The file that is meant. Raises FileNotFoundError."""
    path = Path(os.path.expanduser(os.fspath(given)))
    if path.is_dir():
        for name in (INDEX, SINGLE):
            if (path / name).is_file():
                return path / name
        for pickled in sorted(path.glob("*.bin")):
            return pickled
        raise FileNotFoundError(
            f"expected {SINGLE} or {INDEX} in the folder {path}, received neither; save the "
            "model there by model.save_pretrained(folder)"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a state dict, a safetensors file or a folder with one, received {path}, "
            "where there is none"
        )
    return path


def _of_file(path: Path, files: contextlib.ExitStack) -> Sources:
    file = files.enter_context(path.open("rb"))
    start = file.read(9)
    _refuse_pickles(path, start)
    file.seek(0)
    tensors = Tensors(file, os.fstat(file.fileno()).st_size, path)
    return {
        name: InFile(file, tensor, tensors.start)
        for name, tensor in tensors.tensors.items()
    }


def _refuse_pickles(path: Path, start: bytes) -> None:
    # A pickle by itself, or in a zip; the header of safetensors is an object of JSON.
    pickled = start[:1] == b"\x80" or start[:2] == b"PK"
    if pickled and start[8:9] != b"{":
        raise FileError(
            f"expected safetensors, received {path}, which holds a pickle: reading it would run "
            "what is in it; load it in PyTorch, then save it by "
            'safetensors.torch.save_model(model, "model.safetensors") or '
            "model.save_pretrained(folder), or pass model.state_dict() here"
        )


def _of_shards(path: Path, files: contextlib.ExitStack) -> Sources:
    """The tensors of all files that an index names; they must be those that it lists."""
    size = path.stat().st_size
    if size > INDEX_LIMIT:
        raise damaged(path, f"its {size} bytes are more than the {INDEX_LIMIT} allowed")
    with refused(path):
        listed = parse(path.read_bytes())["weight_map"]
        shards: dict[str, set[str]] = {}
        for name, shard in listed.items():
            shards.setdefault(_plain(shard), set()).add(name)
    found: dict[str, Source] = {}
    for shard, names in shards.items():
        target = path.parent / shard
        if not target.is_file():
            raise FileNotFoundError(
                f"expected the file {shard}, which {path} lists, received a folder without it"
            )
        tensors = _of_file(target, files)
        if tensors.keys() != names:
            differing = str(sorted(tensors.keys() ^ names))
            raise damaged(
                path, f"{shard} holds other tensors than listed: {differing:.200}"
            )
        found.update(tensors)
    return {name: found[name] for name in listed}


def _plain(name: object) -> str:
    """The name of a file in the folder of the index. Raises ValueError for a path."""
    if not isinstance(name, str) or name != os.path.basename(name) or "\\" in name:
        raise ValueError(
            f"expected the name of a file beside it, received {name!r:.80}"
        )
    if name in ("", ".", ".."):
        raise ValueError(f"expected the name of a file, received {name!r}")
    return name
