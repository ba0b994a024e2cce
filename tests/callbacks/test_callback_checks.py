"""What a callback can never do is an error before the first step; NaN is never best; copies."""

import copy
import os
import pickle

import numpy as np
import optax
import pytest

import fnn
from fnn import callbacks
from fnn.layers import Dense
from fnn.optimizers import SGD, Adam

NAN = float("nan")


def task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def network(optimizer="sgd", **compiled):
    net = fnn.Sequential([Dense(1, input_shape=(4,))], seed=0)
    net.compile(optimizer, "mse", **compiled)
    return net


def fitted(given, net=None, epochs=3, **arguments):
    net = net or network()
    net.fit(*task(), batch_size=16, epochs=epochs, callbacks=given, verbose=0, **arguments)
    return net


class Logs(callbacks.Callback):
    """Puts a series of numbers into the logs, one an epoch."""

    def __init__(self, series):
        super().__init__()
        self.series = series

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.series[epoch]


# -- NaN is never best ---------------------------------------------------------------------------

BROKEN = [
    [NAN, 3.0, 2.0, 4.0],
    [NAN, NAN, 2.0, 3.0],
    [3.0, NAN, 2.0, 2.5],
    [2.0, 3.0, NAN, NAN],
    [float("inf"), NAN, 5.0, 6.0],
    [NAN, NAN, NAN, NAN],
]


def best_epoch(series, mode):
    """By NumPy, which knows what is best apart from NaN; None if there is nothing else."""
    if np.isnan(series).all():
        return None
    return int((np.nanargmin if mode == "min" else np.nanargmax)(series))


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("series", BROKEN)
def test_the_best_epoch_is_the_best_of_the_numbers(series, mode, tmp_path):
    weights = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(net.get_weights())
    )
    net = network()
    stop = callbacks.EarlyStopping("score", mode=mode, patience=9, restore_best_weights=True)
    path = tmp_path / "best.fnn"
    saver = callbacks.ModelCheckpoint(path, "score", mode=mode, save_best_only=True)
    fitted([Logs(series), watch, stop, saver], net, epochs=4)
    best = best_epoch(series, mode)
    expected = weights[3 if best is None else best]  # nothing to go back to
    np.testing.assert_array_equal(net.get_weights()[0], expected[0])
    assert path.exists() == (best is not None)
    if best is not None:
        assert stop.best_epoch == best
        np.testing.assert_array_equal(fnn.load(path).get_weights()[0], weights[best][0])


def test_a_rate_is_not_lowered_while_the_numbers_improve():
    reduce = callbacks.ReduceLROnPlateau("score", mode="min", factor=0.5, patience=2)
    net = fitted([Logs([NAN, 4.0, 3.0, 2.0, 1.0]), reduce], epochs=5)
    assert float(net.learning_rate) == np.float32(0.01)
    reduce = callbacks.ReduceLROnPlateau("score", mode="min", factor=0.5, patience=2)
    net = fitted([Logs([4.0, NAN, NAN, 3.0, 2.0]), reduce], epochs=5)
    assert float(net.learning_rate) == np.float32(0.005)


def test_a_threshold_of_nan_counts_as_none(tmp_path):
    path = tmp_path / "best.fnn"
    saver = callbacks.ModelCheckpoint(
        path, "score", mode="min", save_best_only=True, initial_value_threshold=NAN
    )
    fitted([Logs([2.0, 3.0, 4.0]), saver])
    assert saver.best == 2.0


def test_the_finder_ends_at_a_loss_that_is_not_finite():
    finder = callbacks.LearningRateFinder(1e-3, 1e30, steps=40)
    fitted([finder], network(guard="ignore"), epochs=20)
    assert len(finder.losses) < 40
    assert np.isfinite(finder.suggestion)


# -- what can never happen -----------------------------------------------------------------------


def progress(y_true, y_pred):
    return y_pred - y_true


class Steps(callbacks.Callback):
    """Raises at the first step: what is checked comes before."""

    def on_train_batch_begin(self, batch, logs=None):
        raise AssertionError("a step was begun")


def checkpoint(*given, **named):
    return lambda: [callbacks.ModelCheckpoint(*given, **named)]


NEVER = {
    "a monitor of validation after batches": (
        checkpoint("a", save_best_only=True, save_freq=3),
        "'val_loss' is known after an epoch, not after a batch, so that save_freq=3 would never",
    ),
    "a path of validation after batches": (
        checkpoint("{val_mae}.fnn", save_freq=3), "'val_mae' is known after an epoch",
    ),
    "a monitor without validation": (
        checkpoint("a", save_best_only=True), "monitor 'val_loss' is not among .* pass validation",
    ),
    "a monitor that is no metric": (
        checkpoint("a", "accuracy", save_best_only=True),
        r"ModelCheckpoint: monitor 'accuracy' is not among the logs of this training, \['loss'\]",
    ),
    "a name in the path": (checkpoint("{accuracy}.fnn"), "in filepath 'accuracy' is not among"),
    "a rate that nobody logs": (
        checkpoint("{learning_rate:.3f}.fnn"),
        "'learning_rate' is not among .*; put LearningRateScheduler .*, which log it, before",
    ),
    "a rate that is logged later": (
        lambda: [
            callbacks.ModelCheckpoint("{learning_rate}.fnn"),
            callbacks.LearningRateScheduler(lambda epoch: 0.5),
        ],
        "'learning_rate' is not among",
    ),
    "a rate of another pattern": (
        lambda: [
            callbacks.LearningRateScheduler(lambda epoch: 0.5),
            callbacks.ModelCheckpoint("{learning_rate_x}.fnn"),
        ],
        r"'learning_rate_x' is not among .* \['learning_rate', 'loss'\]",
    ),
    "stopping": (lambda: [callbacks.EarlyStopping()], "EarlyStopping: monitor 'val_loss' is not"),
    "plateau": (lambda: [callbacks.ReduceLROnPlateau()], "ReduceLROnPlateau: monitor 'val_loss'"),
}  # fmt: skip


@pytest.mark.parametrize("case", NEVER)
def test_what_never_happens_is_an_error_before_the_first_step(case):
    make, message = NEVER[case]
    with pytest.raises(ValueError, match=message):
        fitted([*make(), Steps()])


def test_validation_that_never_comes():
    stop = callbacks.EarlyStopping()
    arguments = {"validation_data": task(), "epochs": 3}
    with pytest.raises(ValueError, match=r"'val_loss' is not among .* after at least one"):
        fitted([stop], validation_freq=5, **arguments)
    with pytest.raises(ValueError, match="'val_loss' is not among"):
        fitted([stop], validation_freq=[7], **arguments)
    fitted([stop], validation_freq=3, **arguments)


def test_a_direction_that_is_not_known_is_an_error_before_the_first_step():
    net = network(metrics=[progress])
    for given in (
        callbacks.EarlyStopping("progress"),
        callbacks.ModelCheckpoint("a", "progress", save_best_only=True),
    ):
        with pytest.raises(ValueError, match=f"{type(given).__name__}: .* whether more is better"):
            fitted([given, Steps()], net)


def test_a_rate_that_cannot_be_set_is_an_error_before_the_first_step():
    decay = optax.inject_hyperparams(optax.sgd)(optax.exponential_decay(0.1, 10, 0.9))
    for optimizer, message in (
        (optax.sgd(0.1), "a readable learning rate"),
        (decay, "a learning rate that can be set"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted([callbacks.ReduceLROnPlateau("loss"), Steps()], network(optimizer))


def test_an_average_that_is_not_kept_is_an_error_before_the_first_step():
    with pytest.raises(ValueError, match="an optimizer that has an average"):
        fitted([callbacks.SwapEMAWeights(), Steps()])


@pytest.mark.slow
def test_a_network_that_no_file_can_describe_is_an_error_before_the_first_step(tmp_path):
    net = fnn.Sequential([fnn.layers.Lambda(lambda x: 2 * x), Dense(1)], seed=0)
    net.compile("sgd", "mse")
    net.build((None, 4))
    with pytest.raises(ValueError, match="register"):
        fitted([callbacks.ModelCheckpoint(tmp_path / "a.fnn"), Steps()], net)
    fitted([callbacks.ModelCheckpoint(tmp_path / "a.safetensors", save_weights_only=True)], net)


def test_names_that_another_callback_adds_are_waited_for(tmp_path):
    path = tmp_path / "{score}.fnn"
    saver = callbacks.ModelCheckpoint(path, "score", save_best_only=True, mode="min")
    fitted([Logs([3.0, 2.0, 2.5]), saver, callbacks.EarlyStopping("score", mode="min", patience=9)])
    assert sorted(os.listdir(tmp_path)) == ["2.0.fnn", "3.0.fnn"]
    rate = callbacks.ModelCheckpoint(tmp_path / "{learning_rate}.fnn")
    fitted([callbacks.LearningRateScheduler(lambda epoch: 0.5), rate])
    assert (tmp_path / "0.5.fnn").exists()


WRITERS = {
    "ModelCheckpoint": lambda path: callbacks.ModelCheckpoint(path / "a.fnn"),
    "deep": lambda path: callbacks.ModelCheckpoint(path / "{epoch}" / "deep" / "{loss}.fnn"),
    "BackupAndRestore": lambda path: callbacks.BackupAndRestore(path),
    "CSVLogger": lambda path: callbacks.CSVLogger(path / "log.csv"),
    "JSONLogger": lambda path: callbacks.JSONLogger(path / "log.jsonl"),
    "OrbaxCheckpoint": lambda path: callbacks.OrbaxCheckpoint(path),
    "TensorBoard": lambda path: callbacks.TensorBoard(path),
    "Profile": lambda path: callbacks.Profile(path),
}


SLOW = [pytest.mark.slow]  # its package takes long to import


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=SLOW * (kind == "TensorBoard")) for kind in WRITERS]
)
def test_a_place_that_cannot_be_written_is_an_error_before_the_first_step(
    kind, tmp_path, monkeypatch
):
    """A file where there should be a folder; a folder that is not writable (root writes all)."""
    (tmp_path / "file").write_text("mine")
    given = WRITERS[kind](tmp_path / "file" / "runs")
    with pytest.raises(NotADirectoryError, match=f"{type(given).__name__}: cannot write .*file"):
        fitted([given, Steps()])

    def refused(**named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(PermissionError, match=r"takes no files .Permission denied.; pass another"):
        fitted([WRITERS[kind](tmp_path / "locked"), Steps()])
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "kind",
    ["CSVLogger", "JSONLogger", "ModelCheckpoint", pytest.param("TensorBoard", marks=SLOW)],
)
def test_folders_that_are_missing_are_made(kind, tmp_path):
    fitted([WRITERS[kind](tmp_path / "missing" / "folder")], epochs=1)
    assert os.listdir(tmp_path / "missing" / "folder")


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_of_other_columns_is_an_error_before_the_first_step(order, tmp_path):
    """Also where the new column is that of a callback; what comes after adds no column."""
    path = tmp_path / "log.csv"
    fitted([callbacks.CSVLogger(path)])
    before = path.read_text()
    with pytest.raises(
        ValueError, match=r"log.csv has the columns \['epoch', 'loss', .* \['mae'\]"
    ):
        fitted([callbacks.CSVLogger(path, append=True), Steps()], network(metrics=["mae"]))
    assert path.read_text() == before
    given = [callbacks.LearningRateScheduler(lambda epoch: 0.5)]
    given += [callbacks.CSVLogger(path, append=True)]
    if order == 1:
        with pytest.raises(ValueError, match=r"have \['learning_rate'\] too"):
            fitted([*given, Steps()])
    else:
        fitted(given[::-1], epochs=1)
        assert path.read_text().startswith(before)


def test_the_path_of_a_folder_is_an_error_before_the_first_step(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; pass the path of a file in it"):
        fitted([callbacks.ModelCheckpoint(tmp_path), Steps()])


def test_a_folder_for_files_by_epoch_is_one_that_is_there(tmp_path):
    fitted([callbacks.ModelCheckpoint(tmp_path / "{epoch}", save_weights_only=True)], epochs=1)
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("path", ["{}.fnn", "{loss:d}.fnn", "{batch}.fnn", "{loss:{width}}.fnn"])
def test_a_path_that_cannot_be_filled_in_is_an_error_before_the_first_step(path):
    with pytest.raises(ValueError, match=r"ModelCheckpoint: filepath .* cannot be filled in: "):
        fitted([callbacks.ModelCheckpoint(path), Steps()])


def test_a_hook_of_a_subclass_is_called(tmp_path):
    seen = []

    class Mine(callbacks.ModelCheckpoint):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

    fitted([Mine(tmp_path / "a.fnn")], epochs=1)
    assert seen == [0, 1, 2, 3]


def test_a_subclass_that_adds_no_logs_is_checked_early():
    class Mine(callbacks.EarlyStopping):
        pass

    with pytest.raises(ValueError, match="Mine: monitor 'val_loss' is not among"):
        fitted([Mine(), Steps()])


def test_tensorboard_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "tensorboardX", or pip install "\.\['):
        fitted([callbacks.TensorBoard(tmp_path), Steps()])


def test_the_finder_without_matplotlib_says_what_to_install(monkeypatch):
    finder = callbacks.LearningRateFinder(1e-3, 1e-2, steps=4)
    fitted([finder])
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "matplotlib", or pip install "\.\[plot'):
        finder.plot()


# -- copies and pickles --------------------------------------------------------------------------


def halved(epoch, rate):
    return 0.5 * rate


def nothing(epoch, logs):
    pass


EVERY = {
    "BackupAndRestore": lambda path: callbacks.BackupAndRestore(path / "backup"),
    "CSVLogger": lambda path: callbacks.CSVLogger(path / "log.csv"),
    "Callback": lambda path: callbacks.Callback(),
    "EarlyStopping": lambda path: callbacks.EarlyStopping("loss", restore_best_weights=True),
    "GradientStatistics": lambda path: callbacks.GradientStatistics(),
    "History": lambda path: callbacks.History(),
    "JSONLogger": lambda path: callbacks.JSONLogger(path / "log.jsonl"),
    "LambdaCallback": lambda path: callbacks.LambdaCallback(on_epoch_end=nothing),
    "LearningRateFinder": lambda path: callbacks.LearningRateFinder(steps=5),
    "LearningRateScheduler": lambda path: callbacks.LearningRateScheduler(halved),
    "ModelCheckpoint": lambda path: callbacks.ModelCheckpoint(path / "a.fnn", save_freq=3),
    "OrbaxCheckpoint": lambda path: callbacks.OrbaxCheckpoint(path / "orbax", save_freq=3),
    "Profile": lambda path: callbacks.Profile(path / "trace", 0, 1),
    "ProgbarLogger": lambda path: callbacks.ProgbarLogger(),
    "ReduceLROnPlateau": lambda path: callbacks.ReduceLROnPlateau("loss"),
    "RemoteMonitor": lambda path: callbacks.RemoteMonitor("http://localhost:1"),
    "SwapEMAWeights": lambda path: callbacks.SwapEMAWeights(),
    "TensorBoard": lambda path: callbacks.TensorBoard(path / "board", update_freq=2),
    "TerminateOnNaN": lambda path: callbacks.TerminateOnNaN(),
}
COPIES = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def test_every_callback_is_copied_below():
    assert set(EVERY) == set(callbacks.__all__) - {"CallbackList"}


@pytest.mark.slow
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.filterwarnings("ignore:RemoteMonitor. could not reach")
@pytest.mark.parametrize("kind", EVERY)
def test_a_callback_can_be_copied_before_and_after_training(kind, way, tmp_path):
    given = COPIES[way](EVERY[kind](tmp_path))
    net = fitted([given], network(Adam(0.01, use_ema=True)))
    other = COPIES[way](given)
    assert type(other) is type(given)
    fitted([other], network(Adam(0.01, use_ema=True)))  # the copy works by itself
    assert net.history is not None


@pytest.mark.parametrize("way", COPIES)
def test_a_fitted_model_and_its_history_can_be_copied(way):
    net = fitted([])
    record = COPIES[way](net.history)
    assert record.history == net.history.history
    assert record.model is None
    other = COPIES[way](net)
    np.testing.assert_array_equal(other.get_weights()[0], net.get_weights()[0])
    assert other.history.history == net.history.history
    assert other.history.model is other
    assert net.history.model is net
    fitted([], other)
    fitted([], net)
    np.testing.assert_array_equal(other.get_weights()[0], net.get_weights()[0])


def test_rates_in_the_logs_are_numbers_of_their_epoch():
    class Rates(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["lr"] = self.model.optimizer.learning_rate
            logs["scalar"] = np.float32(0.5)

    record = callbacks.History()
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 ** (epoch + 1))
    net = fitted([halve, Rates(), record])
    for found in (net.history, record, pickle.loads(pickle.dumps(net)).history):
        assert found.history["lr"] == [0.5, 0.25, 0.125]
        assert list(map(type, found.history["lr"] + found.history["scalar"])) == 6 * [float]


def test_a_rate_that_is_kept_can_be_copied():
    rate = network(SGD(0.5)).optimizer.learning_rate
    assert [way(rate) for way in COPIES.values()] == [0.5, 0.5, 0.5]
    assert {type(way(rate)) for way in COPIES.values()} == {float}


def test_a_model_can_be_copied_during_its_training():
    class Copies(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.kept = [copy.deepcopy(self.model), pickle.loads(pickle.dumps(self.model))]

    keep = Copies()
    net = fitted([keep], network(SGD(0.1)), epochs=1)
    for other in keep.kept:
        np.testing.assert_array_equal(other.get_weights()[0], net.get_weights()[0])
        fitted([], other)
