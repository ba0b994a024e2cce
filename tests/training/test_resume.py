"""A training that was killed and goes on ends bit for bit as one that was not."""

import contextlib
import itertools
import shutil
import warnings

import jax
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fnn
from fnn import callbacks
from fnn.layers import Dense, Dropout
from fnn.optimizers import Adam
from fnn.saving import tensors
from fnn.saving.backups import FileStore
from fnn.saving.tensors import FileError
from tests.helpers.killing import Kill, KillAfter, Killed
from tests.helpers.oracle import keras_rules


def task(rows=64, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def network(optimizer=None, seed=0, dropout=0.3, loss="mse", **compiled):
    layers = [Dense(3, "tanh", input_shape=(4,)), Dropout(dropout), Dense(1)]
    net = fnn.Sequential(layers, seed=seed)
    net.compile(optimizer or Adam(0.05), loss, **compiled)
    return net


class Logs(callbacks.Callback):
    """Puts a series of numbers into the logs, one an epoch."""

    def __init__(self, series):
        super().__init__()
        self.series = series

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.series[epoch]


def trained(given, net=None, epochs=5, **arguments):
    """The model after a training, interrupted or not, and its history."""
    net = network() if net is None else net
    arguments = {"batch_size": 16, "verbose": 0, **arguments}
    with contextlib.suppress(KeyboardInterrupt, Killed):
        net.fit(*task(), epochs=epochs, callbacks=given, **arguments)
    return net


def assert_equal_states(first, second):
    leaves = jax.tree.leaves_with_path((first.train_state.params, first.train_state.optimizer))
    others = jax.tree.leaves((second.train_state.params, second.train_state.optimizer))
    for (path, one), other in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=str(path))


SCORES = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


def watchers():
    return {
        "plateau": callbacks.ReduceLROnPlateau("score", mode="min", factor=0.5, patience=1),
        "stopping": callbacks.EarlyStopping(
            "score", mode="min", patience=9, restore_best_weights=True
        ),
        "averages": callbacks.SwapEMAWeights(swap_on_epoch=True),
        "schedule": callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
    }


@pytest.mark.slow
@pytest.mark.parametrize("order", [("backup", "plateau"), ("plateau", "backup")])
def test_the_reduced_rate_goes_on_in_any_order(order, tmp_path):
    def run(folder, kill):
        given = {**watchers(), "backup": callbacks.BackupAndRestore(tmp_path / folder)}
        rates = Rates()
        net = trained([Logs(SCORES), *(given[name] for name in order), rates, Kill(kill)])
        return net, rates.seen

    straight, rates = run("straight", None)
    assert rates == np.float32([0.05, 0.025, 0.0125, 0.0125, 0.00625]).tolist()
    run("killed", 2)
    resumed, rest = run("killed", None)
    assert rest == rates[2:]
    assert_equal_states(resumed, straight)


class Rates(callbacks.Callback):
    """Keeps the rate after each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(self.model.learning_rate))


ORDERS = list(itertools.permutations(["backup", *watchers()]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        *ORDERS[::34],
        *(pytest.param(order, marks=pytest.mark.thorough) for order in ORDERS[17::34]),
    ],
    ids=lambda order: order[0] + "-" + order[-1],
)
def test_every_order_of_callbacks_ends_with_the_same_bits(order, tmp_path):
    def run(folder, kill):
        given = {**watchers(), "backup": callbacks.BackupAndRestore(tmp_path / folder)}
        net = network(Adam(0.05, use_ema=True, ema_momentum=0.5))
        return trained([Logs(SCORES), *(given[name] for name in order), Kill(kill)], net)

    straight = run("straight", None)
    for kill in (1, 3):
        run(f"killed at {kill}", kill)
        assert_equal_states(run(f"killed at {kill}", None), straight)


@pytest.mark.slow
def test_what_had_stopped_stays_stopped(tmp_path):
    """Killed after the backup of the epoch in which the training was to end."""

    def run(folder, *more):
        stop = callbacks.EarlyStopping("score", mode="min", patience=1, restore_best_weights=True)
        given = [Logs(SCORES), callbacks.BackupAndRestore(tmp_path / folder), stop, *more]
        return trained(given), stop

    straight, stop = run("straight")
    assert straight.history.epoch == [0, 1]
    run("killed", Kill(1, "epoch_recorded"))
    resumed, again = run("killed")
    assert resumed.history.epoch == []
    assert (
        (again.stopped_epoch, again.best_epoch) == (stop.stopped_epoch, stop.best_epoch) == (1, 0)
    )
    assert_equal_states(resumed, straight)


@pytest.mark.slow
def test_files_after_batches_are_those_of_the_straight_training(tmp_path):
    def run(folder, kill):
        path = tmp_path / folder / "{epoch}-{batch}.fnn"
        saver = callbacks.ModelCheckpoint(path, save_freq=3)  # of 4 batches an epoch
        return trained([callbacks.BackupAndRestore(tmp_path / "backup"), saver, Kill(kill)])

    run("straight", None)
    run("killed", 2)
    run("killed", None)
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("straight", "killed")]
    assert names[0] == names[1]


def test_without_a_seed_the_key_of_the_backup_holds(tmp_path):
    def run(folder, net, kill):
        given = [callbacks.BackupAndRestore(tmp_path / folder), Kill(kill)]
        return trained(given, net)

    start = network(seed=7)
    straight, killed, other = network(seed=7), network(seed=7), network(seed=8)
    run("straight", straight, None)
    run("killed", killed, 2)
    other.set_weights(start.get_weights())
    run("killed", other, None)
    assert_equal_states(other, straight)


class KeepState(callbacks.Callback):
    """A backup of one's own: the state alone, as a user may keep it anywhere."""

    kept = None

    def on_train_begin(self, logs=None):
        if self.kept is not None:
            self.model.train_state = self.kept

    def on_epoch_recorded(self, epoch):
        self.kept = jax.tree.map(jax.numpy.copy, self.model.train_state)


def test_a_state_that_a_callback_restores_says_with_which_epoch_to_go_on():
    straight, keep = trained([]), KeepState()
    trained([keep, Kill(2)])
    resumed = trained([keep])
    assert resumed.history.epoch == [2, 3, 4]
    assert_equal_states(resumed, straight)


@pytest.mark.parametrize("earlier", [0, 2])
def test_the_same_model_goes_on_where_it_was_interrupted(earlier, tmp_path):
    """As in a notebook: the cell with `fit` is run again after Ctrl-C."""

    def start():
        return trained([], epochs=earlier)

    straight = trained([], start())
    net = start()
    trained([callbacks.BackupAndRestore(tmp_path), Kill(2)], net)
    trained([callbacks.BackupAndRestore(tmp_path)], net)
    assert net.history.epoch == [2, 3, 4]
    assert_equal_states(net, straight)


def test_a_backup_without_checksum_is_called_older_not_damaged(tmp_path):
    """As version 0.1.0 wrote it. It is neither read unverified nor overwritten."""
    trained([callbacks.BackupAndRestore(tmp_path), Kill(2)])
    path = tmp_path / "training.safetensors"
    save_file(load_file(path), path, metadata={"format": "fnn"})
    older, net = path.read_bytes(), network()
    before = net.get_weights()
    with pytest.raises(FileError, match=r"has none: an older fnn .*; remove it to start") as caught:
        trained([callbacks.BackupAndRestore(tmp_path)], net)
    assert "damaged" not in str(caught.value)
    assert path.read_bytes() == older
    for a, b in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    path.unlink()
    assert trained([callbacks.BackupAndRestore(tmp_path)], net).history.epoch == [0, 1, 2, 3, 4]


def test_a_backup_without_the_position_in_the_data_is_called_older(tmp_path):
    trained([callbacks.BackupAndRestore(tmp_path), Kill(2)])
    path = tmp_path / "training.safetensors"
    arrays = tensors.load(path)
    del arrays["training.json"]
    path.write_bytes(tensors.encode(arrays))
    with pytest.raises(FileError, match=r"one of an older fnn, .*; remove it to start over"):
        trained([callbacks.BackupAndRestore(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize("frequency", [1, 3, False])
def test_a_backup_inside_an_epoch_goes_on_there(frequency, tmp_path):
    straight = trained([callbacks.BackupAndRestore(tmp_path, frequency)])
    trained([callbacks.BackupAndRestore(tmp_path, frequency), KillAfter(8)])
    seen = KillAfter()
    resumed = trained([callbacks.BackupAndRestore(tmp_path, frequency), seen])
    assert seen.seen == {1: 13, 3: 14, False: 20}[frequency]  # of 5 epochs with 4 steps
    assert_equal_states(resumed, straight)
    assert not tmp_path.exists()


def test_of_two_backups_the_one_before_is_used_if_the_newest_is_damaged(tmp_path):
    straight = trained([])
    backup = lambda: callbacks.BackupAndRestore(tmp_path, 1, double_checkpoint=True)
    trained([backup(), KillAfter(8)])
    path = tmp_path / "training.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    seen = KillAfter()
    with pytest.warns(UserWarning, match=r"training.safetensors in .* is damaged and was set as"):
        resumed = trained([backup(), seen])
    assert seen.seen == 14
    assert_equal_states(resumed, straight)


def test_the_same_model_goes_on_after_a_part_that_was_finished(tmp_path):
    """As Keras does by the epoch in the backup."""
    net = trained([callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=3)
    trained([callbacks.BackupAndRestore(tmp_path)], net)
    assert net.history.epoch == [3, 4]
    assert_equal_states(net, trained([]))


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False], ids=["a part", "Ctrl-C"])
def test_the_epochs_that_are_left_are_those_of_keras(finished, tmp_path):
    def epochs(library, net):
        class Stops(library.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 3 and not finished:
                    raise KeyboardInterrupt

        folder = tmp_path / library.__name__
        backup = lambda: library.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        arguments = {"batch_size": 16, "verbose": 0}
        with contextlib.suppress(KeyboardInterrupt):
            last = 3 if finished else 9
            net.fit(*task(), epochs=last, callbacks=[backup(), Stops()], **arguments)
        return net.fit(*task(), epochs=5, callbacks=[backup()], **arguments).epoch

    with keras_rules():
        theirs = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        theirs.compile("sgd", "mse")
        expected = epochs(keras, theirs)
    assert epochs(fnn, network()) == expected == [3, 4]


CHANGES = {
    "batch_size": ({"batch_size": 32}, r"batch_size differs: 16 then, 32 now"),
    "data": ({"x": task(seed=1)[0]}, r"the training data differs"),
    "examples": ({"x": task(32)[0], "y": task(32)[1]}, r"examples differs: 64 then, 32 now"),
    "shuffle": ({"shuffle": False}, r"shuffle differs"),
    "steps": ({"steps_per_epoch": 2}, r"steps_per_epoch differs: None then, 2 now"),
    "weights": ({"sample_weight": np.linspace(1, 2, 64)}, r"the training data differs"),
    "rate": ({"optimizer": Adam(0.01)}, r"learning_rate differs: 0.05 holds, not 0.01"),
    "dropout": ({"network": {"dropout": 0.5}}, r"the network differs"),
    "loss": ({"network": {"loss": "mae"}}, r"the optimizer or loss differs"),
    "optimizer": ({"optimizer": Adam(0.05, beta_1=0.5)}, r"the optimizer or loss differs"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with the backup of a training that was killed."""
    folder = tmp_path_factory.mktemp("killed") / "backup"
    trained([callbacks.BackupAndRestore(folder), Kill(2)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_another_setting_is_warned_of(change, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "backup")
    changed, message = CHANGES[change]
    changed = dict(changed)
    net = network(changed.pop("optimizer", None), **changed.pop("network", {}))
    x, y = changed.pop("x", task()[0]), changed.pop("y", task()[1])
    arguments = {"batch_size": 16, "epochs": 4, "verbose": 0, **changed}
    given = [callbacks.BackupAndRestore(folder)]
    if change != "batch_size":  # which goes on; the others end before they compile
        given.append(Kill(2))
    with pytest.warns(UserWarning, match=message) as found, contextlib.suppress(KeyboardInterrupt):
        net.fit(x, y, callbacks=given, **arguments)
    assert found[0].filename == __file__
    assert net.history.epoch == ([2, 3] if change == "batch_size" else [])


def test_the_same_setting_is_not_warned_of(tmp_path):
    reduce = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=9.0)
    net = trained([callbacks.BackupAndRestore(tmp_path), reduce, Kill(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained([callbacks.BackupAndRestore(tmp_path), reduce], net)
    assert net.history.epoch == [3, 4]


@pytest.mark.slow
def test_other_metrics_are_not_warned_of(tmp_path):
    """They change no weight: warnings are errors here."""
    straight = trained([])
    trained([callbacks.BackupAndRestore(tmp_path), Kill(2)])
    resumed = trained([callbacks.BackupAndRestore(tmp_path)], network(metrics=["mae"]))
    assert resumed.history.epoch == [2, 3, 4]
    assert_equal_states(resumed, straight)


class Counts(callbacks.Callback):
    resumed = ("kept",)

    def __init__(self, kept):
        super().__init__()
        self.kept = kept


@pytest.mark.parametrize("kept", [[0.5], (0.5, 1.0), "best", {"a": [1.0]}, np.array([None])])
def test_a_counter_that_no_file_can_hold_is_an_error_before_the_first_step(kept, tmp_path):
    with pytest.raises(TypeError, match=r"Counts\.kept.* is .* must be a number, None, an array"):
        trained([Counts(kept), callbacks.BackupAndRestore(tmp_path), Kill(0)])


def test_dicts_of_numbers_come_back(tmp_path):
    trained(
        [
            Counts({"a": 0.5, "b": {"c": 2, "d": None}}),
            callbacks.BackupAndRestore(tmp_path),
            Kill(2),
        ]
    )
    counts = Counts({"a": 0.0})
    trained([counts, callbacks.BackupAndRestore(tmp_path)])
    assert counts.kept == {"a": 0.5, "b": {"c": 2.0}}


@pytest.mark.parametrize("value", [False, True, "best", ["best"], ("missing",), None])
def test_attributes_of_a_users_callback_mean_nothing_to_fit(value, tmp_path):
    class Mine(callbacks.ModelCheckpoint):
        def __init__(self):
            super().__init__(tmp_path / "a.fnn")
            self.resumed = self.unused = self.added_logs = value

    class Plain(callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.resumed = self.unused = self.added_logs = value

    class Declared(callbacks.Callback):
        resumed = unused = None if isinstance(value, (list, tuple)) else value

    given = [Mine(), Plain(), Declared(), callbacks.BackupAndRestore(tmp_path / "backup")]
    assert trained(given).history.epoch == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_stream_goes_on_without_a_comparison_of_its_data(tmp_path):
    """What an iterator gives in another process nobody knows: a warning says so."""

    def run(kill):
        x, y = task()
        batches = lambda: ((x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16))
        net, given = network(), [callbacks.BackupAndRestore(tmp_path), Kill(kill)]
        with contextlib.suppress(KeyboardInterrupt):
            net.fit(batches, epochs=4, callbacks=given, verbose=0)
        return net

    straight = run(None)
    run(2)
    with pytest.warns(UserWarning, match=r"in epoch 3 it starts again from its beginning: the re"):
        resumed = run(None)
    assert_equal_states(resumed, straight)


def test_a_backup_sets_counters_and_nothing_else(tmp_path):
    """A file may hold any names; those of methods and attributes are not touched."""
    store = FileStore(tmp_path)
    given = [callbacks.EarlyStopping("loss"), callbacks.BackupAndRestore(tmp_path), Kill(2)]
    trained(given)
    described, arrays = store.describe("training.safetensors")
    arrays["callbacks/EarlyStopping/on_epoch_end"] = np.ones(())
    own = described["counters"]["EarlyStopping"]
    own["on_epoch_end"] = "callbacks/EarlyStopping/on_epoch_end"
    store.write("training.safetensors", arrays, described)
    stop = callbacks.EarlyStopping("loss", patience=9)
    trained([stop, callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)])
    assert "on_epoch_end" not in vars(stop)

    arrays[own["wait"]] = np.zeros(3)
    store.write("training.safetensors", arrays, described)
    with pytest.raises(ValueError, match=r"no number for EarlyStopping\.wait; it is damaged"):
        trained([callbacks.EarlyStopping("loss"), callbacks.BackupAndRestore(tmp_path)])


def test_a_config_replaces_no_method_of_an_open_class():
    @fnn.register
    class Halves(fnn.losses.Loss):
        def __init__(self, power=2.0):
            super().__init__()
            self.power = power

        def call(self, y_true, y_pred):
            return abs(y_true - y_pred) ** self.power

    from fnn.core.config import from_config, to_config

    config = to_config(Halves(3.0))
    assert from_config(config) == Halves(3.0)
    for name in ("call", "__call__", "_key", "default_name"):
        with pytest.raises(
            ValueError, match=f"expected attributes of Halves that hold data, received '{name}'"
        ):
            from_config({**config, name: 1.0})


@pytest.mark.slow
def test_a_callback_that_looks_at_batches_changes_no_bit():
    """Above the size from which a state is donated; a donated step is another program."""
    x = np.random.default_rng(0).normal(size=(256, 64)).astype("float32")

    def run(*given):
        layers = [Dense(512, "tanh", input_shape=(64,)), Dense(512, "relu"), Dense(1)]
        net = fnn.Sequential(layers, seed=0)
        net.compile("adam", "mse")
        net.fit(x, x[:, :1], epochs=2, callbacks=given, verbose=0)
        return net

    class Looks(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.kept = self.model.train_state

    looks = Looks()
    watched, alone = run(looks), run()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(alone.params)) > 2**20
    assert_equal_states(watched, alone)
    assert int(looks.kept.step) == 16
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(looks.kept.params))


@pytest.mark.slow
@pytest.mark.parametrize("initial_epoch", [0, 1, 4])
def test_the_backup_says_with_which_epoch_to_go_on(initial_epoch, tmp_path):
    """Keras's epochs, whatever initial_epoch says."""

    def epochs(library, net, folder):
        backup = library.callbacks.BackupAndRestore(folder)
        arguments = {"epochs": 6, "verbose": 0}
        kill = type("Kill", (library.callbacks.Callback,), {"on_epoch_begin": killed})()
        with contextlib.suppress(KeyboardInterrupt):
            net.fit(*task(), callbacks=[backup, kill], **arguments)
        again = net.fit(*task(), callbacks=[backup], initial_epoch=initial_epoch, **arguments)
        return again.epoch

    def killed(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    with keras_rules():
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        other.compile("sgd", "mse")
        expected = epochs(keras, other, str(tmp_path / "keras"))
    assert epochs(fnn, network(), tmp_path / "fnn") == expected == [2, 3, 4, 5]
