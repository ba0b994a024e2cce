"""One set of weights for a layer that stands in several models, as in Keras."""

import copy
import dataclasses
import gc
import weakref

import jax
import keras
import numpy as np
import pytest

import fnn
from fnn import Input, Model, Sequential
from fnn.core.calling import output_spec
from fnn.layers import Dense, Ensemble, Frozen, Residual
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


def trained(model, y=X, **compiled):
    model.compile("adam", "mse", **compiled)
    model.fit(X, y, verbose=0)
    return model


def predicted(model, x=X):
    return model.predict(x, verbose=0)


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=False))


def autoencoder(library):
    """The tutorial: one network, and its two halves as models of their own."""
    layers = library.layers
    x = library.Input((6,))
    code = layers.Dense(2)(x)
    whole = library.Model(x, layers.Dense(6)(code))
    half = library.Input((2,))
    return whole, library.Model(x, code), library.Model(half, whole.layers[-1](half))


@pytest.mark.slow
@pytest.mark.parametrize(
    "library",
    [fnn, pytest.param(keras, marks=pytest.mark.thorough)],  # Keras itself does what is asked here
    ids=["fnn", "keras"],
)
def test_the_halves_of_an_autoencoder_learn_with_it(library):
    with keras_rules():
        whole, encoder, decoder = autoencoder(library)
        for learns, y in ((whole, X), (encoder, X[:, :2])):
            trained(learns, y)
            again = predicted(decoder, predicted(encoder))
            np.testing.assert_allclose(again, predicted(whole), atol=1e-5)


@pytest.mark.slow
def test_a_model_in_a_model_learns_with_it_and_without():
    base = Sequential([Dense(5, input_shape=(6,))])
    x = Input((6,))
    outer = Model(x, Dense(1)(base(x)))
    before = base.get_weights()
    trained(outer, X[:, :1])
    assert not same(before, base.get_weights())
    assert same(outer.get_weights(), base.get_weights())
    base.set_weights([np.ones((6, 5)), np.zeros(5)])
    assert same(outer.get_weights(), base.get_weights())
    other = Sequential([base, Dense(2)])
    assert same(other.get_weights(), base.get_weights())


@pytest.mark.slow
def test_what_learns_is_asked_at_compile():
    base = Sequential([Dense(5, input_shape=(6,))])
    x = Input((6,))
    outer = Model(x, Dense(1)(base(x)))
    base.trainable, before = False, base.get_weights()
    trained(outer, X[:, :1])
    assert same(before, outer.get_weights())
    base.trainable = True
    trained(outer, X[:, :1])
    assert not same(before, outer.get_weights())


@pytest.mark.slow
def test_two_networks_in_turns_as_in_a_gan():
    maker = Sequential([Dense(6, input_shape=(6,))])
    judge = Sequential([Dense(1, "sigmoid", input_shape=(6,))])
    judge.trainable = False
    z = Input((6,))
    both = Model(z, judge(maker(z)))
    of_maker, of_judge = maker.get_weights(), judge.get_weights()
    both.compile("adam", "binary_crossentropy")
    both.train_on_batch(X, np.ones(64))
    assert same(of_judge, judge.get_weights())
    assert not same(of_maker, maker.get_weights())
    assert same(both.get_weights(), maker.get_weights())


@pytest.mark.slow
def test_layers_keep_their_weights_when_others_come_and_go():
    model = trained(Sequential([Dense(3, input_shape=(6,)), Dense(1)]), X[:, :1])
    kept = model.get_weights()[0]
    model.pop()
    model.add(Dense(4))
    assert same([kept], model.get_weights())
    assert len(model.get_weights()) == 4
    head = Sequential([Input((6,)), *model.layers[:1]])
    assert same([kept], head.get_weights())
    trained(head, X[:, :3])
    assert same(head.get_weights(), model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda m: m.add(Dense(2)), lambda m: m.pop()])
def test_a_model_inside_whose_layers_come_or_go_shares_those_that_stay(change):
    base = Sequential([Dense(5, input_shape=(6,)), Dense(4)])
    x = Input((6,))
    outer = Model(x, Dense(1)(base(x)))
    weights, outputs = outer.get_weights(), predicted(outer)
    change(base)
    assert outer.params.keys() == {"sequential", "dense"}
    assert same(outer.get_weights(), weights)
    np.testing.assert_array_equal(predicted(outer), outputs)
    trained(outer, X[:, :1])
    assert not same(outer.get_weights(), weights)
    assert same(outer.get_weights()[:2], base.get_weights())
    predicted(base)
    base.layers[0].set_weights([np.ones((6, 5)), np.zeros(5)])
    assert same([np.ones((6, 5)), np.zeros(5), *outer.get_weights()[2:]], outer.get_weights())
    kept = outer.get_weights()
    while base.built:
        base.pop()
    assert same(outer.get_weights(), kept)
    outer.set_weights(weights)
    np.testing.assert_array_equal(predicted(outer), outputs)


@pytest.mark.slow
def test_one_layer_object_at_several_places_of_a_row_has_one_set_of_weights():
    layer = Dense(6)
    model = trained(Sequential([Input((6,)), layer, layer, layer.replace()], seed=0))
    assert len(model.layers) == 3
    assert len(model.get_weights()) == 4
    y = X
    for kernel, bias in (model.get_weights()[:2], model.get_weights()[:2], model.get_weights()[2:]):
        y = y @ kernel + bias
    np.testing.assert_allclose(predicted(model), y, rtol=1e-5, atol=1e-6)
    model.pop()
    model.pop()
    assert model.layers == [layer]
    model.add(layer)
    assert len(model.get_weights()) == 2


def test_a_layer_with_other_shapes_or_without_a_living_model_starts_anew():
    layer = Dense(3)
    first = Sequential([Input((6,)), layer], seed=0)
    other = Sequential([Input((4,)), layer], seed=0)
    assert other.get_weights()[0].shape == (4, 3)
    weights = first.get_weights()
    del first
    assert not same(weights, Sequential([Input((6,)), layer], seed=1).get_weights())


def test_a_pure_layer_is_a_value_and_shares_nothing():
    layer = fnn.layers.Sequential([Dense(3), Dense(1)])
    one, two = (Model(layer, seed=seed) for seed in (0, 1))
    one.build((None, 6))
    two.build((None, 6))
    assert not same(one.get_weights(), two.get_weights())


def test_a_model_made_in_place_keeps_its_weights():
    inner = [Sequential([Dense(6, input_shape=(6,))], seed=3)]
    weights = inner[0].get_weights()
    model = Sequential([Residual(inner.pop())])
    assert same(weights, model.get_weights())
    held = weakref.ref(Frozen(model).inner)
    assert held() is not None


def test_a_copy_shares_nothing():
    base = Sequential([Dense(5, input_shape=(6,))])
    outer = Sequential([base, Dense(1)])
    other, before = copy.deepcopy(outer), outer.get_weights()
    assert same(other.get_weights(), before)
    other.set_weights([w + 1 for w in before])
    assert same(outer.get_weights(), before)


@pytest.mark.slow
def test_a_model_that_was_trained_is_gone_when_the_last_name_is():
    model = trained(Sequential([Dense(1, input_shape=(6,))]), X[:, :1])
    history, gone = model.history, weakref.ref(model)
    assert history.model is model
    del model
    assert gone() is None
    assert history.model is None


@pytest.mark.slow
def test_a_model_inside_copies_is_refused():
    base = Sequential([Dense(6, input_shape=(6,))])
    with pytest.raises(ValueError, match="expected a layer inside the copies"):
        Sequential([Input((6,)), Ensemble(base, 3)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        lambda model: output_spec(Residual(model), jax.ShapeDtypeStruct((2, 6), "float32")),
        lambda model: model(Input((6,))),
        lambda model: model.predict(X, verbose=0),
        lambda model: trained(model),
        lambda model: Residual(model).init(jax.random.key(0), X),
        lambda model: Frozen(model).apply(model.params, model.state, X),
    ],
)
def test_nothing_keeps_the_weights_of_a_model_that_is_gone(use):
    model = Sequential([Dense(6, input_shape=(6,))], seed=0)
    before = {id(array) for array in jax.live_arrays()} - {id(a) for a in model.weights}
    use(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert [a.shape for a in jax.live_arrays() if id(a) not in before and a.shape == (6, 6)] == []


def test_equal_layers_are_interchangeable_in_every_cache():
    first, second = (Sequential([Dense(6, input_shape=(6,))], seed=s) for s in (0, 1))
    spec = jax.ShapeDtypeStruct((2, 6), "float32")
    for make in (lambda m: Residual(m), lambda m: fnn.layers.Sequential([m, Dense(1)])):
        one, two = make(first), make(second)
        assert one == two
        assert output_spec(one, spec) == output_spec(two, spec)
    weights = [Sequential([Residual(m)]).get_weights() for m in (first, second)]
    assert same(weights[0], first.get_weights())
    assert same(weights[1], second.get_weights())


@pytest.mark.slow
def test_a_layer_knows_no_model():
    layer = Dense(6, input_shape=(6,))
    model = trained(Sequential([layer, Dense(6)]))
    model.predict(X, verbose=0)
    assert layer.get_weights()[0].shape == (6, 6)  # by a table beside it
    names = {field.name for field in dataclasses.fields(layer)}
    private = {name: value for name, value in vars(layer).items() if name not in names}
    memory = private.pop("_fnn_memory")
    assert {type(value) for value in private.values()} <= {bool, int}
    assert {type(value) for value in memory.values()} <= {int, tuple, Dense}


def test_a_graph_made_in_place_keeps_its_inputs_and_weights():
    def graph():
        x = Input((6,))
        return Model(x, Dense(6)(x), seed=3)

    model = Sequential([Residual(graph())])
    gc.collect()
    assert model.input_shape == (None, 6)
    assert same(model.get_weights(), graph().get_weights())
    with pytest.raises(ValueError, match="expected a layer inside the copies"):
        Sequential([Input((6,)), Ensemble(graph(), 3)])
