"""The programs that fnn is built for, as their author wrote them, with only the imports changed."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
import fnn as keras
from fnn.layers import Conv2D, Dense, Flatten, Input, Lambda, MaxPooling2D
from fnn.models import Sequential
from fnn.optimizers import Optimizer

pytestmark = pytest.mark.optimized


def linear_task(rows, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 10))
    return x, (x.sum(axis=1) > 0).astype(int)


def binary_model():
    model = keras.Sequential(
        [
            keras.layers.Dense(16, activation="relu", input_shape=(10,)),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize(
    "column",
    [pytest.param(False, id="(n,)"), pytest.param(True, id="(n, 1)", marks=pytest.mark.slow)],
)
def test_program_1_learns_a_binary_task(column):
    fnn.set_seed(1)
    x_train, y_train = linear_task(800)
    x_test, y_test = linear_task(200, seed=1)
    if column:
        y_train, y_test = y_train[:, None], y_test[:, None]
    model = binary_model()
    model.fit(x_train, y_train, epochs=30, batch_size=32, verbose=0)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    probability = model.predict(x_test, verbose=0)[:, 0]
    truth = y_test.reshape(-1)
    assert accuracy == pytest.approx(((probability > 0.5) == truth).mean(), abs=1e-6)
    entropy = -np.where(truth == 1, np.log(probability), np.log1p(-probability)).mean()
    assert loss == pytest.approx(entropy, abs=1e-5)
    assert accuracy > 0.9


def digits():
    """MNIST where there is one, else scikit-learn's digits in the same shape."""
    shared = Path(__file__).parents[3] / "shared" / "data"
    if "FNN_DATA" not in os.environ and (shared / "mnist").is_dir():
        os.environ["FNN_DATA"] = str(shared)
    if os.path.isdir(os.path.join(os.environ.get("FNN_DATA", ""), "mnist")):
        return (*fnn.datasets.mnist(), 255.0)
    (x_train, y_train), (x_test, y_test) = fnn.datasets.digits()
    enlarge = lambda x: np.pad(
        np.kron(x.reshape(-1, 8, 8), np.ones((1, 3, 3))), [(0, 0), (2, 2), (2, 2)]
    )
    return (enlarge(x_train), y_train), (enlarge(x_test), y_test), 16.0


@pytest.mark.slow
def test_program_2_reads_digits():
    (x_train, y_train), (x_test, y_test), scale = digits()
    x_train, y_train = x_train[:10_000], y_train[:10_000]
    x_train, x_test = (x.reshape(-1, 28, 28, 1) / scale for x in (x_train, x_test))
    y_train, y_test = np.eye(10)[y_train], np.eye(10)[y_test]
    fnn.set_seed(0)
    model = Sequential(
        [
            Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)),
            MaxPooling2D((2, 2)),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=3, batch_size=32, verbose=2)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    assert accuracy >= 0.97
    right = model.predict(x_test, verbose=0).argmax(-1) == y_test.argmax(-1)
    assert accuracy == pytest.approx(right.mean(), abs=1e-6)
    assert loss < 0.15


def test_program_3_puts_a_function_into_a_graph():
    def custom_layer(x):
        return x

    input_layer = Input(shape=(10,))
    custom_layer = Lambda(custom_layer)(input_layer)
    assert custom_layer.shape == (None, 10)
    x = np.random.default_rng(0).normal(size=(3, 10)).astype("float32")
    model = fnn.Model(input_layer, custom_layer)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)


class CustomOptimizer(Optimizer):
    def __init__(self, learning_rate=0.01):
        super(CustomOptimizer, self).__init__()  # noqa: UP008 - as the program has it
        self.learning_rate = learning_rate

    def get_updates(self, loss, params):
        return {}


class Descent(CustomOptimizer):
    def get_updates(self, loss, params):
        grads = jax.grad(loss)(params)
        return jax.tree.map(lambda g: -self.learning_rate * g, grads)


class HeadOnly(CustomOptimizer):
    def get_updates(self, loss, params):
        grads = jax.grad(loss)(params)
        return {"dense_1/bias": -self.learning_rate * grads["dense_1"]["bias"]}


def test_program_4_compiles_and_leaves_out_what_has_no_update():
    model = binary_model()
    custom_optimizer = CustomOptimizer()
    model.compile(optimizer=custom_optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    before = model.get_weights()
    model.fit(*linear_task(64), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_custom_optimizer_of_three_lines_is_sgd():
    x, y = linear_task(100)
    own, known = binary_model(), binary_model()
    known.set_weights(own.get_weights())
    own.compile(Descent(0.1), "binary_crossentropy")
    known.compile(fnn.optimizers.SGD(0.1), "binary_crossentropy")
    for model in (own, known):
        model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    for ours, theirs in zip(own.get_weights(), known.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_custom_optimizer_may_update_by_path():
    model = binary_model()
    model.compile(HeadOnly(0.1), "binary_crossentropy")
    before = dict(fnn.core.tree.flatten(model.params))
    model.fit(*linear_task(64), verbose=0)
    changed = {
        "/".join(path)
        for path, leaf in fnn.core.tree.flatten(model.params)
        if not np.array_equal(leaf, before[path])
    }
    assert changed == {"dense_1/bias"}


def test_a_star_import_keeps_the_sequential_that_trains():
    names = {}
    exec("from fnn.models import Sequential\nfrom fnn.layers import *", names)
    assert hasattr(names["Sequential"], "fit")
    assert names["Dense"] is Dense
    assert "pooling" not in names
