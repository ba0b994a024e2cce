"""A training that is saved inside an epoch and resumed equals one that was not interrupted."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn import callbacks
from fnn.layers import BatchNormalization, Dense, Dropout
from fnn.optimizers import Adam
from fnn.saving import checkpoints
from fnn.saving.backups import FileStore
from fnn.saving.checkpoints import OrbaxStore
from fnn.saving.savers import Saver
from fnn.saving.tensors import FileError
from fnn.schedules import ExponentialDecay
from fnn.training import Checkpoint, engine
from fnn.training.checkpoint import Snapshot
from tests.helpers.killing import KillAfter, Killed

BATCH, EPOCHS = 16, 3


def task(rows=88):
    """Four batches an epoch and a shorter one, with what is left for validation."""
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def network(**changes):
    """One with dropout, moving averages, a schedule, accumulation, clipping, and EMA."""
    layers = [Dense(4, "tanh", input_shape=(4,)), Dropout(0.3), BatchNormalization(), Dense(1)]
    model = fnn.Sequential(layers, seed=1)
    given = {"use_ema": True, "ema_momentum": 0.5, "gradient_accumulation_steps": 2, **changes}
    given.setdefault("learning_rate", ExponentialDecay(0.05, 3, 0.9))
    model.compile(Adam(**given), "mse", metrics=["mae", fnn.metrics.R2Score()])
    return model


def watchers():
    stop = callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.1, restore_best_weights=True)
    return [stop, callbacks.SwapEMAWeights(swap_on_epoch=True)]


@pytest.fixture
def in_files(monkeypatch):
    """Checkpoints in single files, which are written in a millisecond."""

    def opened(checkpoint, resume):
        store = FileStore(checkpoint.directory)
        return Saver(store, every_steps=checkpoint.every_steps, resume=resume, background=False)

    monkeypatch.setattr(Checkpoint, "on_opened", staticmethod(opened))


def trained(folder, kill=None, *, resume=False, model=None, data=None, look=None, **arguments):
    """A model after a training, and its callbacks; killed after `kill` steps of this call."""
    model = network() if model is None else model
    given = [*arguments.pop("callbacks", watchers()), KillAfter(kill, look)]
    checkpoint = arguments.pop("checkpoint", Checkpoint(folder, every_steps=1))
    x, y = task() if data is None else data
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "validation_split": 0.2, **arguments}
    try:
        model.fit(
            x, y, verbose=0, callbacks=given, checkpoint=checkpoint, resume=resume, **arguments
        )
    except Killed:
        assert kill is not None
    return model, given


@pytest.fixture(scope="module")
def straight():
    """A training that was neither killed nor saved."""
    return trained(None, checkpoint=None)


def numbers(tree):
    """The leaves of a pytree with their paths, random keys as their data."""
    found = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found[jax.tree_util.keystr(path)] = np.asarray(leaf)
    return found


def assert_equal_trees(first, second):
    first, second = numbers(first), numbers(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def assert_same_end(first, second):
    """Weights, state, optimizer, key, counters of callbacks, History: bit for bit."""
    (one, watching), (other, watched) = first, second
    assert_equal_trees(one.train_state, other.train_state)
    assert one.history.as_dict() == other.history.as_dict()
    for a, b in zip(watching, watched, strict=True):
        for name in getattr(a, "resumed", ()):
            assert_equal_trees(getattr(a, name), getattr(b, name))


def copying(folder):
    """Copies of a folder of checkpoints in the middle of each step: what a kill would leave."""

    def look(step):
        (folder / "straight").mkdir(exist_ok=True)  # before the first checkpoint
        shutil.copytree(folder / "straight", folder / str(step))

    return look


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param((1, 2, 5, 6, 7, 10, 11, 15), id="some"),
        pytest.param(range(1, 16), id="all", marks=pytest.mark.thorough),
    ],
)
def test_a_training_killed_after_any_step_ends_with_the_same_bits(
    kills, in_files, straight, tmp_path
):
    found = trained(tmp_path / "straight", look=copying(tmp_path))
    assert_same_end(straight, found)
    steps = int(found[0].train_state.step)
    assert steps == 15
    assert found[0].history.epoch == [0, 1, 2]
    for step in kills:
        resumed = trained(tmp_path / str(step), resume=True)
        assert resumed[1][-1].seen == steps - (step - 1)  # the step of the kill was not saved
        assert_same_end(straight, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 7, 15])
def test_a_kill_leaves_what_was_saved_before(step, in_files, straight, tmp_path):
    trained(tmp_path, step)
    resumed = trained(tmp_path, resume=True)
    assert resumed[1][-1].seen == 15 - (step - 1)
    assert_same_end(straight, resumed)


@pytest.mark.slow
def test_saving_changes_no_bit(straight, tmp_path):
    assert_same_end(straight, trained(tmp_path, checkpoint=Checkpoint(tmp_path, every_steps=4)))


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, 10])
def test_a_folder_of_orbax_continues_as_exactly(step, straight, tmp_path):
    checkpoint = Checkpoint(tmp_path, every_steps=3, keep=2)
    trained(tmp_path, step, checkpoint=checkpoint)
    resumed = trained(tmp_path, resume=True, checkpoint=checkpoint)
    assert resumed[1][-1].seen == 15 - (step - 1) // 3 * 3
    assert_same_end(straight, resumed)


# -- data ----------------------------------------------------------------------------------------


def plain():
    """A model for streams."""
    model = fnn.Sequential([Dense(3, "tanh", input_shape=(4,)), Dropout(0.3), Dense(1)], seed=1)
    model.compile(Adam(0.05), "mse")
    return model


def of_grain():
    """Batches of Grain, shuffled."""
    rows = list(zip(*task(64), strict=True))
    return grain.MapDataset.source(rows).shuffle(seed=3).batch(BATCH).to_iter_dataset()


class Stateful:
    """A loader in the form of PyTorch's: shuffled anew in each pass, by numbers of its own."""

    def __init__(self):
        self.generator, self.order, self.at = np.random.default_rng(0), [], 0

    def __iter__(self):
        if self.at >= len(self.order):
            self.order, self.at = self.generator.permutation(64).tolist(), 0
        while self.at < 64:
            rows = self.order[self.at : self.at + BATCH]
            self.at += BATCH
            yield tuple(part[rows] for part in task(64))

    def state_dict(self):
        return {"rng": self.generator.bit_generator.state, "order": self.order[:], "at": self.at}

    def load_state_dict(self, state):
        self.generator.bit_generator.state = state["rng"]
        self.order, self.at = list(state["order"]), state["at"]


class Numbered(fnn.utils.PyDataset):
    """Batches by their numbers, of which the last one is smaller."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return tuple(part[rows] for part in task(60))


class Examples:
    """Single examples by their numbers."""

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return tuple(part[index] for part in task(60))


def memory_maps(folder=[]):  # noqa: B006 - one folder for all processes of this test
    paths = [folder[0] / f"{name}.npy" for name in "xy"]
    for path, part in zip(paths, task(60), strict=True):
        if not path.exists():
            np.save(path, part)
    return tuple(np.load(path, mmap_mode="r") for path in paths)


SOURCES = {
    "Grain": of_grain,
    "a loader with a state": Stateful,
    "PyDataset": Numbered,
    "examples": Examples,
    "memmaps": memory_maps,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        *((kind, None) for kind in SOURCES),
        *((kind, 3) for kind in ("a loader with a state", "PyDataset")),
        *(
            pytest.param(kind, 3, marks=pytest.mark.thorough)
            for kind in ("Grain", "examples", "memmaps")
        ),
    ],
    ids=lambda value: {None: "whole passes", 3: "3 steps an epoch"}.get(value, value),
)
def test_a_stream_continues_where_it_was(kind, steps, in_files, tmp_path):
    memory_maps.__defaults__[0][:] = [tmp_path]

    def run(folder, kill=None, resume=False, look=None):
        data = SOURCES[kind]()
        if not isinstance(data, tuple):
            data = data, None
        return trained(
            tmp_path / folder,
            kill,
            resume=resume,
            look=look,
            model=plain(),
            data=data,
            callbacks=[],
            validation_split=0.0,
            batch_size=BATCH,
            steps_per_epoch=steps,
        )

    straight = run("straight", look=copying(tmp_path))
    count = int(straight[0].train_state.step)
    assert count == 3 * (steps or 4)
    for step in (2, count // 3 + 1, count):
        resumed = run(str(step), resume=True)
        assert resumed[1][-1].seen == count - (step - 1)
        assert_same_end(straight, resumed)


@pytest.mark.slow
def test_the_order_of_a_stream_of_fnn_comes_from_the_checkpoint(in_files, tmp_path):
    """Its seed was drawn in the process that was killed."""
    x, y = task(60)

    def run(folder, seed, kill=None, resume=False):
        data = fnn.data.Batches(60, lambda rows: (x[rows], y[rows]), BATCH, seed)
        arguments = {"callbacks": [], "validation_split": 0.0, "batch_size": None}
        given = {"model": plain(), "data": (data, None), **arguments}
        return trained(tmp_path / folder, kill, resume=resume, **given)

    straight = run("straight", 5)
    run("killed", 5, 6)
    assert_same_end(straight, run("killed", 6, resume=True))


@pytest.mark.slow
def test_a_stream_without_a_position_is_said_to_be_inexact(in_files, tmp_path):
    x, y = task(64)

    def batches():
        return ((x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, 64, BATCH))

    arguments = {"callbacks": [], "validation_split": 0.0, "data": (batches, None)}
    straight = trained(tmp_path / "straight", model=plain(), **arguments)
    trained(tmp_path / "killed", 7, model=plain(), **arguments)
    message = r"position in a function cannot be saved, so in epoch 2 its first 2 batches are read"
    with pytest.warns(UserWarning, match=message):
        resumed = trained(tmp_path / "killed", resume=True, model=plain(), **arguments)
    # These come in the same order again.
    assert_same_end(straight, resumed)


def test_a_state_that_no_checkpoint_can_hold_is_an_error_before_the_first_step(tmp_path):
    class Odd(Stateful):
        def state_dict(self):
            return {"file": object()}

    with pytest.raises(TypeError, match=r"the state of the loader.state.file is <object"):
        trained(tmp_path, model=plain(), data=(Odd(), None), callbacks=[], validation_split=0.0)


@pytest.mark.slow
def test_a_large_state_that_is_donated_continues_too(tmp_path, monkeypatch):
    """Its memory is given to the next step, so what is saved is a copy."""
    engine._cached_program.cache_clear()
    monkeypatch.setattr(engine, "DONATED_BYTES", 0)
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    save, left = Saver.save, [2]

    def killing(saver, snapshot):
        save(saver, snapshot)
        left[0] -= 1
        if not left[0]:
            raise Killed

    def run(folder, resume=False):
        model = compiled(Dense(16, "tanh", input_shape=(8,)), Dropout(0.2), Dense(16), Dense(1))
        checkpoint = Checkpoint(tmp_path / folder, every_steps=3)
        arguments = {"epochs": 2, "verbose": 0, "checkpoint": checkpoint, "resume": resume}
        model.fit(x, x[:, :1], batch_size=32, **arguments)
        return model

    straight = run("straight")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Saver, "save", killing)
        run("killed")
    assert Checkpoint(tmp_path / "killed").describe()[-1]["step"] == 6
    resumed = run("killed", resume=True)
    engine._cached_program.cache_clear()
    assert_equal_trees(straight.train_state, resumed.train_state)
    assert straight.history.as_dict() == resumed.history.as_dict()


@pytest.mark.slow
def test_a_class_with_a_step_of_its_own_continues(in_files, tmp_path):
    """Its metrics are variables of the model."""

    class Own(fnn.Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(1)
            self.mean = fnn.metrics.Mean(name="mean")

        @property
        def metrics(self):
            return [self.mean]

        def call(self, x):
            return self.dense(x)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer, metrics = state
            x, y = data

            def loss(trainable):
                y_pred, _ = self.stateless_call(trainable, non_trainable, x, training=True)
                return ((y - y_pred) ** 2).mean()

            value, grads = jax.value_and_grad(loss)(trainable)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            metrics = self.mean.stateless_update_state(metrics, value)
            logs = {"mean": self.mean.stateless_result(metrics)}
            return logs, (trainable, non_trainable, optimizer, metrics)

    def run(folder, kill=None, resume=False):
        fnn.set_seed(0)
        model = Own()
        model.compile(Adam(0.05), "mse")
        given = {"model": model, "callbacks": [], "validation_split": 0.0}
        return trained(tmp_path / folder, kill, resume=resume, data=task(64), **given)

    straight = run("straight")
    run("killed", 7)
    assert_same_end(straight, run("killed", resume=True))


# -- signals -------------------------------------------------------------------------------------


class Send(callbacks.Callback):
    """Sends itself a signal in the middle of a step."""

    def __init__(self, kind, step):
        super().__init__()
        self.kind, self.step, self.seen = kind, step, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.step:
            os.kill(os.getpid(), self.kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_the_training_after_its_step_and_saves_it(
    kind, error, in_files, straight, tmp_path
):
    checkpoint = Checkpoint(tmp_path / "killed")
    received = []

    def handler(number, frame):
        received.append(number)

    own = signal.default_int_handler if kind == signal.SIGINT else handler
    before = signal.signal(kind, own)
    try:
        with pytest.raises(error) as raised:
            trained(None, checkpoint=checkpoint, callbacks=[*watchers(), Send(kind, 7)])
        assert signal.getsignal(kind) is own
    finally:
        signal.signal(kind, before)
    if kind == signal.SIGTERM:
        assert raised.value.code == 143
        assert received == [signal.SIGTERM]  # the handler runs when the training is saved
    resumed = trained(None, checkpoint=checkpoint, resume=True)
    assert resumed[1][-1].seen == 15 - 7
    assert_same_end(straight, resumed)


@pytest.mark.slow
def test_sigterm_is_not_touched_without_a_checkpoint():
    seen = []
    look = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(signal.getsignal(signal.SIGTERM))
    )
    before = signal.getsignal(signal.SIGTERM)
    trained(None, checkpoint=None, callbacks=[look], epochs=1)
    assert seen == [before]


# -- any state -----------------------------------------------------------------------------------


def step(state, batch, key):
    """Two sets of weights, of different dtypes, and a random key of its own."""
    noise = jax.random.normal(key, state["w"].shape)

    def loss(w):
        return ((batch @ w).mean() - 1.0) ** 2 + 1e-3 * (w * noise).sum()

    value, gradient = jax.value_and_grad(loss)(state["w"])
    w = state["w"] - 0.1 * gradient
    half = [(state["half"][0][0] * 0.9).astype(jnp.bfloat16), None]
    return {**state, "w": w, "half": [(half[0],), None], "n": state["n"] + 1}, {"loss": value}


def fitted(folder, kill=None, resume=False, seed=0, **arguments):
    """The end of a training of a state of any structure, and its history."""
    state = {
        "w": jnp.zeros(4),
        "half": [(jnp.ones(2, jnp.bfloat16),), None],
        "n": 0,
        "a/b": jax.random.key(5),
        "a": {"b": jnp.zeros((0, 3))},
    }
    checkpoint = Checkpoint(folder, every_steps=2, **arguments)
    found = None
    try:
        found = fnn.training.fit(
            step,
            state,
            task(60)[0],
            batch_size=BATCH,
            epochs=3,
            seed=seed,
            callbacks=[KillAfter(kill)],
            verbose=0,
            validate=lambda state: {"sum": float(state["w"].sum())},
            checkpoint=checkpoint,
            resume=resume,
        )
    except Killed:
        assert kill
    return found


def test_any_state_and_any_step_continue(tmp_path):
    straight = fitted(tmp_path / "straight")
    fitted(tmp_path / "killed", 5)
    resumed = fitted(tmp_path / "killed", resume=True)
    assert_equal_trees(straight[0], resumed[0])
    assert straight[1].history == resumed[1].history
    assert int(resumed[0]["n"]) == 9  # 3 whole batches an epoch
    with pytest.raises(ValueError, match="the seed differs"):
        fitted(tmp_path / "killed", resume=True, seed=1)


def test_resume_needs_a_folder():
    with pytest.raises(ValueError, match="resume=True needs the folder to resume from"):
        fnn.training.fit(step, jnp.zeros(4), task()[0], resume=True)


# -- what is there -------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_kept_and_what_is_best(tmp_path):
    """The newest two, and the one with the best log; JSON tells without reading arrays."""

    class Scores(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = [0.5, 0.9, 0.7, 0.6, 0.8][epoch]

        def added_logs(self):
            return ["score"]

    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "epoch-9-step-99.txt").write_text("mine")
    checkpoint = Checkpoint(tmp_path, keep=2, keep_best="score", mode="max")
    x, y = task(64)
    model = plain()
    states = {}
    keep = callbacks.LambdaCallback()
    keep.on_epoch_recorded = lambda epoch: states.update({epoch: model.train_state})
    given = {"batch_size": BATCH, "callbacks": [Scores(), keep], "verbose": 0}
    model.fit(x, y, epochs=5, checkpoint=checkpoint, **given)
    found = checkpoint.describe()
    names = ["epoch-2-step-8", "epoch-4-step-16", "epoch-5-step-20"]
    assert [part["name"] for part in found] == names
    assert [part["logs"]["score"] for part in found] == [0.9, 0.6, 0.8]
    assert found[0]["arrays"]["state/params/dense/kernel"] == "float32[4, 3]"
    assert (found[2]["epoch"], found[2]["batch"], found[2]["step"]) == (5, 0, 20)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == sorted(
        ["notes.txt", "epoch-9-step-99.txt", *names]
    )
    now = plain().train_state
    now = now.replace(optimizer=model.train_state.optimizer)
    for best, epoch in ((False, 4), (True, 1)):
        kept = states[epoch].replace(callbacks={})
        assert_equal_trees(checkpoint.load(now, best=best), kept)

    model.fit(x, y, epochs=5, checkpoint=checkpoint, resume=True, **given)  # it is over
    assert [part["name"] for part in checkpoint.describe()] == names
    with pytest.raises(FileExistsError, match=r"received .* with epoch-5-step-20; pass resume=T"):
        plain().fit(x, y, checkpoint=checkpoint, **given)
    with pytest.raises(FileNotFoundError, match=r"expected a checkpoint in .*, received none"):
        Checkpoint(tmp_path / "other").load(now)
    with pytest.raises(ValueError, match="best=True needs to know which log"):
        Checkpoint(tmp_path).load(now, best=True)


CHANGES = {
    "batch size": ({"batch_size": 8}, r"batch_size differs: 16 then, 8 now"),
    "number of examples": ({"data": task(64)}, r"number of examples differs: 70 then, 51 now"),
    "data": ({"data": (task()[0] + 1, task()[1])}, r"the training data differs"),
    "order": ({"shuffle": False}, r"shuffle differs"),
    "steps": ({"steps_per_epoch": 2}, r"steps_per_epoch differs: None then, 2 now"),
    "optimizer": ({"model": lambda: network(beta_1=0.5)}, r"the optimizer or loss differs"),
    "another epsilon": ({"model": lambda: network(epsilon=1e-3)}, r"the optimizer or loss"),
    "no accumulation": (
        {"model": lambda: network(gradient_accumulation_steps=None)},
        r"state/optimizer/.*: not in the model",
    ),
    "another network": (
        {"model": lambda: compiled(Dense(5, input_shape=(4,)), Dense(1))},
        r"state/params/dense/kernel: expected float32\[4, 5\], found float32\[4, 4\]",
    ),
}


def compiled(*layers):
    model = fnn.Sequential(list(layers), seed=1)
    model.compile(Adam(0.05), "mse")
    return model


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder of Orbax, and what is in it: a training killed in its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    trained(folder, 8, checkpoint=Checkpoint(folder, every_steps=2))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_another_training_is_refused(change, killed):
    arguments, message = CHANGES[change]
    arguments = dict(arguments)
    model = arguments.pop("model", network)()
    before = numbers(model.train_state)
    with pytest.raises(ValueError, match=message):
        trained(killed, resume=True, model=model, callbacks=[], **arguments)
    after = numbers(model.train_state)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


@pytest.mark.slow
def test_a_change_that_is_allowed_starts_the_epoch_over(in_files, tmp_path):
    store = FileStore(tmp_path)
    saver = Saver(store, every_steps=1, background=False, allow_changes=True)
    Checkpoint.on_opened = staticmethod(lambda checkpoint, resume: saver)
    given = {"callbacks": [], "validation_split": 0.0, "data": task(64)}
    trained(tmp_path, 6, model=plain(), **given)
    with pytest.warns(UserWarning, match="batch_size differs: 16 then, 8 now"):
        model, watched = trained(tmp_path, resume=True, model=plain(), batch_size=8, **given)
    assert model.history.epoch == [0, 1, 2]
    assert watched[-1].seen == 2 * 8  # all of the second epoch and of the third


# -- damage --------------------------------------------------------------------------------------


def copied(folder, tmp_path):
    """A copy of a folder of checkpoints, and the names of the newest two."""
    shutil.copytree(folder, tmp_path / "run")
    names = [found["name"] for found in Checkpoint(folder).describe()]
    return tmp_path / "run", names[-1], names[-2]


def files(folder):
    """The files that hold the arrays, and their indices."""
    return [path for path in (folder / "arrays").rglob("*") if path.is_file()]


def flip(folder):
    """A bit in the middle of each; some of them are not read."""
    for path in files(folder):
        data = bytearray(path.read_bytes() or b" ")
        data[len(data) // 2] ^= 4
        path.write_bytes(data)


def cut(folder):
    for path in files(folder):
        os.truncate(path, path.stat().st_size // 2)


def change_json(folder):
    path = folder / "training" / "metadata"
    path.write_text(path.read_text().replace('"epoch', '"epoc', 1).replace("batch", "bitch", 1))


DAMAGE = {
    "a flipped bit": flip,
    "half of a file": cut,
    "no arrays": lambda folder: shutil.rmtree(folder / "arrays"),
    "no JSON": lambda folder: shutil.rmtree(folder / "training"),
    "other JSON": change_json,
    "an empty folder": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
}


# Orbax reads arrays at once; of the others it complains when one is damaged.
NOISE = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@NOISE
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(kind, killed, tmp_path):
    folder, newest, before = copied(killed, tmp_path)
    DAMAGE[kind](folder / newest)
    like = network()
    like._program.ensure_optimizer_state()
    saver = Checkpoint.on_opened(Checkpoint(folder), True)
    message = rf"{newest} in .* was set aside as {newest}.damaged; training continues from {before}"
    with pytest.warns(UserWarning, match=message):
        found = saver.newest(Snapshot(like.train_state))
    step = int(before.rpartition("-")[2])
    assert found.step == step == int(found.state.step)
    assert (folder / f"{newest}.damaged").is_dir()
    assert not (folder / newest).exists()

    DAMAGE[kind](folder / before)
    for name in list(found_names(folder)):
        if name != before:
            shutil.rmtree(folder / name)
    with pytest.raises(FileError, match=r"expected a whole checkpoint, received .* damaged or in"):
        saver.newest(Snapshot(like.train_state))
    assert (folder / before).exists()  # nothing is set aside, or starts over without a word


@pytest.mark.slow
@NOISE
@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_is_never_loaded(seed, killed, tmp_path):
    """Orbax itself reads eleven of twelve without a word."""
    folder, newest, _ = copied(killed, tmp_path)
    store = OrbaxStore(folder)
    _, specs = store.describe(newest)
    whole = store.read(newest, specs)
    random = np.random.default_rng(seed)
    noticed = 0
    for _ in range(20):
        paths = [path for path in (folder / newest).rglob("*") if path.is_file()]
        sizes = np.array([path.stat().st_size for path in paths])
        path = paths[random.choice(len(paths), p=sizes / sizes.sum())]
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        try:
            assert_equal_trees(store.read(newest, specs), whole)
        except FileError:
            noticed += 1
        path.write_bytes(data)
    assert noticed > 5


def found_names(folder):
    return {path.name for path in folder.glob("epoch-*-step-*") if "damaged" not in path.name}


@pytest.mark.slow
def test_a_full_disk_is_a_warning_and_keeps_what_was_there(straight, tmp_path, monkeypatch):
    write = OrbaxStore.write

    def full(store, name, arrays, described):
        if name != "epoch-1-step-5":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(store, name, arrays, described)

    monkeypatch.setattr(OrbaxStore, "write", full)
    with pytest.warns(UserWarning, match=r"could not be saved in .*No space left.*; training cont"):
        found = trained(tmp_path, checkpoint=Checkpoint(tmp_path))
    assert_same_end(straight, found)
    assert [part["name"] for part in Checkpoint(tmp_path).describe()] == ["epoch-1-step-5"]


def test_a_folder_that_cannot_be_written_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot save checkpoints in .*file.*; pass another folder"):
        trained(tmp_path / "file" / "run")
    assert Checkpoint(tmp_path / "~" / ".." / "run with ö").describe() == []


@contextlib.contextmanager
def largest_file(size):
    """Files may have so many bytes: what a disk that is full does to every writer, Orbax's too."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@NOISE
def test_what_the_disk_does_not_take_is_a_warning_and_no_checkpoint(tmp_path):
    saver = Saver(OrbaxStore(tmp_path), background=False)
    first, second = np.random.default_rng(0).normal(size=(2, 10_000))
    saver.save(Snapshot({"w": first}, step=1))
    with largest_file(20_000), pytest.warns(UserWarning, match="could not be saved in .*continues"):
        saver.save(Snapshot({"w": second}, step=2))
    assert saver.store.names() == ["epoch-0-step-1"]
    np.testing.assert_array_equal(saver.newest(Snapshot({"w": second})).state["w"], first)
    saver.save(Snapshot({"w": second}, step=3))  # there is room again
    np.testing.assert_array_equal(saver.newest(Snapshot({"w": first})).state["w"], second)


@contextlib.contextmanager
def without_privileges():
    """Root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_may_only_be_read_is_an_error_that_names_it(tmp_path):
    folder = tmp_path / "shut"
    folder.mkdir(0o500)
    with without_privileges(), pytest.raises(PermissionError, match="cannot save checkpoints in"):
        OrbaxStore(folder).begin()


def test_two_trainings_do_not_save_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "WAIT", 0.0)
    first, second = OrbaxStore(tmp_path), OrbaxStore(tmp_path)
    first.begin()
    with pytest.raises(BlockingIOError, match="another training saves there"):
        second.begin()
    first.end()
    second.begin()
    second.end()


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / "epoch-1-step-5.orbax-checkpoint-tmp-3"
    left.mkdir()
    store = OrbaxStore(tmp_path)
    assert store.names() == []
    store.begin()
    store.end()
    assert not left.exists()


def test_without_orbax_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r'pip install "orbax-checkpoint"'):
        trained(tmp_path)


@pytest.mark.slow
def test_what_is_there_is_told_without_a_device(killed):
    """In a process in which JAX has no device."""
    script = f"""
import fnn
found = fnn.training.Checkpoint({str(killed)!r}).describe()
print(found[-1]["step"], found[-1]["arrays"]["state/params/dense/kernel"])
"""
    where = {**os.environ, "JAX_PLATFORMS": "nowhere"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=where)
    assert done.stdout.split() == ["6", "float32[4,", "4]"], done.stderr


def test_the_clock_says_when_to_save():
    saver = Saver(FileStore("nowhere"), every_epochs=None, every_minutes=1.0)
    assert not saver.is_due(5)
    saver._since -= 61
    assert saver.is_due(5)
    assert not saver.is_due_after(1)


# -- devices -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 8])
def test_saved_on_8_devices_loaded_on_fewer(count, tmp_path):
    def state(devices, value):
        mesh = jax.make_mesh(
            (devices,), ("x",), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,)
        )
        divided, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("x",), ()))
        w = np.full((16, 3), value, "float32") * np.arange(3, dtype="float32")
        return {
            "w": jax.device_put(w, divided),
            "key": jax.device_put(jax.random.key(value), whole),
            "n": jax.device_put(np.int32(value), whole),
        }

    saver = Saver(OrbaxStore(tmp_path), background=False)
    saved = state(8, 3)
    saver.save(Snapshot(saved))
    like = state(count, 0)
    loaded = Checkpoint(tmp_path).load(like)
    assert_equal_trees(loaded, saved)
    for name, leaf in like.items():
        assert loaded[name].sharding == leaf.sharding


# -- the callback --------------------------------------------------------------------------------


@pytest.mark.slow
def test_orbax_checkpoint_saves_what_is_better(tmp_path):
    x, y = task(64)
    model = plain()
    saver = callbacks.OrbaxCheckpoint(
        tmp_path, "loss", save_best_only=True, save_freq=3, max_to_keep=2, save_weights_only=True
    )
    logs = []
    keep = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, found: logs.append(found["loss"])
    )
    history = model.fit(x, y, batch_size=16, epochs=2, callbacks=[saver, keep], verbose=0)
    assert len(history.epoch) == 2
    due = [logs[2], logs[5]]
    assert saver.best == pytest.approx(min(due))
    names = ["epoch-0-step-3"] if due[1] > due[0] else ["epoch-0-step-3", "epoch-1-step-6"]
    assert [found["name"] for found in Checkpoint(tmp_path).describe()] == names
    weights = Checkpoint(tmp_path).load({"params": model.params, "state": model.state})
    assert weights["params"].keys() == model.params.keys()
    saver.wait_until_finished()
