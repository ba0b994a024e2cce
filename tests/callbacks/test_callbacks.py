"""Callbacks: Keras's decisions on the same logs, files that are whole, trainings that go on."""

import csv
import inspect
import json
import os

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn import callbacks
from fnn.layers import Dense
from fnn.optimizers import SGD, Adam, ByPath
from tests.helpers.oracle import keras_rules

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


def task(rows=64, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def network(optimizer="adam", seed=0):
    net = fnn.Sequential([Dense(3, "tanh", input_shape=(4,)), Dense(1)], seed=seed)
    net.compile(optimizer, "mse", metrics=["mae"])
    return net


def fitted(given, optimizer="adam", epochs=3, net=None, **more):
    net = net or network(optimizer)
    history = net.fit(
        *task(), epochs=epochs, callbacks=given, verbose=0, **{"batch_size": 16, **more}
    )
    return net, history.history


def same(first, second):
    return all(map(np.array_equal, first, second))


class Logs(callbacks.Callback):
    """Puts a series of numbers into the logs, one an epoch."""

    def __init__(self, name, series):
        super().__init__()
        self.name, self.series = name, series

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.series[epoch]


# -- Keras's decisions on the same series --------------------------------------------------------


class Stand:
    """A model that has nothing but what callbacks ask for, for both libraries."""

    def __init__(self, rate=0.5):
        self.learning_rate, self.stop_training = rate, False
        self.metrics, self.saved = [], []
        self.optimizer = self
        self.train_state = "state"

    def save(self, path, overwrite=True):
        self.saved.append(path)

    save_weights = save
    _compile_metrics = None


def decisions(callback, series, name, rate=0.5):
    """What a callback does to learning rate, stopping and files, epoch by epoch."""
    model, seen = Stand(rate), []
    callback.set_model(model)
    callback.set_params({"epochs": len(series)})
    callback.on_train_begin()
    for epoch, value in enumerate(series):
        callback.on_epoch_begin(epoch)
        logs = {name: value, "loss": value}
        callback.on_epoch_end(epoch, logs)
        seen.append((round(float(model.learning_rate), 9), model.stop_training, *model.saved))
        seen.append(sorted(logs))
    return seen


SERIES = {
    "plateau": [1.0, 0.9, 0.9, 0.90001, 0.89999, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7, 0.9, 0.9],
    "rising": [0.1, 0.2, 0.3, 0.3, 0.3, 0.35, 0.3, 0.3, 0.3, 0.36, 0.3, 0.2, 0.1, 0.4],
    "broken": [1.0, float("nan"), 0.5, float("inf"), 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
}
WATCHERS = [
    ("ReduceLROnPlateau", {"patience": 2}),
    ("ReduceLROnPlateau", {"patience": 1, "cooldown": 2, "factor": 0.5}),
    ("ReduceLROnPlateau", {"patience": 1, "min_lr": 0.1, "mode": "max"}),
    ("ReduceLROnPlateau", {"patience": 2, "min_delta": 0.2}),
    ("EarlyStopping", {"patience": 2}),
    ("EarlyStopping", {"patience": 1, "min_delta": 0.05, "start_from_epoch": 2}),
    ("EarlyStopping", {"patience": 3, "mode": "max", "baseline": 0.35}),
    ("ModelCheckpoint", {"save_best_only": True}),
    ("ModelCheckpoint", {"save_best_only": True, "initial_value_threshold": 0.85}),
    ("ModelCheckpoint", {"save_best_only": True, "mode": "max"}),
    ("ModelCheckpoint", {}),
]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize(
    ("kind", "arguments"), WATCHERS, ids=[f"{kind}-{arguments}" for kind, arguments in WATCHERS]
)
def test_decisions_are_those_of_keras(kind, arguments, name):
    if kind == "ModelCheckpoint":
        arguments = {"filepath": "{epoch:02d}-{val_loss:.2f}.keras", **arguments}
    arguments = {"monitor": "val_loss", **arguments}
    ours = decisions(getattr(callbacks, kind)(**arguments), SERIES[name], "val_loss")
    with keras_rules():
        theirs = getattr(keras.callbacks, kind)(**arguments)
        assert decisions(theirs, SERIES[name], "val_loss") == ours


class Decay:
    def __call__(self, epoch, lr=None):
        return 0.5 * lr


SCHEDULES = [
    lambda epoch, rate: rate * 0.5,
    lambda epoch: 1.0 / (epoch + 1),
    lambda epoch, rate=0.02: rate * 0.5,
    lambda *given: given[1] * 0.5,
    lambda epoch=0: 1.0 / (epoch + 1),
    lambda epoch, *, scale=0.5: scale / (epoch + 1),
    lambda epoch, rate, scale=0.5: scale * rate,
    Decay(),
    np.hypot,
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_sets_what_that_of_keras_sets(schedule):
    ours = decisions(callbacks.LearningRateScheduler(schedule), [1.0] * 4, "loss")
    with keras_rules():
        theirs = keras.callbacks.LearningRateScheduler(schedule)
        assert decisions(theirs, [1.0] * 4, "loss") == ours


SHARED = sorted(
    set(callbacks.__all__) & set(dir(keras.callbacks)) - {"CallbackList", "LambdaCallback"}
)


@pytest.mark.parametrize("name", SHARED)
def test_arguments_are_those_of_keras(name):
    expected = inspect.signature(getattr(keras.callbacks, name)).parameters
    found = inspect.signature(getattr(callbacks, name)).parameters
    pairs = lambda given: [(k, p.default) for k, p in given.items() if p.kind != p.VAR_KEYWORD]
    assert pairs(found) == pairs(expected)


# -- in a training -------------------------------------------------------------------------------


def test_rates_that_callbacks_set_are_trained_with_and_in_history():
    scheduler = callbacks.LearningRateScheduler(lambda epoch, rate: [0.1, 0.0, 0.2][epoch])
    weights = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(net.get_weights())
    )
    net = network(SGD(0.5))
    _, history = fitted([scheduler, watch], net=net)
    assert history["learning_rate"] == pytest.approx([0.1, 0.0, 0.2])
    assert same(weights[0], weights[1])
    assert not same(weights[1], weights[2])
    series = Logs("val_loss", [1.0, 1.0, 1.0])
    plateau = callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    net, history = fitted([series, plateau], SGD(0.5))
    assert history["learning_rate"] == [0.5, 0.5, 0.25]
    assert float(net.learning_rate) == 0.125


def test_a_scheduler_may_return_a_whole_number():
    _, history = fitted([callbacks.LearningRateScheduler(lambda epoch, rate: epoch)], SGD(0.5))
    assert history["learning_rate"][:2] == [0.0, 1.0]


def test_rates_of_parts_change_together():
    plateau = callbacks.ReduceLROnPlateau("loss", patience=1, factor=0.5, min_delta=9.0, min_lr=0.3)
    _, history = fitted([plateau], ByPath({"dense/*": SGD(0.1), "**": SGD(0.5)}))
    assert history["learning_rate_**"] == [0.5, 0.5, np.float32(0.3)]
    assert history["learning_rate_dense/*"] == [np.float32(0.1)] * 3


def test_messages_are_said(capsys):
    fitted(
        [
            Logs("val_loss", [1.0, 1.0, 1.0]),
            callbacks.ReduceLROnPlateau(patience=1, verbose=1),
            callbacks.LearningRateScheduler(lambda epoch, rate: rate, verbose=1),
        ],
        SGD(0.5),
    )
    said = capsys.readouterr().out
    assert "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.05." in said
    assert "Epoch 3: LearningRateScheduler setting learning rate to 0.05" in said


@pytest.mark.parametrize("guard", ["raise", "ignore"])
def test_terminate_on_nan_ends_quietly(guard, capsys):
    net = network(SGD(1e30))
    net.compile(SGD(1e30), "mse", guard=guard)
    history = net.fit(
        *task(), epochs=5, callbacks=[callbacks.TerminateOnNaN()], batch_size=16, verbose=0
    )
    assert len(history.epoch) == 1
    assert not np.isfinite(history.history["loss"][0])
    assert "Invalid loss, terminating training" in capsys.readouterr().out
    if guard == "raise":
        assert all(np.isfinite(w).all() for w in net.get_weights())
        assert 0 < int(net.train_state.step) < 4
    with pytest.raises(RuntimeError, match="finite loss"):
        fitted([callbacks.TerminateOnNaN(raise_error=True)], SGD(1e30))
    with pytest.raises(fnn.training.TrainingError, match="finite loss"):
        fitted([callbacks.ProgbarLogger()], SGD(1e30))


def test_averages_take_the_place_of_the_weights_for_tests():
    x, y = task()
    arguments = {"use_ema": True, "ema_momentum": 0.5}
    start = network().get_weights()

    def run(library, **more):
        make = library.layers.Dense
        net = library.Sequential([library.Input((4,)), make(3, activation="tanh"), make(1)])
        net.set_weights(start)
        net.compile(library.optimizers.SGD(0.1, **arguments), "mse")
        seen = []
        watch = library.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(np.array(net.get_weights()[0]))
        )
        swap = library.callbacks.SwapEMAWeights(**more)
        history = net.fit(
            x, y, batch_size=16, epochs=3, shuffle=False, verbose=0, validation_data=(x[:9], y[:9]),
            callbacks=[swap, watch],
        )  # fmt: skip
        return history.history["val_loss"], seen, net.get_weights()[0]

    for more in ({}, {"swap_on_epoch": True}):
        with keras_rules():
            expected = run(keras, **more)
        found = run(fnn, **more)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
        np.testing.assert_allclose(found[2], expected[2], rtol=1e-5)


def test_averages_take_the_place_of_the_weights_in_predict_and_evaluate():
    net, _ = fitted([], SGD(0.1, use_ema=True, ema_momentum=0.5))
    swap, (x, y) = callbacks.SwapEMAWeights(), task(9)
    averaged, loss = net.predict(x, verbose=0), net.evaluate(x, y, verbose=0)[0]
    raw = [w + 1 for w in net.get_weights()]
    net.set_weights(raw)
    np.testing.assert_array_equal(net.predict(x, verbose=0, callbacks=[swap]), averaged)
    assert net.evaluate(x, y, verbose=0, callbacks=[swap])[0] == pytest.approx(loss)
    assert same(net.get_weights(), raw)
    with pytest.raises(
        ValueError, match="SwapEMAWeights: expected an optimizer that has an average"
    ):
        network().predict(x, verbose=0, callbacks=[swap])


def test_gradient_statistics_are_the_norms_of_one_step():
    x, y = task(16)
    net, watch = network(SGD(0.1)), callbacks.GradientStatistics()
    before = net.params

    def loss(params):
        return ((net.layer.apply(params, net.state, jnp.asarray(x))[0] - y) ** 2).mean()

    grads = jax.grad(loss)(before)
    history = net.fit(x, y, batch_size=16, callbacks=[watch], verbose=0).history
    assert sorted(history) == ["loss", "mae"]
    assert sorted(watch.history) == ["dense/bias", "dense/kernel", "dense_1/bias", "dense_1/kernel"]
    for path, norms in watch.history.items():
        layer, name = path.split("/")
        gradient = np.linalg.norm(grads[layer][name])
        assert norms["gradient"] == [pytest.approx(gradient, rel=1e-5)]
        assert norms["update"] == [pytest.approx(0.1 * gradient, rel=1e-5)]
        assert norms["weight"] == [pytest.approx(np.linalg.norm(before[layer][name]), rel=1e-5)]
        if norms["weight"][0]:
            expected = norms["update"][0] / norms["weight"][0]
            assert watch.ratios()[path] == pytest.approx(expected)


def test_gradient_statistics_stay_out_of_the_bar(capsys):
    network().fit(*task(), callbacks=callbacks.GradientStatistics(), verbose=1)
    shown = capsys.readouterr().out
    assert "loss" in shown
    assert "norm" not in shown


def test_the_learning_rate_finder_leaves_the_model_as_it_was(tmp_path):
    net = network(SGD(0.01))
    before, rate = net.get_weights(), float(net.learning_rate)
    finder = callbacks.LearningRateFinder(1e-3, 1e3, steps=40)
    fitted([finder], epochs=20, net=net)
    assert same(net.get_weights(), before)
    assert (float(net.learning_rate), int(net.train_state.step)) == (rate, 0)
    assert len(finder.rates) == len(finder.losses) < 40
    assert 1e-3 < finder.suggestion < 10
    np.testing.assert_allclose(finder.rates, np.geomspace(1e-3, 1e3, 40)[: len(finder.rates)])
    finder.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000


def test_the_finder_sees_the_loss_of_each_batch():
    x, y = task(48)
    finder = callbacks.LearningRateFinder(1e-9, 1e-8, steps=5, smoothing=0.0)
    net = network(SGD(0.01))
    parts = [net.evaluate(x[i : i + 16], y[i : i + 16], verbose=0)[0] for i in (0, 16, 32)]
    net.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[finder])
    np.testing.assert_allclose(finder.losses, [*parts, *parts[:2]], rtol=1e-4)


def test_a_profile_is_a_trace_of_chosen_steps(tmp_path):
    fitted([callbacks.Profile(tmp_path, first=1, last=2)], epochs=1)
    assert list(tmp_path.rglob("*.xplane.pb"))
    stopped = callbacks.Profile(tmp_path / "unfinished", first=1, last=99)
    fitted([stopped], epochs=1)
    assert list((tmp_path / "unfinished").rglob("*.xplane.pb"))


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", [None, 0.25])
def test_csv_files_are_those_of_keras(tmp_path, validation):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    rows = [{"loss": 0.1 + epoch, "mae": 1e-9 * epoch} for epoch in range(3)]
    if validation:
        rows = [{**row, "val_loss": validation} for row in rows]
    for kind, path in ((callbacks.CSVLogger, ours), (keras.callbacks.CSVLogger, theirs)):
        for append, first in ((False, 0), (True, 3)):
            logger = kind(str(path), ";", append)
            logger.on_train_begin()
            for epoch, row in enumerate(rows):
                logger.on_epoch_end(first + epoch, row)
            logger.on_train_end()
    assert ours.read_bytes() == theirs.read_bytes()


def test_csv_rows_are_whole_after_a_crash(tmp_path):
    path = tmp_path / "log.csv"
    fitted([callbacks.CSVLogger(path)], epochs=2)
    with open(path, "a") as file:
        file.write("2,0.")  # the machine went down
    _, history = fitted([callbacks.CSVLogger(path, append=True)], epochs=1)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    assert float(rows[2]["loss"]) == history["loss"][0]
    before = path.read_text()
    with pytest.warns(UserWarning, match=r"no columns for \['other'\], which are left out"):
        fitted([Logs("other", [1.0]), callbacks.CSVLogger(path, append=True)], epochs=1)
    after = path.read_text()
    assert after.startswith(before)
    assert after.count("\n") == before.count("\n") + 1


def test_json_lines_are_appended(tmp_path):
    path = tmp_path / "log.jsonl"
    logger = callbacks.JSONLogger(path)
    _, history = fitted([logger], epochs=2)
    logger.on_epoch_end(2, {"loss": float("nan")})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["mae"] for row in rows[:2]] == history["mae"]
    assert rows[2]["loss"] is None


def test_checkpoints_are_the_model_of_their_epoch(tmp_path):
    weights = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(net.get_weights())
    )
    net = network()
    path = tmp_path / "deep" / "{epoch:02d}-{loss:.3f}.fnn"
    only = tmp_path / "{epoch}.safetensors"
    given = [
        watch,
        callbacks.ModelCheckpoint(path),
        callbacks.ModelCheckpoint(only, save_weights_only=True),
    ]
    _, history = fitted(given, net=net)
    for epoch, loss in enumerate(history["loss"]):
        saved = fnn.load(tmp_path / "deep" / f"{epoch + 1:02d}-{loss:.3f}.fnn")
        assert same(saved.get_weights(), weights[epoch])
        other = network(seed=1)
        other.load_weights(tmp_path / f"{epoch + 1}.safetensors")
        assert same(other.get_weights(), weights[epoch])


def test_checkpoints_by_batches(tmp_path, capsys):
    path = tmp_path / "{epoch}-{batch}.fnn"
    saver = callbacks.ModelCheckpoint(path, save_freq=3, verbose=1)
    fitted([saver], epochs=2)  # 4 batches an epoch
    assert sorted(os.listdir(tmp_path)) == ["1-3.fnn", "2-2.fnn"]
    assert "Epoch 2: saving model to" in capsys.readouterr().out


def test_only_the_best_model_is_kept(tmp_path, capsys):
    path = tmp_path / "best.fnn"
    series = Logs("val_loss", [1.0, 0.5, 0.7])
    saver = callbacks.ModelCheckpoint(path, save_best_only=True, verbose=1)
    weights = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(net.get_weights())
    )
    net = network()
    fitted([series, watch, saver], net=net)
    assert same(fnn.load(path).get_weights(), weights[1])
    said = capsys.readouterr().out
    assert "val_loss improved from 1.00000 to 0.50000, saving model to" in said
    assert "val_loss did not improve from 0.50000" in said


class Crash(callbacks.Callback):
    """Fails at the end of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise OSError("the machine went down")


def test_a_backup_goes_on_with_the_same_bits(tmp_path):
    series = Logs("val_loss", [1.0, 0.9, 0.9, 0.9, 0.9, 0.9])

    def run(crash, backup):
        net = network(Adam(0.05))
        stop = callbacks.EarlyStopping(patience=3)
        given = [series, stop, callbacks.BackupAndRestore(tmp_path / backup), Crash(crash)]
        try:
            return net, fitted(given, net=net, epochs=6)[1]
        except OSError:
            return net, None

    whole, history = run(None, "whole")
    assert len(history["loss"]) == 5  # patience: stopped after epoch 4
    assert not (tmp_path / "whole").exists()
    broken, nothing = run(2, "backup")
    assert nothing is None
    assert (tmp_path / "backup").exists()
    again, rest = run(None, "backup")
    assert rest["loss"] == history["loss"][2:]  # not every callback was told of epoch 2
    assert same(again.get_weights(), whole.get_weights())
    assert int(again.train_state.step) == int(whole.train_state.step) == 20
    assert not same(broken.get_weights(), again.get_weights())
    assert not (tmp_path / "backup").exists()


class Keep(callbacks.Callback):
    """Keeps the state of one epoch, as a checkpoint would."""

    def on_epoch_recorded(self, epoch):
        if epoch == 2:
            self.kept = self.model.train_state


def test_counters_are_part_of_the_state_and_go_on():
    """Patience is 3 and used up after epoch 4, also where a training goes on after epoch 2."""
    values = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9]
    keep, stop = Keep(), callbacks.EarlyStopping(patience=3)
    whole, history = fitted([Logs("val_loss", values), keep, stop], net=network(), epochs=6)
    assert len(history["loss"]) == 5
    assert keep.kept.callbacks == {
        "EarlyStopping": {"wait": 1, "stopped_epoch": 0, "best": 0.9, "best_epoch": 1},
        "fit": {"epoch": 3, "stopped": False},
    }
    assert whole.train_state.callbacks == {}  # a training that ended leaves none to the next

    again = network()
    again.train_state = keep.kept
    stop, rest = callbacks.EarlyStopping(patience=3), Logs("val_loss", values)
    before = again.train_state.callbacks["EarlyStopping"]["wait"]
    _, history = fitted([rest, stop], net=again, epochs=6, initial_epoch=3)
    assert (before, stop.wait, stop.best_epoch) == (1, 3, 1)
    assert len(history["loss"]) == 2
    assert same(again.get_weights(), whole.get_weights())


def test_a_backup_of_another_model_is_refused(tmp_path):
    given = [callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)]
    fitted(given)
    other = fnn.Sequential([Dense(5, input_shape=(4,)), Dense(1)], seed=0)
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"params/dense/kernel: expected float32\[4, 5\], found"):
        other.fit(*task(), callbacks=given, verbose=0)
    (tmp_path / "training.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"expected a whole file, received .* damaged"):
        fitted(given)


def test_a_backup_of_a_finished_training_trains_no_more(tmp_path):
    given = [callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)]
    first, _ = fitted(given, SGD(0.1, use_ema=True))
    again, history = fitted(given, SGD(0.1, use_ema=True))
    assert history == {}
    assert same(first.get_weights(), again.get_weights())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=2)
    x, y = task(9)
    _, history = fitted([board], SGD(0.1), validation_data=(x, y))
    read = {name: EventAccumulator(str(tmp_path / name)) for name in ("train", "validation")}
    for accumulator in read.values():
        accumulator.Reload()
    scalars = {
        (kind, tag): [event.value for event in accumulator.Scalars(tag)]
        for kind, accumulator in read.items()
        for tag in accumulator.Tags()["scalars"]
    }
    np.testing.assert_allclose(scalars["train", "epoch_loss"], history["loss"], rtol=1e-6)
    np.testing.assert_allclose(scalars["validation", "epoch_mae"], history["val_mae"], rtol=1e-6)
    np.testing.assert_allclose(scalars["train", "epoch_learning_rate"], [0.1] * 3, rtol=1e-6)
    assert len(scalars["train", "batch_loss"]) == 6  # every second of 12 batches
    assert "dense/kernel/histogram" in read["train"].Tags()["histograms"]
    kernel = read["train"].Histograms("dense_1/kernel/histogram")[-1].histogram_value
    assert kernel.num == 3
    text = read["train"].Tensors("network/text_summary")[0].tensor_proto.string_val[0]
    assert b"units=3, activation=" in text


# -- refusals ------------------------------------------------------------------------------------


def monitored(callback):
    return lambda: fitted([callback])


def late(callback):
    """Behind a callback that may add any names, so that none is known before the first epoch."""
    return lambda: fitted([Logs("extra", [0.0]), callback])


WRONG = [
    (lambda: callbacks.ReduceLROnPlateau(factor=1.0), "factor between 0 and 1, received 1.0"),
    (lambda: callbacks.ReduceLROnPlateau(mode="up"), 'ReduceLROnPlateau: expected mode "auto"'),
    (
        monitored(callbacks.ReduceLROnPlateau()),
        r"'val_loss' is not among .*\['loss', 'mae'\]; pass",
    ),
    (late(callbacks.ReduceLROnPlateau()), r"among \['extra', 'learning_rate', 'loss', 'mae'\]"),
    (lambda: fitted([callbacks.ReduceLROnPlateau()], optax.adam(0.1)), "a readable learning rate"),
    (lambda: callbacks.ModelCheckpoint("a", save_freq="batch"), "save_freq as"),
    (lambda: callbacks.ModelCheckpoint("a", mode="best"), 'ModelCheckpoint: expected mode "auto"'),
    (monitored(callbacks.ModelCheckpoint("{accuracy}")), "in filepath 'accuracy' is not among"),
    (late(callbacks.ModelCheckpoint("{accuracy}")), "expected names in filepath among"),
    (monitored(callbacks.ModelCheckpoint("a", save_best_only=True)), "monitor 'val_loss' is not"),
    (lambda: callbacks.BackupAndRestore(""), "expected a folder, received an empty backup_dir"),
    (lambda: callbacks.BackupAndRestore("a", save_freq=0), 'expected save_freq as "epoch" or a'),
    (lambda: callbacks.OrbaxCheckpoint("a", mode="up"), "OrbaxCheckpoint: expected mode"),
    (lambda: callbacks.OrbaxCheckpoint("a", "val_loss", 0, True, "min", 3), "not after a batch"),
    (lambda: callbacks.TensorBoard(write_images=True), "not supported, received write_images"),
    (lambda: callbacks.TensorBoard(update_freq="often"), "TensorBoard: expected update_freq as"),
    (lambda: callbacks.LearningRateFinder(1.0, 0.1), "expected 0 < lowest < highest"),
    (lambda: callbacks.LearningRateFinder().suggestion, "a search of at least 3 steps, received 0"),
    (lambda: callbacks.Profile("a", 3, 2), "expected 0 <= first <= last"),
    (
        monitored(callbacks.LearningRateScheduler(lambda epoch: "high")),
        "expected a number from",
    ),
    (monitored(callbacks.SwapEMAWeights(True)), "an optimizer that has an average"),
    (monitored(callbacks.EarlyStopping("val_mae")), "monitor 'val_mae' is not among"),
    (late(callbacks.EarlyStopping("val_mae")), "expected monitor among"),
]


@pytest.mark.parametrize(("act", "message"), WRONG)
def test_wrong_use_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_a_state_without_a_model_can_be_watched_too(tmp_path):
    def step(w, batch, key):
        loss, grad = jax.value_and_grad(lambda w: ((batch - w) ** 2).mean())(w)
        return w - 0.1 * grad, {"loss": loss}

    path = tmp_path / "log.csv"
    given = [callbacks.CSVLogger(path), callbacks.TerminateOnNaN()]
    data = np.full(64, 3.0, "float32")
    fnn.training.fit(step, jnp.zeros(()), data, epochs=2, callbacks=given, verbose=0)
    assert len(path.read_text().splitlines()) == 3
    refused = callbacks.ModelCheckpoint("a.fnn")
    with pytest.raises(TypeError, match="expected a Model in training, received Run"):
        fnn.training.fit(step, jnp.zeros(()), data, callbacks=[refused], verbose=0)


def test_a_backup_takes_only_its_own_file_away(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    backup = callbacks.BackupAndRestore(tmp_path)
    fitted([backup])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    try:
        raise RuntimeError
    except RuntimeError:  # a training in the course of dealing with an error has not failed
        fitted([backup])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_best_weights_come_back_with_a_backup(tmp_path):
    losses = [3.0, 1.0, 2.0, 2.5]

    def train(*more):
        best = callbacks.EarlyStopping("score", patience=9, mode="min", restore_best_weights=True)
        given = [Logs("score", losses), callbacks.BackupAndRestore(tmp_path), *more, best]
        return fitted(given, epochs=4)[0]

    with pytest.raises(OSError, match="went down"):
        train(Crash(2))
    resumed = train()
    straight = train()
    assert same(resumed.get_weights(), straight.get_weights())


def test_subclasses_stay_what_they_are(tmp_path):
    class Mine(callbacks.ModelCheckpoint):
        pass

    saver = Mine(tmp_path / "a.fnn", save_freq=3)
    assert type(saver) is Mine
    fitted([saver])
    assert (tmp_path / "a.fnn").exists()

    class Said(callbacks.LambdaCallback):
        pass

    assert type(Said(on_epoch_end=lambda epoch, logs: None)) is Said


def test_an_error_at_the_end_is_raised_when_all_were_told():
    told = []

    class Breaks(callbacks.Callback):
        def on_train_end(self, logs=None):
            raise KeyError("at the end")

        def on_test_end(self, logs=None):
            told.append("tested")

    last = callbacks.LambdaCallback(on_train_end=lambda logs: told.append("trained"))
    with pytest.raises(KeyError, match="at the end"):
        fitted([Breaks(), last])
    assert told == ["trained"]
    with pytest.raises(OSError, match="went down") as error:
        fitted([Crash(0), Breaks(), last])
    assert "on_train_end of Breaks: KeyError('at the end')" in error.value.__notes__


def test_what_fails_late_in_evaluate_puts_the_weights_back(monkeypatch):
    net, _ = fitted([], optimizer=Adam(0.1, use_ema=True))
    weights = net.get_weights()

    def failing(accumulators):
        raise RuntimeError("late")

    monkeypatch.setattr("fnn.training.evaluation.result_values", failing)
    with pytest.raises(RuntimeError, match="late"):
        net.evaluate(*task(), callbacks=[callbacks.SwapEMAWeights()], verbose=0)
    assert same(weights, net.get_weights())


def test_history_as_a_callback_starts_anew_with_each_training():
    history = callbacks.History()
    net, _ = fitted([history], epochs=2)
    fitted([history], epochs=2, net=net)
    assert history.learning_rate == pytest.approx([0.001, 0.001])
    assert len(history.epoch) == 2


def test_callbacks_may_come_from_an_iterator():
    statistics = callbacks.GradientStatistics()
    fitted(iter([statistics]), epochs=2)
    assert len(statistics.history["dense/kernel"]["gradient"]) == 2


def test_counters_go_to_the_callback_of_their_class():
    values = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9]
    keep, stop = Keep(), callbacks.EarlyStopping(patience=3)
    fitted([Logs("val_loss", values), keep, stop], net=network(), epochs=6)
    again = network()
    again.train_state = keep.kept
    stop = callbacks.EarlyStopping(patience=3)
    more = [Logs("val_loss", values), callbacks.ReduceLROnPlateau("loss"), stop]
    fitted(more, net=again, epochs=6, initial_epoch=3)
    assert stop.stopped_epoch == 4


def test_an_interrupted_training_keeps_its_last_weights():
    class Interrupt(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                self.weights = self.model.get_weights()
                raise KeyboardInterrupt

    best = callbacks.EarlyStopping("score", mode="min", patience=9, restore_best_weights=True)
    net, interrupt = network(), Interrupt()
    with pytest.raises(KeyboardInterrupt):
        fitted([Logs("score", [1.0, 2.0, 3.0]), best, interrupt], net=net)
    assert same(net.get_weights(), interrupt.weights)


def test_the_finder_weighs_a_short_batch_by_its_rows():
    finder = callbacks.LearningRateFinder(1e-9, 1e-8, steps=4, smoothing=0.0)
    x, y = task(33)
    y[32] = 100.0
    net = network("sgd")
    last = net.evaluate(x[32:], y[32:], verbose=0)[0]
    net.fit(x, y, 16, epochs=2, shuffle=False, callbacks=[finder], verbose=0)
    assert finder.losses[2] == pytest.approx(last, rel=1e-4)


def test_the_finder_is_not_misled_by_its_first_noisy_steps():
    finder = callbacks.LearningRateFinder()
    finder.rates = np.geomspace(1e-6, 1, 40).tolist()
    finder.losses = [9.0, 5.0, *np.full(20, 5.0), *np.linspace(5, 1, 12), *np.linspace(1.5, 9, 6)]
    assert finder.rates[21] <= finder.suggestion <= finder.rates[34]
