"""TextVectorization: words, n-grams, vocabularies and numbers of live Keras."""

import itertools

import numpy as np
import pytest

from fnn import layers as L
from tests.helpers.oracle import keras_rules

TEXTS = np.array(
    ["Foo, bar! baz", "bar\tbaz  Bar", "", "É a été l'été", "foo foo foo-bar\nqux", "日本 語"]
)
BY_DEFAULT = "lower_and_strip_punctuation"
STANDARDS = (None, "lower", "strip_punctuation", BY_DEFAULT)
MODES = {
    "int": ({}, {"max_tokens": 6}, {"output_sequence_length": 3}),
    "multi_hot": ({}, {"max_tokens": 6}),
    "count": ({"pad_to_max_tokens": True, "max_tokens": 60},),
    "tf_idf": ({}, {"pad_to_max_tokens": True, "max_tokens": 60}),
}


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow")
    with keras_rules():
        import keras

        yield keras.layers


# What becomes of the words does not depend on how the texts were standardized before.
def marks(standardize, split, mode):
    if mode != "int" and standardize != BY_DEFAULT:
        return pytest.mark.thorough
    return () if (standardize, split) == (BY_DEFAULT, "whitespace") else pytest.mark.slow


PRODUCT = [
    pytest.param(
        standardize,
        split,
        mode,
        id=f"{standardize}-{split}-{mode}",
        marks=marks(standardize, split, mode),
    )
    for standardize, split, mode in itertools.product(
        STANDARDS, (None, "whitespace", "character"), MODES
    )
]


@pytest.mark.parametrize(("standardize", "split", "mode"), PRODUCT)
def test_texts_give_the_numbers_of_keras(keras, standardize, split, mode):
    data = TEXTS if split else TEXTS.reshape(3, 2)
    inputs = (data, data[:1]) if split is None else (data, data[:, None], data[:1])
    for ngrams, more in itertools.product((None, 2, (1, 3)), MODES[mode]):
        chosen = {"standardize": standardize, "split": split, "output_mode": mode}
        chosen |= {"ngrams": ngrams, **more}
        ours, theirs = L.TextVectorization(**chosen), keras.TextVectorization(**chosen)
        ours.adapt(data)
        with keras_rules():
            theirs.adapt(data)
        assert ours.get_vocabulary() == theirs.get_vocabulary()
        for x in inputs:
            with keras_rules():
                expected = np.asarray(theirs(x))
            found = np.asarray(ours(x))
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_functions_standardize_and_split():
    def shout(texts):
        assert texts.shape == (6, 1)
        return np.char.upper(texts)

    def by_comma(texts):
        return np.char.split(texts, ",")

    layer = L.TextVectorization(standardize=shout, split=by_comma, vocabulary=["FOO", " BAR! BAZ"])
    assert layer(TEXTS[:, None])[0].tolist() == [2, 3]
    layer = L.TextVectorization(standardize=None, split=by_comma)
    layer.adapt(["a b,c", "c"])
    assert layer.get_vocabulary() == ["", "[UNK]", "c", "a b"]


def test_a_single_text_is_one_row():
    layer = L.TextVectorization(vocabulary=["foo", "bar"])
    assert layer("bar foo new").tolist() == [3, 2, 1]
    assert layer(["bar", ""]).tolist() == [[3], [0]]
    assert layer(np.array([], str)).shape == (0, 0)


@pytest.mark.parametrize("between", ["\0", "\1"])
def test_control_characters_in_texts_stay_there(between):
    layer = L.TextVectorization(standardize=None, vocabulary=[f"a{between}b", "c"])
    texts = np.array([f"a{between}b c", "c"], object)
    assert layer(texts).tolist() == [[2, 3], [3, 0]]


def test_a_stream_is_learned_as_the_whole():
    for mode in ("int", "tf_idf"):
        whole, parts = (L.TextVectorization(output_mode=mode) for _ in range(2))
        whole.adapt(TEXTS)
        parts.adapt(iter([TEXTS[:4], TEXTS[4:]]))
        assert parts.get_vocabulary() == whole.get_vocabulary()
        np.testing.assert_allclose(parts(TEXTS), whole(TEXTS), rtol=1e-6)
