"""Files that are damaged or made to harm: each loads as it was or raises FileError, at once."""

import contextlib
import io
import itertools
import json
import mmap
import os
import random
import struct
import warnings
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

import fnn
from fnn.core import tree
from fnn.core.calling import output_spec, weight_spec
from fnn.core.config import from_config, to_config
from fnn.layers import BatchNormalization, Conv1D, Dense, Dropout, Embedding
from fnn.saving import tensors, tree_files
from fnn.saving.backups import FileStore
from fnn.saving.savers import Saver
from fnn.saving.tensors import CHECKSUM, FileError
from fnn.training.checkpoint import Snapshot
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.hostile import (
    WRONG,
    allocated,
    described,
    harmless,
    loads_or_is_refused,
    nodes,
    packed,
    put,
    resident,
)

MEMBERS = ("manifest.json", "config.json", "weights.safetensors")


def small():
    model = fnn.Sequential(
        [Dense(3, "relu", input_shape=(2,)), BatchNormalization(), Dropout(0.1), Dense(1)], seed=0
    )
    model.compile(fnn.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.fnn"
    model.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def members(whole):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(data, tmp_path, match, seconds=2.0):
    path = tmp_path / "hostile.fnn"
    path.write_bytes(data)
    with harmless(seconds), pytest.raises(FileError, match=match):
        fnn.load(path)


# -- the zip -------------------------------------------------------------------------------------


def of_names(members, *names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that is there twice
        for name, data in zip(names, itertools.cycle(members.values()), strict=False):
            archive.writestr(name, data)
    return out.getvalue()


def encrypted(data):
    """The mark of encryption set, in the entries and in the table at the end."""
    data = bytearray(data)
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(signature, place + 4)
    return bytes(data)


ZIPS = {
    "an absolute path": lambda m: of_names(m, *MEMBERS, "/etc/passwd"),
    "a path upwards": lambda m: of_names(m, *MEMBERS, "../../evil"),
    "a name twice": lambda m: of_names(m, *MEMBERS, "config.json"),
    "names in another order": lambda m: of_names(m, *MEMBERS[::-1]),
    "a member less": lambda m: of_names(m, *MEMBERS[:2]),
    "nothing": lambda m: of_names(m),
    "a bomb": lambda m: packed(
        {**m, "weights.safetensors": bytes(20_000_000)}, compress_type=zipfile.ZIP_DEFLATED
    ),
    "encrypted": lambda m: encrypted(packed(m)),
    "an endless table": lambda m: packed(m)[:-10] + struct.pack("<II", 2**32 - 2, 0) + b"\0\0",
    "a table before the file": lambda m: packed(m)[:-10] + struct.pack("<II", 200, 2**31) + b"\0\0",
    "text": lambda m: b"hello",
    "an empty file": lambda m: b"",
}


def test_the_members_of_another_archive_are_named(members, tmp_path):
    found = r"training.safetensors, received \('manifest.json', 'config.json', 'other'\)"
    refused(of_names(members, *MEMBERS[:2], "other"), tmp_path, found)


@pytest.mark.parametrize("case", ZIPS)
def test_archives_that_are_not_ours(case, members, tmp_path):
    refused(ZIPS[case](members), tmp_path, "damaged or not a saved model")


def deep(levels):
    return b'{"a":' * levels + b"1" + b"}" * levels


TEXTS = {
    "nested deep": (deep(400), "nested too deep|keys"),
    "nested deeper": (deep(100_000), "nested too deep"),
    "a list": (b"[]", "JSON object"),
    "a key twice": (b'{"class": 1, "class": 2}', "duplicate key"),
    "NaN": (b'{"class": NaN}', "not finite"),
    "infinity": (b'{"class": -Infinity}', "not finite"),
    "a number past all floats": (b'{"class": 1e999}', "not finite"),
    "an integer of many digits": (b'{"class": ' + b"9" * 5000 + b"}", "damaged"),
    "no UTF-8": (b'{"class": "\xff"}', "damaged"),
    "half": (b'{"class": ', "damaged"),
}


@pytest.mark.parametrize("name", MEMBERS[:2])
@pytest.mark.parametrize("case", TEXTS)
def test_json_that_is_not_ours(case, name, members, tmp_path):
    text, match = TEXTS[case]
    data = (
        of_texts({**members, name: text}) if name == MEMBERS[0] else packed({**members, name: text})
    )
    refused(data, tmp_path, match if name == MEMBERS[1] else "damaged")


def of_texts(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "manifest",
    [
        {"format": "fnn", "version": "1", "sha256": {}},
        {"format": "fnn", "version": True, "sha256": {}},
        {"format": "fnn", "version": 1, "sha256": []},
        {"format": "fnn", "version": 1, "sha256": {}},
        {"format": "fnn", "version": 1},
        {"format": ["fnn"]},
        {},
    ],
)
def test_manifests_of_wrong_types(manifest, members, tmp_path):
    data = of_texts({**members, "manifest.json": json.dumps(manifest).encode()})
    refused(data, tmp_path, "damaged or not a saved model")


# -- the training --------------------------------------------------------------------------------


def of_tree(tree):
    file = io.BytesIO()
    tree_files.write(file, tree, checksum=False)
    return file.getvalue()


def of_structure(structure):
    return save({"a": np.ones(3)}, metadata={"format": "fnn", "fnn_tree": structure})


TRAININGS = {
    "of another program": (save({"a": np.ones(3)}), "structure of its tree is missing"),
    "no JSON": (of_structure("[1"), "structure of its tree"),
    "no tree": (of_structure("{}"), "structure of its tree"),
    "nested deep": (of_structure('{"tree":' + '{"list":[' * 9999), "RecursionError"),
    "nested deep and whole": (
        of_structure('{"tree":' + '{"list":[' * 900 + "]}" * 900 + "}"),
        "too deep|structure|counts",
    ),
    "a name that is not there": (of_structure('{"tree": {"jax": "b"}}'), "array 'b'"),
    "of other types": (of_tree([1, 2]), "TypeError"),
    "without parts": (of_tree({"counts": None}), "key: missing in the file"),
    "an array for a key": (
        of_tree({"counts": {"key": np.zeros(2, "uint32"), "step": 1, "epoch": 1}}),
        r"key: expected key<fry>\[\], found uint32\[2\]",
    ),
    "cut": (of_tree({"a": np.ones(9)})[:-4], "ends 4 bytes early"),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_trainings_that_are_not_ours(case, members, tmp_path):
    data, match = TRAININGS[case]
    refused(packed({**members, "training.safetensors": data}), tmp_path, match)


# -- the description -----------------------------------------------------------------------------

NAMES = [
    {"layer": "os.system"}, {"layer": "eval"}, {"layer": "__import__"}, {"layer": "Layer"},
    {"function": "print"}, {"value": "Fields"}, {"activation": "relu"}, {"loss": "Huber"},
    {"layer": "Lambda", "function": {"function": "system"}}, {"layer": ["Dense"]},
    {"layer": "Dense", "units": 3, "init": 1},
    {"module": "os", "class_name": "system", "config": {}},
    {"activation": "relu", "units": 3}, {}, None, 7, "Dense", [], {"dict": 1}, {"dict": [[1]]},
    {"dict": [[[], 1]]}, {"layer": "Dense", "units": 10**30}, {"layer": "Dense", "units": 2**62},
    {"layer": "Dense", "units": 3, "activation": "os.system"},
    {"layer": "Dense", "units": 3, "dtype": "object"},
    {"layer": "Dense", "units": 3, "name": "a/b"},
]  # fmt: skip


@pytest.mark.parametrize("entry", NAMES, ids=str)
def test_descriptions_of_what_is_no_layer(entry, members, tmp_path):
    def change(config):
        config["layer"]["layers"][0] = entry
        return config

    refused(described(members, change), tmp_path, "expected")


def every_node(members, tmp_path, part):
    config = json.loads(members["config.json"])
    cases = list(itertools.product(nodes(config), WRONG))
    for at, value in random.Random(0).sample(cases, int(part * len(cases))):
        path = tmp_path / "m.fnn"
        path.write_bytes(described(members, lambda config, a=at, v=value: put(config, a, v)))
        loads_or_is_refused(path)


@pytest.mark.slow
def test_some_nodes_of_a_description_of_other_types(members, tmp_path):
    every_node(members, tmp_path, 0.25)


@pytest.mark.thorough
def test_every_node_of_a_description_of_every_type(members, tmp_path):
    every_node(members, tmp_path, 1.0)


@pytest.mark.parametrize("name", ["apply", "twice", "masking", "_sealed", "__class__", "kind"])
def test_a_file_replaces_no_code_of_a_class_with_its_own_init(name):
    class Own(fnn.Layer):
        def __init__(self, units):
            self.units = units

        def twice(self, x):
            return 2 * x

    assert from_config({"layer": "Own", "units": 3}, {"Own": Own}).units == 3
    with pytest.raises(
        ValueError,
        match=f"(hold data|arguments of Own), .*{name}",
    ):
        from_config({"layer": "Own", "units": 3, name: "x"}, {"Own": Own})


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (("class",), 3, "strings as class and name"),
        (("name",), None, "strings as class and name"),
        (("class",), "Sequential", "expected a Sequential in it"),
        (("layer",), {"activation": "relu"}, "expected a Layer in it"),
        (("compile",), "adam", "expected compile to be null or an object of arguments"),
        (("compile", "rate"), 1, "unexpected keyword argument 'rate'"),
        (("more",), 1, "expected the keys"),
        (("inputs",), 7, "a description of inputs"),
        (("inputs", "shape"), [None, 2.0], "the shape, dtype and name of an input"),
        (("inputs", "name"), 5, "the shape, dtype and name of an input"),
        (("layer", "layers", 0), {"activation": "relu", "units": 3}, "nothing beside the activat"),
    ],
)
def test_what_is_wrong_with_a_description(at, value, match, members, tmp_path):
    def change(config):
        config["class"] = "Model"
        if at == ("class",) and value == "Sequential":
            config["layer"] = {"layer": "Dense", "units": 3}
        return put(config, at, value)

    refused(described(members, change), tmp_path, match)


# -- what would cost gigabytes -------------------------------------------------------------------


def described_as(layer, shape, members, tmp_path):
    """A small file that says that the model is this layer."""

    def change(config):
        config["layer"]["layers"] = [to_config(layer)]
        config["inputs"]["shape"] = [None, *shape]
        config["compile"] = None
        return config

    return described(members, change)


LARGE = {
    "a kernel of a transform": (
        Conv1D(50_001, 40_000, kernel_initializer=fnn.initializers.STFT()), (40_000, 1)
    ),
    "its window": (Conv1D(2, 10**9, kernel_initializer=fnn.initializers.STFT()), (10**9, 1)),
    "means of windows": (fnn.layers.AdaptiveAveragePooling1D(50_000_000), (7, 1)),
    "means of more": (fnn.layers.AdaptiveAveragePooling1D(2**40), (7, 1)),
    "largest of windows": (fnn.layers.AdaptiveMaxPooling2D((30_000, 30_001)), (70_001, 7, 1)),
    "means at borders": (fnn.layers.AveragePooling2D(3, 1, "same"), (60_000, 60_000, 1)),
    "positions": (fnn.layers.SinusoidalPosition(), (60_000, 60_000)),
    "rotations": (fnn.layers.RotaryEmbedding(), (10, 2**31 - 2)),
    "words": (Embedding(10**9, 1000), ()),
    "weights": (Dense(10**9), (1000,)),
    "powers": (fnn.layers.SpectralNormalization(Dense(3), power_iterations=10**7), (2,)),
    "copies": (fnn.layers.Repeat(Dense(4), 10**9), (4,)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE)
def test_small_files_that_ask_for_gigabytes(case, members, tmp_path):
    layer, shape = LARGE[case]
    refused(described_as(layer, shape, members, tmp_path), tmp_path, "expected", seconds=3.0)


def integers(data, at=()):
    if type(data) is int:
        yield at
    inside = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in inside:
        yield from integers(data[key], (*at, key))


def large_layers():
    """Every integer of every row of the catalogue, and every axis of its inputs, made large."""
    cases = {}
    for case in CATALOGUE:
        with contextlib.suppress(ValueError):  # functions that have no name
            config = to_config(case.layer)
            kind = type(case.layer).__name__
            for at in integers(config):
                names = tuple(name for name in at if isinstance(name, str))
                cases.setdefault((kind, names), (put(config, at, 50_000_000), case.x))
            leaves, structure = jax.tree.flatten(tree.spec(case.x))
            for i, leaf in enumerate(leaves):
                for axis in range(leaf.ndim):
                    shape = (*leaf.shape[:axis], 50_000_000, *leaf.shape[axis + 1 :])
                    large = [*leaves]
                    large[i] = jax.ShapeDtypeStruct(shape, leaf.dtype)
                    cases.setdefault((kind, i, axis), (config, structure.unflatten(large)))
    return cases.values()


@pytest.mark.slow
@pytest.mark.parametrize("peak", [resident, pytest.param(allocated, marks=pytest.mark.thorough)])
def test_no_layer_computes_before_its_shapes_are_known(peak):
    cases = large_layers()
    assert len(cases) > 500
    for config, x in cases:
        with harmless(seconds=4, peak_of=peak), contextlib.suppress(Exception):
            layer = from_config(config)
            if layer.only_wires:
                weight_spec(layer, tree.spec(x))
            output_spec(layer, tree.spec(x))  # makes the weights, too


def test_memory_that_is_written_is_seen():
    with pytest.raises(AssertionError), harmless(peak_of=allocated):
        np.ones(8_000_000)
    # An array may get memory that was freed and is resident already.
    pages = mmap.mmap(-1, 2**26)
    with pytest.raises(AssertionError), harmless(peak_of=resident):
        pages.write(bytes(2**26))


@pytest.mark.parametrize("start", [b"", b"PK\3\4", struct.pack("<Q", 2**40) + b"{"])
def test_a_sparse_file_of_a_tebibyte(start, tmp_path, model):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(start)
        try:
            file.truncate(2**40)
        except OSError:
            pytest.skip("the file system has no such files")
    for load in (fnn.load, model.load_weights):
        with harmless(), pytest.raises(FileError):
            load(path)


def test_a_tebibyte_of_weights(tmp_path, model, members):
    entry = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    header = json.dumps({"params/dense/kernel": entry}).encode()
    path = tmp_path / "m.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        try:
            file.truncate(8 + len(header) + 2**40)
        except OSError:
            pytest.skip("the file system has no such files")
    with harmless(), pytest.raises(FileError, match=r"kernel: expected float32\[2, 3\], found"):
        model.load_weights(path)
    with harmless(), open(path, "rb") as file:
        found = tensors.Tensors(file, path.stat().st_size, path)
        with pytest.raises(FileError, match="fit into the memory of this machine"):
            found.load()


def test_a_memory_that_is_unknown_is_no_limit(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    path = tmp_path / "m.safetensors"
    path.write_bytes(tensors.encode({"a": np.ones(3)}))
    np.testing.assert_array_equal(tensors.load(path)["a"], np.ones(3))


def test_a_table_of_members_that_is_larger_than_any(tmp_path):
    path, size = tmp_path / "m.fnn", 200_000_000
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 3, 3, size, 0, 0))
    with harmless(), pytest.raises(FileError, match="200000000 bytes, where 100000000 are allowed"):
        fnn.load(path)


# -- weights -------------------------------------------------------------------------------------


def of_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "cut": (b"\1\2", "early"),
    "longer than the file": (of_header({}, length=10**6), "within its header, 999998 bytes early"),
    "longer than all": (of_header({}, length=2**64 - 1), "not a safetensors file"),
    "text": (b"This is a text, no weights.", "not a safetensors file"),
    "data cut": (of_header({"a": entry()}, bytes(3)), "the file ends 5 bytes early"),
    "no JSON": (of_header(b"{nothing"), "weights"),
    "a name twice": (of_header(b'{"a": 1, "a": 2}'), "duplicate key"),
    "an entry that is a number": (of_header({"a": 1}), "needs dtype"),
    "an entry with more": (of_header({"a": {**entry(), "evil": 1}}, bytes(8)), "needs dtype"),
    "overlapping": (of_header({"a": entry(), "b": entry()}, bytes(8)), "starts at byte 0"),
    "a hole": (of_header({"a": entry(offsets=(4, 12))}, bytes(12)), "starts at byte 4"),
    "more bytes": (of_header({"a": entry()}, bytes(9)), "end at byte 8 of 9"),
    "negative": (of_header({"a": entry(offsets=(-8, 0))}, bytes(8)), "not a list of 2 sizes"),
    "backwards": (of_header({"a": entry(offsets=(8, 0))}, bytes(8)), "takes -8 bytes"),
    "a product past 64 bits": (
        of_header({"a": entry(shape=(2**32, 2**32))}, bytes(8)), "takes 8 bytes"
    ),
    "a size past 64 bits": (of_header({"a": entry(shape=(2**64,))}, bytes(8)), "not a list"),
    "a fraction": (of_header({"a": entry(shape=(2.0,))}, bytes(8)), "not a list"),
    "true": (of_header({"a": entry(shape=(2, True))}, bytes(8)), "not a list"),
    "the wrong size": (of_header({"a": entry(dtype="F64")}, bytes(8)), "takes 8 bytes"),
    "an unknown dtype": (of_header({"a": entry(dtype="O")}, bytes(8)), "dtype 'O'"),
    "metadata of numbers": (of_header({"__metadata__": {"a": 1}}), "metadata of strings"),
    "a list of metadata": (of_header({"__metadata__": []}), "metadata of strings"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_weights_whose_header_is_wrong(case, model, tmp_path):
    data, match = HEADERS[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with harmless(), pytest.raises(FileError, match=f"damaged.*{match}"):
        model.load_weights(path)


@pytest.mark.parametrize("fault", [ValueError, MemoryError])
def test_arrays_that_cannot_be_made(fault, tmp_path, monkeypatch):
    data = of_header({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))})
    if fault is MemoryError:
        data = of_header({"a": entry()}, bytes(8))

        def full(shape, dtype):
            raise MemoryError("Unable to allocate")

        monkeypatch.setattr(np, "empty", full)
    with pytest.raises(FileError, match="damaged or not a saved model: its weights"):
        tensors.Tensors(io.BytesIO(data), len(data), "m").load()


def test_weights_that_end_early_while_they_are_read(tmp_path):
    data = save({"a": np.ones(3, "float32")})
    with pytest.raises(FileError, match="ends 4 bytes early"):
        tensors.Tensors(io.BytesIO(data[:-4]), len(data), "m").load()


def test_other_programs_read_our_weights_and_theirs_are_read_with_a_note(
    model, tmp_path, caplog, key
):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    model.save_weights(ours)
    arrays = load_file(ours)
    assert arrays.keys() == {f"params/{n}" for n in ("dense/kernel", "dense/bias", "dense_1/kernel",
        "dense_1/bias", "batch_normalization/gamma", "batch_normalization/beta")} | {
        f"state/batch_normalization/moving_{n}" for n in ("mean", "variance")}  # fmt: skip
    np.testing.assert_array_equal(arrays["params/dense/kernel"], model.params["dense"]["kernel"])
    save_file(arrays, theirs)
    other = small()
    other.load_weights(ours)
    assert not caplog.records
    other.load_weights(theirs)
    assert "theirs.safetensors has no checksum" in caplog.text
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


KINDS = {"bool": "", "int": "8 16 32 64", "uint": "8 16 32 64", "float": "16 32 64",
    "complex": "64", "bfloat": "16", "float8_": "e4m3fn e5m2"}  # fmt: skip
DTYPES = [f"{kind}{size}" for kind, sizes in KINDS.items() for size in sizes.split(" ")]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_every_dtype_comes_back_bit_for_bit(shape, tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        name: np.asarray(generator.integers(0, 99, shape)).astype(jax.numpy.dtype(name))
        for name in DTYPES
    }
    path = tmp_path / "m"
    path.write_bytes(tensors.encode(arrays))
    ours = tensors.load(path)
    path.write_bytes(tensors.encode({n: a for n, a in arrays.items() if "float8" not in n}))
    theirs = load_file(path)  # which reads no float8 into NumPy
    assert ours.keys() == arrays.keys()
    for name, array in arrays.items():
        for found in (ours[name], theirs.get(name, array)):
            assert (found.dtype, found.shape) == (array.dtype, shape)
            assert found.tobytes() == array.tobytes()


def test_a_model_of_version_0_1_0_loads_without_a_note(model, members, tmp_path, caplog):
    """Its weights have no checksum of their own; that of the manifest was and is verified."""
    path = tmp_path / "old.fnn"
    weights = {
        f"{part}/{'/'.join(at)}": np.asarray(leaf)
        for part, branch in (("params", model.params), ("state", model.state))
        for at, leaf in tree.flatten(branch)
    }
    old = save(weights, metadata={"format": "fnn"})
    path.write_bytes(packed({**members, "weights.safetensors": old}))
    loaded = fnn.load(path)
    assert not caplog.records
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_flipped_bit_of_a_weights_file_is_noticed(model, tmp_path):
    path, other = tmp_path / "m.safetensors", small()
    model.save_weights(path)
    data, before = path.read_bytes(), other.get_weights()
    assert CHECKSUM.encode() in data
    for bit in range(0, 8 * len(data), 7):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            other.load_weights(path)
        except FileError:
            continue
        for a, b in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)  # the bit says nothing of the weights
        other.set_weights(before)


@pytest.mark.slow
def test_a_backup_has_a_checksum(model, tmp_path):
    path = tmp_path / "training.safetensors"
    saver = Saver(FileStore(tmp_path), background=False)
    state = model.train_state
    saver.save(Snapshot(state))
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            found = saver.newest(Snapshot(state)).state
        except FileError:
            continue
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(model.params), strict=True):
            np.testing.assert_array_equal(a, b)
    save_file(load_file_of(data, tmp_path), path)
    with pytest.raises(FileError, match=r"with a checksum, .*an older fnn .*; remove it to start"):
        saver.newest(Snapshot(state))


def changed(described, *path, to):
    """JSON with another value at a place."""
    if not path:
        return to
    return {**described, path[0]: changed(described[path[0]], *path[1:], to=to)}


JSON_OF_OTHERS = {
    "a number as a string": (("epoch",), "1"),
    "a negative number": (("step",), -1),
    "no counters": (("counters",), None),
    "counters of arrays that are not there": (("counters",), {"EarlyStopping": {"wait": "x"}}),
    "a place of another form": (("place",), {"nowhere": 1}),
    "a value of an unknown kind": (("history",), {"$": "code", "value": "1"}),
    "an array of objects": (
        ("history",),
        {"$": "array", "dtype": "|O", "shape": [1], "value": "AAAAAAAAAAA="},
    ),
    "keys as a list": (("keys",), []),
}


@pytest.mark.parametrize("case", JSON_OF_OTHERS)
def test_json_of_another_form_is_an_error_of_the_file(case, model, tmp_path):
    store = FileStore(tmp_path)
    saver = Saver(store, background=False)
    state = model.train_state
    saver.save(Snapshot(state))
    described, arrays = store.describe("training.safetensors")
    path, value = JSON_OF_OTHERS[case]
    store.write("training.safetensors", dict(arrays), changed(described, *path, to=value))
    with pytest.raises(FileError, match="received JSON of another form"):
        saver.newest(Snapshot(state))
    store.write("training.safetensors", dict(arrays), {**described, "format": 2})
    with pytest.raises(FileError, match="received format 2 of a newer fnn; upgrade"):
        saver.newest(Snapshot(state))


def load_file_of(data, tmp_path):
    path = tmp_path / "again"
    path.write_bytes(data)
    return load_file(path)


# -- what it is instead --------------------------------------------------------------------------


def test_files_of_other_kinds_are_named(model, tmp_path):
    weights, arrays, torch = (tmp_path / name for name in ("m.safetensors", "m.npz", "m.pt"))
    model.save_weights(weights)
    np.savez(arrays, *model.get_weights())
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("m/data.pkl", b"")
    with pytest.raises(FileError, match=r"holds weights and no network; .*load_weights\(path"):
        fnn.load(weights)
    with pytest.raises(FileError, match=r"m.npz, written by NumPy, which holds arrays"):
        fnn.load(arrays)
    with pytest.raises(
        FileError, match=r"received arr_0, arr_1, .*NumPy, and pass them to model.set_weights"
    ):
        model.load_weights(arrays)
    for load in (fnn.load, model.load_weights):
        with pytest.raises(FileError, match=r"m.pt, written by PyTorch; load it there"):
            load(torch)
        with pytest.raises(IsADirectoryError, match="received the folder"):
            load(tmp_path)


# -- chance --------------------------------------------------------------------------------------


def mutants(data, number, seed):
    """Bytes flipped, cut, doubled, zeroed, and put elsewhere."""
    generator = random.Random(seed)
    for _ in range(number):
        changed = bytearray(data)
        for _ in range(generator.choice([1, 1, 1, 2, 5])):
            at, size = generator.randrange(len(changed)), generator.randint(1, 30)
            way = generator.randrange(5)
            if way == 0:
                changed[at] ^= 1 << generator.randrange(8)
            elif way == 1:
                del changed[at : at + size]
            elif way == 2:
                changed[at:at] = changed[at : at + size]
            elif way == 3:
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            else:
                changed[at : at + size] = generator.randbytes(len(changed[at : at + size]))
            changed = changed or bytearray(b"\0")
        yield bytes(changed)


def fuzz(model, whole, tmp_path, number):
    path, other = tmp_path / "m", small()
    for data in mutants(whole, number, 0):
        path.write_bytes(data)
        loaded = loads_or_is_refused(path)
        if loaded is not None:
            assert loaded.layer == model.layer
            for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)
    model.save_weights(path)
    for data in mutants(path.read_bytes(), number, 1):
        path.write_bytes(data)
        with contextlib.suppress(FileError):
            other.load_weights(path)
            for a, b in zip(other.get_weights(), model.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_some_mutants_load_as_they_were_or_are_refused(model, whole, tmp_path):
    fuzz(model, whole, tmp_path, 60)


@pytest.mark.slow
def test_a_thousand_mutants_load_as_they_were_or_are_refused(model, whole, tmp_path):
    fuzz(model, whole, tmp_path, 1000)


def test_registered_code_that_fails_is_named(members, tmp_path):
    class Failing(fnn.Layer):
        def init(self, key, x):
            raise KeyError("of mine")

        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x, state

    def change(config):
        config["layer"]["layers"][0] = {"layer": "Failing"}
        return config

    path = tmp_path / "m.fnn"
    path.write_bytes(described(members, change))
    with pytest.raises(
        FileError, match=r"network that can be created, .*KeyError: 'of mine'"
    ) as caught:
        fnn.load(path, custom_objects={"Failing": Failing})
    assert isinstance(caught.value.__cause__, KeyError)
