"""JaxLayer and FlaxLayer against Keras's, and against the functions that they wrap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import FlaxLayer, JaxLayer
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = X[:, :1] * 2
W = np.random.default_rng(1).normal(size=(4, 1)).astype("float32")


def linear(params, inputs):
    return inputs @ params["w"] + params["b"][None]


def start(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1], 1)), "b": jnp.zeros(1)}


def counting(params, state, rng, inputs, training):
    """Weights in a tuple, a state that counts, noise in training."""
    scale, (offset,) = params
    noise = jax.random.normal(rng, inputs.shape) if training else 0.0
    return inputs * scale + offset[None] + noise, [state[0] + 1]


def start_counting(rng, inputs, training):
    return (jnp.full((), 2.0), [jnp.ones(inputs.shape[-1])]), [jnp.zeros(())]


def test_a_function_with_weights_trains_as_in_keras():
    with keras_rules():
        import keras

        layer = keras.layers.JaxLayer(linear, params={"w": W, "b": np.zeros(1, "float32")})
        theirs = keras.Sequential([keras.Input((4,)), layer])
        theirs.compile("sgd", "mse")
        theirs.fit(X, Y, epochs=3, batch_size=6, verbose=0)
        expected = theirs.predict(X, verbose=0)
    layer = JaxLayer(linear, params={"w": W, "b": np.zeros(1, "float32")})
    ours = fnn.Sequential([fnn.Input((4,)), layer])
    ours.compile("sgd", "mse")
    ours.fit(X, Y, epochs=3, batch_size=6, verbose=0)
    np.testing.assert_allclose(ours.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    assert sorted(ours.params["jax_layer"]) == ["b", "w"]


def test_weights_are_made_by_the_function():
    model = fnn.Sequential([fnn.Input((4,)), JaxLayer(linear, start)], seed=0)
    w, b = model.params["jax_layer"]["w"], model.params["jax_layer"]["b"]
    np.testing.assert_allclose(
        model.predict(X, verbose=0), X @ np.asarray(w) + np.asarray(b), rtol=1e-5
    )


@pytest.mark.slow
def test_any_pytrees_state_and_noise():
    layer = JaxLayer(counting, start_counting)
    params, state = layer.init(jax.random.key(0), X)
    outputs, after = layer.apply(params, state, X)
    np.testing.assert_allclose(outputs, X * 2 + 1, rtol=1e-6)
    assert jax.tree.leaves(after) == [1.0]
    ctx = fnn.Context(train=True, key=jax.random.key(1))
    noisy, _ = layer.apply(params, state, X, ctx)
    again, _ = layer.apply(params, state, X, ctx)
    assert (noisy != outputs).any()
    np.testing.assert_array_equal(noisy, again)
    model = fnn.Sequential([fnn.Input((4,)), layer], seed=0)
    model.compile("sgd", "mse")
    model.fit(X, X, batch_size=3, epochs=2, verbose=0)
    assert jax.tree.leaves(model.state) == [4.0]


def test_given_weights_with_a_state():
    layer = JaxLayer(
        lambda state, inputs: (inputs + state["n"], {"n": state["n"] + 1}),
        state={"n": np.float32(5)},
    )
    params, state = layer.init(jax.random.key(0), X)
    assert params == {}
    outputs, state = layer.apply(params, state, X)
    np.testing.assert_allclose(outputs, X + 5, rtol=1e-6)
    assert float(state["n"]) == 6


def test_wrong_functions():
    with pytest.raises(ValueError, match=r"received a function of x; wrap it in a function"):
        JaxLayer(lambda x: x)
    with pytest.raises(ValueError, match=r"expected init_fn to be a function of inputs"):
        JaxLayer(linear, lambda key: {})
    with pytest.raises(ValueError, match=r"expected init_fn, params or state, since call_fn"):
        JaxLayer(linear)
    assert JaxLayer(lambda inputs: 2 * inputs).apply({}, {}, X)[0].tolist() == (2 * X).tolist()


def test_layers_with_given_weights_are_equal_to_themselves_alone():
    layer, other = (JaxLayer(linear, params={"w": W}) for _ in range(2))
    assert layer == layer
    assert layer != other
    assert JaxLayer(linear, start) == JaxLayer(linear, start)


def test_registered_functions_are_saved(tmp_path):
    fnn.register(linear, "linear_of_the_test")
    fnn.register(start, "start_of_the_test")
    model = fnn.Sequential([fnn.Input((4,)), JaxLayer(linear, start)], seed=0)
    model.save(tmp_path / "jax.fnn")
    again = fnn.load(tmp_path / "jax.fnn")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


# -- Flax ----------------------------------------------------------------------------------------


@pytest.fixture
def net():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, inputs, training=False):
            x = linen.Dense(5)(inputs)
            x = linen.BatchNorm(use_running_average=not training)(x)
            x = linen.Dropout(0.5, deterministic=not training)(x)
            return linen.Dense(1)(x)

        def doubled(self, inputs):
            return 2 * self(inputs)

    return Net()


def test_a_module_of_flax(net):
    layer = FlaxLayer(net)
    params, state = layer.init(jax.random.key(0), X)
    assert sorted(params) == ["BatchNorm_0", "Dense_0", "Dense_1"]
    variables = {"params": params, **state}
    outputs, after = layer.apply(params, state, X)
    np.testing.assert_allclose(outputs, net.apply(variables, X), rtol=1e-6)
    ctx = fnn.Context(train=True, key=jax.random.key(1))
    outputs, after = layer.apply(params, state, X, ctx)
    rngs = {"dropout": ctx.random_key("dropout")}
    expected, changed = net.apply(variables, X, training=True, rngs=rngs, mutable=["batch_stats"])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(dict(changed)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_module_of_flax_trains_and_takes_weights(net):
    variables = net.init(jax.random.key(3), X)
    model = fnn.Sequential([fnn.Input((4,)), FlaxLayer(net, variables=variables)], seed=0)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), net.apply(variables, X), rtol=1e-5, atol=1e-6
    )
    model.compile("adam", "mse")
    first = model.evaluate(X, Y, verbose=0)
    model.fit(X, Y, epochs=20, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < first


def test_methods_of_a_module(net):
    variables = net.init(jax.random.key(3), X)
    expected = 2 * net.apply(variables, X)
    for method in ("doubled", type(net).doubled, lambda module, inputs: 2 * module(inputs)):
        layer = FlaxLayer(net, method, variables)
        outputs, _ = layer.apply(*layer.init(jax.random.key(0), X), X)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="to be a module of Flax, with init and apply"):
        FlaxLayer(3)


# -- Equinox -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_module_of_equinox():
    """Its arrays as params, the rest in the function."""
    equinox = pytest.importorskip("equinox")
    arrays, static = equinox.partition(
        equinox.nn.Linear(4, 1, key=jax.random.key(0)), equinox.is_array
    )

    def call(params, inputs):
        return jax.vmap(equinox.combine(params, static))(inputs)

    model = fnn.Sequential([fnn.Input((4,)), JaxLayer(call, params=arrays)])
    linear_module = equinox.combine(arrays, static)
    expected = jax.vmap(linear_module)(X)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
