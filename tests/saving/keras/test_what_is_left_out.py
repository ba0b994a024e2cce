"""Keras's files: what one of the two libraries cannot read is said, never dropped silently."""

import h5py
import jax
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn.layers import Conv2D, Dense, Flatten
from fnn.saving import FileError
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def dense(optimizer):
    model = fnn.Sequential([Dense(2, input_shape=(3,))], seed=0)
    model.compile(optimizer, "mse")
    return model


class Cubed(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(abs(y_true - y_pred) ** 3, -1)


def cubed(y_true, y_pred):
    return keras.ops.mean(abs(y_true - y_pred) ** 3, -1)


@pytest.mark.parametrize(
    ("argument", "value", "kind"),
    [("loss", cubed, "a loss"), ("loss", Cubed(), "a loss"), ("metrics", [cubed], "a metric")],
    ids=["function", "class", "metric"],
)
def test_an_argument_of_compile_that_is_not_known_is_named(tmp_path, argument, value, kind):
    path = tmp_path / "model.keras"
    with keras_rules():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", **{"loss": "mse", argument: value})
        model.save(path)
        expected = np.asarray(model(X))
    name = r"'(cubed|Cubed)'"
    advice = f"it is the {argument} of compile, which compile=False leaves out"
    with pytest.raises(FileError, match=f"{kind} that fnn knows, received {name}.*{advice}"):
        fnn.load(path)
    again = fnn.load(path, compile=False)
    np.testing.assert_allclose(again.predict(X, verbose=0), expected, rtol=1e-6)
    ours = lambda y_true, y_pred: (abs(y_true - y_pred) ** 3).mean(-1)
    names = {"cubed": ours, "Cubed": lambda **_: ours}
    assert fnn.load(path, custom_objects=names).compiled


@pytest.mark.slow
def test_a_state_that_keras_has_in_another_form_is_left_out_with_a_warning(tmp_path):
    model = fnn.Sequential([Conv2D(2, 2, input_shape=(3, 3, 1)), Flatten(), Dense(1)], seed=0)
    model.compile(fnn.optimizers.Adafactor(), "mse")
    model.fit(np.ones((2, 3, 3, 1), "float32"), np.ones((2, 1)), verbose=0)
    for name in ("model.keras", "model.weights.h5", "model.h5"):
        save = model.save_weights if "weights" in name else model.save
        with pytest.warns(UserWarning, match="the state of Adafactor is left out"):
            save(tmp_path / name)
    model.save(tmp_path / "model.fnn")  # without a warning, with the state


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_an_optimizer_of_optax_is_left_out_with_a_warning(tmp_path, name):
    model = dense(optax.sgd(0.1))
    said = "compile are left out of the file.*GradientTransformation"
    with pytest.warns(UserWarning, match=said):
        model.save(tmp_path / name)
    again = fnn.load(tmp_path / name)
    assert not again.compiled
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("batches", [2, 3, 4])
def test_gradients_that_wait_are_said(tmp_path, batches, recwarn):
    """After 3 batches all gradients are applied; 2 and 4 end with an update of fewer."""
    model = dense(fnn.optimizers.Adam(gradient_accumulation_steps=3))
    x = np.resize(X, (batches, 3))
    model.fit(x, x[:, :2], batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    found = [str(one.message) for one in recwarn]
    assert len(found) == (batches != 3)
    assert all("does not say how many gradients wait" in text for text in found)
    if batches == 3:
        again = fnn.load(tmp_path / "model.keras")
        states = (one.train_state.optimizer for one in (model, again))
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_checksum_whose_name_is_damaged_still_counts(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = dense("sgd")
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        file.attrs["fnn_shb256"] = file.attrs.pop("fnn_sha256")
        place = []
        file.visititems(lambda name, item: place.append(name) if hasattr(item, "shape") else None)
        file[place[0]][0] += 1
    before = model.get_weights()
    with pytest.raises(FileError, match="its checksum differs"):
        model.load_weights(path)
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)


@pytest.mark.slow
def test_operators_in_a_legacy_file_of_keras_3(tmp_path):
    """Which Keras writes and cannot read itself."""
    path = tmp_path / "model.h5"
    with keras_rules():
        x = keras.Input((3,))
        y = keras.layers.Dense(3)(x)
        y = keras.layers.Add()([keras.ops.relu(y * 2 + x) - 1.0, x])
        y = keras.ops.concatenate([y, x], axis=-1)[:, 1:]
        theirs = keras.Model(x, keras.ops.mean(y, axis=1, keepdims=True))
        theirs.save(path)
        expected = np.asarray(theirs(X))
    np.testing.assert_allclose(fnn.load(path).predict(X, verbose=0), expected, rtol=1e-6)


def test_a_model_of_named_inputs_inside_another_goes_both_ways(tmp_path):
    path, back = tmp_path / "model.keras", tmp_path / "back.keras"
    with keras_rules():
        left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
        y = keras.layers.Dense(2)(left) - right[:, :2]
        inner = keras.Model({"left": left, "right": right}, y, name="inner")
        # Exchanged, so that the order does not help.
        theirs = keras.Model({"left": left, "right": right}, inner({"left": right, "right": left}))
        theirs.save(path)
        x = {"left": X, "right": X[::-1] + 1}
        expected = np.asarray(theirs(x))
        model = fnn.load(path)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
        model.save(back)
        again = keras.models.load_model(back)
        np.testing.assert_allclose(again(x), expected, rtol=1e-5, atol=1e-6)
        names = [layer.name for layer in again.get_layer("inner").layers]
    assert names[:2] == ["left", "right"]


def nested_outputs(k):
    x = k.Input((3,))
    last = [k.layers.Dense(2)(x)]
    inner = k.Model(x, (k.layers.Dense(1)(x), {"b": last, "a": k.layers.Dense(3)(x)}))
    start = k.Input((3,))
    one, named = inner(start)
    (two,) = named["b"]
    return k.Model(start, [k.layers.Concatenate()([two, one, named["a"]]), two])


@pytest.mark.slow
def test_a_model_of_nested_outputs_inside_another_goes_both_ways(tmp_path):
    path, back = tmp_path / "model.keras", tmp_path / "back.keras"
    with keras_rules():
        theirs = nested_outputs(keras)
        theirs.save(path)
        expected = [np.asarray(y) for y in theirs(X)]
    model = fnn.load(path)
    for other in (model, nested_outputs(fnn)):
        other.set_weights(model.get_weights())
        other.save(back)
        with keras_rules():
            again = keras.models.load_model(back)(X)
        for found in (other.predict(X, verbose=0), again):
            for y, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


def test_the_error_of_a_file_is_public(tmp_path):
    assert issubclass(fnn.saving.FileError, ValueError)
    (tmp_path / "model.fnn").write_bytes(b"no model")
    with pytest.raises(fnn.saving.FileError):
        fnn.load(tmp_path / "model.fnn")
