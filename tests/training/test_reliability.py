"""What must not break: callbacks and streams that fail, saving interrupted, other processes."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optax
import pytest

import fnn
from fnn.layers import Dense, Dropout

ROOT = Path(__file__).parents[2]


def task(rows=64):
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def model(optimizer="adam"):
    net = fnn.Sequential([Dense(3, "relu", input_shape=(4,)), Dropout(0.2), Dense(1)], seed=0)
    net.compile(optimizer, "mse")
    return net


def assert_usable(net, weights):
    for old, new in zip(weights, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.isfinite(net.predict(task()[0], verbose=0)).all()
    net.fit(*task(), verbose=0)


CALLS = {
    "fit": lambda net, x, y, **more: net.fit(x, y, verbose=0, **more),
    "evaluate": lambda net, x, y, **more: net.evaluate(x, y, verbose=0, **more),
    "predict": lambda net, x, y, **more: net.predict(x, verbose=0, **more),
}
HOOKS = {
    "fit": ("train_begin", "epoch_begin", "train_batch_begin"),
    "evaluate": ("test_begin", "test_batch_begin", "test_batch_end", "test_end"),
    "predict": ("predict_begin", "predict_batch_begin", "predict_batch_end", "predict_end"),
}


@pytest.mark.parametrize(("call", "hook"), [(c, h) for c, hooks in HOOKS.items() for h in hooks])
def test_a_callback_that_raises_harms_nothing(call, hook):
    class Fails(fnn.callbacks.Callback):
        pass

    def fail(self, *arguments):
        raise ZeroDivisionError("mine")

    setattr(Fails, f"on_{hook}", fail)
    net = model()
    weights = net.get_weights()
    with pytest.raises(ZeroDivisionError, match="mine"):
        CALLS[call](net, *task(), callbacks=[Fails()])
    assert_usable(net, weights)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_a_stream_that_raises_harms_nothing(call):
    def batches():
        yield task(8)
        raise OSError("the disk is gone")

    net = model()
    weights = net.get_weights()
    with pytest.raises(OSError, match="the disk is gone"):
        getattr(net, call)(batches(), verbose=0)
    assert_usable(net, weights)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_no_rows_are_an_error(call):
    net = model()
    with pytest.raises(ValueError, match="expected samples, received an empty batch"):
        CALLS[call](net, np.zeros((0, 4)), np.zeros((0, 1)))
    assert_usable(net, net.get_weights())


@pytest.mark.slow
def test_an_empty_batch_in_a_stream_is_left_out_with_a_warning():
    x, y = task()
    net, plain = model("sgd"), model("sgd")
    parts = [(x[:32], y[:32]), (x[:0], y[:0]), (x[32:], y[32:])]
    with pytest.warns(UserWarning, match="batch 1 of the stream is empty"):
        net.fit(lambda: iter(parts), verbose=0)
    plain.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(net.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 33])
def test_any_number_of_rows_trains(rows):
    net = fnn.Sequential(
        [Dense(3, input_shape=(4,)), fnn.layers.BatchNormalization(), Dense(1)], seed=0
    )
    net.compile("adam", "mse")
    net.fit(*task(rows), epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in net.get_weights())


def test_ctrl_c_while_saving_keeps_the_old_file(tmp_path, monkeypatch):
    path, net = tmp_path / "model.fnn", model()
    net.save(path)
    old = path.read_bytes()
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    net.fit(*task(), verbose=0)
    with pytest.raises(KeyboardInterrupt):
        net.save(path)
    monkeypatch.setattr(os, "replace", replace)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(1e-2),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
        optax.chain(fnn.optimizers.Adam(1e-2), optax.scale(0.5)),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        fnn.optimizers.SGD(fnn.schedules.ExponentialDecay(0.1, 10, 0.9)),
    ],
    ids=["adam", "chain", "fnn inside optax", "needs the loss", "schedule"],
)
def test_any_optax_transformation_trains_as_it_is(optimizer):
    net = model(optimizer)
    first, *_, last = net.fit(*task(), epochs=20, verbose=0).history["loss"]
    assert last < first


@pytest.mark.slow
def test_tied_weights_are_given_once_and_train(monkeypatch):
    from fnn.training import engine

    engine._cached_program.cache_clear()
    monkeypatch.setattr(engine, "DONATED_BYTES", 0)
    net = fnn.Sequential([Dense(4, input_shape=(4,)), Dense(4)], seed=0)
    net.compile("adam", "mse")
    kernel = net.params["dense"]["kernel"]
    bias = net.params["dense"]["bias"]
    same = {"kernel": kernel, "bias": bias}
    net.params = {"dense": same, "dense_1": same}  # the same arrays twice, then donated
    net.fit(task()[0], task()[0], verbose=0)
    assert all(np.isfinite(w).all() for w in net.get_weights())
    engine._cached_program.cache_clear()


@pytest.mark.slow
def test_models_in_a_loop_leave_nothing_behind():
    import gc

    import jax

    def once():
        net = model()
        net.fit(*task(), verbose=0)
        net.evaluate(*task(), verbose=0)

    for _ in range(3):
        once()
    gc.collect()
    before = len(jax.live_arrays())
    for _ in range(10):
        once()
    gc.collect()
    assert len(jax.live_arrays()) <= before


TRAINED = """
import gc, hashlib, multiprocessing, os, sys, warnings
import jax, numpy as np
import fnn
from fnn import layers as L
from fnn.layers import Dense, Dropout

fnn.set_seed(3)
net = fnn.Sequential([Dense(8, "relu", input_shape=(4,)), Dropout(0.5), Dense(1)])
net.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(100, 4))
net.fit(x, x.sum(axis=1), epochs=3, verbose=0)
print(hashlib.sha256(b"".join(w.tobytes() for w in net.get_weights())).hexdigest())
"""

FORKED = """
def model():
    net = fnn.Sequential([Dense(1, input_shape=(4,))], seed=0)
    net.compile("sgd", "mse")
    return net

x, y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
net = model()
net.fit(x, y, verbose=0)
step = lambda state, batch, key: (state, {"loss": 0.0})
verbs = {
    "fit": lambda: net.fit(x, y, verbose=0),
    "fit of a stream": lambda: net.fit(lambda: iter([(x, y)]), verbose=0),
    "evaluate": lambda: net.evaluate(x, y, verbose=0),
    "predict": lambda: net.predict(x, verbose=0),
    "call": lambda: net(x),
    "train_on_batch": lambda: net.train_on_batch(x, y),
    "predict_on_batch": lambda: net.predict_on_batch(x),
    "a new model": model,
    "training.fit": lambda: fnn.training.fit(step, 0, x, verbose=0),
}
warnings.simplefilter("ignore")  # Python and JAX advise against forking
for name, verb in verbs.items():
    child = os.fork()
    if not child:
        try:
            verb()
        except RuntimeError as error:
            os._exit(0 if "spawn" in str(error) else 1)
        os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(name, status)
"""

LOADERS = """
def batch(seed):
    x = np.random.default_rng(seed).normal(size=(16, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)

net = model()
net.fit(*batch(0), verbose=0)  # JAX runs, with its threads
with multiprocessing.get_context("fork").Pool(2) as pool:  # the workers keep off JAX
    log = net.fit(lambda: pool.imap(batch, range(20)), epochs=2, verbose=0)
print(len(log.history["loss"]), int(net.train_state.step))
"""

LEAKS = """
warnings.resetwarnings()
jax.config.update("jax_check_tracer_leaks", True)
fnn.training, fnn.saving  # imported before what is there is frozen: JAX collects after each trace
gc.collect(), gc.freeze()
words = fnn.Input((5,), dtype="int32")
steps = L.LSTM(3, return_sequences=True)(L.Embedding(9, 4, mask_zero=True)(words))
rest = fnn.Sequential([L.Dense(3, "relu"), L.BatchNormalization(),
                       L.Repeat(L.Residual(L.Dense(3)), 2), L.Dense(1, activity_regularizer="l2")])
leaky = fnn.Model(words, rest(L.GlobalAveragePooling1D()(steps)))
x, y = np.ones((8, 5), "int32"), np.ones((8, 1), "float32")
leaky.compile("adam", "mse", metrics=["mae"])
leaky.fit(x, y, verbose=0, validation_split=0.25)
leaky.evaluate(x[6:], y[6:], verbose=0)
leaky.predict(x, verbose=0)
leaky.predict(lambda: iter([x]), verbose=0)
leaky.save(f"{sys.argv[1]}/m.fnn")
fnn.load(f"{sys.argv[1]}/m.fnn").summary(print_fn=lambda line: None)
print("no leak")
print([name for name in ("pandas", "polars", "datasets", "grain", "torch") if name in sys.modules])
"""


def in_a_process(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """What one process prints that does all of this, a list of lines for each part."""
    parts = [TRAINED, FORKED, LOADERS, LEAKS]
    script = "\nprint('----', flush=True)\n".join(parts)
    done = in_a_process(script, str(tmp_path_factory.mktemp("saved")))
    found = [part.splitlines() for part in done.stdout.split("----\n")]
    return dict(itertools.zip_longest(parts, found)), done.stderr[-2000:]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.slow
@needs_fork
def test_a_process_forked_after_jax_ran_gets_an_error_at_once(process):
    lines, errors = process[0][FORKED], process[1]
    assert len(lines) == 9, errors
    assert {line.rpartition(" ")[2] for line in lines} == {"0"}, lines


def test_another_process_than_the_first_is_refused(monkeypatch):
    from fnn.runtime import process

    monkeypatch.setattr(process, "_USED", {"pid": os.getpid() + 1})
    with pytest.raises(RuntimeError, match="spawn"):
        model().predict(task()[0], verbose=0)


@pytest.mark.slow
@needs_fork
def test_workers_forked_for_data_do_not_hang_training(process):
    assert process[0][LOADERS] == ["2 41"], process[1]


@pytest.mark.slow
@needs_fork
def test_two_processes_with_one_seed_end_bit_for_bit_alike(process):
    other = in_a_process(TRAINED)
    assert other.stdout.splitlines() == process[0][TRAINED], other.stderr


@pytest.mark.slow
@needs_fork
def test_nothing_keeps_a_tracer(process):
    assert process[0][LEAKS][0] == "no leak", process[1]


@pytest.mark.slow
@needs_fork
def test_no_library_is_imported_that_the_user_has_not_brought(process):
    """By `fit`, of streams too, `evaluate`, `predict`, saving and loading."""
    assert process[0][LEAKS][1] == "[]", process[1]
