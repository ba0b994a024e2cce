"""Utilities: the same arrays as Keras's, and clear words where Keras guesses."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import utils
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
RAGGED = [[1], [2, 3], [4, 5, 6, 7], []]
STEPS = [np.ones((2, 3)), np.zeros((0, 3)), np.full((4, 3), 7.0)]


def same(name, *given, **named):
    """What fnn's function returns, after a check that Keras's returns the same."""
    import keras

    with keras_rules():
        expected = getattr(keras.utils, name)(*given, **named)
    found = getattr(utils, name)(*given, **named)
    np.testing.assert_array_equal(found, np.asarray(expected))
    assert found.dtype == expected.dtype
    assert type(found) is type(expected)
    return found


@pytest.mark.parametrize(
    ("x", "classes"),
    [
        ([0, 2, 1], None),
        ([0, 2, 1], 5),
        (np.array([[1], [3]]), None),
        (np.array([[1, 0], [3, 2]], "uint8"), 4),
        (np.array([1.0, 2.0]), 3),
        (2, None),
        (np.zeros((0,), int), 3),
    ],
)
def test_to_categorical_as_in_keras(x, classes):
    same("to_categorical", x, classes)


@pytest.mark.parametrize(("x", "classes"), [([0, 3], 3), ([-1, 2], None)])
def test_a_class_number_out_of_range_is_an_error(x, classes):
    with pytest.raises(ValueError, match="expected class numbers from 0 to 2, received numbers fr"):
        utils.to_categorical(x, classes)


@pytest.mark.parametrize("order", [1, 2, np.inf])
@pytest.mark.parametrize("axis", [-1, 1])
def test_normalize_as_in_keras(axis, order):
    same("normalize", X, axis, order)
    zero = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(same("normalize", zero)[1], [0, 0])


def test_normalize_takes_any_axis_and_arrays_of_jax():
    """Keras, which forgets that 0 is an axis, divides by the norms of others there."""
    expected = X / np.sqrt((X**2).sum(0))
    np.testing.assert_allclose(utils.normalize(X, axis=0), expected, rtol=1e-6)
    found = jax.jit(utils.normalize)(jnp.asarray(X))
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, utils.normalize(X), rtol=1e-6)


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3, 6])
@pytest.mark.parametrize("sequences", [RAGGED, STEPS])
def test_pad_sequences_as_in_keras(sequences, maxlen, truncating, padding):
    same("pad_sequences", sequences, maxlen, "int32", padding, truncating)
    same("pad_sequences", sequences, maxlen, "float32", padding, truncating, value=-0.5)


def test_pad_sequences_of_texts_as_in_keras():
    texts = [["a"], ["long", "words"]]
    same("pad_sequences", texts, dtype=object, value="<none>")


def test_no_sequences_and_no_length():
    assert utils.pad_sequences([]).shape == (0, 0)
    assert utils.pad_sequences([[1, 2]], maxlen=0).shape == (1, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (RAGGED, None, "int32", "left"),
            'expected padding to be "pre" or "post", received \'left\'',
        ),
        ((RAGGED, None, "int32", "pre", "left"), 'expected truncating to be "pre" or "post"'),
        (([1, 2],), r"expected a list of sequences, received \[1, 2\]; pass a list of lists"),
        ((7,), "expected a list of sequences, received 7"),
        (([[1], [[2]]],), r"expected steps of one shape, received steps of \[\(\), \(1,\)\]"),
        ((RAGGED, None, "int32", "pre", "pre", "x"), "expected a number as value for dtype='int32"),
    ],
)
def test_what_cannot_be_padded_is_an_error(given, message):
    with pytest.raises(ValueError, match=message):
        utils.pad_sequences(*given)


def draws():
    model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    return [random.random(), np.random.normal(), *model.get_weights()[0].ravel()]


def test_a_random_seed_is_for_all_that_a_script_draws():
    import keras

    utils.set_random_seed(7)
    first = draws()
    utils.set_random_seed(7)
    assert draws() == first
    with keras_rules():
        keras.utils.set_random_seed(7)
    assert [random.random(), np.random.normal()] == first[:2]
    with pytest.raises(ValueError, match=r"expected seed as an integer, received 0\.5"):
        utils.set_random_seed(0.5)


def test_registered_by_the_name_that_keras_has_for_it():
    from fnn.core import registry

    @utils.register_keras_serializable(package="mine", name="third_of")
    def third(x):
        return x / 3

    assert fnn.saving.register_keras_serializable is utils.register_keras_serializable
    try:
        assert registry.lookup("function", "third") is third
        assert registry.lookup("function", "third_of") is third
    finally:
        del registry.TABLE["function", "third"], registry.TABLE["function", "third_of"]


def test_loading_and_saving_by_the_names_that_keras_has_for_them(tmp_path):
    model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    assert fnn.models.load_model is fnn.saving.load_model is fnn.load
    assert fnn.models.save_model is fnn.saving.save_model
    fnn.models.save_model(model, tmp_path / "model.fnn")
    again = fnn.models.load_model(tmp_path / "model.fnn")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize("size", [-1, True, 2.5, "8"])
def test_a_size_of_the_program_cache_that_cannot_be(size):
    with pytest.raises(ValueError, match=r"set_program_cache_size: size must be an integer"):
        utils.set_program_cache_size(size)
