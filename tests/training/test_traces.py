"""What is compiled, and how often."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
import fnn.models.program
from fnn.layers import (
    BatchNormalization,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    SimpleRNN,
)
from fnn.runtime.program_cache import PROGRAMS, ProgramCache, programs
from fnn.training.data import ArrayData
from tests.helpers.counting import compilations

ROOT = Path(__file__).parents[2]


def model(units=8):
    return fnn.Sequential([Dense(units, "relu", input_shape=(5,)), Dropout(0.1), Dense(1)], seed=0)


def task(rows):
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def train(net, rows=100):
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(*task(rows), epochs=2, batch_size=32, validation_data=task(50), verbose=0)
    net.evaluate(*task(rows), verbose=0)
    return net.predict(task(rows)[0], verbose=0)


def test_an_equal_model_compiles_nothing():
    first = train(model(9))
    with compilations() as compiled:
        second = train(model(9))
    assert compiled == []
    np.testing.assert_array_equal(first, second)


def test_a_learning_rate_is_no_reason_to_compile():
    net = model(9)
    train(net)
    with compilations() as compiled:
        for rate in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
            net.learning_rate = rate
            net.fit(*task(100), epochs=1, batch_size=32, verbose=0)
            assert float(net.learning_rate) == pytest.approx(rate)
    assert compiled == []


@pytest.fixture
def traces(monkeypatch):
    """How often Python ran each step function, by kind."""
    counts = {"train": 0, "eval": 0, "predict": 0}

    def counting(kind, make):
        made = {}

        def remade(*arguments):
            if arguments not in made:
                inner = make.__wrapped__(*arguments)

                def step(*given):
                    counts[kind] += 1
                    return inner(*given)

                made[arguments] = step
            return made[arguments]

        return remade

    monkeypatch.setattr(
        fnn.models.program, "make_train_step", counting("train", fnn.models.program.make_train_step)
    )
    monkeypatch.setattr(
        fnn.models.program, "make_eval_step", counting("eval", fnn.models.program.make_eval_step)
    )
    return counts


@pytest.mark.slow
def test_each_step_is_traced_once_however_the_examples_divide(traces):
    calls = []

    class Spy(fnn.Layer):
        masking = "pass"

        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            calls.append((ctx.train, x.shape))
            return x, state

    def since(before):
        return [shape for _, shape in calls[before:]]

    net = fnn.Sequential([Dense(4, input_shape=(5,)), BatchNormalization(), Spy(), Dense(1)])
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(*task(96), batch_size=32, epochs=3, validation_data=task(64), verbose=0)
    assert traces == {"train": 1, "eval": 1, "predict": 0}
    assert [shape for training, shape in calls if training] == [(32, 4)]
    before = len(calls)
    # Before a batch is padded, what is computed of it is looked at for two sizes, once.
    net.fit(*task(100), batch_size=32, epochs=3, validation_data=task(50), verbose=0)
    assert traces == {"train": 1, "eval": 1, "predict": 0}
    assert since(before) == [(32, 4), (2, 4)] * 2
    before = len(calls)
    net.fit(*task(101), batch_size=32, verbose=0)
    net.evaluate(*task(70), verbose=0)
    assert traces == {"train": 1, "eval": 1, "predict": 0}
    assert since(before) == []
    net.predict(task(96)[0], verbose=0)
    assert since(before) == [(32, 4)]
    net.predict(task(70)[0], verbose=0)
    assert since(before) == [(32, 4), (32, 4), (2, 4)]
    net.predict(task(100)[0], verbose=0)
    assert len(since(before)) == 3


class Seen(fnn.Layer):
    """Notes in `calls`, a list of its own, how it is traced."""

    masking = "pass"

    number: int = 0
    calls = []

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        self.calls.append(("train" if ctx.train else "shapes", x.shape))
        return x, state


@pytest.fixture
def seen():
    Seen.calls.clear()
    return Seen.calls


def in_a_row():
    return fnn.Sequential([Dense(4, "relu"), Seen(1), Dense(1)])


def in_a_row_of_known_shape():
    return fnn.Sequential([fnn.Input((5,)), Dense(4, "relu"), Seen(1), Dense(1)])


def in_a_graph():
    x = fnn.Input((5,))
    y = Seen(1)(Dense(4, "relu")(x)) * 2 + 1
    return fnn.Model(x, Dense(1)(y[:, :3]))


def in_a_row_of_convolutions():
    image = fnn.layers.Reshape((5, 1))
    flat = fnn.layers.Flatten()
    return fnn.Sequential([fnn.Input((5,)), image, Seen(1), Conv1D(32, 3), flat, Dense(1)])


def in_a_model_in_a_graph():
    x = fnn.Input((5,))
    return fnn.Model(x, fnn.layers.Add()([in_a_row_of_known_shape()(x), Dense(1)(x)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        in_a_row,
        in_a_row_of_known_shape,
        in_a_row_of_convolutions,
        in_a_graph,
        in_a_model_in_a_graph,
    ],
)
def test_the_network_is_traced_twice_before_the_first_step(make, seen):
    fnn.utils.clear_session()
    net = make()
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(*task(96), batch_size=32, epochs=2, verbose=0)
    assert [kind for kind, _ in seen] == ["shapes", "train"]


@pytest.mark.slow
def test_free_sizes_of_a_long_graph_are_found_when_they_are_asked_for(seen):
    node = fnn.Input((2,))
    for _ in range(1500):  # deeper than Python recurses
        node = node + 1
    y = Seen(6)(node)
    assert [shape for _, shape in seen] == [(3, 2)]
    assert y.shape == (None, 2)
    assert [shape for _, shape in seen] == [(3, 2), (5, 2)]


def test_what_fits_at_the_first_trial_size_by_chance_is_an_error_at_its_line():
    x = fnn.Input((None, 2))
    with pytest.raises(ValueError, match="Reshape: expected inputs whose examples have 194"):
        fnn.layers.Reshape((194,))(x * 2)
    with pytest.raises(ValueError, match="Add: expected inputs of equal shapes"):
        fnn.layers.Add()([x, fnn.Input((97, 2))])


@pytest.mark.slow
def test_a_batch_to_be_padded_is_looked_at_in_two_sizes_once(seen):
    net = fnn.Sequential([Dense(4, "relu"), Seen(5), Dense(1)])
    net.compile("adam", "mse", metrics=["mae"])
    for examples in (100, 101, 127):
        net.fit(*task(examples), batch_size=32, epochs=2, verbose=0)
    assert [size for kind, (size, _) in seen if kind == "train"] == [32, 32, 2]


@pytest.mark.slow
def test_a_model_inside_a_model_is_not_traced_again_for_its_shapes(seen):
    inner = fnn.Sequential([Dense(4, "relu"), Seen(2), Dense(3)])
    net = fnn.Sequential([inner, fnn.Sequential([Dense(2)]), Dense(1)])
    net.compile("adam", "mse")
    net.fit(*task(96), verbose=0)
    assert [kind for kind, _ in seen] == ["shapes", "train"]


@pytest.mark.slow
def test_another_number_of_examples_traces_nothing(seen):
    net = fnn.Sequential([Dense(4, input_shape=(5,)), Seen(3), Dense(1)])
    net.compile("adam", "mse")
    net.fit(*task(100), verbose=0)
    net.evaluate(*task(100), verbose=0)
    net.predict(task(100)[0], verbose=0)
    seen.clear()
    for rows in (101, 102, 99):
        net.fit(*task(rows), verbose=0)
        net.evaluate(*task(rows), verbose=0)
        net.predict(task(rows)[0], verbose=0)
    assert seen == []


@pytest.mark.slow
def test_sizes_that_the_model_leaves_free_are_traced_once_each(seen):
    net = fnn.Sequential([fnn.Input((None, 2)), Seen(4), Dense(1)])
    net.compile("adam", "mse")
    for length in (3, 4):
        seen.clear()
        for rows in (32, 64):
            x = np.ones((rows, length, 2), "float32")
            net.fit(x, x[..., :1], verbose=0)
        assert [kind for kind, _ in seen] == ["shapes", "train"]


def test_outputs_without_an_axis_of_examples_are_checked_at_their_real_size():
    class Mean(fnn.Layer):
        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x.mean(axis=0), state

    net = fnn.Sequential([Dense(7, input_shape=(5,)), Mean()])
    net.compile("sgd", "mse")
    with pytest.raises(ValueError, match="7"):
        net.fit(*task(32), verbose=0)


def test_errors_of_shapes_name_the_sizes_that_were_given():
    net = fnn.Sequential([Dense(4, input_shape=(5,)), Dense(1)])
    net.compile("sgd", "mse")
    with pytest.raises(ValueError, match="5") as raised:
        net.fit(np.ones((40, 6), "float32"), np.ones((40, 1), "float32"), verbose=0)
    assert "float32[40, 6]" in "\n".join(raised.value.__notes__)


@pytest.mark.slow
def test_a_first_fit_compiles_one_program():
    def fit(units, optimizer):
        net = fnn.Sequential([Dense(units, "relu"), BatchNormalization(), Dense(1)])
        net.compile(optimizer, "mse", metrics=["mae"])
        net.fit(*task(100), batch_size=32, verbose=0)

    fit(20, "sgd")  # what any model needs: keys, blocks of draws, the results of these metrics
    for optimizer in ("sgd", "adam", "adagrad", "lamb"):
        with compilations() as compiled:
            fit(21, optimizer)
        assert len(compiled) == 1, (optimizer, compiled)


def test_batches_are_the_same_wherever_they_are_gathered(monkeypatch):
    array = np.arange(30.0, dtype="float32").reshape(10, 3)

    def chunk(given):
        data = ArrayData({"x": given}, 4, shuffle=True, seed=1, remainder="pad")
        return next(data.chunks(0, 2))[0][0]["x"]

    on_host = chunk(array)
    device = jax.devices()[-1]
    placed = chunk(jax.device_put(array, device))
    assert placed.devices() == {device}  # where the user wants it
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for other in (placed, chunk(array)):
        np.testing.assert_array_equal(other, on_host)


@pytest.mark.slow
def test_programs_are_kept_up_to_a_number_that_is_set():
    net = fnn.Sequential([Dense(3, input_shape=(None, 2)), Dense(1)], seed=0)
    predict = lambda length: net.predict(np.ones((4, length, 2), "float32"), verbose=0)
    try:
        fnn.utils.set_program_cache_size(2)
        for length in range(1, 5):
            predict(length)
        assert len(programs) == 2
        with compilations() as compiled:
            predict(4)
            predict(3)
        assert compiled == []
        with compilations() as compiled:
            predict(1)
        assert len(compiled) == 1
        fnn.utils.set_program_cache_size(0)
        assert len(programs) == 0
        net.compile("sgd", "mse")
        net.fit(np.ones((4, 2, 2), "float32"), np.ones((4, 2, 1), "float32"), verbose=0)
        assert int(net.train_state.step) == 1  # without any it trains too
    finally:
        fnn.utils.set_program_cache_size(PROGRAMS)


def test_ctrl_c_while_keys_are_compared_is_ctrl_c_and_the_cache_goes_on():
    class Key:
        pressed = False

        def __hash__(self):
            return 1

        def __eq__(self, other):
            if Key.pressed:
                raise KeyboardInterrupt
            return isinstance(other, Key)

    cache = ProgramCache(2)
    double = cache.cached(lambda key, number: 2 * number)
    assert double(Key(), 3) == 6
    Key.pressed = True
    with pytest.raises(KeyboardInterrupt):
        double(Key(), 3)
    Key.pressed = False
    assert [double(Key(), number) for number in (3, 4, 5)] == [6, 8, 10]
    assert len(cache) == 2


@pytest.mark.slow
def test_a_cleared_session_compiles_again_to_the_same_bits():
    first = train(model(9))
    fnn.utils.clear_session()
    assert len(programs) == 0
    with compilations() as compiled:
        second = train(model(9))
    assert compiled
    np.testing.assert_array_equal(first, second)


GROWTH = """
import gc, os, traceback
import jax, numpy as np, optax, fnn
x = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
y = x.sum(axis=1, keepdims=True)

def plain(units):
    def init(key):
        first, second = jax.random.split(key)
        draw = jax.nn.initializers.glorot_uniform()
        params = {
            "a": draw(first, (10, units)), "b": jax.numpy.zeros(units),
            "c": draw(second, (units, 1)), "d": jax.numpy.zeros(1),
        }
        return params, optimizer.init(params)

    @jax.jit
    def step(params, state, x, y):
        def loss(p):
            h = jax.nn.relu(x @ p["a"] + p["b"])
            return ((h @ p["c"] + p["d"] - y) ** 2).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    optimizer = optax.adam(1e-3)
    params, state = init(jax.random.key(0))
    for first in range(0, 64, 32):
        params, state, loss = step(params, state, x[first:first + 32], y[first:first + 32])
    float(loss)

def own(units):
    net = fnn.Sequential([fnn.layers.Dense(units, "relu"), fnn.layers.Dense(1)])
    net.compile("adam", "mse")
    net.fit(x, y, batch_size=32, verbose=0)

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def grown(run, first, last):  # MB a model
    before = resident()
    for units in range(first, last):
        run(units)
    return (resident() - before) / (last - first)

def measure(run):
    grown(run, 2, 4)  # what comes once in a process
    print(grown(run, 10, 13), flush=True)
    if run is own:
        fnn.utils.set_program_cache_size(4)
        grown(run, 20, 22)  # now the cache is full
        print(grown(run, 22, 25), flush=True)

jax.config.update("jax_disable_most_optimizations", True)  # as large, in half the time
for run in (plain, own):
    child = os.fork()  # before JAX has threads: each in a process of its own
    if not child:
        try:
            measure(run)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_different_models_grow_the_process_no_more_than_plain_jax():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GROWTH],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    plain, first, later = map(float, done.stdout.split())
    assert first < 1.2 * plain, (first, plain)
    assert later < 2, later  # the cache is full; a program takes 6 MB


@pytest.mark.slow
def test_predict_of_any_length_needs_few_compilations():
    net = model(12)
    net.predict(task(40)[0], verbose=0)
    with compilations() as compiled:
        for rows in range(1, 70):
            assert net.predict(task(rows)[0], verbose=0).shape == (rows, 1)
    assert len(compiled) <= 6  # batches of 1, 2, 4, 8, 16, 32; the loop over those is there


def again(verb):
    """What is compiled for the second time by `verb(number of examples)`, with one program kept."""
    try:
        fnn.utils.set_program_cache_size(1)
        for rows in (33, 34):
            verb(rows)
        with compilations() as compiled:
            verb(33)
        return len(compiled)
    finally:
        fnn.utils.set_program_cache_size(PROGRAMS)


@pytest.mark.slow
def test_programs_for_single_numbers_of_examples_are_dropped_again():
    """Those of batches that are not padded, being mixed along their axis, and of `model(x)`."""
    mean = fnn.layers.Lambda(lambda a: a - a.mean(axis=0, keepdims=True))
    net = fnn.Sequential([Dense(1, input_shape=(5,)), mean], seed=0)
    x, y = task(50)
    net.compile("sgd", "mse")
    assert again(lambda rows: net.predict(x[:rows], verbose=0)) >= 1
    assert again(lambda rows: net(x[:rows])) == 1
    assert again(lambda rows: net.evaluate(x[:rows], y[:rows], verbose=0)) >= 1
    np.testing.assert_allclose(net.predict(x[:33], verbose=0)[32], 0, atol=1e-6)


def networks_of_many_shapes():
    last = Dense(3, "softmax")
    free = fnn.Input((None, 5))
    return {
        "fixed": ([fnn.Input((5,)), Spied(), last], (5,), {}),
        "no inputs yet": ([Spied(), last], (5,), {}),
        "free": ([free, Spied(), GlobalAveragePooling1D(), last], (7, 5), {}),
        "masked": (
            [fnn.Input((None,)), Embedding(9, 4, mask_zero=True), Spied(), SimpleRNN(3), last],
            (6,),
            {},
        ),
        "weighed": ([fnn.Input((5,)), Spied(), last], (5,), {"class_weight": {0: 1.0, 1: 2.0}}),
        "split": ([fnn.Input((5,)), Spied(), last], (5,), {"validation_split": 0.3}),
    }


class Spied(fnn.Layer):
    """Notes the shapes with which it is traced."""

    masking = "pass"
    shapes = []

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        self.shapes.append(x.shape)
        return x, state


@pytest.mark.slow
@pytest.mark.parametrize("kind", networks_of_many_shapes())
def test_any_number_of_examples_needs_the_same_traces(kind):
    """Also those by which `fit` and `evaluate` check shapes before their first step."""
    layers, shape, arguments = networks_of_many_shapes()[kind]
    net = fnn.Sequential(layers)
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def run(rows):
        before = len(Spied.shapes)
        x, y = np.zeros((rows, *shape), "float32"), np.zeros(rows, "int32")
        net.fit(x, y, verbose=0, **arguments)
        net.evaluate(x, y, verbose=0)
        net.predict(x, verbose=0)
        return Spied.shapes[before:]

    assert {shape[0] for shape in run(100)} <= {1, 2, 3, 32}
    assert run(101) == run(102) == []
    with pytest.raises(ValueError, match=r"x with 103 examples, y.* with 102 examples"):
        net.fit(np.zeros((103, *shape)), np.zeros(102), verbose=0)
    with pytest.raises(ValueError, match=r"targets of shape .*\(103,\).*received \(103, 3\)"):
        net.fit(np.zeros((103, *shape)), np.zeros((103, 3)), verbose=0)
