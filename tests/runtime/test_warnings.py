"""Every warning points at the line of the user, from whatever thread it comes, and comes once."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import callbacks
from fnn.layers import Dense

ROOT = Path(fnn.__file__).parent
X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
BITS, TWICE = np.float32(Y > 0), 2 * np.eye(3, dtype="float32")[np.arange(16) % 3]


def compiled(units=1, loss="mse", activation=None):
    net = fnn.Sequential([Dense(units, activation, input_shape=(3,))], seed=0)
    net.compile("sgd", loss)
    return net


def batches(x, y, *sizes):
    """A stream of batches of these sizes."""
    ends = np.cumsum(sizes)
    return lambda: ((x[e - n : e], y[e - n : e]) for n, e in zip(sizes, ends, strict=True))


class Extra(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["extra"] = 1.0


class Kill(callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def other_settings(path):
    backup = callbacks.BackupAndRestore(path)
    with pytest.raises(KeyboardInterrupt):
        compiled().fit(X, Y, batch_size=8, epochs=2, callbacks=[backup, Kill()], verbose=0)
    compiled().fit(X, Y, batch_size=4, epochs=2, callbacks=[backup], verbose=0)


def another_column(path):
    logger = callbacks.CSVLogger(path / "log.csv", append=True)
    compiled().fit(X, Y, callbacks=[logger], verbose=0)
    compiled().fit(X, Y, callbacks=[Extra(), logger], verbose=0)


def no_probabilities(path):
    compiled(loss="binary_crossentropy").fit(X, BITS, verbose=0)


def no_distributions(path):
    compiled(3, "categorical_crossentropy", "softmax").evaluate(X, TWICE, verbose=0)


def no_distributions_later_in_a_stream(path):
    y = np.concatenate([TWICE[:8] / 2, TWICE[8:]])
    net = compiled(3, "categorical_crossentropy", "softmax")
    net.fit(batches(X, y, 8, 8), verbose=0)


def an_empty_batch(path):
    compiled().fit(batches(X, Y, 0, 8, 8), verbose=0)


def an_empty_batch_later(path):
    compiled().evaluate(batches(X, Y, 8, 0, 8), verbose=0)


def too_few_batches(path):
    saver = callbacks.ModelCheckpoint(path / "a.fnn", save_freq=1000)
    compiled().fit(X, Y, callbacks=[saver], verbose=0)


def more_epochs_than_allowed(path):
    fnn.config.set_max_epochs(1)
    try:
        compiled().fit(X, Y, epochs=2, verbose=0)
    finally:
        fnn.config.set_max_epochs(None)


def more_steps_than_allowed(path):
    fnn.config.set_max_steps_per_epoch(1)
    try:
        compiled().fit(X, Y, batch_size=4, verbose=0)
    finally:
        fnn.config.set_max_steps_per_epoch(None)


def no_server(path):
    remote = callbacks.RemoteMonitor("http://localhost:1")
    compiled().fit(X, Y, callbacks=[remote], verbose=0)


def no_transparency_in_jpeg(path):
    pytest.importorskip("PIL")
    fnn.utils.save_img(path / "a.jpg", np.zeros((2, 2, 4)))


def an_unreadable_image(path):
    pytest.importorskip("PIL")
    (path / "a").mkdir()
    (path / "a/1.png").write_bytes(b"no image")
    fnn.utils.save_img(path / "a/2.png", np.zeros((2, 2, 3)))
    list(fnn.data.image_folder(path, 2, unreadable="skip"))


def transforms_of_no_power_of_2(path):
    fnn.layers.STFTSpectrogram(frame_length=8, fft_length=12)


def an_argument_without_a_name(path):
    compiled(loss=lambda y, p: (y - p) ** 2).save(path / "a.fnn")


# What warns, the file of fnn that it is in, and what it says.
WARNS = [
    (other_settings, "training/resume.py", "set up differently"),
    (another_column, "callbacks/writing.py", "has no columns for"),
    (no_probabilities, "training/endings.py", "expects probabilities"),
    (no_distributions, "losses/checks.py", "targets that sum to 1"),
    (no_distributions_later_in_a_stream, "losses/checks.py", "targets that sum to 1"),
    (an_empty_batch, "training/stream.py", "batch 0 of the stream is empty"),
    (an_empty_batch_later, "training/stream.py", "batch 1 of the stream is empty"),
    (too_few_batches, "callbacks/files.py", "nothing was saved, since save_freq=1000"),
    (more_epochs_than_allowed, "models/fitting.py", "2 epochs are limited to 1"),
    (more_steps_than_allowed, "models/fitting.py", "the steps are limited to 1"),
    (no_server, "callbacks/remote.py", "could not reach the server at http://localhost:1"),
    (an_unreadable_image, "data/labelled_files.py", "1.png cannot be read and is left out"),
    (no_transparency_in_jpeg, "data/images.py", "JPEG has no transparency"),
    (an_argument_without_a_name, "saving/archive.py", "a.fnn is not complete"),
    (transforms_of_no_power_of_2, "preprocessing/sounds.py", "fft_length=12 is no power of 2"),
]


# They train, or compile a loss of their own.
TRAIN = [other_settings, another_column, no_probabilities, no_distributions]
TRAIN += [no_distributions_later_in_a_stream, an_empty_batch_later]


@pytest.mark.parametrize(
    ("run", "_", "message"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[0] in TRAIN)) for row in WARNS],
    ids=[run.__name__ for run, *_ in WARNS],
)
def test_it_points_at_the_line_of_the_user(run, _, message, tmp_path):
    with pytest.warns(UserWarning, match=re.escape(message)) as found:
        run(tmp_path)
    assert [warning.filename for warning in found] == [__file__]


# One has two warnings, as has `models/fitting.py`; one passes on those of a thread; those of
# changes inside `call` are in `tests/subclassing`.
AGAIN = ("training/stream.py", "training/read_ahead.py", "subclassing/methods.py")
# What warns of files, checkpoints, applications, members and processes has tests beside theirs.
ELSEWHERE = {
    "applications/keras_arguments.py",
    "datasets/finding.py",
    "models/files.py",
    "models/loading.py",
    "models/many.py",
    "runtime/processes.py",
    "saving/keras/files.py",
    "saving/savers.py",
    "saving/weights.py",
    "training/places.py",
}


def test_every_warning_is_among_these():
    calls = [
        (path.relative_to(ROOT).as_posix(), ast.unparse(node.func))
        for path in ROOT.rglob("*.py")
        if "warn(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "warn"
    ]
    (direct,) = [path for path, name in calls if name != "warn"]
    assert direct == "runtime/warning.py"
    known = {*AGAIN, *ELSEWHERE}
    places = [path for path, name in calls if name == "warn" and path not in known]
    assert sorted(places) == sorted(
        [*{path for _, path, _ in WARNS} - {"training/stream.py"}, "models/fitting.py"]
    )


def test_a_checkpoint_counts_on_in_the_next_fit(tmp_path):
    """As in Keras; a training that broke off says nothing."""
    saver = callbacks.ModelCheckpoint(tmp_path / "{batch}.fnn", save_freq=5)
    net = compiled()
    with pytest.warns(UserWarning, match=r"nothing was saved.* there were 4 so far"):
        net.fit(X, Y, batch_size=4, callbacks=[saver], verbose=0)
    net.fit(X, Y, batch_size=4, callbacks=[saver], verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["1.fnn"]
    with pytest.raises(KeyboardInterrupt):
        saver = callbacks.ModelCheckpoint(tmp_path / "a.fnn", save_freq=1000)
        net.fit(X, Y, batch_size=4, epochs=2, callbacks=[saver, Kill()], verbose=0)


# -- the settings of JAX in the thread that reads ------------------------------------------------


@pytest.mark.slow
def test_a_stream_is_read_in_the_precision_of_the_caller():
    x = 1 + 1e-9 * X.astype("float64")
    y = 1e9 * (x.sum(axis=1, keepdims=True) - 3)
    with jax.enable_x64(True):
        net = fnn.Sequential([Dense(1, dtype="float64", input_shape=(3,))], seed=0)
        net.compile(fnn.optimizers.SGD(0.0), "mse")
        found = net.evaluate(batches(x, y, 4, 4, 4, 4), verbose=0)
        outputs = net.predict(lambda: iter(np.split(x, 4)), verbose=0)
        kernel, bias = net.get_weights()
    expected = x @ kernel.astype("float64") + bias
    np.testing.assert_allclose(outputs, expected, rtol=1e-14)
    assert found == pytest.approx(np.square(expected - y).mean(), rel=1e-6)


@pytest.mark.slow
def test_a_stream_is_read_under_the_settings_of_the_caller():
    device, found = jax.devices()[-1], []
    mesh = jax.make_mesh((2,), ("batch",))

    def source():
        for at in range(0, 16, 4):
            noise = jax.random.normal(jax.random.key(at), (4, 3))
            found.append((noise.device, jax.config.jax_default_matmul_precision))
            found.append(jax.sharding.get_mesh())
            yield np.asarray(noise), Y[at : at + 4]

    net = compiled()
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        net.evaluate(source, verbose=0)
    assert found[::2] == [(device, "highest")] * 4
    found.clear()
    with jax.set_mesh(mesh):
        net.evaluate(source, verbose=0)
    assert found[1::2] == [mesh] * 4
    assert jnp.zeros(1).device != device
