"""Copies of models, and models inside models: whose weights are whose."""

import copy
import gc
import pickle

import jax
import numpy as np
import pytest

import fnn
from fnn import Input, Model, Sequential
from fnn.layers import Dense, Embedding

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = X[:, :1]


def compiled():
    model = Sequential([Dense(1, input_shape=(4,))], seed=0)
    model.compile("sgd", "mse")
    return model


COPIES = (copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)))


@pytest.mark.slow
@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
def test_a_copy_is_a_model_of_its_own(copied):
    model = compiled()
    other = copied(model)
    before = other.get_weights()
    model.fit(X, Y, verbose=0)
    jax.tree.map(np.testing.assert_array_equal, other.get_weights(), before)
    assert not np.array_equal(model.get_weights()[0], before[0])
    other.fit(X, Y, verbose=0)
    jax.tree.map(np.testing.assert_array_equal, other.get_weights(), model.get_weights())
    other.compile("adam", "mae")
    assert model.optimizer == fnn.optimizers.SGD()
    other.add(Dense(2))
    assert (model.output_shape, other.output_shape) == ((None, 1), (None, 2))


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
def test_a_copy_draws_no_seed(copied):
    def second(between):
        fnn.set_seed(7)
        first = Sequential([Dense(1, input_shape=(2,))])
        between(first)
        return Sequential([Dense(1, input_shape=(2,))]).get_weights()[0]

    np.testing.assert_array_equal(second(copied), second(lambda model: None))


@pytest.mark.slow
def test_a_model_inside_that_the_first_data_builds_answers_for_its_layer():
    model = Sequential([Sequential([Dense(2), Dense(3)], name="inner"), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    inner = model.get_layer("inner")
    assert [w.shape for w in inner.get_weights()] == [(4, 2), (2,), (2, 3), (3,)]
    assert inner.count_params() == 19
    features = Model(model.input, inner.output)
    assert features.predict(X, verbose=0).shape == (8, 3)


def test_a_living_model_inside_that_is_not_built_shares_what_the_outer_one_builds():
    inner = Sequential([Dense(3)], name="inner")
    outer = Sequential([inner, Dense(1)], seed=0)
    outer.build((None, 4))
    inner.build((None, 4))
    jax.tree.map(np.testing.assert_array_equal, inner.get_weights(), outer.get_weights()[:2])
    inner.set_weights([np.ones((4, 3)), np.ones(3)])
    jax.tree.map(np.testing.assert_array_equal, inner.get_weights(), outer.get_weights()[:2])


def test_a_layer_of_a_model_that_was_never_built_is_shared_by_those_that_build_it():
    layer = Model(Dense(3)).as_layer()
    gc.collect()
    one, two = (Sequential([Input((4,)), layer], seed=seed) for seed in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, one.get_weights(), two.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("lives", [True, False])
def test_a_frozen_model_inside_stays_frozen_when_layers_come(lives):
    inner = Sequential([Dense(3, input_shape=(4,))], name="inner")
    layer = inner.as_layer()
    outer = Sequential([layer, Dense(1)], seed=1)
    if not lives:
        del inner
        gc.collect()
    outer.freeze("inner")
    outer.add(Dense(1))
    outer.compile("sgd", "mse")
    assert [one.trainable for one in outer.layers] == [False, True, True]
    before = outer.get_weights()
    outer.fit(X, Y, verbose=0)
    jax.tree.map(np.testing.assert_array_equal, outer.get_weights()[:2], before[:2])
    assert not np.array_equal(outer.get_weights()[2], before[2])


def test_a_change_of_a_model_inside_still_counts_at_the_next_compile():
    inner = Sequential([Dense(3, input_shape=(4,))], name="inner")
    outer = Sequential([inner, Dense(1)], seed=1)
    inner.trainable = False
    outer.compile("sgd", "mse")
    assert [one.trainable for one in outer.layers] == [False, True]


def test_a_layer_that_does_not_fit_is_not_added():
    model = Sequential([Dense(2, input_shape=(4,))], seed=0)
    outputs = model.predict(X, verbose=0)
    with pytest.raises(ValueError, match="Conv2D"):
        model.add(fnn.layers.Conv2D(3, 3))
    assert len(model.layers) == 1
    np.testing.assert_array_equal(model.predict(X, verbose=0), outputs)


def test_the_name_can_be_set_and_names_of_outputs_are_a_list_of_the_callers():
    model = compiled()
    model.name = "judge"
    assert model.name == "judge"
    model.output_names.append("other")
    assert model.output_names == ["output"]
    model.evaluate(X, Y, verbose=0)


@pytest.mark.slow
def test_integers_are_checked_again_when_jax_computes_in_32_bits():
    model = Sequential([Dense(1)], seed=0)
    ids = np.full((2, 3), 2**32, "int64")
    with jax.enable_x64(True):
        model.predict(ids, verbose=0)
    with pytest.raises(ValueError, match="expected the integers of x to fit int32"):
        model.predict(ids, verbose=0)


def test_shapes_are_checked_before_values():
    model = Sequential(
        [Input((4,), dtype="int32"), Embedding(5, 2), fnn.layers.Flatten(), Dense(1)]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="expected inputs of 8 features, received 12"):
        model.fit(np.full((3, 6), 99), np.ones((3, 1)), verbose=0)
    with pytest.raises(ValueError, match=r"y|targets"):
        model.fit(np.full((3, 4), 99), np.ones((3, 7)), verbose=0)


@pytest.mark.slow
def test_reading_many_shared_weights_compares_each_tree_once():
    inner = [Sequential([Dense(4, input_shape=(4,))]) for _ in range(12)]
    outer = Sequential(inner, seed=0)
    assert outer.params  # from here on its dicts are watched
    looks = []
    watched = outer._weights._watched
    real = watched._is_unchanged
    watched._is_unchanged = lambda shown: looks.append(shown) or real(shown)
    outer.predict(X, verbose=0)
    assert len(looks) <= 8  # not 12 times as many
