"""What predict returns, and in which order it tells callbacks."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn.callbacks import Callback
from fnn.layers import AveragePooling1D, AveragePooling2D, Dense, Dropout, Embedding, Lambda
from fnn.models import inference
from fnn.training import cost
from tests.helpers.oracle import keras_rules


def test_inputs_of_different_lengths_are_refused():
    i, j = fnn.Input((1,)), fnn.Input((1,))
    net = fnn.Model([i, j], i + j)
    x = [np.zeros((50, 1), "float32"), np.zeros((5, 1), "float32")]
    for run in (net.predict, net.predict_on_batch):
        with pytest.raises(ValueError, match=r"x\[0\] with 50 examples, x\[1\] with 5 examples"):
            run(x)


class Count(fnn.Layer):
    """Returns how often it was called, as its state says."""

    def init(self, key, x):
        return {}, {"calls": jnp.zeros(())}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x * 0 + state["calls"], {"calls": state["calls"] + 1}


def test_no_batch_sees_the_state_that_the_one_before_left():
    net = fnn.Sequential([Count()])
    x = np.zeros((10, 4), "float32")
    np.testing.assert_array_equal(net.predict(x, batch_size=2, verbose=0), x)


@pytest.mark.slow
def test_outputs_that_are_not_one_for_each_example_are_joined_whole():
    x = np.arange(40, dtype="float32").reshape(10, 4)
    mean = fnn.Sequential([Lambda(lambda a: a.mean(0))])
    batches = [x[:4], x[4:8], x[8:]]
    expected = np.concatenate([b.mean(0) for b in batches])
    np.testing.assert_allclose(mean.predict(x, batch_size=4, verbose=0), expected)
    twice = fnn.Sequential([Lambda(lambda a: jnp.concatenate([a, a]))])
    expected = np.concatenate([np.concatenate([b, b]) for b in batches])
    np.testing.assert_array_equal(twice.predict(x, batch_size=4, verbose=0), expected)
    with pytest.raises(ValueError, match="returns a single number for a batch"):
        fnn.Sequential([Lambda(jnp.sum)]).predict(x, verbose=0)


@pytest.mark.slow
def test_a_small_batch_like_the_last_one_is_predicted_from_what_holds_now():
    """It goes straight to the program of the last one, past nothing that may have changed."""
    net = fnn.Sequential([Dense(2, input_shape=(3,))])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    by_numpy = lambda x: x @ net.get_weights()[0] + net.get_weights()[1]
    net.predict(x, verbose=0)
    for batch_size in (None, 4, 3, 32):
        net.set_weights([a + 1 for a in net.get_weights()])
        y = net.predict(x, batch_size, verbose=0)
        np.testing.assert_allclose(y, by_numpy(x), rtol=1e-5, atol=1e-6)
        y[:] = 0  # it is the caller's own
    net.params["dense"]["bias"] = np.float32([5, 6])
    np.testing.assert_allclose(net.predict(x, verbose=0), by_numpy(x), rtol=1e-5, atol=1e-6)
    for wrong, words in ((0, "batch_size"), (2.5, "batch_size")):
        with pytest.raises(ValueError, match=words):
            net.predict(x, wrong, verbose=0)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in row 1"):
        net.predict(x, verbose=0)
    mixing = fnn.Sequential([Lambda(lambda a: a - a.mean(0, keepdims=True), input_shape=(3,))])
    x = np.arange(12, dtype="float32").reshape(4, 3)
    for count in (4, 3, 4, 2):
        expected = x[:count] - x[:count].mean(0)
        np.testing.assert_allclose(mixing.predict(x[:count], verbose=0), expected)


@pytest.mark.parametrize("verb", ["__call__", "predict_on_batch"])
def test_a_batch_like_the_last_one_is_computed_from_what_holds_now(verb):
    """Dispatched before its values are checked, with the weights and the array of that moment."""
    net = fnn.Sequential([Embedding(9, 2, input_shape=(3,)), Lambda(lambda a: a.sum(1)), Dense(2)])
    run = getattr(net, verb)
    x = np.random.default_rng(0).integers(0, 9, (5, 3))
    by_numpy = lambda x: net.get_weights()[0][x].sum(1) @ net.get_weights()[1]
    run(x)
    for _ in range(3):
        net.set_weights([a + 1 for a in net.get_weights()[:2]] + net.get_weights()[2:])
        before = x.copy()
        y = run(x)
        x[:] = (x + 1) % 9  # after the call it is the caller's own again
        np.testing.assert_allclose(y, by_numpy(before), rtol=1e-5)
    x[4, 1] = 9
    with pytest.raises(ValueError, match="from 0 to 8, received 9"):
        run(x)
    x[4, 1] = 0
    with fnn.distribution.DataParallel().scope():
        np.testing.assert_allclose(run(x), by_numpy(x), rtol=1e-5)
    numbers, x = fnn.Sequential([Dense(1, input_shape=(3,))]), np.ones((4, 3), "float32")
    getattr(numbers, verb)(x)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in row 1"):
        getattr(numbers, verb)(x)
    scalar = fnn.Sequential([Lambda(jnp.sum, input_shape=(3,))])
    for _ in range(2):
        assert float(getattr(scalar, verb)(np.ones((2, 3), "float32"))) == 6


@pytest.mark.slow
def test_random_numbers_in_inference_leave_no_trace_of_a_transformation():
    """Each call has its own, also inside of one; afterwards the model is as usable as before."""
    x = np.ones((4, 9), "float32")
    node = fnn.Input((9,))
    net = fnn.Model(node, Dropout(0.5)(node, training=True))
    net(x)
    found = jax.jit(lambda scale: (net(x) * scale, net(scale * x)))(1.0)
    found += jax.vmap(net)(np.stack([x, x]))[0], net(x), net.predict(x, verbose=0)
    draws = {np.asarray(one).tobytes() for one in found}
    assert len(draws) == 5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("strides", [None, 1])
def test_means_of_large_windows_in_half_precision(dtype, strides):
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (1, 32, 32, 2)), dtype)
    layer = AveragePooling2D(32, strides, padding="same" if strides else "valid")
    found = layer.apply({}, {}, x)[0]
    assert found.dtype == dtype
    exact = np.asarray(layer.apply({}, {}, x.astype("float32"))[0])
    # One rounding to the half dtype, of 8 or 11 bits.
    np.testing.assert_allclose(np.asarray(found, "float32"), exact, rtol=2**-8)
    ones = jnp.ones((1, 4096, 1), dtype)
    assert AveragePooling1D(4096).apply({}, {}, ones)[0].item() == 1


@pytest.mark.parametrize(
    ("first", "later"),
    [("int8", np.full((2, 2), 300, "int32")), ("float16", np.full((2, 2), 1e6, "float32"))],
)
def test_a_wider_batch_of_a_stream_does_not_wrap(first, later):
    net = fnn.Sequential([Lambda(lambda a: a * 1)])
    with pytest.raises(ValueError, match=r"batch 1 of the stream is .* and the first was"):
        net.predict(iter([np.ones((2, 2), first), later]), verbose=0)


def test_ids_that_fit_the_first_dtype_are_taken():
    net = fnn.Sequential([fnn.Input((2,), dtype="int32"), Embedding(100, 3)])
    ids = np.array([[1, 2], [3, 99]])
    found = net.predict(iter([ids.astype("int8"), ids.astype("int32")]), verbose=0)
    np.testing.assert_array_equal(found[:2], found[2:])


def test_hooks_of_a_batch_come_before_the_next_batch():
    told = []
    callback = fnn.callbacks.LambdaCallback()
    callback.on_predict_batch_begin = lambda batch, logs=None: told.append(("begin", batch))
    callback.on_predict_batch_end = lambda batch, logs=None: told.append(("end", batch))
    net = fnn.Sequential([Dense(2)])
    net.predict(np.ones((10, 4), "float32"), batch_size=4, verbose=0, callbacks=[callback])
    assert told == [(hook, batch) for batch in range(3) for hook in ("begin", "end")]


@pytest.mark.slow
def test_weights_left_on_a_mesh_predict_plain_arrays():
    mesh = jax.make_mesh((8,), ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
    net = fnn.Sequential([Dense(2, input_shape=(4,))])
    net.compile("sgd", "mse")
    net.train_on_batch(jax.device_put(x[:16], whole), jax.device_put(x[:16, :2], whole))
    kernel, bias = net.get_weights()
    np.testing.assert_allclose(
        net.predict(x, batch_size=8, verbose=0), x @ kernel + bias, atol=1e-6
    )


@pytest.mark.slow
def test_a_stateful_network_has_its_own_batch_size():
    net = fnn.Sequential([fnn.Input(batch_shape=(4, 3, 2)), fnn.layers.GRU(2, stateful=True)])
    x = np.ones((8, 3, 2), "float32")
    with pytest.raises(ValueError, match="keeps states for batches of 4; pass batch_size=4"):
        net.predict(x, batch_size=2, verbose=0)
    assert net.predict(x, batch_size=4, verbose=0).shape == (8, 2)


def test_a_callback_class_is_no_callback():
    with pytest.raises(TypeError, match="expected callbacks, received <class"):
        fnn.Sequential([Dense(1)]).predict(
            np.ones((2, 2), "float32"), verbose=0, callbacks=[fnn.callbacks.Callback]
        )


def test_optimizer_states_lie_as_their_weights():
    mesh = jax.make_mesh((8,), ("model",))
    columns = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "model"))
    net = fnn.Sequential([Dense(8, input_shape=(4,), use_bias=False)])
    net.compile("adam", "mse")
    kernel = jax.device_put(np.ones((4, 8), "float32"), columns)
    divided = {"dense": {"kernel": kernel}}
    net.train_state = net.train_state.replace(params=divided, optimizer=None)
    assert float(net.learning_rate) > 0  # makes the state of the optimizer
    moments = [a for a in jax.tree.leaves(net.train_state.optimizer) if a.shape == (4, 8)]
    assert len(moments) == 2
    assert all(len(a.sharding.device_set) == 8 for a in moments)


@pytest.mark.slow
@pytest.mark.parametrize("work", [0.0, 4e9])
def test_a_last_batch_is_padded_only_where_that_costs_little(work, monkeypatch):
    """One that would be mostly padding, of a network of much work, has a program of its own."""
    monkeypatch.setattr(cost, "WORK_OF_OWN_PROGRAM", work)
    sizes = []

    def look(a):
        sizes.append(len(a))
        return a * 2

    net = fnn.Sequential([Lambda(look), Dense(1)], seed=0)
    x = np.random.default_rng(0).normal(size=(70, 3)).astype("float32")
    y = net(x)  # which runs at its own size
    net.compile(loss="mse")
    sizes.clear()
    np.testing.assert_allclose(net.predict(x, batch_size=32, verbose=0), y, rtol=1e-6)
    predicted = {*sizes}
    sizes.clear()
    assert net.evaluate(x, y, batch_size=32, verbose=0) == pytest.approx(0, abs=1e-9)
    assert (8 in predicted, 8 in sizes) == (work == 0, work == 0)  # the next power of two


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "steps", "size"), [(100, 2, None), (100, 3, None), (70, 2, 16)])
def test_steps_divide_the_examples_as_in_keras(rows, steps, size):
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
    with keras_rules():
        theirs = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        expected = theirs.predict(x, batch_size=size, steps=steps, verbose=0)
        weights = theirs.get_weights()
    ours = fnn.Sequential([fnn.Input((3,)), Dense(2)])
    ours.set_weights(weights)
    found = ours.predict(x, batch_size=size, steps=steps, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_large_arrays_are_made_of_fewer_examples_at_a_time(monkeypatch, capsys):
    model = fnn.Sequential([fnn.Input((4,)), Dense(32, "relu"), Dense(2)])
    x = np.random.default_rng(0).random((300, 4), dtype="float32")
    expected = model.predict(x, batch_size=200)
    capsys.readouterr()
    # 200 rows of 32 floats are 25,600 bytes, so two halves of 100 rows stay below.
    monkeypatch.setattr(inference, "LARGE", 20_000)
    sizes = []
    cut = inference.pieces
    monkeypatch.setattr(
        inference,
        "pieces",
        lambda x, count, size, *rest: sizes.append(size) or cut(x, count, size, *rest),
    )
    np.testing.assert_allclose(model.predict(x, batch_size=200, verbose=1), expected, rtol=1e-6)
    assert sizes == [100]
    assert "2/2" in capsys.readouterr().out
    # The examples of one batch, as of several.
    np.testing.assert_allclose(model.predict(x, batch_size=300), expected, rtol=1e-6)
    assert sizes[1:] == [150]


@pytest.mark.slow
def test_batches_stay_whole_where_someone_looks_at_them(monkeypatch):
    x = np.arange(120, dtype="float32").reshape(60, 2)
    model = fnn.Sequential([fnn.Input((2,)), Lambda(lambda a: a - a.mean(0, keepdims=True))])
    expected = np.concatenate([part - part.mean(0) for part in (x[:40], x[40:])])
    monkeypatch.setattr(inference, "LARGE", 100)
    np.testing.assert_allclose(model.predict(x, batch_size=40), expected, atol=1e-5)

    class Counting(Callback):
        def on_predict_batch_end(self, batch, logs):
            seen.append(logs["outputs"].shape)

    seen = []
    dense = fnn.Sequential([fnn.Input((2,)), Dense(3)])
    dense.predict(x, batch_size=40, callbacks=[Counting()])
    assert seen == [(40, 3), (20, 3)]
