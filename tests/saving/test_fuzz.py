"""Mutants of saved files: each loads as it was, or is refused as damaged, at once."""

import hashlib
import io
import json
import logging
import shutil
import warnings
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fnn
from fnn.layers import BatchNormalization, Dense
from fnn.models import model_from_json
from fnn.saving import load_pytorch
from fnn.saving.backups import FileStore
from fnn.saving.checkpoints import OrbaxStore
from fnn.saving.savers import Saver
from fnn.saving.tensors import FileError
from fnn.training.checkpoint import Snapshot
from tests.helpers import mutants
from tests.helpers.hostile import packed


def small():
    return fnn.Sequential([Dense(3, "relu", input_shape=(2,)), BatchNormalization()], seed=0)


class Target:
    """A file, or a folder of files, that mutants of it take the place of; and how it is loaded.

    `equal`: it has checksums, so that what loads is as it was.
    """

    def __init__(self, folder, equal=True):
        self.folder, self.equal = folder, equal
        self.model = small()
        self.expected = [np.array(a) for a in self.model.get_weights()]
        self.write()
        self.original = {
            p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    @property
    def path(self):
        return self.folder / self.name

    def write(self):
        getattr(self.model, self.saves)(self.path)

    def mutant(self, draw):
        for place, data in self.original.items():
            (self.folder / place).write_bytes(data)
        place = draw.choice(sorted(self.original))
        changed = self.changed(place.name, self.original[place], draw)
        (self.folder / place).write_bytes(changed)

    def changed(self, name, data, draw):
        return mutants.of_content(name, data, draw)

    def load(self):
        self.check(fnn.load(self.path).get_weights())

    def check(self, weights):
        if self.equal:
            for mine, array in zip(weights, self.expected, strict=True):
                np.testing.assert_array_equal(mine, array)


class Fnn(Target):
    name, saves = "m.fnn", "save"

    def write(self):
        self.model.compile(fnn.optimizers.SGD(0.1, momentum=0.5), "mse", metrics=["mae"])
        super().write()


class FnnMembers(Fnn):
    """With the right checksums of members that changed: made to harm."""

    def changed(self, name, data, draw):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        chosen = draw.choice(sorted(members.keys() - {"manifest.json"}))
        members[chosen] = mutants.of_content(chosen, members[chosen], draw)
        return packed(members)


class Keras(Target):
    name, saves = "m.keras", "save"

    def write(self):
        self.model.compile(fnn.optimizers.Adam(0.1), "mse", metrics=["mae"])
        super().write()


class KerasMembers(Keras):
    def changed(self, name, data, draw):
        return mutants.of_zip(data, draw)


class Weights(Target):
    saves = "save_weights"

    def load(self):
        self.model.load_weights(self.path)
        self.check(self.model.get_weights())


class KerasWeights(Weights):
    name = "m.weights.h5"

    def check(self, weights):
        # Without the name of its checksum it is a file of Keras, which has none.
        if b"fnn_sha256" in self.path.read_bytes():
            super().check(weights)


class LegacyWeights(KerasWeights):
    name = "m.h5"


class LegacyModel(Target):
    name, saves = "m.h5", "save"


class Safetensors(Weights):
    name = "m.safetensors"


class SafetensorsOfOthers(Weights):
    name = "m.safetensors"

    def write(self):
        super().write()
        save_file(load_file(self.path), self.path)


class Npz(Weights):
    name = "m.npz"


class NpzMembers(Npz):
    def changed(self, name, data, draw):
        return mutants.of_zip(data, draw)


class Json(Target):
    name = "m.json"

    def write(self):
        self.model.compile("adam", "mse", metrics=["mae"])
        self.path.write_text(self.model.to_json())

    def load(self):
        model_from_json(self.path.read_bytes().decode(errors="replace"))


class Shards(Target):
    name = "model.safetensors.index.json"

    def write(self):
        kernel = np.ones((3, 2), "float32")
        save_file({"a.weight": kernel}, self.folder / "1.safetensors")
        save_file({"a.bias": kernel[:, 0]}, self.folder / "2.safetensors")
        listed = {"a.weight": "1.safetensors", "a.bias": "2.safetensors"}
        self.path.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
        self.model = fnn.Sequential([Dense(3, name="a", input_shape=(2,))])

    def load(self):
        load_pytorch(self.model, self.folder, [("a", "a")])


class Backup(Target):
    name = "training.safetensors"

    def write(self):
        self.store = FileStore(self.folder)
        self.like = Snapshot(self.model.train_state)
        Saver(self.store, background=False).save(self.like)

    def load(self):
        found = Saver(self.store, background=False).newest(self.like)
        if found is not None:
            self.check([np.asarray(a) for a in jax.tree.leaves(found.state.params)])

    def check(self, arrays):
        if self.equal:
            for a, b in zip(arrays, jax.tree.leaves(self.model.params), strict=True):
                np.testing.assert_array_equal(a, b)


class Checkpoints(Backup):
    name = "epoch-0-step-0"

    def write(self):
        self.store = OrbaxStore(self.folder)
        self.like = Snapshot(self.model.train_state)
        Saver(self.store, background=False).save(self.like)

    def mutant(self, draw):
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        for place in self.original:
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
        super().mutant(draw)


class Folder(Target):
    name = "exported"

    def write(self):
        self.model.export(self.path, verbose=False)

    def load(self):
        fnn.export.load(self.path)


class FolderOfSums(Folder):
    """With the right checksums of files that changed."""

    def mutant(self, draw):
        super().mutant(draw)
        path = self.path / "signature.json"
        try:
            described = json.loads(path.read_bytes())
            for name in described["sha256"]:
                data = (self.path / name).read_bytes()
                described["sha256"][name] = hashlib.sha256(data).hexdigest()
            path.write_text(json.dumps(described))
        except Exception:
            return


TARGETS = {
    "fnn": (Fnn, True),
    "fnn-members": (FnnMembers, False),
    "keras": (Keras, True),
    "keras-members": (KerasMembers, False),
    "weights.h5": (KerasWeights, True),
    "h5": (LegacyWeights, True),
    "h5-model": (LegacyModel, False),
    "safetensors": (Safetensors, True),
    "safetensors-of-others": (SafetensorsOfOthers, False),
    "npz": (Npz, True),
    "npz-members": (NpzMembers, False),
    "json": (Json, False),
    "shards": (Shards, False),
    "backup": (Backup, True),
    "checkpoints": (Checkpoints, True),
    "export": (Folder, False),
    "export-of-sums": (FolderOfSums, False),
}


SLOW = {"checkpoints": 10, "keras-members": 50, "fnn-members": 50, "json": 50, "keras": 50}


def fuzz(name, folder, seeds):
    kind, equal = TARGETS[name]
    target = kind(folder, equal)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refusals = (FileError,)
            if name in ("json", "shards"):
                refusals = (ValueError, FileNotFoundError)
            return mutants.fuzzed(target.mutant, target.load, seeds, refusals=refusals)
    finally:
        logging.disable(logging.NOTSET)


# What Orbax leaves running when it fails.
ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@ignored
@pytest.mark.parametrize("name", TARGETS)
def test_some_mutants_load_as_they_were_or_are_refused(name, tmp_path):
    number = SLOW.get(name, 100)
    assert fuzz(name, tmp_path, range(number)).total() == number


@ignored
@pytest.mark.thorough
@pytest.mark.parametrize("name", TARGETS)
def test_ten_thousand_mutants_load_as_they_were_or_are_refused(name, tmp_path):
    assert fuzz(name, tmp_path, range(10_000)).total() == 10_000
