"""InputLayer, KerasTensor, RematScope and remat."""

import jax
import numpy as np
import pytest

import fnn
from fnn import layers
from fnn.symbolic.rematerializing import MODES
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


@pytest.mark.slow
def test_input_layers_start_models_as_in_keras(keras):
    for named in ({"shape": (4,)}, {"batch_shape": (None, 4)}, {"shape": (4,), "batch_size": 5}):
        models = []
        for package in (fnn, keras):
            start = package.layers.InputLayer(**named, dtype="float32", name="start")
            row = package.Sequential([start, package.layers.Dense(2)])
            node = package.layers.InputLayer(**named).output
            graph = package.Model(node, package.layers.Dense(2)(node))
            assert row.input_shape == graph.input_shape
            models.append((row, graph))
        for ours, theirs in zip(*models, strict=True):
            assert ours.input_shape == theirs.input_shape
            ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
            expected = theirs.predict(X, batch_size=5, verbose=0)
            received = ours.predict(X, batch_size=5, verbose=0)
            np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_an_input_layer_is_a_value(keras):
    layer = layers.InputLayer((4,), name="start")
    assert layer == layers.InputLayer(shape=[4], name="start")
    assert layer.output is layer.output
    assert (layer.output.name, layer.output.dtype) == ("start", "float32")
    described = layers.serialize(layer)
    assert layers.deserialize(described) == layer
    theirs = keras.layers.serialize(keras.layers.InputLayer((4,), name="start"))
    assert layers.deserialize(theirs).output.shape == (None, 4)
    assert layers.InputLayer(input_shape=(4,)).output.shape == (None, 4)
    with pytest.raises(ValueError, match="Input: expected shape to be a tuple"):
        layers.InputLayer()
    model = fnn.Sequential()
    model.add(layer)
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)


def test_keras_tensors_are_nodes(keras):
    for package in (fnn, keras):
        tensor = package.KerasTensor((2, None, 3), "int32", name="given")
        assert (tensor.shape, str(tensor.dtype), tensor.name) == ((2, None, 3), "int32", "given")
        assert isinstance(package.Input((3,)), package.KerasTensor)
        assert isinstance(package.layers.Dense(2)(package.Input((3,))), package.KerasTensor)
        assert not isinstance(X, package.KerasTensor)
        layer = package.layers.Dense(2)
        assert isinstance(layer, package.Operation)
        assert package.utils.get_source_inputs(layer(tensor)) == [tensor]


# -- remat ---------------------------------------------------------------------------------------


def network(scope):
    """A graph whose layers are called in a scope."""
    inputs = fnn.Input((4,))
    with scope:
        y = layers.Dense(8, "tanh", name="first")(inputs)
        y = layers.Dense(2, name="second")(y)
    return fnn.Model(inputs, y, seed=0)


RECOMPUTED = [
    ({}, ["first", "second"]), ({"mode": "activations"}, ["first"]), ({"mode": None}, []),
    ({"mode": "larger_than", "output_size_threshold": 4}, ["first"]),
    ({"mode": "list_of_layers", "layer_names": ["second"]}, ["second"]),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("named", "expected"), RECOMPUTED, ids=str)
def test_scopes_choose_the_layers_that_recompute(named, expected):
    model = network(fnn.RematScope(**named))
    plain = network(fnn.RematScope(None))
    found = [name for name, layer, _ in model.layer.steps if isinstance(layer, layers.Remat)]
    assert found == expected
    np.testing.assert_array_equal(model.predict(X, verbose=0), plain.predict(X, verbose=0))

    def loss(layer, params):
        return layer.apply(params, {}, X)[0].sum()

    text = str(jax.make_jaxpr(jax.grad(lambda p: loss(model.layer, p)))(model.params))
    assert text.count("prevent_cse") == len(expected)
    a, b = (jax.grad(lambda p, m=m: loss(m.layer, p))(plain.params) for m in (model, plain))
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_innermost_scope_counts(keras):
    inputs = fnn.Input((4,))
    with fnn.RematScope("full"), fnn.RematScope(None):
        plain = layers.Dense(2)(inputs)
    assert not isinstance(plain.layer, layers.Remat)
    assert not isinstance(layers.Dense(2)(inputs).layer, layers.Remat)
    for package in (fnn, keras):
        with pytest.raises(ValueError, match="mode"):
            package.RematScope("some")
        for mode in MODES:
            assert package.RematScope(mode).mode == mode


def test_remat_of_functions_and_layers(keras):
    def f(x):
        return jax.numpy.sin(x) ** 2

    for package in (fnn, keras):
        assert jax.grad(package.remat(f))(0.5) == pytest.approx(float(jax.grad(f)(0.5)))
    assert fnn.remat(layers.Dense(2)) == layers.Remat(layers.Dense(2))
