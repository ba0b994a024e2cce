"""What stands around a model pickles and copies as it does; `train_state` is plain arrays."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import callbacks, layers, losses, metrics, optimizers
from tests.helpers.catalogue import CATALOGUE
from tests.helpers.same import assert_same_states

X = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)
Y = X.sum(axis=1, keepdims=True)


def made(optimizer="adam"):
    rows = [layers.Dense(3, "relu", input_shape=(4,)), layers.Dropout(0.5), layers.Dense(1)]
    model = fnn.Sequential(rows, seed=0)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


WAYS = pytest.mark.parametrize("way", [through_pickle, copy.deepcopy])


# -- the state of a training ---------------------------------------------------------------------


def check_plain(state):
    leaves = jax.tree.leaves(state)
    assert leaves
    assert all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves)


def test_the_state_is_arrays_and_complete_before_and_after_training():
    model = made()
    before = model.train_state
    check_plain(before)
    assert before.optimizer is not None
    model.fit(X, Y, verbose=0)
    after = model.train_state
    check_plain(after)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert (int(after.step), int(after.epoch)) == (1, 1)
    uncompiled = fnn.Sequential([layers.Dense(1, input_shape=(4,))])
    check_plain(uncompiled.train_state)
    assert uncompiled.train_state.optimizer is None
    uncompiled.compile("sgd", "mse")
    assert uncompiled.train_state.optimizer is not None


def test_the_state_of_an_unfinished_training_is_arrays_too():
    class Looks(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            check_plain(self.model.train_state)
            self.seen = self.model.train_state.callbacks

    looks = Looks()
    stopping = callbacks.EarlyStopping("loss", patience=9)
    made().fit(X, Y, epochs=2, verbose=0, callbacks=[stopping, looks])
    assert "EarlyStopping" in looks.seen


@pytest.mark.slow
def test_reading_the_state_changes_no_training():
    class Reads(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert self.model.train_state.optimizer is not None

    read, plain = made(), made()
    assert read.train_state.optimizer is not None
    read.fit(X, Y, batch_size=3, epochs=2, verbose=0, callbacks=[Reads()])
    plain.fit(X, Y, batch_size=3, epochs=2, verbose=0)
    assert_same_states(read.train_state, plain.train_state)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_orbax_jax_and_pickle_take_the_state_as_it_is(trained, tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    model, other = made(), made()
    if trained:
        model.fit(X, Y, verbose=0)
    state = model.train_state
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", target=other.train_state)
    assert_same_states(restored, state)
    assert_same_states(through_pickle(state), state)
    assert_same_states(jax.tree.map(jnp.copy, state), state)
    assert_same_states(jax.device_get(jax.device_put(state)), state)
    other.train_state = restored
    for one in (model, other):
        one.fit(X, Y, batch_size=3, verbose=0)
    assert_same_states(other.train_state, model.train_state)


# -- parts ---------------------------------------------------------------------------------------


@WAYS
def test_every_layer_of_the_catalogue_is_copied(way):
    for case in CATALOGUE:
        if "lambda" in repr(case.layer) or (way is through_pickle and not _pickles(case.layer)):
            continue
        again = way(case.layer)
        assert type(again) is type(case.layer)
        assert again == case.layer


def _pickles(layer):
    """Whether what a user gave it, such as a function of a test, can be pickled."""
    try:
        pickle.dumps(layer)
    except (AttributeError, pickle.PicklingError, TypeError):
        return "<function" in repr(vars(layer)) or "function" in repr(layer)
    return True


def values_of(module):
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, type) and issubclass(thing, fnn.core.value.Value):
            try:
                yield thing()
            except (TypeError, ValueError):
                continue  # it needs arguments


@WAYS
@pytest.mark.parametrize("module", [losses, metrics, optimizers], ids=lambda m: m.__name__)
def test_losses_metrics_and_optimizers_are_copied(module, way):
    found = list(values_of(module))
    assert len(found) > 10
    for value in found:
        assert way(value) == value, value


@WAYS
def test_callbacks_of_a_trained_model_are_copied_with_their_counters(way, tmp_path):
    model = made()
    found = [
        callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("loss", patience=2),
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.fnn", monitor="loss", save_best_only=True),
        callbacks.BackupAndRestore(tmp_path / "backup"),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.JSONLogger(tmp_path / "log.jsonl"),
        callbacks.TerminateOnNaN(),
        callbacks.LearningRateScheduler(abs),
        callbacks.LambdaCallback(on_epoch_end=print),
        callbacks.SwapEMAWeights(),
        callbacks.GradientStatistics(),
    ]
    for one in found:
        assert type(way(one)) is type(one)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[*found[:2], found[2], found[6]])
    for one in found:
        again = way(one)
        names = getattr(one, "resumed", ())
        for name in names:
            np.testing.assert_equal(
                jax.tree.map(np.asarray, getattr(again, name)),
                jax.tree.map(np.asarray, getattr(one, name)),
            )
    stopping = way(found[0])
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[stopping])


@WAYS
def test_a_history_is_copied_without_its_model(way):
    model = made()
    history = model.fit(X, Y, epochs=2, verbose=0)
    again = way(history)
    assert again.history == history.history
    assert (again.epoch, again.params) == (history.epoch, history.params)


class Counted(fnn.layers.Layer):
    """A layer in Keras's way with a weight of its own."""

    def __init__(self, units=2):
        super().__init__()
        self.units = units

    def build(self, shape):
        self.w = self.add_weight((shape[-1], self.units), name="w")
        self.count = self.add_weight((), name="count", trainable=False, initializer="zeros")

    def call(self, x):
        self.count.assign_add(1.0)
        return x @ self.w


@WAYS
def test_a_layer_with_weights_of_its_own_is_copied_with_them(way):
    layer = Counted(3)
    expected = layer(X)
    again = way(layer)
    np.testing.assert_array_equal(again.get_weights()[0], layer.get_weights()[0])
    np.testing.assert_array_equal(again(X), expected)
    again.w.assign(again.w * 2)
    np.testing.assert_allclose(again(X), 2 * expected, rtol=1e-6)
    np.testing.assert_array_equal(layer(X), expected)


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("number", [0, 1])
def test_a_layer_of_a_trained_model_is_copied_with_its_weights(way, number):
    """And goes on without the model, which stays as it is."""
    rows = [layers.Dense(3, input_shape=(4,)), fnn.Sequential([layers.Dense(3), layers.Dense(2)])]
    model = fnn.Sequential(rows, seed=0)
    model.compile("sgd", "mse")
    model.fit(X, X[:, :2], verbose=0)
    layer = model.layers[number]
    x = X if number == 0 else X[:, :3]
    expected, before = np.asarray(layer(x)), model.get_weights()
    again = way(layer)
    np.testing.assert_array_equal(again(x), expected)
    for a, b in zip(again.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    again.set_weights([0 * w for w in again.get_weights()])
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pickle_of_a_model_has_its_weights_once():
    model = fnn.Sequential([layers.Dense(500, input_shape=(500,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    assert len(pickle.dumps(model)) < 1.2 * 4 * 500 * 500


class Inner(fnn.Model):
    def __init__(self):
        super().__init__()
        self.counted, self.many = Counted(3), [layers.Dense(2), layers.Dense(1)]

    def call(self, x):
        x = self.counted(x)
        for layer in self.many:
            x = layer(x)
        return x


class Outer(fnn.Model):
    """A model in a model, with a variable and a generator of random numbers."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.scale = fnn.Variable(1.5, name="scale")
        self.generator = fnn.random.SeedGenerator(3)

    def call(self, x, training=False):
        y = self.inner(x) * self.scale
        return y + 0.1 * fnn.random.normal(y.shape, seed=self.generator) if training else y


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("trained", [False, True])
def test_models_in_models_train_on_bit_for_bit(way, trained):
    model = Outer()
    model.compile(optimizers.SGD(0.01, momentum=0.9), "mse")
    if trained:
        model.fit(X, Y, batch_size=3, epochs=2, verbose=0)
    again = way(model)
    for one in (model, again):
        one.fit(X, Y, batch_size=3, epochs=2, verbose=0)
    assert_same_states(again.train_state, model.train_state)
    assert float(again.scale) == float(model.scale)
    np.testing.assert_array_equal(again.inner(X), model.inner(X))
