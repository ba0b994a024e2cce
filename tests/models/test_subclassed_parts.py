"""Initializers, regularizers, constraints and callbacks in Keras's way, in a model that trains."""

import numpy as np
import pytest

from fnn.core.config import from_config, to_config
from tests.helpers.both_libraries import assert_equal, both, linear, on_both, registered

PROGRAM = """
class Ramp(keras.initializers.Initializer):
    def __init__(self, scale=0.5):
        self.scale = scale

    def __call__(self, shape, dtype=None, **kwargs):
        values = ops.arange(np.prod(shape), dtype=dtype)
        return self.scale * ops.reshape(values, shape)

    def get_config(self):
        return {"scale": self.scale}


class Drawn(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.random.normal(shape, stddev=0.1, dtype=dtype, seed=3)


class Far(keras.regularizers.Regularizer):
    def __init__(self, goal):
        self.goal = goal

    def __call__(self, x):
        return 0.1 * ops.sum(ops.square(x - self.goal))

    def get_config(self):
        return {"goal": self.goal}


class AtMost(keras.constraints.Constraint):
    def __init__(self, limit=1.0):
        self.limit = limit

    def __call__(self, w):
        return ops.minimum(w, self.limit)

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}


class Inherited(keras.regularizers.L2):
    def __call__(self, x):
        return 2 * super().__call__(x)


def build():
    layers = keras.layers
    return keras.Sequential([
        layers.Input((3,)),
        layers.Dense(
            4, kernel_initializer=Ramp(0.1), bias_initializer=Drawn(),
            kernel_regularizer=Far(0.5), kernel_constraint=AtMost(0.6), activation="tanh",
        ),
        layers.Dense(
            1, kernel_initializer=Drawn(), bias_initializer=Ramp(),
            kernel_regularizer=Inherited(0.05), bias_constraint=AtMost(limit=0.0),
        ),
    ])
"""
RNG = np.random.default_rng(9)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 1)).astype("float32")


@pytest.mark.slow
def test_layers_train_with_them_as_in_keras():
    def run(names, library):
        model = names.build()
        before = model.get_weights()
        model.compile(library.optimizers.SGD(0.1), "mse")
        history = model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        return before, history["loss"], model.get_weights()

    received, expected = on_both(PROGRAM, run)
    assert_equal(received, expected)


@pytest.mark.slow
def test_equal_ones_are_equal_and_saved():
    ours, keras = both(PROGRAM)
    made = [("Ramp", 0.25), ("Far", 2.0), ("AtMost", 3.0)]
    for name, argument in made:
        make = getattr(ours, name)
        value, other = make(argument), getattr(keras, name)(argument)
        assert value == make(argument)
        assert value != make(argument + 1)
        assert value.get_config() == other.get_config()
        assert make.from_config(value.get_config()) == value
        with registered(make):
            assert from_config(to_config(value)) == value
    assert ours.build().layers[0] == ours.build().layers[0]


CALLBACKS = """
HOOKS = [
    f"on_{kind}{of}_{end}"
    for kind in ("train", "test", "predict")
    for of in ("", "_batch")
    for end in ("begin", "end")
] + ["on_epoch_begin", "on_epoch_end"]


class Recorder(keras.callbacks.Callback):
    def __init__(self, events):
        super().__init__()
        self.events = events

    def set_params(self, params):
        super().set_params(params)
        self.events.append(("params", {k: params[k] for k in ("epochs", "steps") if k in params}))

    def set_model(self, model):
        super().set_model(model)
        self.events.append(("model", model is not None))


def hook(name):
    def run(self, *arguments, **named):
        *index, logs = (*arguments, *named.values()) or (None,)
        keys = sorted(logs or {})
        self.events.append((name, *index, keys))
    return run


for name in HOOKS:
    setattr(Recorder, name, hook(name))


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.seen.append(float(rate))
        if epoch == 0:
            self.model.optimizer.learning_rate = 0.5 * rate
        else:
            self.model.optimizer.learning_rate.assign(0.01)

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, float(logs["loss"])))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((int(self.model.optimizer.iterations), self.params["epochs"]))
        logs["added"] = 2.0 * epoch
        if epoch == 2:
            self.model.stop_training = True
"""
KERNEL = np.array([[0.5], [-0.75], [1.0]], "float32")


@pytest.mark.slow
def test_every_hook_is_called_as_in_keras():
    def run(names, library):
        events = []
        model = linear(library, KERNEL)
        model.compile("sgd", "mse", metrics=["mae"])
        recorder = names.Recorder(events)
        given = {"batch_size": 5, "verbose": 0, "callbacks": [recorder]}
        model.fit(X, Y, epochs=2, validation_data=(X[:5], Y[:5]), **given)
        model.evaluate(X, Y, **given)
        model.predict(X, **given)
        return events

    received, expected = on_both(CALLBACKS, run)
    assert received == expected


@pytest.mark.slow
def test_rates_and_stopping_as_in_keras():
    def run(names, library):
        model = linear(library, KERNEL)
        model.compile(library.optimizers.SGD(0.1), "mse")
        rates = names.Rates()
        history = model.fit(
            X, Y, batch_size=4, epochs=5, shuffle=False, verbose=0, callbacks=[rates]
        )
        return rates.seen, history.history, model.get_weights()

    received, expected = on_both(CALLBACKS, run)
    assert_equal(received, expected)
