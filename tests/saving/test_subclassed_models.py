"""Whole models of classes in Keras's way in files, and their configs."""

import json

import numpy as np
import pytest

import fnn as keras
from fnn import layers
from fnn.core.config import from_config
from fnn.layers import Dense

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="tests")
class Net(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.last = Dense(units, activation="relu"), Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class Outer(keras.Model):
    """Without a config of its own: its arguments are kept."""

    def __init__(self, units=3):
        super().__init__()
        self.net, self.norm = Net(units), layers.BatchNormalization()

    def call(self, x, scale=1.0):
        return self.net(self.norm(x)) * scale


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: Net(5, name="mine"), lambda: Outer(2)])
def test_a_saved_model_comes_back_as_its_class(make, tmp_path):
    model = make()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "a.fnn")
    again = keras.saving.load_model(tmp_path / "a.fnn")
    assert type(again) is type(model)
    assert again.name == model.name
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    first, second = (m.fit(X, Y, shuffle=False, verbose=0).history for m in (model, again))
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("made", [Net(5), Outer(2)])
def test_a_config_makes_an_equal_network(made):
    config = json.loads(json.dumps(made.get_config()))
    assert config["units"] in (5, 2)
    again = type(made).from_config(config)
    again(X)
    made(X)
    again.set_weights(made.get_weights())
    np.testing.assert_array_equal(again.predict(X, verbose=0), made.predict(X, verbose=0))


@pytest.mark.slow
def test_a_model_inside_a_graph_comes_back(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, Dense(2)(Outer(3)(x, scale=2.0)))
    model.save(tmp_path / "a.fnn")
    again = keras.load(tmp_path / "a.fnn")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_class_that_is_not_registered_says_so(tmp_path):
    class Local(keras.Model):
        def call(self, x):
            return x * 2

    model = Local()
    model(X)
    with pytest.raises(ValueError, match=r"expected a registered model to save, received Local"):
        model.save(tmp_path / "a.fnn")


@pytest.mark.parametrize(
    "config",
    [
        {"layer": "ModelCall"},
        {"layer": "ModelCall", "class": "Model", "config": {"dict": []}},
        {"layer": "ModelCall", "class": "tests>Net"},
        {"layer": "ModelCall", "class": ["tests>Net"], "config": {"dict": []}},
        {"layer": "ModelCall", "class": "os.system", "config": {"dict": [["command", "true"]]}},
    ],
)
def test_a_damaged_description_is_refused(config):
    with pytest.raises(ValueError, match="expected"):
        from_config(config)
