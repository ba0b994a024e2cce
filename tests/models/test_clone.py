"""clone_model, configs and JSON of models, Function: as in Keras, with weights of their own."""

import json

import jax
import numpy as np
import pytest

import fnn
from fnn import layers
from fnn.models import Function, clone_model, model_from_json
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


@pytest.fixture
def keras():
    with keras_rules():
        import keras

        yield keras


def row(package):
    return package.Sequential(
        [package.Input((4,)), package.layers.Dense(3, "relu"), package.layers.Dense(2)]
    )


def graph(package):
    inputs = package.Input((4,), name="given")
    shared = package.layers.Dense(4, "tanh", name="shared")
    summed = package.layers.Add()([shared(inputs), shared(shared(inputs))])
    return package.Model(inputs, [package.layers.Dense(2, name="head")(summed), summed])


def nested(package):
    inputs = package.Input((4,))
    return package.Model(inputs, package.layers.Dense(1, name="top")(row(package)(inputs)))


KINDS = {"row": row, "graph": graph, "nested": nested}


def outputs(model, x=X):
    return [np.asarray(y) for y in jax.tree.leaves(model.predict(x, verbose=0))]


def assert_same(model, theirs):
    """The same outputs from the same weights."""
    model.set_weights([np.asarray(w) for w in theirs.get_weights()])
    for received, expected in zip(outputs(model), outputs(theirs), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_is_equal_with_weights_of_its_own(kind, keras):
    model = KINDS[kind](fnn)
    before = model.get_weights()
    clone = clone_model(model)
    assert type(clone) is type(model)
    assert any((a != b).any() for a, b in zip(before, clone.get_weights(), strict=True))
    clone.set_weights([w + 1 for w in before])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_same(clone, keras.models.clone_model(KINDS[kind](keras)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_makes_the_layers(kind, keras):
    """Dense layers get another activation, in Keras too; `recursive` reaches those inside."""

    def changer(package):
        def change(layer):
            if isinstance(layer, package.layers.Dense):
                config = layer.get_config()
                return type(layer).from_config({**config, "activation": "sigmoid"})
            return type(layer).from_config(layer.get_config())

        return change

    for recursive in (False, True):
        if recursive and kind == "nested":
            continue  # Keras clones the layers inside twice
        arguments = {"clone_function": changer(fnn), "recursive": recursive}
        clone = clone_model(KINDS[kind](fnn), **arguments)
        arguments["clone_function"] = changer(keras)
        assert_same(clone, keras.models.clone_model(KINDS[kind](keras), **arguments))


def test_recursive_clones_reach_the_models_inside():
    def change(layer):
        if isinstance(layer, layers.Dense):
            return layer.replace(use_bias=False)
        return layer

    flat, deep = (clone_model(nested(fnn), None, change, recursive=r) for r in (False, True))
    assert (flat.count_params(), deep.count_params()) == (4 * 3 + 3 + 3 * 2 + 2 + 2, 12 + 6 + 2)


def test_clones_start_from_other_nodes_and_call_as_told(keras):
    def built(package):
        inputs = package.Input((4,))
        calls = []

        def call(layer, *args, **kwargs):
            calls.append(layer.name)
            return layer(*args, **kwargs)

        clone = package.models.clone_model(graph(package), inputs, call_function=call)
        return clone, [name for name in calls if name in ("shared", "head")]

    (ours, our_calls), (theirs, their_calls) = built(fnn), built(keras)
    assert sorted(our_calls) == sorted(their_calls)
    assert_same(ours, theirs)
    inputs = fnn.Input((4,))
    assert clone_model(row(fnn), [inputs]).inputs == [inputs]
    with pytest.raises(TypeError, match="expected a model, received Dense"):
        clone_model(layers.Dense(2))


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_read_as_they_are_written(kind):
    model = KINDS[kind](fnn)
    model.compile(fnn.optimizers.Adam(0.5), "mse", metrics=["mae"])
    again = model_from_json(model.to_json())
    assert type(again) is type(model)
    assert plain(again) == plain(model)
    assert (again.name, again.input_shape) == (model.name, model.input_shape)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert again.to_json(indent=1) == model.to_json(indent=1)
    config = json.loads(json.dumps(model.get_config()))
    assert plain(type(model).from_config(config)) == plain(model)
    described = fnn.saving.serialize_keras_object(model)
    assert plain(fnn.saving.deserialize_keras_object(described)) == plain(model)


def plain(model):
    """The layer of a model without its name."""
    return model.layer.replace(name=None)


@pytest.mark.slow
def test_what_keras_wrote_of_a_row_is_read(keras):
    theirs = row(keras)
    theirs.compile("adam", "mse", metrics=["mae"])
    ours = model_from_json(theirs.to_json())
    assert_same(ours, theirs)
    assert ours.optimizer.name == theirs.optimizer.name
    ours.fit(X, X[:, :2], verbose=0)


def test_models_without_inputs_and_without_compile():
    model = fnn.Sequential([layers.Dense(2)], name="later")
    again = model_from_json(model.to_json())
    assert not again.built
    assert again.name == "later"
    assert model.get_compile_config() is None
    whole = fnn.Model(layers.Dense(2))
    assert fnn.Model.from_config(whole.get_config()).layer == whole.layer
    assert plain(clone_model(whole)) == plain(whole)
    model = fnn.Sequential([layers.Lambda(lambda x: x)])
    with pytest.raises(ValueError, match=r"fnn\.register\(function, 'name'\)"):
        model.to_json()


# -- Function ------------------------------------------------------------------------------------


def test_functions_compute_as_in_keras(keras):
    found = []
    for package in (fnn, keras):
        a, b = package.KerasTensor((None, 4)), package.KerasTensor((None, 4))
        function = package.Function([a, b], {"sum": a + b, "all": [package.ops.sigmoid(a * b)]})
        found.append(function([X, X + 1]))
        assert len(function.inputs) == 2
        assert len(function.outputs) == 2
        with pytest.raises(ValueError, match="input"):
            package.Function([], a)
    assert fnn.tree.assert_same_structure(*found) is None
    for received, expected in zip(*map(fnn.tree.flatten, found), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_a_function_of_a_model_has_its_weights():
    model = graph(fnn)
    inner = Function(model.inputs, model.get_layer("shared").output)
    expected = np.tanh(X @ model.get_weights()[0] + model.get_weights()[1])
    np.testing.assert_allclose(inner(X), expected, rtol=1e-5, atol=1e-6)
    assert [type(layer).__name__ for layer in inner.operations] == ["Dense"]
    assert inner.name == "function"
    np.testing.assert_array_equal(inner(X), inner([X]))
    assert inner(fnn.Input((4,))).shape == (None, 4)
