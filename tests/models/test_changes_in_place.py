"""Layers that are changed after construction, against Keras: frozen ones, activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import LSTM, Bidirectional, Dense, Dropout, Input, Residual
from fnn.layers import Sequential as Row
from tests.helpers.both_libraries import check, fill

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def network(k):
    layers = k.layers
    return fill(
        k.Sequential(
            [k.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2, activation="softmax")]
        )
    )


def trained(k, model, targets=X[:, :2]):
    model.compile(k.optimizers.SGD(0.1), "mse")
    model.fit(X, targets, verbose=0, batch_size=6)
    return model.get_weights()


@pytest.mark.slow
def test_frozen_layers_of_a_model_stay_as_they_are():
    def program(k):
        model = network(k)
        model.layers[0].trainable = False
        first = [layer.trainable for layer in model.layers], trained(k, model)
        model.layers[0].trainable = True
        return first, trained(k, model), len(model.trainable_weights)

    check(program)


@pytest.mark.slow
def test_a_layer_is_frozen_before_it_is_in_a_model():
    def program(k):
        hidden, x = k.layers.Dense(3), k.Input((3,))
        hidden.trainable = False
        node = hidden(x)
        model = fill(k.Model(x, k.layers.Dense(2)(node)))
        first = trained(k, model)
        hidden.trainable = True
        return first, trained(k, model)

    check(program)


@pytest.mark.slow
def test_fine_tuning_in_keras_words():
    def program(k):
        base = network(k)
        base.trainable = False
        x = k.Input((3,))
        whole = fill(k.Model(x, k.layers.Dense(1)(base(x))), 0.3)
        counts = [len(whole.trainable_weights), len(base.trainable_weights)]
        first = trained(k, whole, X[:, :1])
        base.trainable = True
        for layer in base.layers[:-1]:
            layer.trainable = False
        counts += [len(whole.trainable_weights), len(base.trainable_weights)]
        second = trained(k, whole, X[:, :1])
        whole.trainable = False
        inside = [base.trainable, *(layer.trainable for layer in base.layers)]
        whole.trainable = True
        inside += [base.trainable, *(layer.trainable for layer in base.layers)]
        return first, counts, second, inside, len(whole.trainable_weights)

    check(program)


@pytest.mark.slow
def test_the_last_activation_is_taken_off_as_for_grad_cam():
    def program(k):
        model = network(k)
        model.predict(X, verbose=0)
        model.layers[-1].activation = None if k is fnn else k.activations.linear
        return np.asarray(model(X))

    check(program)
    model = network(fnn)
    features = fnn.Model(model.input, model.layers[-1].output)
    before = features.predict(X, verbose=0)
    model.layers[-1].activation = None
    np.testing.assert_allclose(before.sum(1), np.ones(6), rtol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(model.predict(X, verbose=0)), before, rtol=1e-5)
    np.testing.assert_allclose(features.predict(X, verbose=0), model(X), rtol=1e-5)
    model.layers[-1].activation = "softmax"
    np.testing.assert_allclose(model.predict(X, verbose=0), before, rtol=1e-5)


def test_what_contains_a_changed_layer_is_another_value():
    layer = Dense(3, "relu")
    whole, holder = Row([layer, Dense(2)]), Residual(Row([Dense(3), layer]))
    known = {hash(whole)}
    params, state = whole.init(jax.random.key(0), jnp.ones((1, 3)))
    assert whole == Row([Dense(3, "relu"), Dense(2)])
    layer.activation = None
    assert whole == Row([Dense(3), Dense(2)])
    assert hash(whole) == hash(Row([Dense(3), Dense(2)]))
    assert hash(whole) not in known  # a dict may still find a changed key, by its identity
    assert holder == Residual(Row([Dense(3), Dense(3)]))
    y = X @ params["dense"]["kernel"] @ params["dense_1"]["kernel"]
    np.testing.assert_allclose(whole.apply(params, state, X)[0], y, rtol=1e-4, atol=1e-5)
    layer.activation = "relu"
    assert hash(whole) in known


@pytest.mark.slow
def test_equal_values_stay_interchangeable_in_caches():
    first, second = network(fnn), network(fnn)
    second.set_weights(first.get_weights())
    for model in (first, second):
        model.compile(fnn.optimizers.SGD(0.1), "mse")
        model.fit(X, X[:, :2], verbose=0)
    # They share a program; to change one of them must not change the other.
    first.layers[0].trainable = False
    kept = first.get_weights()
    for model in (first, second):
        model.fit(X, X[:, :2], verbose=0)
    np.testing.assert_array_equal(first.get_weights()[0], kept[0])
    assert abs(second.get_weights()[0] - kept[0]).max() > 1e-5
    twin = first.layers[0]._twin
    with pytest.raises(ValueError, match="expected trainable to stay as it is in a cache"):
        twin.trainable = True


@pytest.mark.slow
def test_the_optimizer_goes_on_when_other_weights_learn():
    """It keeps its moments of the weights that still learn; tests/models/test_freezing.py."""
    model = network(fnn)
    model.compile("adam", "mse")
    for steps, trainable in ((1, True), (2, False), (3, False)):
        model.layers[0].trainable = trainable
        model.fit(X, X[:, :2], verbose=0)  # without `compile`, too
        assert int(model.optimizer.iterations) == steps


@pytest.mark.slow
def test_layers_inside_layers_are_frozen_with_them():
    both = Bidirectional(LSTM(2))
    model = fnn.Sequential([Input((4, 3)), both, Dense(1)])
    both.trainable = False
    assert [w.path.split("/")[1] for w in model.trainable_weights] == ["dense", "dense"]


def test_a_class_with_its_own_constructor_is_frozen():
    class Scaled(fnn.Layer):
        def __init__(self, factor):
            self.factor = factor
            self.activation = "relu"

        def init(self, key, x):
            return {"bias": jnp.zeros(x.shape[-1])}, {}

        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            return x * self.factor + params["bias"][None], state

    layer = Scaled(2.0)
    model = fnn.Sequential([Input((3,)), layer])
    assert len(model.trainable_weights) == 1
    layer.trainable = False
    assert len(model.trainable_weights) == 0
    layer.trainable = True
    assert len(model.trainable_weights) == 1
    layer.activation = None
    assert layer.activation is None


def test_wrong_values_are_refused_and_others_cannot_be_assigned():
    layer = Dense(3)
    with pytest.raises(ValueError, match="activation"):
        layer.activation = "no such activation"
    with pytest.raises(ValueError, match="expected trainable to be"):
        layer.trainable = "yes"
    assert layer == Dense(3)
    with pytest.raises(AttributeError, match=r"its units cannot be assigned"):
        layer.units = 4
    with pytest.raises(AttributeError, match=r"its rate cannot be assigned"):
        Dropout(0.5).rate = 0.1
