"""Batches divided over devices: the numbers of one device, and nothing of the user's moved."""

import contextlib
import ctypes
import functools
import os
import platform
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import fnn
from fnn import callbacks, distribution, networks
from fnn import layers as L
from fnn.core.context import Context
from fnn.models.weights import Weights
from fnn.runtime import layouts, memory
from fnn.training import engine
from tests.helpers.counting import compilations
from tests.helpers.killing import Kill
from tests.helpers.sharding import note

slow = pytest.mark.slow

EXAMPLES = 42


@functools.cache
def over(number):
    mesh = jax.make_mesh((number,), ("batch",), (AxisType.Auto,), devices=jax.devices()[:number])
    return layouts.Distribution(mesh)


@pytest.fixture(params=[2])
def shared(request):
    """A function that puts the distribution over several devices in force."""
    yield lambda: layouts.use(lambda: over(request.param))
    layouts.use(None)


def mlp():
    """Equal ones, trained on batches of one size, share their programs."""
    return networks.mlp((12, 3), output_activation="softmax", dropout=0.3)


def convolutional():
    layers = [
        L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(),
        L.SpatialDropout2D(0.3), L.Flatten(), L.Dense(3, "softmax"),
    ]  # fmt: skip
    return L.Sequential(layers)


def recurrent():
    layers = [
        L.Masking(), L.LSTM(6, return_sequences=True, dropout=0.2),
        L.GRU(5, recurrent_dropout=0.3, return_sequences=True), L.RNN(L.SimpleRNNCell(4)),
        L.Dense(3, "softmax"),
    ]  # fmt: skip
    return L.Sequential(layers)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=(EXAMPLES, *shape)).astype("float32")


def classes(*shape):
    return np.random.default_rng(1).integers(0, 3, (EXAMPLES, *shape)).astype("int32")


CASES = {
    "mlp": (mlp, numbers(5), classes()),
    "cnn": (convolutional, numbers(8, 8, 2), classes()),
    "lstm": (recurrent, numbers(6, 3), classes()),
}


def model(layer, optimizer="adam"):
    net = fnn.Model(layer, seed=0)
    net.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


def trained(layer, x, y, size, optimizer="adam", evaluates=True, **more):
    """What `fit` and `evaluate` return, and the weights."""
    net = model(layer, optimizer)
    found = [*net.fit(x, y, batch_size=size, epochs=3, verbose=0, **more).history.values()]
    if evaluates:
        found.append(net.evaluate(x, y, batch_size=size, verbose=0))
    return [*found, net.get_weights()], net


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@slow
@pytest.mark.parametrize(("case", "size"), [("mlp", 16), ("mlp", 15), ("cnn", 15), ("lstm", 15)])
def test_a_training_has_the_numbers_of_one_device(case, size, shared):
    """Devices divide 16 examples; 15 are padded, and so is the last batch of either."""
    make, x, y = CASES[case]

    def run():
        more = {"validation_data": (x[:22], y[:22])} if case == "mlp" else {}
        found, net = trained(make(), x, y, size, evaluates=case != "lstm", **more)
        # Of the others the outputs are in the losses.
        return [*found, net.predict(x, size, verbose=0)] if case == "mlp" else found

    expected = run()
    shared()
    assert_close(run(), expected)


@slow
def test_the_verbs_for_single_batches_have_the_numbers_of_one_device(shared):
    def run():
        net = model(mlp())
        x, y = numbers(5), classes()
        trained = [net.train_on_batch(x[:size], y[:size]) for size in (5, 5)]
        tested = net.test_on_batch(x[:5], y[:5])
        outputs = [net.predict_on_batch(x[:size]) for size in (6, 5, 1)]
        called = [np.asarray(net(x[:size])) for size in (6, 5)]
        return trained, tested, outputs, called, net.predict(x[:1], verbose=0), net.get_weights()

    expected = run()
    shared()
    assert_close(run(), expected)


@pytest.fixture
def parts(monkeypatch):
    """A set of the numbers of examples that a device had, in `fit`, `evaluate` and `predict`."""
    found, call, placed = set(), engine.Program.__call__, Weights.placed

    def look(arrays, axis):
        for a in [a for a in jax.tree.leaves(arrays) if a.dtype == "float32"]:
            shape = a.sharding.shard_shape(a.shape) if isinstance(a, jax.Array) else a.shape
            found.add(shape[axis])

    def called(self, state, accumulators, chunk, *rest, **named):
        look(chunk, 1)
        return call(self, state, accumulators, chunk, *rest, **named)

    def predicted(self, x):
        result = placed(self, x)
        look(result[-1], 0)
        return result

    monkeypatch.setattr(engine.Program, "__call__", called)
    monkeypatch.setattr(Weights, "placed", predicted)
    return found


def use(net, x, y, size=16):
    net.fit(x, y, batch_size=size, verbose=0)
    net.evaluate(x, y, batch_size=size, verbose=0)
    return net.predict(x, size, verbose=0)


@pytest.mark.parametrize(
    ("shared", "size", "part"),
    [(8, 16, 2), pytest.param(8, 20, 3, marks=slow), pytest.param(2, 1, 1, marks=slow)],
    indirect=["shared"],
)
def test_each_device_has_a_part_of_every_batch(shared, size, part, parts):
    shared()
    net = model(mlp())
    use(net, numbers(5), classes(), size)
    assert parts == {part}
    divided = size > 1  # one example is not copied to all devices, and no weights are
    where = over(8).whole if divided else SingleDeviceSharding(jax.devices()[0])
    assert {leaf.sharding for leaf in bare_state(net)} == {where}


def bare_state(net):
    return [leaf for leaf in jax.tree.leaves(net.train_state) if isinstance(leaf, jax.Array)]


@slow
def test_streams_are_divided_too(shared, parts):
    x, y = numbers(5), classes()
    stream = lambda: ((x[i : i + 15], y[i : i + 15]) for i in range(0, EXAMPLES, 15))

    def run():
        net = model(mlp())
        net.fit(stream, epochs=2, verbose=0)
        return net.evaluate(stream, verbose=0), net.predict(stream, verbose=0)

    expected = run()
    assert parts == {15}
    parts.clear()
    shared()
    assert_close(run(), expected)
    assert parts == {8}


@slow
def test_examples_that_affect_each_other_are_not_padded(shared, parts):
    """A batch that devices do not divide lies whole on each."""
    mean = lambda a: a - a.mean(axis=0, keepdims=True)
    make = lambda: L.Sequential([L.Lambda(mean), L.Dense(3, "softmax")])
    x, y = numbers(5)[:35], classes()[:35]
    run = lambda: trained(make(), x, y, 16, "sgd")[0]
    expected = run()
    parts.clear()
    shared()
    assert_close(run(), expected)
    assert parts == {8, 3}
    net = model(make())
    np.testing.assert_allclose(net.predict(x, 35, verbose=0), np.asarray(net(x)), atol=1e-6)


@slow
def test_a_step_of_your_own_is_divided(shared):
    x, found, results = numbers(4), [], []

    def step(w, batch, key):
        note(batch, found)
        drawn = jax.random.normal(key, batch.shape)
        loss = lambda w: jnp.square((batch + drawn) @ w - 1).mean()
        value, slope = jax.value_and_grad(loss)(w)
        return w - 0.1 * slope, {"loss": value}

    for size in (16, 15):
        for choose in (lambda: layouts.use(None), shared):
            choose()
            found.clear()
            w, history = fnn.training.fit(
                step, np.ones((4, 1), "float32"), x, batch_size=size, epochs=3, verbose=0
            )
            results.append((w, history.history["loss"]))
        # There is nothing to tell padding by, so 15 examples stay on one device.
        assert set(found) == ({8} if size == 16 else set())  # where the program is known
        assert_close(*results[-2:])


def placements():
    mesh = lambda kind: jax.make_mesh((4,), ("data",), (kind,), devices=jax.devices()[:4])
    return {
        "explicit": NamedSharding(mesh(AxisType.Explicit), PartitionSpec("data")),
        "automatic": NamedSharding(mesh(AxisType.Auto), PartitionSpec("data")),
        "another device": SingleDeviceSharding(jax.devices()[3]),
    }


@functools.cache
def used_on_one_device():
    assert layouts.current() is None
    return use(model(mlp()), numbers(5)[:32], classes()[:32])


@slow
@pytest.mark.parametrize("place", ["explicit", "automatic", "another device"])
def test_what_the_user_put_on_devices_stays_there(place, shared, parts):
    placed = placements()[place]
    x, y = numbers(5)[:32], classes()[:32]
    expected = used_on_one_device()
    shared()
    net = model(mlp())
    net.fit(x, y, epochs=0, verbose=0)
    net.predict(x, verbose=0)  # for which the weights are copied to both devices
    parts.clear()
    given = jax.device_put((x, y), placed)
    assert_close(use(net, *given), expected)
    assert parts == {16 if place == "another device" else 4}
    assert net(given[0]).sharding.device_set == placed.device_set


@slow
def test_weights_that_the_user_put_on_devices_stay_there(shared, parts):
    x, y = numbers(5), classes()
    shared()
    net = model(mlp())
    net.build((None, 5))
    there = SingleDeviceSharding(jax.devices()[3])
    net.params = jax.device_put(net.params, there)
    use(net, x, y)
    assert parts == {16}
    assert {leaf.sharding for leaf in jax.tree.leaves(net.params)} == {there}


@slow
def test_weights_on_devices_meet_data_on_one(shared):
    """After a training over several devices a batch may come that lies on another one."""
    x, y = numbers(5), classes()
    shared()
    net = model(mlp())
    net.fit(x, y, batch_size=16, verbose=0)
    there = jax.device_put(x, jax.devices()[3])
    assert_close(net.predict(there, verbose=0), net.predict(x, verbose=0))
    assert_close(np.asarray(net(there)), net.predict(x, verbose=0))


@slow
def test_a_large_state_is_donated_and_trains_twice(shared):
    """Its random key is another array than the one that selects the randomness of the steps."""
    layer = L.Sequential(
        [L.Dense(300, "relu"), L.Dropout(0.2), L.Dense(300), L.Dense(3, "softmax")]
    )
    x, y = numbers(5), classes()
    results = []
    for _ in range(2):
        net = model(layer)
        before = net.train_state if net.built else None
        for epochs in (1, 2):
            net.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
        results.append(net.get_weights())
        shared()
    assert before is None
    assert_close(*results)


@slow
def test_a_state_with_keys_of_its_own_survives_a_donation(shared):
    shared()
    whole = over(2).whole
    state = {"w": np.ones(2**19, "float32"), "key": jax.random.key(3)}
    state = jax.device_put(state, whole)

    def step(state, batch, key):
        w = state["w"] * 0.5 + jax.random.uniform(state["key"]) * batch.mean()
        return {"w": w, "key": jax.random.split(state["key"])[0]}, {"loss": w[0]}

    trained, _ = fnn.training.fit(step, state, numbers(4), batch_size=14, verbose=0)
    assert state["w"].sum() == 2**19
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(jax.random.key(3))).all()
    assert (jax.random.key_data(trained["key"]) != jax.random.key_data(state["key"])).any()


@slow
def test_a_training_resumes_bit_for_bit(shared, tmp_path):
    x, y = numbers(5), classes()
    shared()

    def fitted(*given):
        net = model(mlp())
        with contextlib.suppress(KeyboardInterrupt):
            net.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=list(given))
        return net

    backup = lambda: callbacks.BackupAndRestore(str(tmp_path))
    straight = fitted()
    fitted(backup(), Kill(2))
    resumed = fitted(backup())
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@slow
def test_files_and_copies_are_as_ever(shared, tmp_path):
    x, y = numbers(5), classes()
    shared()
    net = model(mlp())
    best = callbacks.ModelCheckpoint(
        str(tmp_path / "best.fnn"), monitor="loss", save_best_only=True
    )
    net.fit(x, y, batch_size=16, verbose=0, callbacks=[best])
    net.save(tmp_path / "net.fnn")
    expected = net.predict(x, verbose=0)
    for name in ("best.fnn", "net.fnn"):
        assert_close(fnn.load(tmp_path / name).predict(x, verbose=0), expected)


@slow
def test_one_program_a_step(shared):
    """The states before the first step and after it lie alike: nothing is compiled twice."""
    x, y = numbers(5), classes()
    shared()
    net = model(mlp())
    net.fit(x, y, batch_size=16, verbose=0)
    net.evaluate(x, y, batch_size=16, verbose=0)
    net.predict(x, batch_size=16, verbose=0)
    with compilations() as compiled:
        net.fit(x, y, batch_size=16, epochs=2, verbose=0)
        net.evaluate(x, y, batch_size=16, verbose=0)
        net.predict(x, batch_size=16, verbose=0)
        other = model(mlp())
        other.fit(x, y, batch_size=16, verbose=0)
    assert not compiled


def gradient(layer):
    """The compiled gradient of a layer over time by its weights, the batch divided."""
    x = jnp.ones((8, 5, 3))
    params, state = layer.init(jax.random.key(0), x)
    ctx = Context(train=True, key=jax.random.key(1))

    def loss(params, x):
        with over(2).tracing():
            y, _ = layer.apply(params, state, x, ctx)
        return (y**2).sum()

    placed = jax.device_put((params, x), (over(2).whole, over(2).divided(0)))
    return jax.jit(jax.grad(loss)).lower(*placed).compile().as_text()


def sums_in_loops(program):
    """Whether a loop of a compiled program adds up numbers of several devices."""
    bodies = set(re.findall(r"body=%?([\w.\-]+)", program))
    parts = re.split(r"\n(?=%?[\w.\-]+ \()", program)
    named = {
        re.match(r"%?([\w.\-]+)", part)[1]: part for part in parts if re.match(r"%?[\w]", part)
    }
    assert bodies, "no loop"
    assert bodies <= set(named)
    return any("all-reduce" in named[body] for body in bodies)


@slow
@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (L.LSTM(4, dropout=0.5, recurrent_dropout=0.5), False),
        (L.GRU(4, return_sequences=True), False),
        (L.LSTM(4, lambda a: a / (1 + abs(a).mean(axis=0, keepdims=True))), True),
        (L.RNN(L.LSTMCell(4)), True),
    ],
    ids=["LSTM", "GRU", "mixing", "RNN"],
)
def test_gradients_of_a_recurrence_are_added_up_after_it(layer, expected, shared):
    shared()
    program = gradient(layer)
    assert "all-reduce" in program
    assert sums_in_loops(program) is expected


@slow
def test_an_activation_that_looks_at_all_examples_is_right(shared):
    mixing = lambda a: jnp.tanh(a - a.mean(axis=0, keepdims=True))
    make = lambda: L.Sequential([L.SimpleRNN(4, mixing), L.Dense(3, "softmax")])
    x, y = numbers(6, 3), classes()
    run = lambda: trained(make(), x, y, 15, "sgd")[0]
    expected = run()
    shared()
    assert_close(run(), expected)


@slow
def test_a_stateful_network_keeps_its_states(shared):
    x, y = numbers(6, 3)[:24], classes()[:24]

    def run():
        network = [L.Input(batch_shape=(6, 6, 3)), L.LSTM(4, stateful=True), L.Dense(3, "softmax")]
        net = fnn.Sequential(network, seed=0)
        net.compile("adam", "sparse_categorical_crossentropy")
        net.fit(x, y, batch_size=6, epochs=2, verbose=0)
        loss = net.evaluate(x, y, batch_size=6, verbose=0)
        return loss, net.predict(x, verbose=0), np.asarray(net(x[:6])), net.get_weights()

    expected = run()
    shared()
    assert_close(run(), expected)


# -- fnn.use_cpu_cores ---------------------------------------------------------------------------


@pytest.fixture
def eight_cores(monkeypatch, shared):
    monkeypatch.setattr(distribution.cores, "_available_cores", lambda: 8)
    monkeypatch.setattr(distribution.cores, "keep_all_freed_memory", lambda: None)


def test_use_cpu_cores_divides_over_all_of_them(eight_cores):
    for _ in range(2):  # JAX has started with eight devices
        fnn.use_cpu_cores()
        fnn.use_cpu_cores(8)
    assert layouts.current() == distribution.DataParallel()


def test_use_cpu_cores_must_come_before_jax_starts(eight_cores):
    message = r"devices of JAX is 8 since it started, and cannot become 2; call fnn\.use_cpu"
    with pytest.raises(RuntimeError, match=message):
        fnn.use_cpu_cores(2)
    assert layouts.current() is None


@pytest.mark.parametrize("cores", [0, -1, 9, 1.5, True, "2"])
def test_use_cpu_cores_wants_cores_that_there_are(eight_cores, cores):
    with pytest.raises(ValueError, match="must be an integer from 1 to 8, the number of cores"):
        fnn.use_cpu_cores(cores)


def test_one_core_or_an_accelerator_divides_nothing(monkeypatch):
    assert distribution.cores._over_cores(1) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert distribution.cores._over_cores(8) is None


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (memory.keep_all_freed_memory, [(-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20), (-8, 1)]),
        (memory.keep_some_freed_memory, [(-3, 32 * 2**20), (-1, 512 * 2**20)]),
    ],
)
def test_freed_memory_is_kept_where_there_is_glibc(keep, expected, monkeypatch):
    calls = []

    class Libc:
        mallopt = staticmethod(lambda *call: calls.append(call))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Libc())
    keep()
    assert not calls
    Libc.gnu_get_libc_version = None
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    keep()
    assert not calls
    monkeypatch.setattr(memory.sys, "platform", "linux")
    keep()
    assert calls == expected


def test_who_sets_the_allocator_in_the_environment_has_chosen(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr(ctypes, "CDLL", None)
    memory.keep_some_freed_memory()


@slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_network_takes_its_memory_from_the_system_once():
    """Without it each batch of some networks waits for over 1,000 fresh pages."""
    script = """
import resource, numpy as np, fnn
from fnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
net = fnn.Sequential([Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)), MaxPooling2D(),
    Conv2D(64, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(10)])
x = np.ones((32, 28, 28, 1), "float32")
for _ in range(5):
    net.predict(x, verbose=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    net.predict(x, verbose=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
"""
    kept = {name: value for name, value in os.environ.items() if name not in memory.CHOICES}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=kept
    )
    assert float(run.stdout) < 100
