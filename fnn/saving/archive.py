"""Saved models: a zip of JSON and safetensors, written atomically, read without executing code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import IO, Protocol

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime.files import write_atomically
from fnn.runtime.version import VERSION
from fnn.runtime.warning import warn
from fnn.saving import formats, tensors, tree_files, trees, weights, zips
from fnn.saving.description import Describable, describe, left_out
from fnn.saving.formats import Opened
from fnn.saving.reading import refused
from fnn.saving.report import LoadReport
from fnn.saving.tensors import (
    HEADER_LIMIT,
    FileError,
    FilePath,
    Tensors,
    damaged,
    parse,
)
from fnn.saving.weights import Weighted
from fnn.saving.zips import MemberWriter, Zip

FORMAT = 2
MANIFEST = "manifest.json"
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
# The state of the training; files of format 1 have none.
TRAINING = "training.safetensors"
NEEDED = {MANIFEST, CONFIG, WEIGHTS}


class Model(Describable, Weighted, Protocol):
    """A model (`fnn.Model`, which this package must not import)."""

    def training_record(self) -> Tree: ...

    def take_training(self, record: Tree) -> None: ...


def save_model(
    model: Model,
    path: FilePath,
    overwrite: bool = True,
) -> None:
    """Writes the network, the weights and all of the training, like `model.save`.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> fnn.models.save_model(model, "model.fnn")
    >>> fnn.models.load_model("model.fnn").count_params()
    3
    """
    known = formats.of_name(path, "models", formats.FNN)
    assert known.save_model is not None
    known.save_model(model, path, overwrite)


def check_model(model: Model, path: FilePath) -> None:
    """Raises ValueError for what a file of this name cannot hold of a model."""
    known = formats.of_name(path, "models", formats.FNN)
    if known.check_model is not None:
        known.check_model(model)


def _check(model: Model) -> None:
    """Raises ValueError for a layer, or an argument of `compile`, without a registered name."""
    describe(model)
    missing = left_out(model)
    if missing:
        raise ValueError(f"{_incomplete(missing)}, or save the weights alone")


def _incomplete(missing: Mapping[str, str]) -> str:
    names = ", ".join(missing)
    return (
        f"expected compile arguments with registered names to save, received "
        f"{', '.join(missing.values())}; call fnn.register({names}, 'name') before, or pass "
        f"custom_objects with {names} to fnn.load"
    )


def _save(model: Model, path: FilePath, overwrite: bool) -> None:
    # Raises an error if there are no weights yet.
    arrays = weights.stored(model)
    described = describe(model)
    described["versions"] = {"fnn": VERSION, "jax": jax.__version__}
    config = json.dumps(described, indent=1, allow_nan=False).encode()
    record = model.training_record()
    missing = left_out(model)
    if missing:
        warn(f"{path} is not complete: {_incomplete(missing)}")
    digests: dict[str, str] = {}

    def write_manifest(file: IO[bytes]) -> None:
        manifest = {"format": "fnn", "version": FORMAT, "sha256": digests}
        file.write(json.dumps(manifest).encode())

    def write(file: IO[bytes]) -> None:
        members: dict[str, MemberWriter] = {
            CONFIG: lambda member: member.write(config),
            WEIGHTS: lambda member: tensors.write(member, arrays, checksum=False),
            TRAINING: lambda member: tree_files.write(member, record, checksum=False),
        }
        hashed = {name: _hashed(name, members[name], digests) for name in members}
        # The last one: then all digests are known.
        zips.write(file, {**hashed, MANIFEST: write_manifest})

    write_atomically(path, write, overwrite=overwrite)


def _hashed(name: str, write: MemberWriter, digests: dict[str, str]) -> MemberWriter:
    """`write`, which also notes the SHA-256 of what it has written."""

    def write_hashed(file: IO[bytes]) -> None:
        hashing = _Hashing(file)
        write(hashing)  # type: ignore[arg-type]
        digests[name] = hashing.total.hexdigest()

    return write_hashed


class _Hashing:
    """A file that takes the SHA-256 of what is written into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.total = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.total.update(data)
        return self.file.write(data)


class SavedModel:
    """An open file written by `save_model`: reads `config` at once, `weights` when called."""

    def __init__(self, archive: Zip, path: FilePath) -> None:
        self.archive = archive
        self.path = path
        names = set(archive.names)
        if names - {TRAINING} != NEEDED:
            expected = ", ".join((*sorted(NEEDED), TRAINING))
            received = f"{archive.names!r:.200}"
            problem = f"expected the members {expected}, received {received}"
            raise damaged(path, problem)
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

    def _verify(self, name: str) -> None:
        if self.archive.digest(name) != self.digests[name]:
            raise damaged(self.path, f"the checksum of {name} differs")

    def load_weights(
        self, model: Weighted, skip_mismatch: bool = False, strict: bool = True
    ) -> LoadReport:
        """Loads the weights into `model`; see `fnn.saving.weights.take`."""
        size = self.archive.size(WEIGHTS)
        # The file may be longer by its header at most.
        most = tree.nbytes(weights.named(model.train_state)) + HEADER_LIMIT
        if size > most and not model.stores_own and strict and not skip_mismatch:
            problem = f"its {size} bytes of weights are more than its network has"
            raise damaged(self.path, problem)
        self._verify(WEIGHTS)
        with self.archive.open(WEIGHTS) as member:
            found = Tensors(member, size, self.path)

            def load(names: Iterable[str]) -> dict[str, np.ndarray]:
                # The checksum in the manifest was verified above.
                return found.load("optional")

            return weights.take(
                model, found.tensors, load, self.path, skip_mismatch, strict
            )

    def load_training(self, model: Model) -> None:
        """Lets `model` continue the training; a file of format 1 says nothing of it."""
        if TRAINING not in self.archive.names:
            return
        self._verify(TRAINING)
        with self.archive.open(TRAINING) as member:
            found = Tensors(member, self.archive.size(TRAINING), self.path)
            packed = tree_files.read(found, "optional")
        with refused(self.path):
            model.take_training(trees.unpack(*packed))


def of_zip(opened: Opened) -> SavedModel:
    """The saved model in an open file. Raises FileError if its config is damaged."""
    archive = opened.zip
    if archive is None:
        archive = Zip(opened.file, opened.path)
    archive.check_stored()
    return SavedModel(archive, opened.path)


def _load_weights(
    model: Weighted, opened: Opened, skip_mismatch: bool, strict: bool
) -> LoadReport:
    return of_zip(opened).load_weights(model, skip_mismatch, strict)


formats.FNN.save_model = _save
formats.FNN.check_model = _check
formats.FNN.load_weights = _load_weights
