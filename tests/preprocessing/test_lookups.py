"""StringLookup, IntegerLookup, Hashing, HashedCrossing: the numbers and words of live Keras."""

import itertools

import numpy as np
import pytest

import fnn
from fnn import layers as L
from tests.helpers.oracle import keras_rules

DRAW = np.random.default_rng(0)
WORDS = DRAW.choice(["a", "bb", "", "ccc", "d" * 40, "é"], size=(6, 3))
NUMBERS = DRAW.integers(0, 12, (5, 4))
VOCABULARY, WEIGHTS = ["a", "bb", "zz"], [0.5, 0.25, 2.0]
MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")
SHAPES = (np.s_[:], np.s_[:, :1], np.s_[:, 0])


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow")
    with keras_rules():
        import keras

        yield keras.layers


def same(ours, theirs, *inputs):
    """Whether a layer of ours gives the numbers of one of Keras's, on several inputs."""
    for x in inputs:
        with keras_rules():
            expected = np.asarray(theirs(x))
        found = np.asarray(ours(x))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    return True


def options(mode, unknown, mask, padded):
    chosen = {"num_oov_indices": unknown, "mask_token": mask, "output_mode": mode}
    if padded and mode != "int":
        chosen |= {"pad_to_max_tokens": True, "max_tokens": 12}
    return chosen


def given(chosen, vocabulary):
    chosen = {**chosen, "vocabulary": vocabulary}
    if chosen["output_mode"] == "tf_idf":
        chosen["idf_weights"] = WEIGHTS
    return chosen


CASES = [
    case if number % 7 == 0 else pytest.param(case, marks=pytest.mark.slow)
    for number, case in enumerate(itertools.product(MODES, (1, 2, 3), (None, ""), (False, True)))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_string_lookup_gives_the_numbers_of_keras(keras, case):
    chosen = options(*case)
    inputs = [WORDS[shape] for shape in SHAPES]
    known = given(chosen, VOCABULARY)
    assert same(L.StringLookup(**known), keras.StringLookup(**known), *inputs)
    ours, theirs = L.StringLookup(**chosen), keras.StringLookup(**chosen)
    for data in (WORDS, WORDS[:, 0]):
        ours.adapt(data)
        with keras_rules():
            theirs.adapt(data)
        assert ours.get_vocabulary() == theirs.get_vocabulary()
        assert ours.get_vocabulary(False) == theirs.get_vocabulary(False)
        assert ours.vocabulary_size() == theirs.vocabulary_size()
        assert same(ours, theirs, *inputs)


@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_an_integer_lookup_gives_the_numbers_of_keras(keras, case):
    mode, unknown, mask, padded = case
    chosen = options(mode, unknown, None if mask is None else 0, padded)
    known = given(chosen, [5, 7, 9])
    assert same(L.IntegerLookup(**known), keras.IntegerLookup(**known), NUMBERS)
    ours, theirs = L.IntegerLookup(**chosen), keras.IntegerLookup(**chosen)
    ours.adapt(NUMBERS)
    with keras_rules():
        theirs.adapt(NUMBERS)
    assert ours.get_vocabulary() == list(theirs.get_vocabulary())
    assert same(ours, theirs, NUMBERS)


@pytest.mark.parametrize("salt", [None, 4, (1, 2)])
def test_unknown_tokens_have_the_buckets_of_keras(keras, salt):
    strings = {"vocabulary": VOCABULARY, "num_oov_indices": 3, "salt": salt}
    assert same(L.StringLookup(**strings), keras.StringLookup(**strings), WORDS)
    numbers = strings | {"vocabulary": [5, 7], "oov_method": "farmhash"}
    assert same(L.IntegerLookup(**numbers), keras.IntegerLookup(**numbers), NUMBERS)


@pytest.mark.parametrize("mask", [None, 0])
def test_an_inverted_lookup_gives_the_tokens(keras, mask):
    numbers = {"invert": True, "vocabulary": [5, 7, 9], "mask_token": mask}
    assert same(L.IntegerLookup(**numbers), keras.IntegerLookup(**numbers), NUMBERS)
    words = L.StringLookup(vocabulary=VOCABULARY, invert=True, mask_token="")
    assert words([[0, 1, 2], [4, 9, -1]]).tolist() == [
        ["", "[UNK]", "a"],
        ["zz", "[UNK]", "[UNK]"],
    ]


def test_a_stream_is_learned_as_in_keras(keras):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(WORDS.tolist()).batch(4)
    for mode in ("int", "tf_idf"):
        ours = L.StringLookup(output_mode=mode)
        theirs = keras.StringLookup(output_mode=mode)
        with keras_rules():
            theirs.adapt(data)
        for batches in (data, iter([WORDS[:4], WORDS[4:]]), lambda: iter([WORDS])):
            ours.adapt(batches)
            assert same(ours, theirs, WORDS)
        ours.adapt(data, steps=1)
        assert set(ours.get_vocabulary(False)) == {*WORDS[:4].flat}


def test_steps_of_learning_add_up():
    one, other = L.StringLookup(), L.StringLookup()
    one.adapt(WORDS)
    for row in WORDS:
        other.update_state(row)
    other.finalize_state()
    assert other == one
    other.update_state(["never"])
    other.reset_state()
    other.finalize_state()
    assert other == one


def test_a_vocabulary_is_a_list_an_array_or_a_file(tmp_path, keras):
    file = tmp_path / "words.txt"
    file.write_text("a\nbb\nzz\n")
    made = L.StringLookup(vocabulary=VOCABULARY)
    for vocabulary in (np.array(VOCABULARY), tuple(VOCABULARY), str(file), [b"a", b"bb", b"zz"]):
        assert L.StringLookup(vocabulary=vocabulary) == made
    assert L.StringLookup(vocabulary=["[UNK]", *VOCABULARY]).get_vocabulary() == [
        "[UNK]",
        *VOCABULARY,
    ]
    file.write_text("5\n7\n")
    assert L.IntegerLookup(vocabulary=str(file)).get_vocabulary() == [-1, 5, 7]
    later = L.StringLookup()
    later.set_vocabulary(VOCABULARY)
    assert same(later, keras.StringLookup(vocabulary=VOCABULARY), WORDS)
    weighted = L.StringLookup(output_mode="tf_idf")
    weighted.set_vocabulary(VOCABULARY, idf_weights=WEIGHTS)
    known = given({"output_mode": "tf_idf"}, VOCABULARY)
    assert same(weighted, keras.StringLookup(**known), WORDS)


@pytest.mark.parametrize("kind", ["U", "O", "S", list])
def test_strings_come_in_any_form(kind):
    words = np.array(["a", "bb", "new"])
    form = words.tolist() if kind is list else words.astype(kind)
    assert L.StringLookup(vocabulary=VOCABULARY)(form).tolist() == [1, 2, 0]
    assert L.Hashing(1000)(form).tolist() == L.Hashing(1000)(words).tolist()


HASHES = (
    {"num_bins": 7},
    {"num_bins": 1},
    {"num_bins": 7, "salt": 3},
    {"num_bins": 7, "salt": (1, 2)},
    {"num_bins": 5, "mask_value": ""},
)


@pytest.mark.parametrize("mode", MODES[:-1])
@pytest.mark.parametrize("chosen", HASHES, ids=str)
def test_hashing_gives_the_numbers_of_keras(keras, chosen, mode):
    ours = L.Hashing(output_mode=mode, **chosen)
    theirs = keras.Hashing(output_mode=mode, **chosen)
    assert same(ours, theirs, *[WORDS[shape].tolist() for shape in SHAPES])
    if "mask_value" not in chosen:
        assert same(ours, theirs, NUMBERS, np.array([[-3], [2**40]]), np.array([1.5, -2.5]))


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_crossed_features_give_the_numbers_of_keras(keras, mode):
    ours = L.HashedCrossing(9, output_mode=mode)
    theirs = keras.HashedCrossing(9, output_mode=mode)
    words, numbers = WORDS[:5], NUMBERS[:, :3]
    pairs = [(words[shape], numbers[shape]) for shape in SHAPES[1:]]
    assert same(ours, theirs, *pairs)
    assert same(ours, theirs, (words[:, 0], words[:, 1], numbers[:, 0]))


LARGE = np.array([[2**40, -(2**40), 2**31, 2**63 - 1, -(2**63), 5]])


def test_integers_beyond_32_bits_are_those_of_keras(keras):
    unsigned = np.array([2**64 - 1, 2**63], np.uint64)
    for chosen in ({}, {"salt": 133}, {"mask_value": 2**40}):
        ours, theirs = L.Hashing(1000, **chosen), keras.Hashing(1000, **chosen)
        assert same(ours, theirs, LARGE, LARGE.tolist())
    assert same(L.Hashing(1000), keras.Hashing(1000), unsigned)
    for chosen in ({}, {"num_oov_indices": 3}, {"mask_token": 5}):
        chosen["vocabulary"] = [2**40, 2**31, 2**63 - 1, 7]
        ours, theirs = L.IntegerLookup(**chosen), keras.IntegerLookup(**chosen)
        assert same(ours, theirs, LARGE, LARGE.tolist())
    ours, theirs = L.IntegerLookup(), keras.IntegerLookup()
    ours.adapt(LARGE)
    with keras_rules():
        theirs.adapt(LARGE)
    assert ours.get_vocabulary() == theirs.get_vocabulary()


def test_tokens_beyond_32_bits_stay_as_they_are():
    layer = L.IntegerLookup(vocabulary=[2**40, 7], invert=True)
    found = layer([[1, 2, 9]])  # Keras on JAX cuts them to 32 bits
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[2**40, 7, -1]]
    start = fnn.Input((1,), dtype="int64")
    model = fnn.Sequential([start, layer, L.Rescaling(2.0)])
    assert model.predict([[2]], verbose=0).tolist() == [[14.0]]
    with pytest.raises(ValueError, match=r"fit int32, received 1099511627776"):
        model.predict([[1]], verbose=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # of Keras on JAX
@pytest.mark.parametrize("dtype", [None, "int32", "int64", "float32", "float16"])
def test_discretization_has_the_dtypes_of_keras(keras, dtype):
    x = np.array([[-0.5, 0.5, 1.0, 2.0]])
    for mode in ("int", "one_hot", "multi_hot", "count"):
        chosen = {"bin_boundaries": [0.0, 1.0], "output_mode": mode, "dtype": dtype}
        assert same(L.Discretization(**chosen), keras.Discretization(**chosen), x)
    chosen = {"bin_boundaries": [0.0, 2.0**33]}
    large = np.array([[-1, 0, 2**32, 2**33 - 1, 2**33 + 1]])
    assert same(L.Discretization(**chosen), keras.Discretization(**chosen), large)
    with pytest.raises(ValueError, match="expected sparse=False"):
        L.Discretization(num_bins=3, output_mode="one_hot", sparse=True)


def test_counts_are_floats_in_a_network_and_integers_outside():
    for mode in ("one_hot", "multi_hot", "count"):
        layer = L.StringLookup(vocabulary=["a"], output_mode=mode)
        start = fnn.Input((1,), dtype="string")
        model = fnn.Sequential([start, layer, L.Activation("linear")])
        assert layer([["a"]]).dtype == "int32"
        assert model.predict([["a"]], verbose=0).dtype == "float32"
        assert layer.replace(dtype="float16")([["a"]]).dtype == "float16"


@pytest.mark.parametrize("mode", ["one_hot", "multi_hot", "count"])
def test_an_empty_batch_gives_no_vectors(mode):
    lookup = L.IntegerLookup(vocabulary=[1, 2], output_mode=mode)
    encoding = L.CategoryEncoding(num_tokens=3, output_mode=mode)
    for shape in ((0, 1), (0, 4)):
        none = np.zeros(shape, "int32")
        assert lookup(none).shape == encoding(none).shape
        assert lookup(none).shape[0] == 0
