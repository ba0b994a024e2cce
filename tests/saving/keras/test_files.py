"""Keras's files read and written by fnn, with Keras live: networks, weights, optimizers, assets."""

import json
import zipfile

import ml_dtypes
import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense, Embedding, StringLookup, TextVectorization
from fnn.saving import reading
from fnn.saving.tensors import FileError
from tests.helpers.keras_files import (
    assert_near,
    by_keras,
    twins,
    write_keras2,
)
from tests.helpers.keras_networks import NETWORKS, randomize
from tests.helpers.oracle import random_weights_unset

ENDINGS = ("model.keras", "model.h5")
# The configs of all are read and written in test_configs.py.
SAMPLE = ["image_classifier", "both_directions", "cross_attention"]
# The configs of these in legacy files are such that Keras cannot load them, or not save.
NOT_LEGACY = {"augmented", "operators", "functions", "products"}


def assert_whole_models_go_both_ways(name, ending, keras, tmp_path):
    build = NETWORKS[name]
    theirs, x, expected = twins(build, keras, fnn)
    by_keras(theirs.save, tmp_path / ending)
    assert_near(fnn.load(tmp_path / ending).predict(x, verbose=0), expected)
    ours = build(fnn)
    before = ours.predict(x, verbose=0)
    randomize(ours, 5)
    after = ours.predict(x, verbose=0)
    del before
    ours.save(tmp_path / f"ours_{ending}")
    with random_weights_unset():
        again = by_keras(keras.saving.load_model, tmp_path / f"ours_{ending}", safe_mode=False)
    assert_near(by_keras(again.predict, x, verbose=0), after)


def assert_weights_go_both_ways(name, ending, keras, tmp_path):
    build = NETWORKS[name]
    theirs, x, expected = twins(build, keras, fnn)
    path = tmp_path / ending
    save = theirs.save_weights if ending.endswith(".weights.h5") else theirs.save
    by_keras(save, path)
    ours = build(fnn)
    ours.predict(x, verbose=0)
    ours.load_weights(path)
    assert_near(ours.predict(x, verbose=0), expected)
    randomize(ours, 5)
    ours.save_weights(path)
    by_keras(theirs.load_weights, path)
    assert_near(by_keras(theirs.predict, x, verbose=0), ours.predict(x, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_models_go_both_ways(name, keras, tmp_path):
    assert_whole_models_go_both_ways(name, "model.keras", keras, tmp_path)


@pytest.mark.parametrize("name", ["perceptron"])
def test_legacy_models_go_both_ways(name, keras, tmp_path):
    assert_whole_models_go_both_ways(name, "model.h5", keras, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nested", "cells"])
@pytest.mark.parametrize("ending", ["model.weights.h5", "model.h5"])
def test_weights_go_both_ways(name, ending, keras, tmp_path):
    assert_weights_go_both_ways(name, ending, keras, tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("ending", ["model.keras", "model.weights.h5", "model.h5"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_both_ways(name, ending, keras, tmp_path):
    if ending == "model.h5" and name in NOT_LEGACY:
        pytest.skip("Keras's legacy files do not hold it")
    if ending == "model.weights.h5":
        assert_weights_go_both_ways(name, ending, keras, tmp_path)
    else:
        assert_whole_models_go_both_ways(name, ending, keras, tmp_path)


def small(k, **compiled):
    model = k.Sequential(
        [k.Input((3,)), k.layers.Dense(4, activation="tanh"), k.layers.Dense(2, name="last")]
    )
    if compiled:
        model.compile(**compiled)
    return model


def data():
    draw = np.random.default_rng(0)
    return draw.normal(size=(16, 3)).astype("float32"), draw.normal(size=(16, 2)).astype("float32")


# -- training goes on ----------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"use_ema": True, "ema_momentum": 0.8},
    "AdamW": {"gradient_accumulation_steps": 2},
    "Adagrad": {},
    "Adadelta": {},
    "Adamax": {},
    "Nadam": {},
    "Ftrl": {},
    "Lion": {},
    "Lamb": {},
    "Adafactor": {},
    "Muon": {},
    "ScheduleFreeAdamW": {},
    "LossScaleOptimizer": {},
}
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def optimizer_of(k, name):
    if name == "LossScaleOptimizer":
        return k.optimizers.LossScaleOptimizer(k.optimizers.Adam(0.01))
    return getattr(k.optimizers, name)(learning_rate=0.01, **OPTIMIZERS[name])


def assert_training_goes_on(name, keras, path):
    """Three files: Keras trains, fnn goes on, and Keras after it, as if Keras had done it all."""
    x, y = data()
    theirs = by_keras(small, keras, optimizer=optimizer_of(keras, name), loss="mse")
    by_keras(theirs.fit, x, y, epochs=3, **FIT)
    by_keras(theirs.save, path)
    ours = fnn.load(path)
    again = by_keras(keras.saving.load_model, path)
    ours.fit(x, y, epochs=2, **FIT)
    by_keras(again.fit, x, y, epochs=2, **FIT)
    assert_near(ours.get_weights(), by_keras(again.get_weights), 2e-5)
    ours.save(path)
    last = by_keras(keras.saving.load_model, path)
    assert int(last.optimizer.iterations) == int(ours.optimizer.iterations)
    ours.fit(x, y, epochs=1, **FIT)
    by_keras(last.fit, x, y, epochs=1, **FIT)
    assert_near(ours.get_weights(), by_keras(last.get_weights), 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_training_goes_on(name, keras, tmp_path):
    assert_training_goes_on(name, keras, tmp_path / "model.keras")


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_with_every_optimizer(name, keras, tmp_path):
    assert_training_goes_on(name, keras, tmp_path / "model.keras")


@pytest.mark.slow
def test_training_goes_on_from_a_legacy_file(keras, tmp_path):
    """Beside Keras's own model, since a model that Keras loads from such a file does not train."""
    path = tmp_path / "model.h5"
    x, y = data()
    theirs = by_keras(small, keras, optimizer=optimizer_of(keras, "SGD"), loss="mse")
    by_keras(theirs.fit, x, y, epochs=3, **FIT)
    by_keras(theirs.save, path)
    ours = fnn.load(path)
    ours.save(path)
    again = fnn.load(path)
    by_keras(theirs.fit, x, y, epochs=2, **FIT)
    for model in (ours, again):
        model.fit(x, y, epochs=2, **FIT)
        assert_near(model.get_weights(), by_keras(theirs.get_weights), 2e-5)


def test_weights_may_be_larger_than_a_header(tmp_path, monkeypatch):
    """`.keras` files hold all weights in one member."""
    model = fnn.Sequential([fnn.layers.Dense(1024, input_shape=(600,))])
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(reading, "HEADER_LIMIT", 2**20)
    loaded = fnn.load(tmp_path / "model.keras")
    assert_near(loaded.get_weights(), model.get_weights(), 0)


@pytest.mark.slow
def test_a_rate_that_was_set_and_a_schedule_go_on(keras, tmp_path):
    x, y = data()
    path = tmp_path / "model.keras"
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    theirs = by_keras(small, keras, optimizer=keras.optimizers.SGD(schedule), loss="mse")
    by_keras(theirs.fit, x, y, **FIT)
    by_keras(theirs.save, path)
    ours = fnn.load(path)
    assert float(ours.learning_rate) == pytest.approx(float(theirs.optimizer.learning_rate))
    ours.compile(fnn.optimizers.SGD(0.5), "mse")
    ours.optimizer.learning_rate = 0.25
    ours.save(path)
    assert float(by_keras(keras.saving.load_model, path).optimizer.learning_rate) == 0.25


def test_another_optimizer_starts_afresh_with_a_warning(tmp_path):
    model = small(fnn, optimizer="adam", loss="mse")
    model.save(tmp_path / "model.keras")
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(tmp_path / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        config = json.loads(old.read("config.json"))
        config["compile_config"]["optimizer"]["class_name"] = "Lion"
        for name in ("epsilon", "amsgrad"):
            del config["compile_config"]["optimizer"]["config"][name]
        new.writestr("metadata.json", old.read("metadata.json"))
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.warns(UserWarning, match="starts afresh"):
        assert int(fnn.load(path).optimizer.iterations) == 0


def test_without_compile(tmp_path):
    small(fnn, optimizer="adam", loss="mse").save(tmp_path / "model.keras")
    assert fnn.load(tmp_path / "model.keras", compile=False).compiled is False


# -- weights -------------------------------------------------------------------------------------


def test_a_difference_is_an_error_that_lists_it(tmp_path):
    model = fnn.Sequential([Dense(4, input_shape=(3,)), Dense(2)])
    model.save_weights(tmp_path / "a.weights.h5")
    other = fnn.Sequential([Dense(4, input_shape=(3,)), Dense(5), Dense(1)])
    before = other.get_weights()
    with pytest.raises(FileError) as error:
        other.load_weights(tmp_path / "a.weights.h5")
    message = str(error.value)
    assert "params/dense_1/kernel: expected float32[4, 5], found float32[4, 2]" in message
    assert "params/dense_2/bias: missing in the file" in message
    for a, b in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    report = other.load_weights(tmp_path / "a.weights.h5", strict=False)
    assert set(report.loaded) == {"params/dense/bias", "params/dense/kernel"}
    assert_near(other.get_weights()[0], model.get_weights()[0])
    with pytest.raises(FileError, match=r"layers/dense_1/vars/0: not in the model"):
        fnn.Sequential([Dense(4, input_shape=(3,))]).load_weights(tmp_path / "a.weights.h5")


def test_skip_mismatch_keeps_layers_that_do_not_fit(keras, tmp_path):
    path = tmp_path / "a.weights.h5"
    theirs = by_keras(small, keras)
    by_keras(theirs.save_weights, path)
    ours = fnn.Sequential([Dense(4, input_shape=(3,)), Dense(5)], seed=1)
    kept = ours.get_weights()[2:]
    with pytest.warns(UserWarning, match="dense_1"):
        ours.load_weights(path, skip_mismatch=True)
    assert_near(ours.get_weights(), [*by_keras(theirs.get_weights)[:2], *kept], 0)


def test_legacy_weights_by_name(keras, tmp_path):
    path = tmp_path / "model.h5"
    theirs = by_keras(randomize, by_keras(small, keras))
    by_keras(theirs.save, path)
    layers = [Dense(7, input_shape=(3,), name="other"), Dense(4), Dense(2, name="last")]
    ours = fnn.Sequential(layers, seed=1)
    kept = ours.get_weights()[:4]
    with pytest.raises(FileError, match="by_name=True"):
        ours.load_weights(path)
    ours.load_weights(path, by_name=True)
    assert_near(ours.get_weights(), [*kept, *by_keras(theirs.get_weights)[2:]], 0)
    with pytest.raises(FileError, match="leave by_name out"):
        ours.save_weights(tmp_path / "a.weights.h5")
        ours.load_weights(tmp_path / "a.weights.h5", by_name=True)


def test_bfloat16_weights(keras, tmp_path):
    path = tmp_path / "a.weights.h5"
    theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    by_keras(theirs.save_weights, path)
    ours = fnn.Sequential([Dense(2, input_shape=(3,))])
    ours.load_weights(path)
    kernel = np.asarray(by_keras(theirs.get_weights)[0]).astype("float32")
    np.testing.assert_array_equal(ours.get_weights()[0], kernel)


def test_bfloat16_is_written_as_keras_writes_it(tmp_path):
    import h5py

    from fnn.saving.keras.weights import put

    with h5py.File(tmp_path / "a.h5", "w") as file:
        put(file, "0", np.ones(2, ml_dtypes.bfloat16))
        assert file["0"].attrs["dtype"] == "bfloat16"
        with pytest.raises(ValueError, match=r"save the model as \.fnn"):
            put(file, "1", np.ones(2, ml_dtypes.float8_e4m3fn))


# -- Keras 2 -------------------------------------------------------------------------------------

KERAS2_CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {
                    "batch_input_shape": [None, 3],
                    "dtype": "float32",
                    "sparse": False,
                    "ragged": False,
                    "name": "dense_input",
                },
            },
            {
                "class_name": "Dense",
                "config": {
                    "name": "dense",
                    "trainable": True,
                    "dtype": "float32",
                    "units": 2,
                    "activation": "relu",
                    "use_bias": True,
                    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
                    "bias_initializer": {"class_name": "Zeros", "config": {}},
                    "kernel_regularizer": None,
                },
            },
            {
                "class_name": "BatchNormalization",
                "config": {
                    "name": "batch_normalization",
                    "axis": [1],
                    "momentum": 0.99,
                    "epsilon": 0.001,
                },
            },
        ],
    },
}
KERAS2_TRAINING = {
    "loss": "mse",
    "metrics": None,
    "weighted_metrics": None,
    "loss_weights": None,
    "optimizer_config": {
        "class_name": "Adam",
        "config": {"name": "Adam", "learning_rate": 0.125, "beta_1": 0.9, "beta_2": 0.999},
    },
}
KERNEL = np.arange(6, dtype="float32").reshape(3, 2)
KERAS2_LAYERS = {
    "dense": {"dense/kernel:0": KERNEL, "dense/bias:0": np.float32([0.5, -0.5])},
    "batch_normalization": {
        f"batch_normalization/{name}:0": np.float32(value)
        for name, value in {
            "gamma": [1, 2],
            "beta": [3, 4],
            "moving_mean": [5, 6],
            "moving_variance": [7, 8],
        }.items()
    },
}


def assert_has_keras2_weights(model):
    layers = KERAS2_LAYERS.values()
    expected = [array for weights in layers for array in weights.values()]
    assert_near(model.get_weights(), expected, 0)
    x = np.float32([[1, 2, 3]])
    hidden = np.maximum(x @ KERNEL + [0.5, -0.5], 0)
    normal = (hidden - [5, 6]) / np.sqrt(np.float32([7, 8]) + 0.001)
    assert_near(model.predict(x, verbose=0), np.float32(normal * [1, 2] + [3, 4]))


def test_a_model_of_keras_2(tmp_path):
    path = tmp_path / "model.h5"
    state = {
        "Adam/iteration:0": np.int64(7),
        "Adam/learning_rate:0": np.float32(0.25),
        "Adam/m/dense/kernel:0": KERNEL,
    }
    write_keras2(path, KERAS2_LAYERS, json.dumps(KERAS2_CONFIG), json.dumps(KERAS2_TRAINING), state)
    with pytest.warns(UserWarning, match="starts afresh"):
        model = fnn.load(path)
    assert_has_keras2_weights(model)
    assert float(model.learning_rate) == 0.125


def test_weights_of_keras_2(tmp_path):
    path = tmp_path / "weights.h5"
    write_keras2(path, {**KERAS2_LAYERS, "dropout": {}})
    model = fnn.Sequential([Dense(2, "relu", input_shape=(3,)), BatchNormalization()])
    model.load_weights(path)
    assert_has_keras2_weights(model)
    with pytest.raises(FileError, match=r"create the model, then call model\.load_weights"):
        fnn.load(path)


# -- vocabularies, classes, names ----------------------------------------------------------------


def test_a_learned_vocabulary_goes_both_ways(keras, tmp_path):
    path = tmp_path / "model.keras"
    words = np.array([["foo bar"], ["bar baz"], ["qux"]], object)
    model = fnn.Sequential(
        [
            fnn.Input((1,), dtype="string"),
            TextVectorization(output_sequence_length=3),
            Embedding(9, 2),
        ],
        seed=0,
    )
    model.layers[0].adapt(words)
    model.save(path)
    assert fnn.load(path).layers[0].get_vocabulary() == model.layers[0].get_vocabulary()
    theirs = by_keras(keras.saving.load_model, path)
    assert theirs.layers[0].get_vocabulary() == model.layers[0].get_vocabulary()
    by_keras(theirs.save, path)
    assert fnn.load(path).layers[0].get_vocabulary() == model.layers[0].get_vocabulary()


@pytest.mark.parametrize("token", ["a\nb", "a\u2028b", "a\r"])
def test_a_token_of_several_lines_is_refused(token, tmp_path):
    layer = StringLookup()
    layer.adapt(np.array(["c", token], object))
    model = fnn.Sequential([fnn.Input((1,), dtype="string"), layer, Embedding(9, 2)])
    with pytest.raises(ValueError, match=r"lines of a file, .* the token 'a.*as \.fnn"):
        model.save(tmp_path / "model.keras")
    saving = fnn.callbacks.ModelCheckpoint(tmp_path / "model.keras", monitor="loss")
    model.compile("sgd", "mse")
    x = np.array([["c"], [token]], object)
    with pytest.raises(ValueError, match="lines of a file"):
        model.fit(x, np.ones((2, 1, 2)), verbose=0, callbacks=[saving])
    assert int(model.train_state.step) == 0
    assert not list(tmp_path.iterdir())
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert again.layers[0].get_vocabulary() == layer.get_vocabulary()


def test_weights_of_tokens_go_both_ways(keras, tmp_path):
    path = tmp_path / "model.keras"
    layer = StringLookup(output_mode="tf_idf", max_tokens=6, pad_to_max_tokens=True)
    layer.adapt(np.array([["a", "b"], ["b", "c"]]))
    model = fnn.Sequential([fnn.Input((2,), dtype="string"), layer])
    x = np.array([["a", "b"], ["c", "z"]])
    expected = model.predict(x, verbose=0)
    model.save(path)
    assert_near(fnn.load(path).predict(x, verbose=0), expected)
    theirs = by_keras(keras.saving.load_model, path)
    by_keras(theirs.save, path)
    assert_near(fnn.load(path).predict(x, verbose=0), expected)


def test_an_older_file_of_fnn_under_keras_name_still_loads(tmp_path):
    model = small(fnn)
    model.save(tmp_path / "model.fnn")
    (tmp_path / "model.fnn").rename(tmp_path / "model.keras")
    assert_near(fnn.load(tmp_path / "model.keras").get_weights(), model.get_weights(), 0)


@pytest.mark.parametrize("ending", [*ENDINGS, "model.weights.h5"])
def test_what_keras_does_not_have_names_another_format(ending, tmp_path):
    model = fnn.Sequential([fnn.layers.Residual(Dense(3)), Dense(2)])
    model.build((None, 3))
    save = model.save_weights if ending.endswith("weights.h5") else model.save
    with pytest.raises(ValueError, match=r"Residual.*\.fnn"):
        save(tmp_path / ending)
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_noticed(tmp_path):
    path = tmp_path / "a.weights.h5"
    model = small(fnn)
    model.save_weights(path)
    data = path.read_bytes()
    kernel = model.get_weights()[0].tobytes()
    path.write_bytes(data.replace(kernel, kernel[:-1] + b"\x01"))
    with pytest.raises(FileError, match="checksum"):
        model.load_weights(path)


@pytest.mark.slow
def test_keras_names_of_loading(tmp_path):
    path = tmp_path / "model.keras"
    model = small(fnn)
    fnn.saving.save_model(model, path)
    for load in (fnn.saving.load_model, fnn.models.load_model):
        again = load(path, custom_objects=None, compile=True, safe_mode=True)
        assert_near(again.get_weights(), model.get_weights(), 0)
