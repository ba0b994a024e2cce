"""Model and Sequential as objects: what they keep of their layer, copies, calls, weights."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import Dense, Embedding
from fnn.training import fit

X = np.arange(8, dtype="float32").reshape(2, 4)


def row(**fields):
    return fnn.layers.Sequential([Dense(3), Dense(1)], **fields)


def network(**fields):
    return fnn.Sequential(row(input_shape=(4,), **fields), seed=0)


# -- the layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"name": "enc"}, {"trainable": False}, {"dtype": "bfloat16"}], ids=str
)
def test_a_sequential_is_the_layer_that_it_is_given(fields, tmp_path):
    model = network(**fields)
    assert model.layer == row(input_shape=(4,), **fields)
    assert (model.name, model.built) == (fields.get("name", "sequential"), True)
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert (again.layer, again.name) == (model.layer, model.name)
    again.pop()
    again.add(Dense(2))
    assert again.layer == model.layer.replace(layers=(Dense(3), Dense(2)))


@pytest.mark.slow
def test_a_model_stays_frozen_when_it_grows():
    model = network()
    model.trainable = False
    model.add(Dense(2))
    assert not model.trainable
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, np.ones((2, 2)), verbose=0)
    jax.tree.map(np.testing.assert_array_equal, before, model.get_weights())


def test_what_is_no_layer_leaves_the_model_as_it_was():
    model = network()
    before = model.get_weights()
    with pytest.raises(TypeError, match="a layer at position 2, received 'dense'"):
        model.add("dense")
    jax.tree.map(np.testing.assert_array_equal, before, model.get_weights())


def test_a_model_among_the_layers_brings_its_inputs_and_weights():
    inner = fnn.Sequential([Embedding(5, 3, input_shape=(2,))], seed=0)
    outer = fnn.Sequential([inner], seed=1)
    outer.add(Dense(1))
    assert outer.input_shape == (None, 2)
    same = outer.params["sequential"]["embedding"]["embeddings"]
    np.testing.assert_array_equal(same, inner.get_weights()[0])
    assert fnn.Model(inner).input_shape == (None, 2)


# -- copies --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_copy_is_by_itself():
    model = network()
    model.compile("adam", "mse")
    other = copy.deepcopy(model)
    before = model.get_weights()
    other.fit(X, np.ones((2, 1)), verbose=0)
    jax.tree.map(np.testing.assert_array_equal, before, model.get_weights())
    assert not np.array_equal(before[0], other.get_weights()[0])
    user = fnn.Sequential([other, Dense(1)], seed=0)
    np.testing.assert_array_equal(
        user.params["sequential"]["dense"]["kernel"], other.params["dense"]["kernel"]
    )


def test_loading_draws_no_weights(tmp_path, monkeypatch):
    model = network()
    model.save(tmp_path / "model.fnn")
    monkeypatch.setattr(fnn.models.laid_out, "initialize", None)
    again = fnn.load(tmp_path / "model.fnn")
    jax.tree.map(np.testing.assert_array_equal, again.get_weights(), model.get_weights())


# -- calls ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_call_goes_through_the_transformations_of_jax():
    model = network()
    expected = model(X)
    np.testing.assert_allclose(jax.jit(model)(X), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: model(x[None])[0])(X), expected, rtol=1e-6)
    slope = jax.grad(lambda x: model(x).sum())(jnp.asarray(X))
    product = model.params["dense"]["kernel"] @ model.params["dense_1"]["kernel"]
    np.testing.assert_allclose(slope, np.broadcast_to(product[:, 0], (2, 4)), rtol=1e-6)


def test_a_model_is_built_under_jit_as_outside():
    first, second = (fnn.Sequential([Dense(3)], seed=0) for _ in range(2))
    np.testing.assert_allclose(jax.jit(first)(X), second(X), rtol=1e-6)
    for inside, outside in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-6)  # another program: it may round
    assert not isinstance(first.train_state.key, jax.core.Tracer)


@pytest.mark.slow
def test_a_state_that_is_traced_is_not_kept():
    x = fnn.Input(batch_shape=(2, 3, 4))
    model = fnn.Model(x, fnn.layers.LSTM(2, stateful=True)(x), seed=0)
    once = np.asarray(jax.jit(model)(np.ones((2, 3, 4))))
    np.testing.assert_allclose(model(np.ones((2, 3, 4))), once, rtol=1e-6)  # from zeros, again
    assert not np.allclose(model(np.ones((2, 3, 4))), once)


def test_a_call_takes_what_predict_takes():
    model = network()
    np.testing.assert_allclose(model(X.tolist()), model.predict(X.tolist(), verbose=0), rtol=1e-6)
    with pytest.raises(ValueError, match="received NaN in row 1"):
        model([[1, 2, 3, 4], [1, 2, 3, np.nan]])
    both = fnn.Model(fnn.layers.Concatenate())
    assert both([X, X]).shape == both(X, X).shape == (2, 8)


def test_no_rows_are_an_array_of_none_without_its_mask():
    model = fnn.Sequential([Embedding(5, 3, mask_zero=True, input_shape=(2,))], seed=0)
    outputs = model.predict(np.zeros((0, 2), "int32"), verbose=0)
    assert (type(outputs), outputs.shape) == (np.ndarray, (0, 2, 3))


@pytest.mark.slow
def test_compiling_keeps_what_was_given_then():
    model, metrics = network(), ["mae"]
    model.compile("sgd", "mse", metrics=metrics)
    metrics.append("cosine_similarity")
    assert list(model.evaluate(X, np.ones((2, 1)), return_dict=True, verbose=0)) == ["loss", "mae"]


# -- weights -------------------------------------------------------------------------------------


def on_host(array):
    """A copy in memory that JAX would use as it is, by its alignment."""
    memory = np.empty(array.nbytes + 64, "uint8")
    start = -memory.ctypes.data % 64
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[:] = array
    return copied


@pytest.mark.parametrize("part", ["params", "state"])
def test_what_is_assigned_does_not_change_with_the_memory_it_came_from(part):
    model = fnn.Sequential([fnn.layers.BatchNormalization(input_shape=(1000,))], seed=0)
    host = jax.tree.map(on_host, getattr(model, part))
    setattr(model, part, host)
    for leaf in jax.tree.leaves(host):
        leaf[:] = 7
    assert not any((a == 7).any() for a in model.get_weights())


@pytest.mark.slow
def test_a_training_does_not_change_with_the_memory_it_started_from():

    host = on_host(np.zeros(1000, "float32"))

    class Spoil(fnn.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            host[:] = 7

    step = lambda w, batch, key: (w, {"loss": w.sum() + 0 * batch.sum()})
    w, _ = fit(step, host, np.ones(64, "float32"), callbacks=[Spoil()], verbose=0)
    assert not np.any(w)
    step = lambda s, batch, key: (s, {"loss": jax.random.uniform(s["key"]) + 0 * batch.sum()})
    fit(step, {"key": jax.random.key(0), "n": 1}, np.ones(64, "float32"), verbose=0)


def test_counting_weights_moves_none(monkeypatch):
    model = network()
    assert model.params  # for which the network is traced
    monkeypatch.setattr(np, "asarray", None)
    assert model.count_params() == 4 * 3 + 3 + 3 + 1


def test_a_model_of_one_input_takes_it_in_a_list_too():
    x = fnn.Input((4,), name="rows")
    net = fnn.Model([x], Dense(1)(x))
    assert net.predict(np.ones((3, 4)), verbose=0).shape == (3, 1)
    one = fnn.Model(x, Dense(1)(x))
    assert one.predict({"rows": np.ones((3, 4))}, verbose=0).shape == (3, 1)
    with pytest.raises(ValueError, match=r"a dict with 'rows', received a dict with \['foo'\]"):
        one.predict({"foo": np.ones((3, 4))}, verbose=0)
    with pytest.raises(ValueError, match=r"expected one array as input, received a dict"):
        fnn.Sequential([Dense(1, input_shape=(4,))]).predict({"foo": np.ones((3, 4))}, verbose=0)


def test_ids_are_checked_in_streams_too():
    net = fnn.Sequential([fnn.layers.Embedding(5, 2, input_shape=(3,))])
    with pytest.raises(ValueError, match="received"):
        net.predict(iter([np.full((2, 3), 7)]), verbose=0)
    with pytest.raises(ValueError, match="expected steps as an integer of at least 1"):
        net.predict(np.zeros((2, 3), int), steps=0, verbose=0)


def test_what_a_call_was_given_may_change_at_once():
    net = fnn.Sequential([Dense(1, kernel_initializer="ones", input_shape=(512,))])
    for _ in range(5):
        x = np.ones((2048, 512), "float32")
        found = net(x)
        x[:] = 0
        np.testing.assert_array_equal(np.asarray(found), np.full((2048, 1), 512.0))


def test_a_model_without_weights_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="has no weights yet"):
        fnn.Sequential([Dense(1)]).save(tmp_path / "a.fnn")


@pytest.mark.slow
def test_results_of_a_dict_of_outputs_come_in_the_order_of_keras():
    import keras

    from tests.helpers.oracle import keras_rules

    names = []
    for library in (fnn, keras):
        x = library.Input((4,))
        outputs = {name: library.layers.Dense(1, name=name)(x) for name in ("zz", "aa")}
        with keras_rules():
            net = library.Model(x, outputs)
            net.compile("sgd", {"zz": "mse", "aa": "mae"}, metrics={"aa": ["mse"], "zz": ["mae"]})
            y = {"zz": np.ones((2, 1)), "aa": np.zeros((2, 1))}
            net.set_weights([np.full(w.shape, 0.1) for w in net.get_weights()])
            names.append(net.evaluate(X, y, verbose=0))
    np.testing.assert_allclose(*names, rtol=1e-6)
