"""Programs of StableHLO: equal to predict, alone with JAX, whole or refused."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.saving.tensors import FileError
from tests.helpers.exported import NETWORKS, by_name, dense, masked, several

ALONE = """
import sys
sys.modules["fnn"] = None  # importing it is an error
import jax, numpy as np
from jax import export
from safetensors.numpy import load_file
folder, x, y = sys.argv[1:]
program = export.deserialize(bytearray(open(f"{folder}/serve.stablehlo", "rb").read()))
weights = load_file(f"{folder}/weights.safetensors")
np.save(y, jax.jit(program.call)(weights, np.load(x)))
print(program.platforms)
"""


def first(x, count):
    return jax.tree.map(lambda array: array[:count], x)


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_a_loaded_program_gives_what_predict_gives(make, tmp_path):
    model, x = make()
    model.export(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    for count in (1, 5):
        some = first(x, count)
        wanted = model.predict(some, verbose=0)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), loaded(some), wanted)
    assert [spec.shape[0] for spec in loaded.serve.inputs + loaded.serve.outputs] == [None] * len(
        loaded.serve.inputs + loaded.serve.outputs
    )


@pytest.mark.slow
def test_a_process_without_fnn_runs_the_program(tmp_path):
    model, x = dense()
    model.export(tmp_path / "out", verbose=False)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", ALONE, tmp_path / "out", tmp_path / "x.npy", tmp_path / "y"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "('cpu', 'cuda', 'tpu')"
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-6)


def test_inputs_may_come_one_by_one_and_in_wider_dtypes(tmp_path):
    model, (a, b) = several()
    model.export(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    one, two = loaded(a, b), loaded((a.astype("float64"), b))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_signature_sets_sizes_and_dtypes(tmp_path):
    model = fnn.Sequential([L.Embedding(20, 3, input_shape=(7,))])
    spec = fnn.InputSpec(shape=(2, 7), dtype="int32")
    model.export(tmp_path / "out", verbose=False, input_signature=[spec])
    loaded = fnn.export.load(tmp_path / "out")
    assert str(loaded.serve.inputs[0]) == "input_0: int32 (2, 7)"
    with pytest.raises(ValueError, match=r"expected input_0: int32 \(2, 7\).*shape \(3, 7\)"):
        loaded(np.ones((3, 7), "int32"))


def test_images_may_have_any_size(tmp_path):
    row = [L.Conv2D(2, 3, padding="same", input_shape=(None, None, 1)), L.GlobalMaxPooling2D()]
    model = fnn.Sequential(row)
    model.export(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    for size in (2, 5):  # smaller than the window, and larger
        x = np.random.default_rng(size).normal(size=(3, size, 4, 1)).astype("float32")
        np.testing.assert_allclose(loaded(x), model.predict(x, verbose=0), atol=1e-6)


def test_an_archive_has_several_functions_of_the_same_weights(tmp_path):
    model, x = dense()
    archive = fnn.export.ExportArchive()
    spec = [fnn.InputSpec(shape=(None, 4), dtype="float32")]
    archive.track(model)
    archive.track(model)
    archive.add_endpoint("doubled", lambda x: 2 * model(x), spec)
    archive.track_and_add_endpoint("plain", model)
    archive.add_endpoint("first", lambda x: model.layers[0](x), spec)
    archive.write_out(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.plain(x), wanted, atol=1e-6)
    np.testing.assert_allclose(loaded.doubled(x), 2 * wanted, atol=1e-6)
    np.testing.assert_allclose(loaded.first(x), model.layers[0](x), atol=1e-6)
    saved = fnn.saving.tensors.load(tmp_path / "out" / "weights.safetensors")
    assert set(saved) == {variable.path for variable in model.weights}
    with pytest.raises(AttributeError, match=r"endpoints \['doubled', 'plain', 'first'\].*'serve'"):
        _ = loaded.serve


def test_weights_of_two_models_of_one_name_are_kept_apart(tmp_path):
    models = [fnn.Sequential([L.Dense(1, input_shape=(2,))], name="m", seed=n) for n in (0, 1)]
    archive = fnn.export.ExportArchive()
    for model in models:
        archive.track(model)
    spec = [fnn.InputSpec(shape=(None, 2), dtype="float32")]
    archive.add_endpoint("difference", lambda x: models[0](x) - models[1](x), spec)
    archive.write_out(tmp_path / "out", verbose=False)
    x = np.ones((3, 2), "float32")
    wanted = models[0].predict(x, verbose=0) - models[1].predict(x, verbose=0)
    np.testing.assert_allclose(fnn.export.load(tmp_path / "out")(x), wanted, atol=1e-6)


# -- what cannot be exported ---------------------------------------------------------------------


def stateful():
    return fnn.Sequential([L.Input(batch_shape=(2, 3, 1)), L.GRU(2, stateful=True)])


def strings():
    x = fnn.Input((), dtype="string")
    return fnn.Model(x, L.StringLookup(vocabulary=["a", "b"])(x))


def by_number():
    experts = L.MixtureOfExperts(L.Dense(2), experts=2, capacity_factor=0.5)
    return fnn.Sequential([L.Input((4, 3)), experts])


def of_dense(**arguments):
    return lambda path: dense()[0].export(path, verbose=False, **arguments)


def drawing(path):
    model, _ = dense()
    archive = fnn.export.ExportArchive()
    spec = [fnn.InputSpec(shape=(None, 4), dtype="float32")]
    archive.add_endpoint("train", lambda x: model(x, training=True), spec)
    archive.write_out(path)


def archive_with(*arguments, **named):
    def run(path):
        archive = fnn.export.ExportArchive()
        for _ in range(2):
            archive.add_endpoint(*arguments, **named)

    return run


SPEC = [fnn.InputSpec(shape=(None, 4), dtype="float32")]
REFUSED = {
    "stateful": (lambda path: stateful().export(path), ValueError, "is stateful, and a program"),
    "strings": (lambda path: strings().export(path), TypeError, "a program takes no strings"),
    "a size that a layer needs": (
        lambda path: by_number().export(path),
        ValueError,
        r"serve cannot be exported for inputs \(input_0: float32 \(any, 4, 3\)\)",
    ),
    "no weights": (
        lambda path: fnn.Sequential([L.Dense(1)]).export(path),
        ValueError,
        "has no weights yet",
    ),
    "an unknown format": (
        of_dense(format="h5"),
        ValueError,
        r"expected a format of \['onnx', 'stablehlo', 'tf_saved_model'\], received 'h5'",
    ),
    "a format of another backend": (
        of_dense(format="litert"),
        ValueError,
        "'litert' is not written here; export as tf_saved_model",
    ),
    "an unknown option": (of_dense(opset=3), TypeError, "expected options among .*opset=3"),
    "a signature of strings": (of_dense(input_signature=["x"]), TypeError, "received 'x'"),
    "random numbers": (drawing, ValueError, "train draws random numbers"),
    "no endpoint": (
        lambda path: fnn.export.ExportArchive().write_out(path),
        ValueError,
        "the archive has no endpoint",
    ),
    "an unknown format of an archive": (
        lambda path: fnn.export.ExportArchive("zip").write_out(path),
        ValueError,
        "expected a format of .*received 'zip'",
    ),
    "two endpoints of a name": (
        archive_with("f", lambda x: x, SPEC),
        ValueError,
        "has an endpoint 'f' already",
    ),
    "a name that is none": (
        archive_with("a b", lambda x: x, SPEC),
        ValueError,
        "to be a Python name, received 'a b'",
    ),
    "no signature": (archive_with("f", lambda x: x), ValueError, "expected input_signature"),
    "inputs of one name": (
        archive_with("f", lambda x, y: x, [fnn.Input((1,), name="x"), fnn.Input((1,), name="x")]),
        ValueError,
        r"different names, received \['x', 'x'\]",
    ),
    "what has no weights": (
        lambda path: fnn.export.ExportArchive().track(3),
        TypeError,
        "expected a model or layer that has weights, received 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_and_nothing_written(case, tmp_path):
    run, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        run(tmp_path / "out")
    assert not list(tmp_path.iterdir())


# -- files ---------------------------------------------------------------------------------------


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    model, x = dense()
    other, _ = dense()
    other.set_weights([2 * weight for weight in model.get_weights()])
    model.export(tmp_path / "out", verbose=False)
    other.export(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    np.testing.assert_allclose(loaded(x), other.predict(x, verbose=0), atol=1e-6)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("here")
    for path in (tmp_path / "full", tmp_path / "full" / "kept"):
        with pytest.raises(FileExistsError, match="holds something else; choose another path"):
            model.export(path, verbose=False)
    with pytest.raises(FileNotFoundError, match="create it first"):
        model.export(tmp_path / "none" / "out", verbose=False)
    assert sorted(os.listdir(tmp_path)) == ["full", "out"]
    assert (tmp_path / "full" / "kept").read_text() == "here"


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    def fails(folder):
        (folder / "part").write_text("new")
        raise OSError("no space left")

    def replaces(folder):
        return True

    write = fnn.runtime.files.write_folder
    write(tmp_path / "out", lambda folder: (folder / "all").write_text("old"), replaces=replaces)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "out", fails, replaces=replaces)
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert (tmp_path / "out" / "all").read_text() == "old"
    # Of a process that was killed: nobody holds its lock.
    left = tmp_path / f"{fnn.runtime.files._prefix()}0.tmp"
    left.mkdir()
    (left / "part").write_text("half")
    write(tmp_path / "out", lambda folder: (folder / "all").write_text("new"), replaces=replaces)
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert (tmp_path / "out" / "all").read_text() == "new"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "out"
    masked()[0].export(folder, verbose=False)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["serve.stablehlo", "signature.json", "weights.safetensors"])
def test_damage_is_an_error(name, written, tmp_path):
    data = written[name]
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damage in (data[:-1], data[: len(data) // 2], b"", None, bytes(flipped)):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        for other, whole in written.items():
            (folder / other).write_bytes(whole)
        (folder / name).unlink()
        if damage is not None:
            (folder / name).write_bytes(damage)
        with pytest.raises(FileError):
            fnn.export.load(folder)


def changed(written, folder, change):
    described = json.loads(written["signature.json"])
    change(described)
    folder.mkdir()
    for name, data in written.items():
        (folder / name).write_bytes(data)
    (folder / "signature.json").write_text(json.dumps(described))
    return folder


HOSTILE = {
    "another format": (lambda d: d.update(format="zip"), "has the format 'zip'"),
    "another version": (lambda d: d.update(version=2), "expected an export of version 1"),
    "no endpoints": (lambda d: d.update(endpoints={}), "it has no endpoint"),
    "a path": (
        lambda d: d["endpoints"]["serve"].update(program="../serve.stablehlo"),
        "the name of a program is '../serve.stablehlo'",
    ),
    "other inputs": (lambda d: d["endpoints"]["serve"].update(inputs=[]), "takes other inputs"),
    "no inputs": (lambda d: d["endpoints"]["serve"].pop("inputs"), "KeyError"),
    "another kind": (lambda d: d.update(endpoints=3), "AttributeError|TypeError"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_signature_that_lies_is_refused(case, written, tmp_path):
    change, message = HOSTILE[case]
    folder = changed(written, tmp_path / "out", change)
    with pytest.raises(FileError, match=message):
        fnn.export.load(folder)


def test_a_program_that_jax_cannot_read_names_both_versions(written, tmp_path):
    import hashlib

    def change(described):
        described["jax"] = "99.0"
        described["sha256"]["serve.stablehlo"] = hashlib.sha256(b"\0" * 64).hexdigest()

    folder = changed(written, tmp_path / "out", change)
    (folder / "serve.stablehlo").write_bytes(b"\0" * 64)
    with pytest.raises(FileError, match=r"cannot read .*written by JAX 99\.0"):
        fnn.export.load(folder)


def test_other_things_are_not_loaded(tmp_path):
    dense()[0].save(tmp_path / "m.fnn")
    for path in (tmp_path, tmp_path / "m.fnn", tmp_path / "none"):
        with pytest.raises(FileError, match=r"expected a folder that model\.export wrote"):
            fnn.export.load(path)


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    model, x = by_name()
    model.export(tmp_path / "out", verbose=False)
    loaded = fnn.export.load(tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected inputs .*: float32 \(.*received array;"):
        loaded(x["a"])
    for count in (0, 1):
        fewer = {**x, "a": x["a"][:count]}
        with pytest.raises(ValueError, match=rf"as many in each input, received \[{count}, "):
            loaded(fewer)
    with pytest.raises(TypeError, match="received complex64; convert it by"):
        loaded({**x, "a": x["a"].astype("complex64")})


def test_what_is_loaded_shows_its_inputs_and_outputs(tmp_path):
    model = fnn.Sequential([L.Dense(2, input_shape=(3,), name="out")])
    model.export(tmp_path / "out", verbose=False)
    shown = "<Endpoint input_0: float32 (any, 3) -> output: float32 (any, 2)>"
    loaded = fnn.export.load(tmp_path / "out")
    assert repr(loaded.serve) == shown
    assert repr(loaded) == f"<Exported {{'serve': {shown}}}>"
