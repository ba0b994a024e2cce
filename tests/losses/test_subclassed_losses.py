"""Losses in Keras's way: alone and in training, with Keras's numbers."""

import numpy as np
import pytest

from fnn.core.config import from_config, to_config
from tests.helpers.both_libraries import assert_equal, both, linear, on_both, registered

PROGRAM = """
class MyHuber(keras.losses.Loss):
    def __init__(self, threshold=0.5, name="custom_huber", **kwargs):
        super().__init__(name=name, **kwargs)
        self.threshold = threshold

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        small = ops.abs(error) < self.threshold
        big = self.threshold * (ops.abs(error) - 0.5 * self.threshold)
        return ops.mean(ops.where(small, ops.square(error) / 2, big), axis=-1)

    def get_config(self):
        config = super().get_config()
        return {**config, "threshold": self.threshold}


class Summed(keras.losses.Loss):
    def __init__(self, reduction="sum", name="summed"):
        self.power = 1.5
        super().__init__(name, reduction)
        self.inner = keras.losses.MeanAbsoluteError()

    def call(self, y_true, y_pred):
        return keras.losses.mean_squared_error(y_true, y_pred) ** self.power


class Scaled(keras.losses.MeanSquaredError):
    def call(self, y_true, y_pred):
        return 2.0 * super().call(y_true, y_pred)


class OneNumber(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred))


class Fields(keras.losses.Loss):
    def __init__(self):
        super().__init__(name="fields", reduction="none")

    def call(self, y_true, y_pred):
        return ops.sum(ops.log(1 + ops.square(y_true - y_pred)), axis=-1)
"""
RNG = np.random.default_rng(7)
X = RNG.normal(size=(10, 2)).astype("float32")
Y = RNG.normal(size=(10, 1)).astype("float32")
WEIGHT = RNG.uniform(0.5, 2, size=10).astype("float32")
KERNEL = np.array([[0.5], [-0.75]], "float32")
NAMES = ["MyHuber", "Summed", "Scaled", "OneNumber", "Fields"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_give_the_numbers_of_keras(name):
    def run(names, library):
        loss = getattr(names, name)()
        alone = [loss(Y, X[:, :1]), loss(Y, X[:, :1], sample_weight=WEIGHT)]
        if name == "Fields":  # without a reduction Keras cannot train
            return [np.asarray(value) for value in alone]
        model = linear(library, KERNEL)
        model.compile(library.optimizers.SGD(0.01), loss)
        # Keras weighs the sums of batches by their sizes.
        size = 5 if name == "Summed" else 4
        given = {"batch_size": size, "verbose": 0, "shuffle": False}
        history = model.fit(X, Y, **given).history["loss"]
        if name != "OneNumber":
            history += model.fit(X, Y, sample_weight=WEIGHT, **given).history["loss"]
        return [np.asarray(value) for value in alone], history, model.get_weights()

    received, expected = on_both(PROGRAM, run)
    assert_equal(received, expected)


def test_names_and_configs():
    ours, keras = both(PROGRAM)
    for name in NAMES:
        loss, other = getattr(ours, name)(), getattr(keras, name)()
        if name != "Scaled":  # a subclass of one of fnn's is named after itself
            assert other.name.startswith(loss.name)
        assert loss.reduction == other.reduction
        config, expected = loss.get_config(), other.get_config()
        shared = config.keys() & expected.keys() - {"dtype", "name"}
        assert {key: config[key] for key in shared} == {key: expected[key] for key in shared}
    loss = ours.MyHuber(0.25, reduction="sum")
    assert ours.MyHuber.from_config(loss.get_config()) == loss
    with registered(ours.MyHuber):
        assert from_config(to_config(loss)) == loss
    assert loss != ours.MyHuber(0.25)
