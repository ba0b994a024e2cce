"""Keras's files and JSON that are made to harm: each is refused at once, of little memory."""

import io
import itertools
import json
import time
import warnings
import zipfile

import h5py
import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from fnn.models import model_from_json
from fnn.saving.tensors import FileError
from tests.helpers.hostile import harmless

TERA = 10**12


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Those of a `.keras` file."""
    path = tmp_path_factory.mktemp("whole") / "m.keras"
    fnn.Sequential([Dense(3, input_shape=(4,))], seed=0).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members, **arguments):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that is there twice
        for name, data in members:
            archive.writestr(name, data, **arguments)
    return out.getvalue()


def layer(kind, **config):
    return {"class_name": kind, "config": {"name": "l", **config}}


def start(shape):
    config = {"batch_shape": [None, *shape], "dtype": "float32", "name": "i"}
    return {"class_name": "InputLayer", "name": "i", "config": config, "inbound_nodes": []}


def row(*layers, shape=(4,)):
    config = {"name": "s", "layers": [start(shape), *layers]}
    return {"class_name": "Sequential", "config": config}


def tensor(name):
    config = {"shape": [None, 4], "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def graph(entries, last, name="g", shape=(4,)):
    config = {"name": name, "layers": [start(shape), *entries],
              "input_layers": ["i", 0, 0], "output_layers": last}  # fmt: skip
    return {"class_name": "Functional", "config": config}


def call(name, kind, *args, **more):
    return {"class_name": kind, "name": name, "config": {"name": name},
            "inbound_nodes": [{"args": list(args), "kwargs": {}}], **more}  # fmt: skip


def operation(kind, *args, module="numpy", shape=(4,), **config):
    entry = call("o", kind, *args, module=f"keras.src.ops.{module}", config=config)
    return graph([entry], ["o", 0, 0], shape=shape)


def models_that_call_models(levels):
    """Each calls the one inside it twice."""
    entry = call("a", "Activation", tensor("i"), config={"name": "a", "activation": "relu"})
    model = graph([entry], ["a", 0, 0], "g0")
    for number in range(levels):
        name = f"g{number}"
        calls = [{"args": [tensor(of)], "kwargs": {}} for of in ("i", name)]
        entry = {**model, "name": name, "inbound_nodes": calls}
        model = graph([entry], [name, 2, 0], f"g{number + 1}")
    return model


def doubled(times):
    """The tensor beside itself, again and again, then weights."""
    names = ["i", *(f"c{number}" for number in range(times))]
    entries = [
        call(name, "Concatenate", [tensor(of), tensor(of)])
        for of, name in itertools.pairwise(names)
    ]
    dense = call("d", "Dense", tensor(names[-1]), config={"name": "d", "units": 3})
    return graph([*entries, dense], ["d", 0, 0])


def compiled(**arguments):
    return {**row(layer("Dense", units=3)), "compile_config": arguments}


CODE = "4wEAAAAAAAAAAAAAAAEAAAABAAAAUwAAAHMEAAAAfABTAA=="
HARMFUL = {
    "a module": row({**layer("system", command="id"), "module": "os"}),
    "a registered name": row({**layer("x"), "registered_name": "os>system"}),
    "a builtin": row({"class_name": "function", "config": "eval", "module": "builtins"}),
    "a dotted name": row(layer("os.system")),
    "a dunder": row(layer("__import__")),
    "no layer": row(layer("Adam")),
    "code": row(layer("Lambda", function={"class_name": "__lambda__", "config": {"code": CODE}})),
    "code of Keras 2": row(
        layer("Lambda", function=[CODE, None, None], function_type="lambda", module="os")
    ),
    "an activation": row(layer("Dense", units=3, activation="os.system")),
    "an initializer": row(layer("Dense", units=3, kernel_initializer="eval")),
    "a loss": compiled(optimizer="sgd", loss="builtins.eval"),
    "an optimizer": compiled(optimizer={"class_name": "os.system", "config": {}}, loss="mse"),
    "a function of functions": operation("Map", tensor("i"), module="core"),
    "units": row(layer("Dense", units=TERA)),
    "units past all": row(layer("Dense", units=10**40)),
    "inputs": row(layer("Dense", units=3), shape=(10**15,)),
    "words": row(layer("Embedding", input_dim=TERA, output_dim=1000)),
    "cells": row(layer("LSTM", units=10**9), shape=(4, 4)),
    "filters": row(layer("Conv2D", filters=TERA, kernel_size=2), shape=(4, 4, 1)),
    "an equation": row(layer("EinsumDense", equation="ab,bc->ac", output_shape=TERA)),
    "an identity": row(
        layer("Dense", units=10**6, kernel_initializer="identity"), shape=(10**6,)
    ),
    "unknown tokens": row(layer("IntegerLookup", vocabulary=[1, 2], num_oov_indices=TERA)),
    "words of n-grams": row(layer("TextVectorization", ngrams=TERA)),
    "frequencies": row(layer("MelSpectrogram", fft_length=10**10), shape=(1000,)),
    "a constant range": operation("Arange", 0, TERA),
    "a constant": operation("Full", 1.0, shape=[TERA]),
    "a constant of repeats": operation("Tile", [1, 2], repeats=[10**11]),
    "a constant of one-hots": operation("OneHot", [1, 2], module="nn", num_classes=10**11),
    "pads that repeat": operation("Pad", tensor("i"), pad_width=TERA, mode="reflect"),
    "frames": operation("STFT", tensor("i"), module="math", sequence_length=10**10,
        sequence_stride=1, fft_length=10**10),
    "models that double": models_that_call_models(45),
    "tensors that double": doubled(55),
    "models in models": {"class_name": "Sequential", "config": {"layers": []}},
}  # fmt: skip
for _ in range(60):
    inside = HARMFUL["models in models"]
    HARMFUL["models in models"] = {**inside, "config": {"layers": [inside]}}
WIDE = {
    "repeats": row(layer("RepeatVector", n=TERA)),
    "pixels": row(layer("UpSampling2D", size=[10**9, 10**9]), shape=(4, 4, 1)),
    "pads": row(layer("ZeroPadding2D", padding=TERA), shape=(4, 4, 1)),
    "a resized image": row(layer("Resizing", height=10**9, width=10**9), shape=(4, 4, 3)),
    "tiles": operation("Tile", tensor("i"), repeats=[1, 10**9]),
    "powers": operation("Power", tensor("i"), 10**300),
    "classes": compiled(optimizer="sgd", loss="mse", metrics=[layer("MeanIoU", num_classes=TERA)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HARMFUL)
def test_configs_that_would_harm(case, members, tmp_path):
    text = json.dumps(HARMFUL[case])
    with harmless(), pytest.raises(FileError, match="expected"):
        model_from_json(text)
    path = tmp_path / "m.keras"
    path.write_bytes(zipped({**members, "config.json": text}.items()))
    with harmless(), pytest.raises(FileError, match="expected"):
        fnn.load(path)


@pytest.mark.parametrize("case", WIDE)
def test_shapes_of_any_size_cost_nothing(case):
    with harmless():
        assert model_from_json(json.dumps(WIDE[case])).built


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layers", "cell"])
def test_more_parts_than_a_network_has(kind):
    parts = row(layer("RNN", **{kind: [{"class_name": "ReLU"}] * 60_000}))
    start = time.thread_time()
    with pytest.raises(FileError, match="at most 50000 parts, received 6e"):
        model_from_json(json.dumps(parts))
    assert time.thread_time() - start < 1


def test_operations_pad_by_what_is_there():
    x = np.arange(4.0)
    padded = fnn.ops.pad(x, 9, mode="reflect")
    np.testing.assert_array_equal(padded, np.pad(x, 9, mode="reflect"))
    with pytest.raises(ValueError, match="at most 100 repeats of an axis"):
        fnn.ops.pad(x, 10_000, mode="reflect")


TEXTS = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"config":' * 100_000 + "1" + "}" * 100_000,
    "a key twice": '{"class_name": "Sequential", "class_name": "Model", "config": {}}',
    "NaN": '{"class_name": "Sequential", "config": {"layers": [NaN]}}',
    "past all floats": '{"class_name": "Sequential", "config": 1e999}',
    "digits": '{"class_name": ' + "9" * 5000 + "}",
    "a list": "[]",
    "a number": "3",
    "half": '{"class_name": ',
}


@pytest.mark.parametrize("case", TEXTS)
def test_json_that_would_harm(case, members, tmp_path):
    with harmless(), pytest.raises(FileError, match="expected"):
        model_from_json(TEXTS[case])
    path = tmp_path / "m.keras"
    path.write_bytes(zipped({**members, "config.json": TEXTS[case]}.items()))
    with harmless(), pytest.raises(FileError, match="expected"):
        fnn.load(path)


def link(members):
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = 0o120777 << 16
    return zipped([*members.items(), (info, "/etc/passwd")])


def encrypted(members):
    data = bytearray(zipped(members.items()))
    place = data.find(b"PK\1\2")
    data[place + 8] |= 1
    return bytes(data)


ZIPS = {
    "absolute": lambda m: zipped([*m.items(), ("/etc/passwd", "")]),
    "upwards": lambda m: zipped([*m.items(), ("../evil", "")]),
    "twice": lambda m: zipped([*m.items(), *m.items()]),
    "a link": link,
    "encrypted": encrypted,
    "a bomb of text": lambda m: zipped(
        {**m, "config.json": " " * 50_000_000}.items(), compress_type=zipfile.ZIP_DEFLATED
    ),
    "a bomb of weights": lambda m: zipped(
        {**m, "model.weights.h5": bytes(50_000_000)}.items(), compress_type=zipfile.ZIP_DEFLATED
    ),
    "no config": lambda m: zipped([item for item in m.items() if item[0] != "config.json"]),
    "no weights": lambda m: zipped([item for item in m.items() if item[0][-3:] != ".h5"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ZIPS)
def test_zips_that_would_harm(case, members, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(ZIPS[case](members))
    with harmless(), pytest.raises(FileError, match="damaged"):
        fnn.load(path)


def test_a_bomb_behind_a_checksum_is_not_read(tmp_path):
    """The checksum is that of all arrays, which would be read."""
    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("bomb", data=np.zeros(10**7, "uint8"), compression="gzip")
    with harmless(), pytest.raises(FileError, match="received it compressed"):
        model.load_weights(path)


@pytest.mark.slow
def test_weights_without_a_place_are_not_read(tmp_path):
    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    path = tmp_path / "m.npz"
    arrays = {f"params/dense/{name}": a for name, a in model.params["dense"].items()}
    np.savez_compressed(path, **arrays, bomb=np.zeros(10**8, "uint8"))
    with harmless():
        report = model.load_weights(path, strict=False)
    assert report.unexpected == ("bomb",)


@pytest.mark.parametrize(
    "array",
    [np.array([{}], object), np.array([print]), np.zeros(2, [("a", "f4")])],
    ids=["objects", "functions", "records"],
)
def test_pickles_in_npz(array, tmp_path):
    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    path = tmp_path / "m.npz"
    np.savez(path, **{"params/dense/kernel": array})
    with harmless(), pytest.raises(FileError, match="not numbers"):
        model.load_weights(path)
