"""Saved models: the same network and numbers back, whole files only, nothing executed."""

import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Concatenate, Dense, Dropout, Embedding
from fnn.saving import formats
from fnn.saving.tensors import FileError

ROOT = Path(__file__).parents[2]


def task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def trained(units=3):
    model = fnn.Sequential(
        [Dense(units, "relu", input_shape=(4,)), BatchNormalization(), Dropout(0.1), Dense(1)],
        seed=0,
    )
    model.compile(fnn.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(*task(), verbose=0)
    return model


def several_inputs():
    a, b = fnn.Input((4,), name="a"), fnn.Input((None,), dtype="int32", name="b")
    joined = Concatenate()([a, fnn.layers.GlobalAveragePooling1D()(Embedding(7, 3)(b))])
    model = fnn.Model({"a": a, "b": b}, {"y": Dense(2)(joined)}, seed=0)
    model.compile("adam", {"y": "mse"})
    return model


def test_a_loaded_model_is_the_same(tmp_path):
    model = trained()
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert again.layer == model.layer
    assert type(again) is fnn.Sequential
    np.testing.assert_array_equal(
        again.predict(task()[0], verbose=0), model.predict(task()[0], verbose=0)
    )
    assert again.evaluate(*task(), verbose=0) == model.evaluate(*task(), verbose=0)
    assert again.optimizer == model.optimizer
    again.fit(*task(), verbose=0)


@pytest.mark.slow
def test_a_graph_of_dicts_is_the_same(tmp_path):
    model = several_inputs()
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    x = {"a": task()[0], "b": np.arange(320).reshape(64, 5) % 7}
    np.testing.assert_array_equal(
        again.predict(x, verbose=0)["y"], model.predict(x, verbose=0)["y"]
    )
    assert again.input_shape == {"a": (None, 4), "b": (None, None)}


@pytest.mark.slow
def test_weights_alone_and_their_differences(tmp_path):
    model, other = trained(), trained(5)
    model.save_weights(tmp_path / "model.safetensors")
    fresh = fnn.Sequential(model.layer.layers)
    fresh.build((None, 4))
    fresh.load_weights(tmp_path / "model.safetensors")
    for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = other.get_weights()
    with pytest.raises(
        FileError, match=r"params/dense/kernel: expected float32\[4, 5\], found"
    ) as e:
        other.load_weights(tmp_path / "model.safetensors")
    assert len(str(e.value).splitlines()) == 1 + 2 + 4 + 1  # every path that differs
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    small = fnn.Sequential([Dense(3, input_shape=(4,))])
    with pytest.raises(FileError, match="params/dense_1/bias: not in the model"):
        small.load_weights(tmp_path / "model.safetensors")


def test_custom_layers_are_found_by_name_only(tmp_path):
    class Doubled(fnn.Layer):
        factor: float = 2.0

        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x * self.factor, state

    model = fnn.Sequential([Doubled(3.0, input_shape=(2,))])
    with pytest.raises(ValueError, match=r"received Doubled; put @fnn\.register"):
        model.save(tmp_path / "model.fnn")
    assert list(tmp_path.iterdir()) == []
    fnn.register(Doubled)
    try:
        model.save(tmp_path / "model.fnn")
        assert fnn.load(tmp_path / "model.fnn").layer == model.layer
    finally:
        from fnn.core import registry

        del registry.TABLE["layer", "Doubled"]
    with pytest.raises(ValueError, match="'Doubled'"):
        fnn.load(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn", custom_objects={"Doubled": Doubled})
    assert again.predict(np.ones((1, 2)), verbose=0).tolist() == [[3.0, 3.0]]


def test_a_function_of_others_is_saved_by_a_name(tmp_path):
    from fnn.core import registry

    layers = [Dense(2, jax.nn.gelu, input_shape=(4,)), fnn.layers.Lambda(lambda x: 2 * x)]
    model, path = fnn.Sequential(layers), tmp_path / "model.fnn"
    way = r"put @fnn\.register above its definition, or call fnn\.register\(function, 'name'\)"
    with pytest.raises(ValueError, match=rf"received gelu; pass activation='gelu', .*{way}"):
        model.save(path)
    before = dict(registry.TABLE)
    try:
        fnn.register(jax.nn.gelu)
        with pytest.raises(ValueError, match=rf"received <lambda>; {way}"):
            model.save(path)
        with pytest.raises(ValueError, match=r"expected a name for <function .*, received none"):
            fnn.register(layers[1].function)
        fnn.register(layers[1].function, "twice")
        model.save(path)
        again = fnn.load(path)
        assert again.layer == model.layer
        np.testing.assert_array_equal(
            again.predict(task()[0], verbose=0), model.predict(task()[0], verbose=0)
        )
    finally:
        registry.TABLE.clear()
        registry.TABLE.update(before)


def test_special_numbers_come_back_bit_for_bit(tmp_path):
    model = fnn.Sequential([Dense(4, input_shape=(2,))])
    values = np.array(
        [[0x7FC00001, 0x80000000, 1, 0x7F800000], [0xFF800000, 0x007FFFFF, 0x3F800000, 0]], "uint32"
    ).view("float32")
    model.params = {"dense": {"kernel": jax.numpy.asarray(values), "bias": np.zeros(4, "float32")}}
    model.save(tmp_path / "m")
    found = fnn.load(tmp_path / "m").get_weights()[0]
    np.testing.assert_array_equal(found.view("uint32"), values.view("uint32"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.fnn"
    trained().save(path)
    return path.read_bytes()


def loads(data, tmp_path):
    path = tmp_path / "damaged.fnn"
    path.write_bytes(data)
    return fnn.load(path)


def test_every_cut_is_noticed(saved, tmp_path):
    for length in range(0, len(saved), 97):
        with pytest.raises(FileError, match="damaged"):
            loads(saved[:length], tmp_path)


def start_of(info, data):
    """Where a member begins: after its header, its name and what is noted for large ones."""
    at = info.header_offset
    name, more = struct.unpack("<HH", data[at + 26 : at + 30])
    return at + 30 + name + more


@pytest.mark.slow
def test_every_flipped_byte_of_a_member_is_noticed(saved, tmp_path):
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        spans = [(start_of(info, saved), info.file_size) for info in archive.infolist()]
    positions = [at for start, size in spans for at in range(start, start + size, 31)]
    assert len(positions) > 100
    for at in positions:
        data = bytearray(saved)
        data[at] ^= 1 << (at % 8)
        with pytest.raises(FileError):
            loads(bytes(data), tmp_path)


def rewritten(saved, change):
    """The archive with `change` made to its members, checksums made right again."""
    import hashlib

    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    manifest = json.loads(members["manifest.json"])
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256(members[name]).hexdigest()
    members["manifest.json"] = json.dumps(manifest).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def edit(path, value):
    def change(members):
        config = json.loads(members["config.json"])
        at = config
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
        members["config.json"] = json.dumps(config).encode()

    return change


HOSTILE = {
    "unknown layer": edit(["layer", "layers", 0, "layer"], "os.system"),
    "a function for a layer": edit(["layer", "layers", 0], {"activation": "relu"}),
    "a module": edit(["layer"], {"module": "os", "class_name": "system", "config": {}}),
    "a Lambda of bytes": edit(
        ["layer", "layers", 0], {"layer": "Lambda", "function": "__import__"}
    ),
    "unknown field": edit(["layer", "layers", 0, "evil"], 1),
    "wrong type": edit(["layer", "layers", 0, "units"], "many"),
    "negative": edit(["layer", "layers", 0, "units"], -1),
    "empty": edit(["layer", "layers", 0], {}),
    "no inputs": edit(["inputs"], 7),
    "deep": edit(["layer", "layers", 0, "units"], json.loads("[" * 500 + "]" * 500)),
    "extra member": lambda members: members.update({"evil.py": b"print('hello')"}),
    "no config": lambda members: members.update({"config.json": b"[]"}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_errors_and_nothing_is_imported(case, saved, tmp_path, monkeypatch):
    data = rewritten(saved, HOSTILE[case])
    before = set(sys.modules)
    with pytest.raises((ValueError, TypeError)):
        loads(data, tmp_path)
    assert set(sys.modules) == before


def test_a_newer_format_says_so(saved, tmp_path):
    def newer(members):
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps({**manifest, "version": 99}).encode()

    with pytest.raises(FileError, match="install a newer fnn"):
        loads(rewritten(saved, newer), tmp_path)


KILLED = """
import os, sys, fnn, numpy as np
for number in range(5):
    child = os.fork()  # before JAX has threads
    if not child:
        dense = fnn.layers.Dense(700, kernel_initializer="zeros", input_shape=(700,))
        model = fnn.Sequential([dense])
        model.set_weights([np.full_like(w, number) for w in model.get_weights()])
        print(os.getpid(), flush=True)
        while True:
            model.save(sys.argv[1])
    os.waitpid(child, 0)
print(fnn.load(sys.argv[2]).count_params())
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    """And a process that has made no model reads one: it needs nothing but the file."""
    path, generator = tmp_path / "model.fnn", random.Random(0)
    model, other = trained(), tmp_path / "other.fnn"
    model.save(other)
    arguments = [sys.executable, "-W", "ignore", "-c", KILLED, str(path), str(other)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        for number in range(5):
            child = int(parent.stdout.readline())
            time.sleep(0.05 if number == 0 else 0)
            while not path.exists():
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            weights = fnn.load(path).get_weights()[0]
            assert len(np.unique(weights)) == 1
        assert int(parent.stdout.read()) == model.count_params()
        assert parent.wait() == 0


WRITING = """
import os, sys
from fnn.runtime.files import write_atomically

def slowly(file):
    file.write(b"half")
    file.flush()
    os.write(1, b"writing\\n")  # whole, beside the other's
    sys.stdin.readline()
    file.write(b" and whole")

living = not os.fork()  # before JAX has threads
write_atomically(sys.argv[1 + living], slowly)
print("living" if living else "killed", flush=True)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_nothing_of_a_living_one(tmp_path):
    """Two processes are in the middle of a write; the second is a child of the first."""
    paths = [str(tmp_path / name) for name in ("killed", "living")]
    arguments = [sys.executable, "-W", "ignore", "-c", WRITING, *paths]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    mine = tmp_path / ".fnn-notes.tmp"
    with subprocess.Popen(arguments, **pipes, text=True, cwd=ROOT) as first:
        assert [first.stdout.readline() for _ in range(2)] == ["writing\n"] * 2
        first.kill()
        first.wait()
        mine.write_text("of a user")
        assert len(list(tmp_path.glob(".fnn-*-*.tmp"))) == 2
        fnn.runtime.files.write_atomically(tmp_path / "new", lambda file: file.write(b"new"))
        assert len(list(tmp_path.glob(".fnn-*-*.tmp"))) == 1
        first.stdin.write("go on\n")
        first.stdin.flush()
        assert first.stdout.read() == "living\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "living", "new"]
    assert (tmp_path / "living").read_bytes() == b"half and whole"


def test_a_temporary_file_that_is_cleaned_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    files, lock = fnn.runtime.files, fnn.runtime.files.fcntl.flock
    asked = []

    def late(file, how):
        asked.append(file.name)
        if len(asked) == 1:  # another process cleans the folder just now
            os.unlink(file.name)
        lock(file, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    files.write_atomically(tmp_path / "new", lambda file: file.write(b"new"))
    assert len(set(asked)) == 2
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("new", b"new")]


@pytest.mark.parametrize("fault", ["no locks in the system", "no locks in the file system"])
def test_files_are_written_where_there_are_no_locks(fault, tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    files = fnn.runtime.files
    (tmp_path / f"{files._prefix()}old.tmp").touch()
    if fault == "no locks in the system":
        monkeypatch.setattr(files, "fcntl", None)
    else:
        monkeypatch.setattr(files.fcntl, "flock", refuse)
    files.write_atomically(tmp_path / "new", lambda file: file.write(b"new"))
    assert (tmp_path / "new").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2  # nobody can tell whose the old one is


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.fnn"
    model = trained()
    model.save(path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        trained(5).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_paths(tmp_path, monkeypatch):
    model = trained()
    with pytest.raises(FileNotFoundError, match="existing folder"):
        model.save(tmp_path / "missing" / "m.fnn")
    with pytest.raises(IsADirectoryError, match="folder"):
        model.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a file"):
        fnn.load(tmp_path / "missing.fnn")
    odd = tmp_path / "a name with spaces é"
    model.save(odd)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(odd, overwrite=False)
    os.chmod(odd, 0o640)
    model.save(odd)
    assert odd.stat().st_mode & 0o777 == 0o640
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)  # it is the whole process's, other threads included
        model.save(tmp_path / "new.fnn")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "new.fnn").stat().st_mode & 0o777 == 0o640
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save("~/home.fnn")
    assert (tmp_path / "home.fnn").exists()


def test_a_file_of_weights_is_opened_once(tmp_path, monkeypatch):
    """Another file may stand at the path a moment later."""
    opened, open_file = [], formats.open_file
    monkeypatch.setattr(formats, "open_file", lambda path: opened.append(path) or open_file(path))
    model = fnn.Sequential([Dense(1, input_shape=(2,))], seed=0)
    for save in (model.save, model.save_weights):
        save(tmp_path / "m")
        other = fnn.Sequential([Dense(1, input_shape=(2,))], seed=1)
        other.load_weights(tmp_path / "m")
        assert opened.pop() == tmp_path / "m"
        assert not opened
        np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_loaded_weights_are_private(tmp_path):
    path = tmp_path / "model.fnn"
    trained().save(path)
    model = fnn.load(path)
    before = model.get_weights()
    path.write_bytes(b"\0" * path.stat().st_size)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scalars_of_the_state_keep_their_shape(tmp_path):
    model = fnn.Sequential([Dense(2, activity_regularizer="l2", input_shape=(4,))])
    assert model.state["dense"]["aux_loss"].shape == ()
    model.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m").state["dense"]["aux_loss"].shape == ()


def test_weights_under_the_name_of_a_model_of_keras(tmp_path):
    with pytest.raises(ValueError, match=r"whole model; use model\.save"):
        trained().save_weights(tmp_path / "model.keras")


@pytest.mark.slow
def test_a_file_of_ours_may_be_called_as_in_a_script_of_keras(tmp_path):
    model = fnn.Sequential([Dense(1, input_shape=(4,))], seed=0)
    model.compile("sgd", "mse")
    saving = fnn.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss")
    model.fit(*task(), verbose=0, callbacks=[saving])
    model.save_weights(tmp_path / "best.weights.h5")
    again = fnn.load(tmp_path / "best.keras")
    other = fnn.Sequential([Dense(1, input_shape=(4,))], seed=1)
    for name in ("best.keras", "best.weights.h5"):
        other.load_weights(tmp_path / name)
        for a, b, c in zip(
            model.get_weights(), again.get_weights(), other.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
