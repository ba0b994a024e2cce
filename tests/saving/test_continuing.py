"""A saved model trains on as if it had never stopped, bit for bit; older files still load."""

import copy
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.layers import BatchNormalization, Concatenate, Dense, Dropout
from fnn.saving.tensors import FileError
from fnn.training.history import History
from tests.helpers.same import assert_same_states

FILES = Path(__file__).parent / "files"
X = np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)
Y = X.sum(axis=1, keepdims=True)


@fnn.saving.register_keras_serializable(package="continuing")
class Net(fnn.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.norm = Dense(units, activation="relu"), BatchNormalization()
        self.drop, self.last = Dropout(0.3), Dense(1)

    def call(self, x, training=False):
        return self.last(self.drop(self.norm(self.hidden(x)), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@fnn.saving.register_keras_serializable(package="continuing")
class Own(Net):
    """With a step, a metric and a counter of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tracker = fnn.metrics.Mean(name="tracked")
        self.seen = self.add_weight((), name="seen", trainable=False, initializer="zeros")

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, x, training=False):
        self.seen.assign_add(1.0)
        return super().call(x, training=training)

    def train_step(self, state, data):
        trained, others, steps, counts = state
        x, y = data

        def loss_of(trained, others):
            outputs, others = self.stateless_call(trained, others, x, training=True)
            return self.compute_loss(x, y, outputs), others

        found, gradients = jax.value_and_grad(loss_of, has_aux=True)(trained, others)
        loss, others = found
        trained, steps = self.optimizer.stateless_apply(steps, gradients, trained)
        counts = self.tracker.stateless_update_state(counts, loss)
        logs = {"tracked": self.tracker.stateless_result(counts)}
        return logs, (trained, others, steps, counts)


def averaged():
    rate = fnn.schedules.ExponentialDecay(0.01, 3, 0.5)
    return fnn.optimizers.Adam(rate, use_ema=True, gradient_accumulation_steps=2, clipnorm=1.0)


def row():
    layers = [Dense(3, "relu", input_shape=(4,)), BatchNormalization(), Dropout(0.3), Dense(1)]
    model = fnn.Sequential(layers, seed=0)
    model.compile(averaged(), "mse", metrics=["mae"])
    return model


def graph():
    x = fnn.Input((4,))
    shared = Dense(4, "tanh")
    y = Dense(1)(Dropout(0.2)(Concatenate()([shared(x), shared(x * 2.0)])))
    model = fnn.Model(x, y, seed=0)
    model.compile(fnn.optimizers.RMSprop(0.01, momentum=0.9), "mse", metrics=["mae"])
    return model


def subclassed():
    model = Net(4, seed=0)
    model.compile(fnn.optimizers.Lion(0.01), fnn.losses.Huber(), weighted_metrics=["mae"])
    return model


def own_step():
    model = Own(seed=0)
    model.compile("adam", "mse")
    return model


def several():
    rules = {"dense/*": fnn.optimizers.SGD(0.1, momentum=0.9), "**": fnn.optimizers.AdamW(0.01)}
    layers = [Dense(3, input_shape=(4,)), Dropout(0.5, seed=3), Dense(1)]
    model = fnn.Sequential(layers, seed=0)
    model.compile(fnn.optimizers.ByPath(rules), "mse")
    return model


MODELS = [row, graph, subclassed, own_step, several]


def fitted(model, epochs=3):
    return model.fit(X, Y, batch_size=3, epochs=epochs, verbose=0)


def through_a_file(model, folder):
    model.save(folder / "m.fnn")
    return fnn.load(folder / "m.fnn")


def through_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


def through_copy(model, folder):
    return copy.deepcopy(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "make"),
    [
        *((through_a_file, make) for make in MODELS),
        *((way, make) for way in (through_pickle, through_copy) for make in (row, own_step)),
        # What a copy of these has is in their files, too.
        *(
            pytest.param(way, make, marks=pytest.mark.thorough)
            for way in (through_pickle, through_copy)
            for make in (graph, subclassed, several)
        ),
    ],
)
def test_a_copy_trains_on_bit_for_bit(make, way, tmp_path):
    model = make()
    fitted(model)
    other = way(model, tmp_path)
    assert type(other) is type(model)
    assert_same_states(other.train_state, model.train_state)
    assert other.history.history == model.history.history
    assert other.history.params == model.history.params
    assert other.history.model is other
    assert other.metrics_names == model.metrics_names or way is through_a_file
    histories = [fitted(m).history for m in (model, other)]
    assert histories[0] == histories[1]
    assert_same_states(other.train_state, model.train_state)
    for one, another in zip(model.metrics_variables, other.metrics_variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), another.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("make", [row, subclassed])
@pytest.mark.parametrize("way", [through_a_file, through_pickle, through_copy])
def test_a_copy_of_an_untrained_model_trains_as_it_would(make, way, tmp_path):
    model = make()
    if way is through_a_file:
        model.build((None, 4))
    other = way(model, tmp_path)
    assert fitted(model, 1).history == fitted(other, 1).history
    assert_same_states(other.train_state, model.train_state)


@pytest.mark.slow
def test_a_learning_rate_that_was_set_and_a_frozen_layer_stay(tmp_path):
    model = row()
    fitted(model)
    model.optimizer.learning_rate = 0.003
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    model.optimizer.learning_rate = 0.002
    fitted(model)
    other = through_a_file(model, tmp_path)
    assert float(other.optimizer.learning_rate) == pytest.approx(0.002)
    assert not other.layers[0].trainable
    fitted(model), fitted(other)
    assert_same_states(other.train_state, model.train_state)


class Stops(fnn.callbacks.Callback):
    """Ends a training by an error after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise RuntimeError("stopped")


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_the_counters_of_its_callbacks(tmp_path):
    def callbacks():
        stopping = fnn.callbacks.EarlyStopping("loss", patience=7, restore_best_weights=True)
        return [stopping, fnn.callbacks.TerminateOnNaN()]

    model = row()
    with pytest.raises(RuntimeError, match="stopped"):
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[*callbacks(), Stops()])
    other = through_a_file(model, tmp_path)
    assert "EarlyStopping" in other.train_state.callbacks
    assert_same_states(other.train_state, model.train_state)
    found = [m.fit(X, Y, epochs=4, verbose=0, callbacks=callbacks()) for m in (model, other)]
    assert found[0].history == found[1].history
    assert found[0].epoch == found[1].epoch
    assert_same_states(other.train_state, model.train_state)


@pytest.mark.slow
def test_uncompiled_as_asked(tmp_path):
    model = row()
    fitted(model)
    model.save(tmp_path / "m.fnn")
    other = fnn.load(tmp_path / "m.fnn", compile=False)
    assert other.train_state.optimizer is None
    assert int(other.train_state.step) == int(model.train_state.step) > 0
    with pytest.raises(RuntimeError, match="not compiled"):
        fitted(other)
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    other.compile("sgd", "mse")
    fitted(other)


def test_a_file_says_by_what_it_was_written(tmp_path):
    model = row()
    model.save(tmp_path / "m.fnn")
    with zipfile.ZipFile(tmp_path / "m.fnn") as archive:
        assert archive.namelist() == [
            *("config.json", "weights.safetensors", "training.safetensors", "manifest.json")
        ]
        config = json.loads(archive.read("config.json"))
    assert config["versions"] == {"fnn": fnn.__version__, "jax": jax.__version__}


# -- older files ---------------------------------------------------------------------------------


@fnn.saving.register_keras_serializable(package="golden", name="Net")
class Golden(fnn.Model):
    """As it was when `subclassed-1.fnn` was written."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.last = Dense(units, activation="relu"), Dense(1)

    def call(self, x):
        return self.last(self.hidden(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("name", ["sequential", "functional", "uncompiled", "subclassed"])
def test_files_of_version_0_1_0_load(name, caplog):
    expected = json.loads((FILES / "expected.json").read_text())[f"{name}-1.fnn"]
    # Other tests register classes called Net, too, and version 0.1.0 wrote no package.
    model = fnn.load(FILES / f"{name}-1.fnn", {"Net": Golden})
    x = {"a": X, "b": np.arange(40).reshape(8, 5) % 7} if name == "functional" else X
    found = model.predict(x, verbose=0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found,
        jax.tree.map(np.asarray, expected, is_leaf=lambda leaf: isinstance(leaf, list)),
    )
    assert not caplog.records
    if name == "sequential":
        assert model.optimizer == fnn.optimizers.Adam(0.01)
        fitted(model, 1)
        model.load_weights(FILES / "weights-1.safetensors")
        np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)


# -- what a file does not hold -------------------------------------------------------------------


def halved(y_true, y_pred):
    return jnp.mean((y_true - y_pred) ** 2, axis=-1) / 2


WITHOUT_NAMES = {
    "halved": {"loss": halved},
    "loss": {"loss": lambda y_true, y_pred: halved(y_true, y_pred)},
    "optimizer": {"optimizer": optax.adam(0.01)},
    "metrics": {"metrics": ["mae", lambda y_true, y_pred: halved(y_true, y_pred)]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_NAMES)
def test_what_has_no_name_is_left_out_with_a_word_and_can_be_given(name, tmp_path):
    path, given = tmp_path / "m.fnn", WITHOUT_NAMES[name]
    model = fnn.Sequential([Dense(3, input_shape=(4,)), Dropout(0.5), Dense(1)], seed=0)
    model.compile(**{"optimizer": "adam", "loss": "mse", **given})
    fitted(model)
    said = rf"m.fnn is not complete: .*received {next(iter(given))}=.*custom_objects with {name} to"
    with pytest.warns(UserWarning, match=said):
        model.save(path)
    with pytest.warns(UserWarning, match=rf"not compiled, since '{name}' has no .*\{{'{name}': "):
        plain = fnn.load(path)
    with pytest.raises(RuntimeError, match="not compiled"):
        fitted(plain)
    (value,) = given.values()
    if isinstance(value, list):
        value = value[-1]
    other = fnn.load(path, custom_objects={name: value})
    fitted(model), fitted(other)
    assert_same_states(other.train_state, model.train_state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fnn.load(path, compile=False)


@pytest.mark.slow
def test_a_checkpoint_that_would_not_be_complete_is_refused_before_the_first_step(tmp_path):
    model = fnn.Sequential([Dense(1, input_shape=(4,))], seed=0)
    model.compile("adam", halved)
    saving = fnn.callbacks.ModelCheckpoint(tmp_path / "m.fnn", monitor="loss")
    before = model.train_state
    with pytest.raises(ValueError, match=r"received loss=.*halved.*fnn.register\(halved, 'name'\)"):
        model.fit(X, Y, verbose=0, callbacks=[saving])
    assert_same_states(model.train_state, before)
    assert not list(tmp_path.iterdir())
    weights = fnn.callbacks.ModelCheckpoint(
        tmp_path / "m.safetensors", monitor="loss", save_weights_only=True
    )
    backup = fnn.callbacks.BackupAndRestore(tmp_path / "backup")
    model.fit(X, Y, verbose=0, callbacks=[weights, backup])  # these hold no loss
    assert (tmp_path / "m.safetensors").exists()


@pytest.mark.slow
def test_a_history_that_is_no_data_is_left_out_with_a_word(tmp_path):
    model = row()
    fitted(model, 1)
    model.history.history["mine"] = [object()]
    with pytest.warns(UserWarning, match=r"the history is not saved: .*object at 'history/mine/0'"):
        other = through_a_file(model, tmp_path)
    assert other.history is None


@pytest.mark.slow
def test_a_state_of_another_optimizer_is_refused_and_changes_nothing(tmp_path):
    model, other = row(), graph()
    fitted(model), fitted(other)
    before = other.train_state
    with pytest.raises(ValueError, match="a tree of another structure"):
        other.take_training(model.training_record())
    assert_same_states(other.train_state, before)


@pytest.mark.parametrize("record", [None, {"history": {}}, {**History().as_dict(), "epoch": 3}])
def test_a_record_that_is_no_history_is_refused(record):
    with pytest.raises(ValueError, match="expected the record of a training"):
        History.from_dict(record)


def test_counters_that_are_no_arrays_are_refused():
    model = row()
    record = {**model.training_record(), "callbacks": {"EarlyStopping": 3}}
    with pytest.raises(ValueError, match="expected counters of callbacks"):
        model.take_training(record)


def test_damage_to_the_training_is_noticed(tmp_path):
    model = row()
    model.save(tmp_path / "m.fnn")
    with pytest.raises(FileError, match=r"CRC-32 for file .training\.safetensors"):
        data = bytearray((tmp_path / "m.fnn").read_bytes())
        data[data.find(b"training.safetensors") + 2000] ^= 1
        (tmp_path / "m.fnn").write_bytes(data)
        fnn.load(tmp_path / "m.fnn")
