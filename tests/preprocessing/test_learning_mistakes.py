"""Mistakes with layers that learn and with strings: each an error that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L

WORDS, Y = np.array(["x", "y", "z"]), np.ones((3, 1))
KNOWN = ["x", "y"]


class Tagged(fnn.Model):
    """Runs a lookup in `call`."""

    def __init__(self):
        super().__init__()
        self.lookup = L.StringLookup(vocabulary=KNOWN)
        self.embed = L.Embedding(3, 2)
        self.dense = L.Dense(1)

    def call(self, words):
        return self.dense(self.embed(self.lookup(words)))


class Looked(L.Layer):
    """A layer with a lookup inside."""

    def __init__(self):
        super().__init__()
        self.lookup = L.StringLookup(vocabulary=KNOWN)

    def call(self, words):
        return self.lookup(words)


def strings(*layers):
    return fnn.Sequential([fnn.Input((), dtype="string"), *layers])


def numbers(*layers, size=3):
    return fnn.Sequential([fnn.Input((size,)), *layers])


def train(model, x):
    model.compile("sgd", "mse")
    model.fit(x, Y, verbose=0)


def adapt_elsewhere():
    layer = L.Normalization()
    model = numbers(layer, L.Dense(1))
    layer.adapt(np.ones((4, 2)))
    assert model is None


def adapted(data):
    layer = L.Normalization()
    layer.adapt(data)
    return layer


NOT_LEARNED = {
    "lookup": lambda: L.StringLookup()(WORDS),
    "text": lambda: L.TextVectorization()(WORDS),
    "lookup in a model": lambda: strings(L.StringLookup(), L.Embedding(3, 2)).predict(WORDS),
    "encoded lookup": lambda: strings(L.StringLookup(output_mode="multi_hot"), L.Dense(1)),
    "bins": lambda: L.Discretization(num_bins=3)(np.ones(3)),
    "moments": lambda: numbers(L.Normalization()).predict(np.ones((2, 3)), verbose=0),
    "moments in training": lambda: train(numbers(L.Normalization(), L.Dense(1)), np.ones((3, 3))),
}


@pytest.mark.parametrize("run", NOT_LEARNED.values(), ids=NOT_LEARNED)
def test_a_layer_that_has_not_learned_says_so(run):
    with pytest.raises(ValueError, match=r"call layer.adapt\(data\)"):
        run()


DATA = {
    "NaN": (lambda: L.Normalization().adapt([[1.0, np.nan]]), "NaN at 1 places, the first at"),
    "NaN in bins": (lambda: L.Discretization(num_bins=2).adapt([1.0, np.nan]), "NaN in 1 of 2"),
    "no batch": (lambda: L.Normalization().adapt(iter([])), "received no batch"),
    "no example": (lambda: L.Normalization().adapt(np.ones((0, 3))), "an empty ndarray"),
    "a vocabulary of integers": (
        lambda: L.StringLookup(vocabulary=[1, 2]),
        "to hold strings, received 1 of type int; .* IntegerLookup",
    ),
    "a vocabulary of strings": (
        lambda: L.IntegerLookup(vocabulary=["a"]),
        "to hold integers, received 'a' of type str; .* StringLookup",
    ),
    "learned for other features": (
        lambda: numbers(adapted(np.ones((4, 2)))).predict(np.ones((2, 3)), verbose=0),
        r"not learned them yet for \(3,\) features",
    ),
    "a dict": (
        lambda: L.StringLookup().adapt({"color": WORDS}),
        r"a dict with the keys \['color'\]; .* data\['color'\]",
    ),
    "batches that are dicts": (
        lambda: L.TextVectorization().adapt(iter([{"text": WORDS}])),
        r"data\['text'\]",
    ),
    "no text": (lambda: L.TextVectorization().adapt([]), "received an empty list"),
    "one text for a batch": (
        lambda: strings(L.StringLookup(vocabulary=KNOWN)).predict("x"),
        r"the single string 'x'; pass a list, \['x'\]",
    ),
    "other features than learned": (
        lambda: adapted(np.ones((4, 3)))(np.ones((2, 5))),
        r"sizes \(3,\) along axis=-1, .* received shape \(2, 5\)",
    ),
    "other features": (
        lambda: L.Normalization().adapt([np.ones((2, 3)), np.ones((2, 2))]),
        r"expected batches like \(2, 3\)",
    ),
    "other features than the model": (adapt_elsewhere, r"mean of shape \(3,\)"),
    "given vocabulary": (
        lambda: L.StringLookup(vocabulary=KNOWN).adapt(WORDS),
        "without a given vocabulary to adapt",
    ),
    "given moments": (
        lambda: L.Normalization(mean=0.0, variance=1.0).adapt(np.ones((2, 3))),
        "without mean and variance to adapt",
    ),
    "given boundaries": (lambda: L.Discretization([0.0]).adapt(np.ones(3)), "with num_bins"),
    "ragged": (lambda: L.StringLookup(vocabulary=KNOWN)([["x"], ["x", "y"]]), "different lengths"),
    "unknown": (
        lambda: L.StringLookup(vocabulary=["y"], num_oov_indices=0)(WORDS),
        "received 'x', 'z'; pass num_oov_indices=1",
    ),
    "unknown in a model": (
        lambda: strings(L.StringLookup(vocabulary=["y"], num_oov_indices=0)).predict(WORDS),
        "received 'x', 'z'",
    ),
    "out of range": (
        lambda: L.CategoryEncoding(3).apply({}, {}, np.array([[1, 5]])),
        "from 0 to 2, received 5",
    ),
    "columns": (lambda: L.TextVectorization(vocabulary=["a"])([["a", "b"]]), "take one column"),
    "one_hot text": (
        lambda: L.TextVectorization(vocabulary=["a"], output_mode="one_hot")(WORDS),
        "with split=None only",
    ),
    "one feature": (lambda: L.HashedCrossing(3)(WORDS), "two or more features"),
    "features of other shapes": (lambda: L.HashedCrossing(3)((WORDS, WORDS[:2])), "of one shape"),
    "crossed floats": (lambda: L.HashedCrossing(3)((WORDS, np.ones(3))), "strings or integers"),
    "weights of one_hot": (
        lambda: L.CategoryEncoding(3, "one_hot")(
            np.ones((2, 1), int), count_weights=np.ones((2, 1))
        ),
        "count_weights with",
    ),
    "after weights": (lambda: numbers(L.Dense(2), L.Hashing(3)).predict(np.ones((2, 3))), "first"),
    "inside": (
        lambda: fnn.Sequential(
            [fnn.Input((3,), dtype="string"), L.TimeDistributed(L.StringLookup(vocabulary=KNOWN))]
        ),
        "cannot stand inside TimeDistributed",
    ),
}


@pytest.mark.parametrize(("run", "words"), DATA.values(), ids=DATA)
def test_wrong_data_is_refused(run, words):
    with pytest.raises(ValueError, match=words):
        run()


TYPES = {
    "bins of strings": (lambda: L.Discretization(num_bins=2).adapt(WORDS), "use StringLookup"),
    "None": (lambda: L.StringLookup().adapt(np.array(["a", None], object)), "received None"),
    "numbers": (lambda: L.StringLookup(vocabulary=KNOWN)(np.arange(3)), "np.asarray"),
    "floats": (lambda: L.IntegerLookup(vocabulary=[1])(np.ones(3)), "expected integers"),
    "words": (lambda: L.Normalization().adapt(WORDS), "expected numbers"),
    "no data": (lambda: L.Normalization().adapt(3), "expected data as an array"),
    "jit": (lambda: jax.jit(L.Hashing(3))(jnp.arange(3)), "cannot be part of a compiled function"),
    "Dense": (
        lambda: L.Dense(2)(fnn.Input((2,), dtype="string")),
        "Dense: expected numbers, received strings",
    ),
    "a class inside": (lambda: strings(Looked(), L.Embedding(3, 2)), "not inside it"),
    "a class with call": (lambda: Tagged().predict(WORDS, verbose=0), "received a class with call"),
    "its training": (lambda: train(Tagged(), WORDS), "received a class with call"),
    "strings as outputs": (
        lambda: numbers(L.StringLookup(vocabulary=KNOWN, invert=True)).predict(np.ones((2, 3))),
        "call it on the outputs",
    ),
}


@pytest.mark.parametrize(("run", "words"), TYPES.values(), ids=TYPES)
def test_wrong_types_are_refused(run, words):
    with pytest.raises(TypeError, match=words):
        run()


def lookup(**arguments):
    return lambda: L.StringLookup(**arguments)


ARGUMENTS = {
    "duplicates": (lookup(vocabulary=["a", "b", "a"]), "'a' more than once"),
    "empty": (lookup(vocabulary=[]), "received none"),
    "nested": (lookup(vocabulary=[["a"]]), "flatten it"),
    "no file": (lookup(vocabulary="/no/such/file"), "where there is no file"),
    "mask inside": (lookup(vocabulary=["a", "m"], mask_token="m"), "special token 'm' at place 1"),
    "unknown inside": (lookup(vocabulary=["a", "[UNK]"], invert=True), "special token"),
    "too many": (lookup(vocabulary=KNOWN, max_tokens=2), "at most max_tokens=2"),
    "too few": (lookup(max_tokens=1), "above 1"),
    "padded": (lookup(pad_to_max_tokens=True, output_mode="count"), "expected max_tokens"),
    "inverted": (lookup(invert=True, output_mode="count"), "invert=True"),
    "sparse": (lookup(sparse=True, output_mode="count"), "sparse=False"),
    "ragged": (lambda: L.TextVectorization(ragged=True), "ragged=False"),
    "weights": (lookup(idf_weights=[1.0]), "idf_weights with output_mode"),
    "no weights": (lookup(vocabulary=KNOWN, output_mode="tf_idf"), "expected idf_weights"),
    "other weights": (
        lookup(vocabulary=KNOWN, output_mode="tf_idf", idf_weights=[1.0]),
        "a list of 2 numbers",
    ),
    "set weights": (
        lambda: L.StringLookup().set_vocabulary(KNOWN, idf_weights=[1.0, 2.0]),
        "leave them out",
    ),
    "mode": (lookup(output_mode="hot"), "one of"),
    "salt": (lookup(num_oov_indices=2, salt=(1, 2, 3)), "an integer or two integers"),
    "salt of a remainder": (lambda: L.IntegerLookup(salt=3), "farmhash"),
    "dtype": (lambda: L.Hashing(3, dtype="float32"), "int32"),
    "no tokens": (lambda: L.CategoryEncoding(), "use IntegerLookup"),
    "no bins": (lambda: L.Discretization(), "num_bins or bin_boundaries"),
    "epsilon": (lambda: L.Discretization(num_bins=3, epsilon=2.0), "between 0 and 1"),
    "half of the moments": (lambda: L.Normalization(mean=1.0), "mean and variance together"),
    "other moments": (lambda: L.Normalization(mean=[1.0], variance=1.0), "of the same shape"),
    "axes": (lambda: L.Normalization(axis=3)(np.ones((2, 3))), "axes of inputs"),
    "moments of axes": (
        lambda: L.Normalization(axis=None, mean=[1.0], variance=[1.0]),
        "at most 0 axes",
    ),
    "features of moments": (
        lambda: L.Normalization(mean=[1.0, 2.0], variance=[1.0, 2.0])(np.ones((2, 3))),
        "to broadcast",
    ),
    "standardize": (lambda: L.TextVectorization(standardize="upper"), "a function or None"),
    "split": (lambda: L.TextVectorization(split="lines"), "a function or None"),
    "ngrams": (lambda: L.TextVectorization(ngrams=(0, 1)), "above 0"),
    "length": (
        lambda: L.TextVectorization(output_mode="count", output_sequence_length=3),
        "output_sequence_length with",
    ),
}


@pytest.mark.parametrize(("run", "words"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_wrong_arguments_are_refused(run, words):
    with pytest.raises(ValueError, match=words):
        run()


def test_a_class_with_call_runs_on_strings_when_it_is_called():
    model = Tagged()
    found = model(WORDS)
    table, kernel, bias = model.get_weights()
    np.testing.assert_allclose(found, table[[1, 2, 0]] @ kernel + bias, rtol=1e-5)
    assert Looked()(WORDS).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_tokens": 1}, "TextVectorization: expected max_tokens above 1"),
        ({"vocabulary": ["a", "a"]}, "TextVectorization: .* received 'a' more than once"),
        (
            {"output_mode": "tf_idf", "vocabulary": ["a"], "idf_weights": [1.0, 2.0]},
            "TextVectorization: expected idf_weights to be a list of 1 numbers",
        ),
    ],
)
def test_a_text_layer_names_itself_for_what_its_lookup_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        L.TextVectorization(**given)
