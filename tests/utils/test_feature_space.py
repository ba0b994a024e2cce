"""FeatureSpace: the numbers of live Keras; in models, in files, on frames; its mistakes."""

import copy

import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.utils import FeatureSpace
from tests.helpers.oracle import keras_rules

DRAW = np.random.default_rng(0)
COUNT = 75
TABLE = {
    "wide": DRAW.normal(50, 10, COUNT).astype("float32"),
    "bins": DRAW.gamma(2.0, 3.0, COUNT).astype("float32"),
    "age": DRAW.uniform(0, 90, COUNT).astype("float32"),
    "city": DRAW.choice(["Rome", "Oslo", "Bonn", "Lima"], COUNT),
    "code": DRAW.choice(["a1", "b2", "c3"], COUNT),
    "rooms": DRAW.integers(1, 6, COUNT),
    "street": DRAW.integers(0, 10**6, COUNT),
    "plain": DRAW.normal(0, 1, COUNT).astype("float32"),
}
KINDS = {
    "wide": "float_normalized",
    "bins": "float_discretized",
    "age": "float_rescaled",
    "city": "string_categorical",
    "code": "string_hashed",
    "rooms": "integer_categorical",
    "street": "integer_hashed",
    "plain": "float",
}
SIZES = {"crossing_dim": 8, "hashing_dim": 5, "num_discretization_bins": 4}
LABELS = (TABLE["wide"] > 50).astype("float32")
UNSEEN = {name: column[:6].copy() for name, column in TABLE.items()}
UNSEEN["city"] = np.array(["Rome", "Cork", "Lima", "Oslo", "Pisa", "Bonn"])
UNSEEN["rooms"] = np.array([1, 9, 3, 4, 5, 0])


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("tensorflow")
    import keras

    return keras.utils.FeatureSpace


def close(found, expected):
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)
    return True


def adapted(cls, make=None, **more):
    """A FeatureSpace of fnn or Keras, from `make(cls)` or by the names of all kinds."""
    features = KINDS if make is None else make(cls)
    space = cls(features, **more)
    with keras_rules():
        space.adapt({name: TABLE[name] for name in features})
    return space


def called(space, data):
    names = list(space.preprocessors)
    with keras_rules():
        return space({name: data[name] for name in names})


@pytest.mark.slow
def test_every_kind_has_the_numbers_of_keras(theirs):
    options = {"crosses": [("city", "rooms"), ("code", "street")], **SIZES}
    ours, keras = adapted(FeatureSpace, **options), adapted(theirs, **options)
    for data in (TABLE, UNSEEN):
        assert close(called(ours, data), called(keras, data))
    one = {name: column[0] for name, column in TABLE.items()}
    assert close(called(ours, one), called(ours, TABLE)[0])
    assert list(ours.preprocessors) == list(keras.preprocessors)
    assert list(ours.crossers) == list(keras.crossers)
    assert ours.name == "feature_space"


def with_arguments(cls):
    return {
        "wide": cls.float_normalized(name="width"),
        "age": cls.float_rescaled(scale=0.1, offset=-1.0),
        "bins": cls.float_discretized(3, output_mode="int"),
        "city": cls.string_categorical(max_tokens=4, num_oov_indices=2, output_mode="int"),
        "rooms": cls.integer_categorical(max_tokens=4, output_mode="one_hot"),
        "street": cls.integer_hashed(7, output_mode="int"),
        "code": cls.string_hashed(3),
    }


def test_arguments_and_dicts_have_the_numbers_of_keras(theirs):
    spaces = []
    for cls in (FeatureSpace, theirs):
        crosses = [cls.cross(("city", "rooms"), crossing_dim=6, output_mode="int")]
        spaces.append(adapted(cls, with_arguments, crosses=crosses, output_mode="dict"))
    ours, keras = (called(space, UNSEEN) for space in spaces)
    assert set(ours) == set(keras)
    for name in keras:
        assert close(ours[name], keras[name]), name
    assert spaces[0].preprocessors["wide"].name == "width_preprocessor"


def test_a_layer_of_the_user_is_as_it_is_alone():
    texts = np.array(["red fox", "lazy dog", "red dog", "a fox"])
    layer, alone = (L.TextVectorization(output_mode="tf_idf") for _ in range(2))
    alone.adapt(texts)
    space = FeatureSpace({"text": FeatureSpace.feature("string", layer, "float"), "size": "float"})
    data = {"text": texts, "size": np.arange(4)}
    space.adapt(data)
    assert close(space(data)[:, 1:], alone(texts))
    assert close(space(data)[:, 0], data["size"])


def batches():
    for start in range(0, COUNT, 10):
        yield {name: column[start : start + 10] for name, column in TABLE.items()}


def singles():
    for row in range(COUNT):
        yield {name: column[row] for name, column in TABLE.items()}


@pytest.mark.slow
def test_it_learns_from_streams_and_frames(theirs):
    pandas = pytest.importorskip("pandas")
    tf = pytest.importorskip("tensorflow")
    expected = adapted(FeatureSpace, **SIZES)
    rows = tf.data.Dataset.from_tensor_slices(TABLE)
    for source in (singles(), rows, rows.batch(32), pandas.DataFrame(TABLE)):
        space = FeatureSpace(KINDS, **SIZES)
        space.adapt(source)
        assert close(called(space, TABLE), called(expected, TABLE))
    with_targets = FeatureSpace(KINDS, **SIZES)
    with_targets.adapt((x, None) for x in batches())
    keras = theirs(KINDS, **SIZES)
    keras.adapt(rows.batch(10))
    assert close(called(with_targets, TABLE), called(keras, TABLE))
    frame = pandas.DataFrame({**TABLE, "unused": 1})
    assert close(expected(frame), called(expected, TABLE))


def test_learning_again_forgets_what_was_before():
    space = FeatureSpace({"wide": "float_normalized", "city": "string_categorical"})
    space.adapt({"wide": [0.0, 2.0], "city": ["x", "y"]})
    assert space({"wide": 2.0, "city": "y"}).tolist() == [0.0, 1.0, 0.0, 1.0]
    space.adapt({"wide": [10.0, 14.0], "city": ["z", "z"]})
    assert space({"wide": 14.0, "city": "z"}).tolist() == [0.0, 1.0, 1.0]
    assert space.get_encoded_features().shape == (None, 3)


def network(space, seed=0):
    outputs = L.Dense(1, "sigmoid")(space.get_encoded_features())
    model = fnn.Model(space.get_inputs(), outputs, seed=seed)
    model.compile(fnn.optimizers.Adam(0.1), "binary_crossentropy")
    return model


@pytest.mark.slow
def test_models_train_and_are_saved(tmp_path):
    space = adapted(FeatureSpace, crosses=[("city", "rooms")], **SIZES)
    model = network(space)
    encoded = called(space, TABLE)
    plain = fnn.Sequential([fnn.Input(encoded.shape[1:]), L.Dense(1, "sigmoid")])
    plain.set_weights(model.get_layer("dense").get_weights())
    plain.compile(fnn.optimizers.Adam(0.1), "binary_crossentropy")
    for one, x in ((model, TABLE), (plain, encoded)):
        one.fit(x, LABELS, epochs=2, batch_size=25, shuffle=False, verbose=0)
    assert close(model.predict(TABLE, verbose=0), plain.predict(encoded, verbose=0))
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert close(again.predict(UNSEEN, verbose=0), model.predict(UNSEEN, verbose=0))
    assert close(called(again.get_layer("feature_space"), UNSEEN), called(space, UNSEEN))


@pytest.mark.slow
def test_a_stream_of_dicts_trains_a_model():
    model = network(adapted(FeatureSpace, **SIZES))
    same = network(adapted(FeatureSpace, **SIZES))
    batch = next(batches())
    model.fit(iter([(batch, LABELS[:10])]), verbose=0)
    same.fit(batch, LABELS[:10], shuffle=False, verbose=0)
    assert close(
        model.get_layer("dense").get_weights()[0], same.get_layer("dense").get_weights()[0]
    )


@pytest.mark.slow
def test_outputs_in_a_dict_are_nodes_by_name():
    space = adapted(FeatureSpace, with_arguments, output_mode="dict")
    nodes = space.get_encoded_features()
    city = L.Flatten()(L.Embedding(5, 2)(nodes["city"]))
    model = fnn.Model(space.get_inputs(), L.Concatenate()([city, nodes["age"], nodes["rooms"]]))
    data = {name: UNSEEN[name] for name in space.preprocessors}
    found = model.predict(data, verbose=0)
    table = model.get_layer("embedding").get_weights()[0]
    encoded = space(data)
    parts = [table[np.asarray(encoded["city"])[:, 0]], encoded["age"], encoded["rooms"]]
    assert close(found, np.concatenate([np.asarray(part) for part in parts], -1))


@pytest.mark.slow
def test_files_and_copies_hold_what_was_learned(tmp_path):
    space = adapted(FeatureSpace, crosses=[("city", "rooms")], **SIZES)
    space.save(tmp_path / "space.fnn")
    again = FeatureSpace.load(tmp_path / "space.fnn")
    assert again == space
    assert close(called(again, UNSEEN), called(space, UNSEEN))
    assert again.get_encoded_features().shape == space.get_encoded_features().shape
    assert close(fnn.load(tmp_path / "space.fnn")(UNSEEN), called(space, UNSEEN))
    assert close(called(copy.deepcopy(space), UNSEEN), called(space, UNSEEN))
    other = FeatureSpace.from_config(space.get_config())
    assert other == space
    fnn.Sequential([L.Dense(1, input_shape=(2,))]).save(tmp_path / "other.fnn")
    with pytest.raises(ValueError, match=r"written by FeatureSpace\.save"):
        FeatureSpace.load(tmp_path / "other.fnn")


def test_given_vocabularies_and_moments_need_no_adapt():
    given = L.Normalization(mean=1.0, variance=4.0)
    space = FeatureSpace(
        {
            "city": FeatureSpace.feature("string", L.StringLookup(vocabulary=["x"]), "one_hot"),
            "wide": FeatureSpace.feature("float32", given, "float"),
            "bins": FeatureSpace.float_discretized(9, bin_boundaries=[0.0, 1.0]),
        }
    )
    one = space({"city": "x", "wide": 5.0, "bins": 0.5})
    assert one.tolist() == [0.0, 1.0, 0.0, 0.0, 1.0, 2.0]
    space.adapt({"city": ["q"], "wide": [0.0], "bins": [0.0]})
    assert space({"city": "x", "wide": 5.0, "bins": 0.5}).tolist() == one.tolist()


MISTAKES = {
    "no features": (lambda: FeatureSpace({}), ValueError, "a dict from names to kinds"),
    "kind": (lambda: FeatureSpace({"a": "number"}), ValueError, "kinds out of float, float_re"),
    "cross": (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "b")]), ValueError, r"\['b'\]"),
    "int": (
        lambda: FeatureSpace({"a": FeatureSpace.integer_hashed(3, "int")}),
        ValueError,
        "features that are encoded, received 'a'",
    ),
    "bins": (
        lambda: FeatureSpace({"a": FeatureSpace.feature("float32", L.Rescaling(2.0), "one_hot")}),
        ValueError,
        "known number of integers for 'a'",
    ),
    "strings": (
        lambda: FeatureSpace(
            {"a": FeatureSpace.feature("string", L.Hashing(3), "float")}
        ).get_encoded_features(),
        ValueError,
        "expected floats from the layer of 'a'",
    ),
    "before adapt": (
        lambda: FeatureSpace({"a": "float", "b": "float_normalized"})({"a": 1.0, "b": 1.0}),
        ValueError,
        "feature 'b' has not; call feature_space.adapt",
    ),
    "column": (lambda: FeatureSpace({"a": "float"})({"b": [1.0]}), ValueError, r"without \['a'\]"),
    "list": (lambda: FeatureSpace({"a": "float"})([1.0]), TypeError, "dict of columns, received l"),
    "stream": (
        lambda: FeatureSpace({"a": "float_normalized"}).adapt(iter([np.ones(3)])),
        TypeError,
        "dicts of columns from the data, received ndarray",
    ),
    "nothing": (
        lambda: FeatureSpace({"a": "float_normalized"}).adapt(iter([])),
        ValueError,
        "received no batch",
    ),
    "cross of floats": (
        lambda: FeatureSpace({"a": "float", "b": "float"}, crosses=[("a", "b")])(
            {"a": [1.0], "b": [2.0]}
        ),
        ValueError,
        "expected strings or integers, received float32",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    make, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
def test_a_map_of_tensorflow_is_refused():
    tf = pytest.importorskip("tensorflow")
    space = FeatureSpace({"a": "float"})
    with pytest.raises(TypeError, match="symbolic tensor of TensorFlow"):
        tf.data.Dataset.from_tensor_slices({"a": [1.0]}).map(space)
