"""Models that take strings: the part on the host runs ahead of the compiled one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.preprocessing.host import in_few_lengths
from fnn.training import computed
from fnn.training import data as data_module

DRAW = np.random.default_rng(0)
COUNT = 24
TEXTS = np.array(["the cat sat", "a dog ran fast", "the dog"] * 8)
LABELS = (np.arange(COUNT) % 3 == 0).astype("float32")
TABLE = {
    "color": DRAW.choice(["red", "green", "blue"], COUNT),
    "size": DRAW.choice(["s", "m"], (COUNT, 1)),
    "weight": DRAW.normal(50, 10, (COUNT, 1)).astype("float32"),
    "place": DRAW.integers(2**33, 2**33 + 5, (COUNT, 1)),
}
KINDS = {"color": "string", "size": "string", "weight": "float32", "place": "int32"}


def of_texts(seed=0, **more):
    vectorize = L.TextVectorization(output_sequence_length=5, **more)
    vectorize.adapt(TEXTS)
    layers = [vectorize, L.Embedding(20, 3, mask_zero=True), L.GlobalAveragePooling1D()]
    start = fnn.Input((1,), dtype="string")
    return fnn.Sequential([start, *layers, L.Dense(1, "sigmoid")], seed=seed)


def on_indices(model):
    """The same model without its first layer, and the indices of the texts."""
    rest = fnn.Sequential([fnn.Input((5,), dtype="int32"), *model.layers[1:]])
    rest.set_weights(model.get_weights())
    return rest, np.asarray(model.layers[0](TEXTS))


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-6)
    return True


def features():
    """(inputs, the encoded features of each, the layers that encode)."""
    inputs = {name: fnn.Input((1,), name=name, dtype=kind) for name, kind in KINDS.items()}
    color, size = L.StringLookup(output_mode="one_hot"), L.StringLookup()
    weight, place = L.Normalization(), L.IntegerLookup(output_mode="one_hot")
    bins = L.Discretization(num_bins=4)
    data = {color: "color", size: "size", place: "place", bins: "weight", weight: "weight"}
    for layer, name in data.items():
        layer.adapt(TABLE[name])
    crossed = L.HashedCrossing(8)((bins(inputs["weight"]), inputs["size"]))
    encoded = [
        color(inputs["color"]),
        L.Flatten()(L.Embedding(4, 2)(size(inputs["size"]))),
        weight(inputs["weight"]),
        place(inputs["place"]),
        L.CategoryEncoding(8)(crossed),
        L.HashedCrossing(5, output_mode="one_hot")((inputs["color"], inputs["size"])),
    ]
    return inputs, encoded, (color, size, weight, place, bins)


def test_a_model_of_texts_computes_what_its_layers_do():
    model = of_texts()
    rest, indices = on_indices(model)
    expected = rest.predict(indices, verbose=0)
    column = TEXTS[:, None]
    forms = (TEXTS, column, TEXTS.tolist(), TEXTS.astype(object), TEXTS.astype("S"))
    for form in (*forms, column.tolist()):
        assert close(model.predict(form, verbose=0), expected)
    assert close(model(column), expected)
    assert close(model(TEXTS), expected)
    assert close(model.predict_on_batch(column), expected)
    assert model.input_shape == (None, 1)
    assert model.input.dtype == "string"
    assert model.predict(TEXTS[:0], verbose=0).shape == (0, 1)


@pytest.mark.slow
def test_a_model_of_texts_trains_as_the_one_of_indices():
    model = of_texts()
    rest, indices = on_indices(model)
    for one, x in ((model, TEXTS), (rest, indices)):
        one.compile(fnn.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
        one.fit(x, LABELS, epochs=2, batch_size=7, shuffle=False, verbose=0)
        one.train_on_batch(x[:8], LABELS[:8])
    for found, expected in zip(model.get_weights(), rest.get_weights(), strict=True):
        assert close(found, expected)
    assert close(
        model.evaluate(TEXTS, LABELS, verbose=0), rest.evaluate(indices, LABELS, verbose=0)
    )
    assert close(model.test_on_batch(TEXTS, LABELS), rest.test_on_batch(indices, LABELS))


def batches():
    for start in range(0, COUNT, 8):
        yield TEXTS[start : start + 8], LABELS[start : start + 8]


@pytest.mark.slow
def test_streams_of_strings_are_those_of_indices():
    model = of_texts()
    rest, indices = on_indices(model)
    model.compile("sgd", "binary_crossentropy")
    rest.compile("sgd", "binary_crossentropy")
    model.fit(batches(), verbose=0)
    rest.fit(indices, LABELS, batch_size=8, shuffle=False, verbose=0)
    assert close(model.get_weights()[0], rest.get_weights()[0])
    expected = model.predict(TEXTS, verbose=0)
    assert close(model.predict((x for x, _ in batches()), verbose=0), expected)
    assert close(model.evaluate(batches(), verbose=0), model.evaluate(TEXTS, LABELS, verbose=0))
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((TEXTS.tolist(), LABELS)).batch(8)
    assert close(model.evaluate(data, verbose=0), model.evaluate(TEXTS, LABELS, verbose=0))
    model.fit(data, verbose=0)


@pytest.mark.slow
def test_data_is_split_before_the_host_runs():
    model = of_texts()
    model.compile("sgd", "binary_crossentropy")
    history = model.fit(TEXTS, LABELS, validation_split=0.25, verbose=0).history
    last = model.evaluate(TEXTS[18:], LABELS[18:], verbose=0)
    assert close(history["val_loss"][0], last)
    model.fit(TEXTS, LABELS, validation_data=(TEXTS[:4], LABELS[:4]), verbose=0)


@pytest.mark.slow
def test_a_graph_of_several_inputs_computes_what_its_layers_do():
    inputs, encoded, layers = features()
    color, size, weight, place, bins = layers
    model = fnn.Model(inputs, L.Dense(1)(L.Concatenate()(encoded)), seed=0)
    table = model.get_layer("embedding").get_weights()[0]
    column = TABLE["color"][:, None]
    crossed = L.HashedCrossing(8)((bins(TABLE["weight"]), TABLE["size"]))
    parts = [
        color(column),
        table[np.asarray(size(TABLE["size"]))[:, 0]],
        weight(TABLE["weight"]),
        place(TABLE["place"]),
        L.CategoryEncoding(8)(crossed),
        L.HashedCrossing(5, output_mode="one_hot")((column, TABLE["size"])),
    ]
    kernel, bias = model.get_layer("dense").get_weights()
    expected = np.concatenate([np.asarray(part) for part in parts], -1) @ kernel + bias
    assert close(model.predict(TABLE, verbose=0), expected)
    assert close(model(TABLE), expected)
    order = [TABLE[name] for name in sorted(TABLE)]
    ordered = fnn.Model([inputs[name] for name in sorted(inputs)], model.output)
    assert close(ordered.predict(order, verbose=0), expected)
    model.compile("adam", "mse")
    model.fit(TABLE, LABELS, epochs=2, verbose=0)
    assert np.isfinite(model.evaluate(TABLE, LABELS, verbose=0))


@pytest.mark.slow
def test_models_inside_models_are_cut_too(tmp_path):
    inputs, encoded, _ = features()
    inner = fnn.Model(inputs, L.Concatenate()(encoded), seed=0)
    expected = inner.predict(TABLE, verbose=0)
    ids = fnn.Sequential([fnn.Input((1,), dtype="string"), L.StringLookup(vocabulary=["red"])])
    x = ids(inputs["color"])
    for call in ({}, {"training": False}):
        joined = L.Concatenate()([inner(inputs, **call), L.CategoryEncoding(2)(x)])
        outer = fnn.Model(inputs, joined)
        found = outer.predict(TABLE, verbose=0)
        assert close(found[:, :-2], expected)
        assert found[:, -1].tolist() == (TABLE["color"] == "red").tolist()
    path = tmp_path / "model.fnn"
    outer.save(path)
    assert close(fnn.load(path).predict(TABLE, verbose=0), found)
    for copied in (fnn.models.clone_model(outer), fnn.models.model_from_json(outer.to_json())):
        copied.set_weights(outer.get_weights())
        assert close(copied.predict(TABLE, verbose=0), found)


def test_the_vocabulary_is_saved_and_summarized(tmp_path, capsys):
    model = of_texts()
    model.compile("adam", "binary_crossentropy")
    path = tmp_path / "model.fnn"
    model.save(path)
    loaded = fnn.load(path)
    assert loaded.layers[0] == model.layers[0]
    assert loaded.layers[0].get_vocabulary() == model.layers[0].get_vocabulary()
    assert close(loaded.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    assert loaded.input.dtype == "string"
    model.summary()
    shown = capsys.readouterr().out
    assert "text_vectorization (TextVectorization)" in shown
    assert "(None, 5)" in shown
    config = model.layers[0].get_config()
    assert L.TextVectorization.from_config(config) == model.layers[0]


def test_a_layer_learns_after_the_model_was_made():
    lookup = L.StringLookup()
    start = fnn.Input((1,), dtype="string")
    model = fnn.Sequential([start, lookup, L.CategoryEncoding(4), L.Dense(1)], seed=0)
    kernel = model.get_weights()[0]
    lookup.adapt(["x", "y"])
    assert close(model.predict(["y", "x", "z"], verbose=0), kernel[[1, 2, 0]])
    lookup.set_vocabulary(["z", "x"])
    assert close(model.predict(["y", "x", "z"], verbose=0), kernel[[0, 2, 1]])


@pytest.mark.slow
def test_a_model_without_an_input_takes_its_first_data():
    lookup = L.StringLookup(vocabulary=["x", "y"])
    model = fnn.Sequential([lookup, L.Embedding(3, 2), L.Flatten(), L.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(np.array([["x"], ["y"]]), np.ones(2), verbose=0)
    assert model.predict([["x"]], verbose=0).shape == (1, 1)


def test_a_network_of_layers_is_a_pure_pair():
    network = L.Sequential([L.StringLookup(vocabulary=["x", "y"]), L.Embedding(3, 2)])
    x = np.array(["x", "y", "z"])
    params, state = network.init(jax.random.key(0), x)
    y, _ = network.apply(params, state, x)
    assert close(y, params["embedding"]["embeddings"][np.array([1, 2, 0])])
    assert network(x).shape == (3, 2)


@pytest.mark.slow
def test_the_number_of_words_is_free_without_a_length():
    layer = L.TextVectorization()
    start = fnn.Input((), dtype="string")
    model = fnn.Sequential([start, layer, L.Embedding(9, 2, mask_zero=True), L.LSTM(3)], seed=0)
    assert model.layers[0].output.shape == (None, None)
    layer.adapt(TEXTS)
    whole = model.predict(TEXTS, verbose=0)
    assert close(model.predict(TEXTS[2:3], verbose=0), whole[2:3])


def test_a_class_with_call_reads_strings_outside_of_jit():
    class Tagged(fnn.Model):
        def __init__(self):
            super().__init__()
            self.lookup = L.StringLookup(vocabulary=["x", "y"])
            self.embed = L.Embedding(3, 2)

        def call(self, ids):
            return self.embed(ids)

        def of_words(self, words):
            return self(self.lookup(words))

    assert Tagged().of_words(["x", "z"]).shape == (2, 2)


def without_length():
    """A model whose batches are as long as their longest text."""
    vectorize = L.TextVectorization(vocabulary=["the", "cat", "sat", "dog"])
    start = fnn.Input((), dtype="string")
    embed = L.Embedding(6, 2, mask_zero=True)
    layers = [start, vectorize, embed, L.GlobalAveragePooling1D(), L.Dense(1)]
    return fnn.Sequential(layers, seed=0)


def of_lengths(*counts, size=4):
    """A stream of batches, the longest text of each of which has so many words."""
    for number, count in enumerate(counts):
        words = DRAW.choice(["the", "cat", "dog", "new"], (size - (number > 1), count))
        yield np.array([" ".join(row) for row in words]), np.ones(len(words))


@pytest.mark.slow
def test_batches_of_a_stream_may_have_texts_of_several_lengths():
    counts = 3, 11, 7
    model, whole = without_length(), without_length()
    data = list(of_lengths(*counts))
    expected = whole.predict(np.concatenate([x for x, _ in data]), verbose=0)
    assert close(model.predict((x for x, _ in data), verbose=0), expected)
    for one in (model, whole):
        one.compile("sgd", "mse")
    model.fit(lambda: iter(data), epochs=2, verbose=0)
    for _ in range(2):
        for x, y in data:
            whole.train_on_batch(x, y)
    for found, wanted in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert close(found, wanted)
    texts = np.concatenate([x for x, _ in data])
    labels = np.concatenate([y for _, y in data])
    assert close(model.evaluate(iter(data), verbose=0), model.evaluate(texts, labels, verbose=0))


@pytest.mark.parametrize(("count", "padded"), [(0, 8), (3, 8), (8, 8), (9, 16), (33, 64)])
def test_the_lengths_of_a_stream_are_few(count, padded):
    indices = np.arange(2 * count).reshape(2, count) + 1
    found = in_few_lengths(indices)
    assert found.shape == (2, padded)
    assert (found[:, :count] == indices).all()
    assert not found[:, count:].any()


def of_large_outputs(seed=0):
    """A model whose host part makes long vectors, of two inputs, of one call."""
    words = L.TextVectorization(vocabulary=["the", "cat", "dog"], output_mode="multi_hot")
    color = L.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")
    inputs = [fnn.Input((1,), dtype="string") for _ in range(2)]
    encoded = [words(inputs[0]), color(inputs[1])]
    return fnn.Model(inputs, L.Dense(1)(L.Concatenate()(encoded)), seed=seed), words


@pytest.mark.slow
def test_large_outputs_of_the_host_are_computed_batch_by_batch(monkeypatch):
    data = [TEXTS, TABLE["color"]]
    plain, _ = of_large_outputs()
    model, words = of_large_outputs()
    sizes = []
    compute = type(words).compute

    def noted(layer, x):
        sizes.append(len(x))
        return compute(layer, x)

    monkeypatch.setattr(type(words), "compute", noted)
    for one in (plain, model):
        one.compile("sgd", "mse")
        if one is model:
            sizes.clear()
            monkeypatch.setattr(computed, "AT_ONCE", 0)
            monkeypatch.setattr(data_module, "GATHERED_BYTES", 100)
        found = [one.predict(data, batch_size=5, verbose=0)]
        one.fit(data, LABELS, batch_size=5, epochs=2, validation_split=0.25, verbose=0)
        found += [one.evaluate(data, LABELS, batch_size=5, verbose=0), *one.get_weights()]
        if one is plain:
            expected = found
    for here, there in zip(found, expected, strict=True):
        assert close(here, there)
    assert max(sizes) <= 24
    each_once_a_pass = 24 + 2 * 18 + 2 * 6 + 24
    assert 0 <= sum(sizes) - each_once_a_pass < 8  # an incomplete batch is padded by one


@pytest.mark.slow
def test_strings_are_sliced_and_reshaped_in_a_graph():
    x = fnn.Input((4,), dtype="string")
    lookup = L.StringLookup(vocabulary=list("abcd"))
    pairs = L.Reshape((2, 2))(x)
    last = L.Permute((2, 1))(pairs)[:, :, -1:]
    joined = L.Concatenate()([x[:, :1], L.Flatten()(last)])
    upper = L.Lambda(lambda given: np.char.lower(given.astype(str)))(joined)
    model = fnn.Model(x, L.Rescaling(1.0)(lookup(upper)))
    given = np.array([list("ABCD"), list("DCBA")])
    assert model.output_shape == (None, 3)
    expected = np.array([[1, 3, 4], [4, 2, 1]], "float32")
    for form in (given, given.tolist(), given.astype(object)):
        assert close(model.predict(form, verbose=0), expected)
    assert close(model(given), expected)


def test_what_cannot_be_computed_of_strings_says_so():
    x = fnn.Input((2,), dtype="string")
    number = fnn.Input((2,))
    with pytest.raises(TypeError, match="Dense: expected numbers, received strings"):
        L.Dense(2)(x)
    with pytest.raises(TypeError, match="Concatenate: expected numbers, received strings"):
        L.Concatenate()([x, number])
    with pytest.raises(TypeError, match="expected a function of NumPy for strings"):
        L.Lambda(jnp.square)(x)
    known = L.StringLookup(vocabulary=["a"])(x)
    with pytest.raises(TypeError, match="returns strings; leave the last layer out"):
        fnn.Model(x, [known, x[:, :1]]).predict([["a", "b"]], verbose=0)
    names = L.StringLookup(vocabulary=["no", "yes"], invert=True)
    best = L.Lambda(lambda y: jnp.argmax(y, -1))(L.Dense(3)(number))
    with pytest.raises(ValueError, match="leave StringLookup out of the model, and call it on"):
        fnn.Model(number, names(best)).predict(np.ones((2, 2)), verbose=0)
    scores = fnn.Model(number, best)
    assert names(scores.predict(np.ones((2, 2)), verbose=0)).shape == (2,)
