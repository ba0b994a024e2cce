"""What Keras lets one ask a model and its layers: nodes, weights of a layer, what learns."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.combining import Flow
from fnn.layers import LSTM, Add, BatchNormalization, Dense, Dropout, Residual
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


def row():
    return fnn.Sequential(
        [Dense(6, "relu", name="first", input_shape=(4,)), BatchNormalization(), Dense(2)], seed=0
    )


def branches():
    x = fnn.Input((4,))
    a, b = Dense(3, name="a")(x), Dense(3, name="b")(x)
    both = Add(name="both")([a, b])
    return fnn.Model(x, {"sum": both, "end": Dense(1, name="end")(both)}, seed=1)


@pytest.mark.slow
def test_a_model_ends_at_any_layer_with_the_weights_of_the_whole():
    model = row()
    features = fnn.Model(model.inputs, model.get_layer("first").output)
    expected = np.maximum(X @ model.get_weights()[0] + model.get_weights()[1], 0)
    np.testing.assert_allclose(features.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    model.compile("sgd", "mse")
    model.fit(X, X[:, :2], epochs=2, verbose=0)
    trained = np.maximum(X @ model.get_weights()[0] + model.get_weights()[1], 0)
    assert abs(trained - expected).max() > 1e-4
    np.testing.assert_allclose(features.predict(X, verbose=0), trained, rtol=1e-5, atol=1e-6)


def test_several_nodes_of_one_model_share_what_leads_to_them():
    model = row()
    outputs = [layer.output for layer in model.layers]
    every = fnn.Model(model.input, outputs)
    assert [layer for _, layer in every.layer.children()] == model.layers
    last = every.predict(X, verbose=0)[-1]
    np.testing.assert_array_equal(last, model.predict(X, verbose=0))


def test_nodes_of_a_graph_go_on_as_those_of_keras():
    ours = branches()
    with keras_rules():
        import keras

        x = keras.Input((4,))
        a, b = keras.layers.Dense(3, name="a")(x), keras.layers.Dense(3, name="b")(x)
        both = keras.layers.Add(name="both")([a, b])
        theirs = keras.Model(x, {"sum": both, "end": keras.layers.Dense(1, name="end")(both)})
        theirs.set_weights(ours.get_weights())
        middle = keras.Model(theirs.input, theirs.get_layer("b").output)
        expected = middle.predict(X, verbose=0)
        shapes = [tuple(node.shape) for node in theirs.outputs]
    found = fnn.Model(ours.input, ours.get_layer("b").output)
    np.testing.assert_allclose(found.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert sorted(node.shape for node in ours.outputs) == sorted(shapes)
    assert ours.get_layer("both").input[1].shape == (None, 3)
    assert [node.shape for node in ours.inputs] == [(None, 4)]


@pytest.mark.slow
def test_layers_of_several_outputs_and_models_inside_have_nodes():
    x = fnn.Input((5, 3))
    y, h, _ = LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    inner = fnn.Sequential([Dense(2, name="deep", input_shape=(4,))], name="inner")
    model = fnn.Model(x, [inner(h), y])
    assert [node.shape for node in model.get_layer("lstm").output] == [
        (None, 5, 4),
        *[(None, 4)] * 2,
    ]
    assert model.get_layer("inner").output.shape == (None, 2)
    assert inner.get_layer("deep").output.shape == (None, 2)
    states = fnn.Model(model.input, model.get_layer("lstm").output[1])
    data = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")
    whole = inner.predict(states.predict(data, verbose=0), verbose=0)
    np.testing.assert_allclose(whole, model.predict(data, verbose=0)[0], rtol=1e-5, atol=1e-6)


def test_a_model_of_any_layer_has_inputs_and_outputs():
    model = fnn.Model(Residual(Dense(4, input_shape=(4,))))
    model.build((None, 4))
    assert model.output.shape == (None, 4)
    assert fnn.Model(model.input, model.output).output_shape == (None, 4)


def test_nodes_follow_a_model_that_grows():
    model = fnn.Sequential([Dense(3, input_shape=(4,))])
    assert model.output.shape == (None, 3)
    model.add(Dense(2))
    assert model.output.shape == (None, 2)
    with pytest.raises(ValueError, match="inputs of the model 'sequential' is not known yet"):
        _ = fnn.Sequential([Dense(3)]).output


def test_a_layer_of_a_model_reads_and_writes_its_weights():
    model = row()
    first, norm, last = model.layers
    np.testing.assert_array_equal(first.get_weights()[0], model.params["first"]["kernel"])
    assert [a.shape for a in norm.get_weights()] == [(6,)] * 4
    before = last.get_weights()
    first.set_weights([np.ones((4, 6)), np.zeros(6)])
    assert float(model.params["first"]["kernel"].sum()) == 24
    for a, b in zip(last.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.count_params() == 30
    with pytest.raises(ValueError, match=r"first/kernel: expected \(4, 6\), received \(2, 2\)"):
        first.set_weights([np.ones((2, 2)), np.zeros(6)])


def test_a_layer_has_lists_of_its_weights_and_each_by_name():
    model = row()
    first, norm, last = model.layers
    assert first.built
    assert first.kernel is first.weights[0] is model.weights[0]
    assert [w.shape for w in norm.trainable_variables] == [(6,), (6,)]
    assert [w.shape for w in norm.non_trainable_weights] == [(6,), (6,)]
    first.kernel.assign(np.ones((4, 6)))
    assert float(model.params["first"]["kernel"].sum()) == 24
    last.trainable = False
    assert (last.trainable_weights, len(last.non_trainable_variables)) == ([], 2)


def test_a_layer_without_weights_has_none_and_is_not_built():
    layer = Dense(3, kernel_regularizer="l2")
    assert (layer.built, layer.weights, layer.losses) == (False, [], [])
    layer(np.ones((1, 2)))
    kernel = np.asarray(layer.kernel)
    assert layer.built
    np.testing.assert_allclose(layer.losses, [0.01 * (kernel**2).sum()], rtol=1e-6)


def test_a_layer_in_no_model_says_so():
    with pytest.raises(
        AttributeError, match="'Dense' object has no attribute 'output': the layer is in"
    ):
        _ = Dense(3).output
    with pytest.raises(AttributeError, match=r"'Dense' object has no attribute 'nonsense'$"):
        _ = Dense(3).nonsense
    with pytest.raises(AttributeError, match=r"'kernel': the layer has no weights yet; call it"):
        _ = Dense(3).kernel
    inside = fnn.Sequential([Residual(Dense(4, input_shape=(4,)))])
    with pytest.raises(AttributeError, match=r"directly inside 'sequential', received Dense"):
        _ = inside.layers[0].children()[0][1].output


def test_a_layer_is_copied_with_its_weights_and_without_its_model():
    model = row()
    copy = pickle.loads(pickle.dumps(model.layers[0]))
    assert copy == model.layers[0] == Dense(6, "relu", name="first", input_shape=(4,))
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel + 1, bias])
    np.testing.assert_array_equal(copy.get_weights()[0], kernel)
    assert copy.output is not model.layers[0].output
    params, state = copy.init(jax.random.key(0), jnp.ones((1, 4)))
    assert copy.apply(params, state, jnp.ones((1, 4)))[0].shape == (1, 6)


@pytest.mark.parametrize("way", ["pickle", "file"])
def test_a_copy_of_a_model_has_nodes_and_layers_of_its_own(way, tmp_path):
    model = row()
    model.output  # noqa: B018 - they are kept
    if way == "pickle":
        copy = pickle.loads(pickle.dumps(model))
    else:
        model.save(tmp_path / "model.fnn")
        copy = fnn.load(tmp_path / "model.fnn")
    twin = fnn.Model(copy.input, copy.get_layer("first").output)
    copy.get_layer("first").set_weights([np.zeros((4, 6)), np.ones(6)])
    np.testing.assert_array_equal(twin.predict(X, verbose=0), np.ones((8, 6)))
    assert abs(model.get_weights()[0]).max() > 0


class Broken(fnn.Layer):
    """Asks an array for what it has not."""

    @property
    def width(self):
        return self.no_such_field

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x.no_such_attribute, state


def test_an_attribute_error_of_ones_own_is_the_one_that_is_seen():
    with pytest.raises(AttributeError, match="'Broken' object has no attribute 'no_such_field'"):
        _ = Broken().width
    model = fnn.Model(Broken())
    with pytest.raises(AttributeError, match="no_such_attribute"):
        model.build((None, 4))
        _ = model.output_shape


class Sides(Flow):
    """The sum of what layers by name make of the inputs."""

    sides: dict

    def children(self):
        return tuple(self.sides.as_dict().items())

    def flow(self, x, visit):
        left, right = (visit(name, layer, x) for name, layer in self.children())
        return visit("add", Add(), (left, right))


def test_layers_in_a_dict_are_taken_apart_too():
    network = Sides({"left": Dense(2), "right": Dense(2)})
    one, other = fnn.Model(network, seed=1), fnn.Model(network, seed=2)
    for model in (one, other):
        model.build((None, 4))
    one.get_layer("left").set_weights([np.ones((4, 2)), np.zeros(2)])
    assert float(one.params["left"]["kernel"].sum()) == 8
    assert abs(other.params["left"]["kernel"] - 1).max() > 1e-3


def test_weights_are_split_as_in_keras():
    model = row()
    with keras_rules():
        import keras

        theirs = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(6),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(2),
            ]
        )
        for frozen in (False, True):
            theirs.layers[0].trainable = not frozen
            expected = [
                [tuple(w.shape) for w in weights]
                for weights in (theirs.trainable_weights, theirs.non_trainable_weights)
            ]
            if frozen:
                model.freeze("first")
            found = [model.trainable_weights, model.non_trainable_weights]
            assert [sorted(a.shape for a in part) for part in found] == list(map(sorted, expected))
    assert [a.shape for a in model.weights] == [a.shape for a in model.get_weights()]


@pytest.mark.slow
def test_frozen_layers_keep_their_weights_and_others_learn_as_in_keras():
    model = fnn.Sequential([Dense(5, "tanh", input_shape=(4,)), Dropout(0.0), Dense(2)], seed=3)
    start = model.get_weights()
    model.freeze(*model.layers[:-1])
    model.compile(fnn.optimizers.SGD(0.1), "mse")
    model.fit(X, X[:, :2], batch_size=8, epochs=3, shuffle=False, verbose=0)
    with keras_rules():
        import keras

        theirs = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)]
        )
        theirs.set_weights(start)
        theirs.layers[0].trainable = False
        theirs.compile(keras.optimizers.SGD(0.1), "mse")
        theirs.fit(X, X[:, :2], batch_size=8, epochs=3, shuffle=False, verbose=0)
        expected = theirs.get_weights()
    for a, b, old in zip(model.get_weights(), expected, start, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert (a.shape[-1] == 2) == bool(np.abs(a - old).max() > 1e-4)
    model.unfreeze("dense")
    model.compile(fnn.optimizers.SGD(0.1), "mse")
    model.fit(X, X[:, :2], epochs=1, verbose=0)
    assert np.abs(model.get_weights()[0] - start[0]).max() > 1e-5
    model.layers[0].set_weights(start[:2])  # still the layer of this model
    np.testing.assert_array_equal(model.get_weights()[0], start[0])


def test_freezing_what_is_not_there_is_an_error():
    model = row()
    with pytest.raises(
        ValueError, match=r"expected layers of 'sequential', received Dense\(units="
    ):
        model.freeze(Dense(6))
    with pytest.raises(ValueError, match="expected one of the 3 layers"):
        model.freeze("second")
    assert model.layers[0].trainable


def test_a_model_of_a_pure_network_has_layers_and_weights_of_its_own():
    network = branches().layer
    one, other = fnn.Model(network, seed=5), fnn.Model(network, seed=6)
    for model in (one, other):
        model.build((None, 4))
    before = other.get_weights()
    assert abs(one.get_weights()[0] - before[0]).max() > 1e-3
    one.get_layer("a").set_weights([np.ones((4, 3)), np.zeros(3)])
    assert float(one.params["a"]["kernel"].sum()) == 12
    for a, b in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.layer == network
    row = fnn.networks.mlp([3], 2)
    alike = [fnn.Sequential(row), fnn.Sequential(row)]
    for model in alike:
        model.build((None, 4))
    alike[0].layers[1].set_weights([np.ones((4, 3)), np.zeros(3)])
    assert abs(alike[1].layers[1].get_weights()[0] - 1).max() > 1e-3


def test_a_model_called_on_arrays_runs_as_in_inference():
    model = row()
    np.testing.assert_array_equal(model(X, training=False), model(X))
    with pytest.raises(ValueError, match="expected a mask of the first axes"):
        model(X, mask=np.ones((8, 4), bool))


@pytest.mark.slow
def test_targets_of_an_output_without_a_loss_may_be_left_out():
    model = branches()
    model.compile("sgd", loss={"sum": "mse"})
    history = model.fit(X, {"sum": X[:, :3]}, verbose=0).history
    assert list(history) == ["loss"]
    model.compile("sgd", loss={"sum": "mse", "end": "mse"})
    with pytest.raises(ValueError, match="expected targets for the output 'end', since it has the"):
        model.fit(X, {"sum": X[:, :3]}, verbose=0)
    with pytest.raises(ValueError, match="expected y by the names of the outputs"):
        model.fit(X, {"sum": X[:, :3], "other": X}, verbose=0)
