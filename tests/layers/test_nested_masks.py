"""Masks of more axes than (batch, time): words in sentences in documents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.core.calling import call, initialize
from fnn.core.context import INFERENCE, Context, Masked, combine_masks, is_masked, strip_masks
from tests.helpers.catalogue import Case, jit
from tests.helpers.oracle import keras_rules, random_weights_unset

# (documents, sentences, words): short sentences, a sentence and a document of padding alone.
DOCUMENTS = np.array(
    [
        [[1, 2, 3, 0], [4, 0, 0, 0], [0, 0, 0, 0]],
        [[5, 1, 0, 0], [0, 0, 0, 0], [2, 3, 3, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ],
    "int32",
)
WORDS = DOCUMENTS != 0
SENTENCES = WORDS.any(2)
TABLE = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
VECTORS = np.where(WORDS[..., None], TABLE[DOCUMENTS], 0)


def close(received, expected, tolerance=1e-6):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance),
        received,
        expected,
    )


def weights(layer, x):
    """Random weights and a fresh state, without a program for each shape."""
    return Case(layer, *(x if isinstance(x, tuple) else (x,))).weights


def run(layer, x, params=None, state=None, ctx=INFERENCE):
    params, state = ({}, {}) if params is None else (params, state)
    return jit(lambda params, x: call(layer, params, state, x, ctx)[0])(params, x)


# -- where masks begin -----------------------------------------------------------------------------


@pytest.mark.slow
def test_masking_masks_each_word_as_keras_does():
    import keras

    y, _ = call(L.Masking(), {}, {}, VECTORS, INFERENCE)
    np.testing.assert_array_equal(y.mask, keras.layers.Masking().compute_mask(VECTORS))
    np.testing.assert_array_equal(y.mask, WORDS)
    np.testing.assert_array_equal(y.values, keras.layers.Masking()(VECTORS))


@pytest.mark.parametrize("layer", [L.Embedding, L.ReversibleEmbedding])
def test_an_embedding_masks_each_word_as_keras_does(layer):
    import keras

    layer = layer(6, 4, mask_zero=True)
    y, _ = call(layer, *weights(layer, DOCUMENTS), DOCUMENTS, INFERENCE)
    twin = keras.layers.Embedding(6, 4, mask_zero=True)
    np.testing.assert_array_equal(y.mask, twin.compute_mask(DOCUMENTS))


def test_a_mask_of_sentences_and_one_of_words_add_up():
    first = jnp.asarray([[True, False, True]] * 3)
    expected = WORDS & np.asarray(first)[..., None]
    np.testing.assert_array_equal(combine_masks((first, None, jnp.asarray(WORDS))), expected)
    for layer, x in ((L.Masking(), VECTORS), (L.Embedding(6, 4, mask_zero=True), DOCUMENTS)):
        params, state = weights(layer, x)
        y, _ = call(layer, params, state, Masked(jnp.asarray(x), first), INFERENCE)
        np.testing.assert_array_equal(y.mask, expected)


# -- padding changes nothing -----------------------------------------------------------------------

ENCODERS = {
    "lstm": L.LSTM(3),
    "gru backwards": L.GRU(3, go_backwards=True),
    "rnn of a cell": L.RNN(L.SimpleRNNCell(3)),
    "bidirectional": L.Bidirectional(L.LSTM(3)),
    "mean": L.GlobalAveragePooling1D(),
    "maximum": L.GlobalMaxPooling1D(),
    "attention": L.Sequential([L.MultiHeadAttention(2, 3), L.GlobalAveragePooling1D()]),
    "softmax over words": L.Sequential([L.Softmax(1), L.GlobalAveragePooling1D()]),
    "normalized": L.Sequential([L.GroupNormalization(2), L.LSTM(3)]),
    "transformer": L.Sequential([L.TransformerEncoderBlock(4, 2), L.GlobalMaxPooling1D()]),
    "nested": L.Residual(L.Sequential([L.Dense(4, "tanh"), L.LSTM(4, return_sequences=True)])),
}


def encoder(name):
    inner = ENCODERS[name]
    return L.Sequential([inner, L.LSTM(3)]) if name == "nested" else inner


@functools.cache
def readings(name):
    """(outputs for padded documents by what masks them, the outputs for each document alone).

    A document is read sentence by sentence, without padding, and then as the sentences with a word.
    """
    inner = encoder(name)
    rest = [L.Dense(4, "tanh"), L.TimeDistributed(inner), L.LSTM(2)]
    starts = {"Embedding": L.Embedding(6, 4, mask_zero=True), "Masking": L.Masking()}
    whole = {first: L.Sequential([start, *rest]) for first, start in starts.items()}
    reader = L.Sequential([L.Dense(4, "tanh"), inner.replace(name="time_distributed")])
    params, state = weights(whole["Embedding"], DOCUMENTS)
    params["embedding"]["embeddings"] = jnp.asarray(TABLE)
    others = {part: w for part, w in params.items() if part != "embedding"}

    def both(params, others, documents, vectors, sentences):
        found = {
            "Embedding": call(whole["Embedding"], params, state, documents, INFERENCE)[0],
            "Masking": call(whole["Masking"], others, state, vectors, INFERENCE)[0],
        }
        encoded = [
            jnp.concatenate([call(reader, others, state, x, INFERENCE)[0] for x in document])
            for document in sentences
        ]
        return found, call(rest[-1], others["lstm"], {}, jnp.stack(encoded), INFERENCE)[0]

    real = [[words[words != 0] for words in document] for document in DOCUMENTS[:2]]
    sentences = [[TABLE[words][None] for words in document if words.size] for document in real]
    return jit(both)(params, others, DOCUMENTS, VECTORS, sentences)


# What these do with a mask of steps, rows of the catalogue say.
ALIKE = ("gru backwards", "rnn of a cell", "bidirectional")
encoders = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.thorough if n in ALIKE else ()) for n in ENCODERS],
)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["Embedding", "Masking"])
@encoders
def test_documents_are_read_as_without_padding(name, first):
    """Each sentence alone, without its padding; then each document of these that have a word."""
    found, alone = readings(name)
    assert np.isfinite(found[first]).all()
    close(found[first][:2], alone)


@pytest.mark.slow
@encoders
def test_padding_gives_finite_gradients_whatever_it_holds(name):
    layer = L.Sequential([L.TimeDistributed(encoder(name)), L.GlobalAveragePooling1D()])
    params, state = weights(layer, VECTORS)

    def loss(params, values):
        x = Masked(values, jnp.asarray(WORDS))
        y, _ = call(layer, params, state, x, Context(train=True, key=jax.random.key(1)))
        return (y**2).sum()

    gradient = jit(jax.grad(loss))
    clean = gradient(params, VECTORS)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(clean))
    noisy = gradient(params, np.where(WORDS[..., None], VECTORS, np.float32(7)))
    close(noisy, clean)


def test_batch_statistics_are_over_words():
    layer = L.TimeDistributed(
        L.Sequential([L.BatchNormalization(momentum=0.0), L.GlobalAveragePooling1D()])
    )
    x = Masked(jnp.asarray(VECTORS), jnp.asarray(WORDS))
    params, state = initialize(layer, jax.random.key(0), x)
    after = jit(lambda x: call(layer, params, state, x, Context(train=True))[1])(x)
    moving = after["batch_normalization"]
    close(moving["moving_mean"], VECTORS[WORDS].mean(0))
    close(moving["moving_variance"], VECTORS[WORDS].var(0))


@pytest.mark.slow
def test_a_sequence_of_images_is_masked_by_its_steps():
    """The mask of pixels from `Masking` counts step by step: a step with a real pixel is real."""
    film = np.random.default_rng(1).normal(size=(2, 4, 3, 3, 2)).astype("float32")
    film[0, 2:] = film[1, 1] = 0
    layer = L.Sequential([L.Masking(), L.ConvLSTM2D(2, 2)])
    params, state = weights(layer, film)
    alone, rows = L.ConvLSTM2D(2, 2), ([0, 1], [0, 2, 3])

    @jit
    def both(film, shorter):
        one = lambda x: call(alone, params["conv_lstm2d"], {}, x, INFERENCE)[0]
        return call(layer, params, state, film, INFERENCE)[0], [one(x)[0] for x in shorter]

    y, expected = both(film, [film[row : row + 1, steps] for row, steps in enumerate(rows)])
    close(list(y), expected)


# -- where masks go --------------------------------------------------------------------------------

NESTED = Masked(jnp.asarray(VECTORS), jnp.asarray(WORDS))
STEPS = Masked(jnp.asarray(VECTORS), jnp.asarray(SENTENCES))
KEEPING = {
    "dense": (L.Dense(3), NESTED, WORDS),
    "einsum": (L.EinsumDense("...a,ab->...b", 3), NESTED, WORDS),
    "einsum by letters": (L.EinsumDense("abcd,de->abce", (3, 4, 2)), NESTED, WORDS),
    "time distributed": (L.TimeDistributed(L.Dense(3)), NESTED, WORDS),
    "over words": (L.TimeDistributed(L.LSTM(3)), NESTED, SENTENCES),
    "attention over both": (L.MultiHeadAttention(2, 3), NESTED, WORDS),
    "attention over words": (L.MultiHeadAttention(2, 3, attention_axes=2), NESTED, WORDS),
    "sum of masks": (L.Add(), (NESTED, STEPS), WORDS & SENTENCES[..., None]),
    "operator": (L.Operator("multiply"), (NESTED, STEPS), WORDS & SENTENCES[..., None]),
    "beside": (L.Concatenate(), (NESTED, STEPS), WORDS & SENTENCES[..., None]),
    "one sentence after another": (
        L.Concatenate(1), (NESTED, STEPS),
        np.concatenate([WORDS, np.repeat(SENTENCES[..., None], 4, 2)], 1),
    ),
    "longer sentences": (
        L.Concatenate(2), (NESTED, NESTED.values),
        np.concatenate([WORDS, np.ones_like(WORDS)], 2),
    ),
    "longer sentences of steps": (L.Concatenate(2), (STEPS, STEPS), SENTENCES),
    "turned round": (L.Reverse(2), NESTED, WORDS[:, :, ::-1]),
    "experts": (L.MixtureOfExperts(L.Dense(3), 2), NESTED, WORDS),
    "repeated": (L.Repeat(L.Dense(4), 2), NESTED, WORDS),
    "remat": (L.Remat(L.Dense(4)), NESTED, WORDS),
    "one for each member": (L.Spread(L.Ensemble(L.Dense(4), 2)), NESTED, WORDS),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", KEEPING)
def test_a_mask_of_words_stays_where_the_words_do(name):
    layer, x, expected = KEEPING[name]
    y = run(layer, x, *weights(layer, x))
    for part in jax.tree.leaves(y, is_leaf=is_masked):
        np.testing.assert_array_equal(part.mask, expected)


def test_an_operator_spreads_the_mask_of_one_step():
    step = Masked(jnp.ones((3, 1, 4)), jnp.asarray([[True], [False], [True]]))
    y = run(L.Operator("add"), (jnp.ones((3, 6, 4)), step))
    np.testing.assert_array_equal(y.mask, np.repeat(np.asarray(step.mask), 6, 1))


@pytest.mark.parametrize(
    "layer", [L.EinsumDense("abcd,ce->abed", (3, 2, 4)), L.Flatten(), L.GlobalAveragePooling2D()]
)
def test_a_mask_of_words_that_would_be_lost_is_refused(layer):
    params, state = weights(layer, NESTED)
    with pytest.raises(ValueError, match=r"expected inputs without a mask.*Unmask\(\)"):
        call(layer, params, state, NESTED, INFERENCE)


# -- losses, metrics, Keras ------------------------------------------------------------------------


@pytest.mark.slow
def test_losses_and_metrics_count_words_as_keras_does():
    import keras

    y = np.random.default_rng(2).normal(size=(3, 3, 4, 2)).astype("float32")
    labels = np.random.default_rng(3).integers(0, 2, (3, 3, 4, 1)).astype("int32")
    weight = np.random.default_rng(4).uniform(size=WORDS.shape).astype("float32")
    with keras_rules():
        k = keras.layers
        twin = keras.Sequential([k.Input((3, 4, 4)), k.Masking(), k.Dense(2)])
        kernel, bias = (np.asarray(w) + 0.1 for w in twin.get_weights())
        twin.set_weights([kernel, bias])
    model = fnn.Sequential([L.Masking(), L.Dense(2)])
    model.build(VECTORS.shape)
    model.set_weights([kernel, bias])
    for loss, target, metrics in (
        ("mse", y, ["mae"]),
        (fnn.losses.SparseCategoricalCrossentropy(from_logits=True), labels, []),
    ):
        theirs = loss
        if not isinstance(loss, str):
            theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        with keras_rules():
            twin.compile("sgd", theirs, metrics=list(metrics))
            expected = twin.evaluate(VECTORS, target, sample_weight=weight, verbose=0)
        model.compile("sgd", loss, metrics=list(metrics))
        received = model.evaluate(VECTORS, target, sample_weight=weight, verbose=0)
        close(received, expected, 1e-5)


@pytest.mark.slow
def test_training_on_documents_is_that_on_their_words():
    """One step on padded documents equals one on the words in it, as a plain batch."""
    y = np.random.default_rng(2).normal(size=(3, 3, 4, 2)).astype("float32")
    padded = fnn.Sequential([L.Masking(), L.Dense(2)], seed=0)
    plain = fnn.Sequential([L.Dense(2)], seed=0)
    for model, x, target in ((padded, VECTORS, y), (plain, VECTORS[WORDS], y[WORDS])):
        model.build(x.shape)
        model.set_weights([np.ones((4, 2), "float32") / 3, np.zeros(2, "float32")])
        model.compile("sgd", "mse", metrics=["mae"])
        model.fit(x, target, batch_size=64, epochs=2, verbose=0)
    for ours, expected in zip(padded.get_weights(), plain.get_weights(), strict=True):
        close(ours, expected)
    close(
        padded.evaluate(VECTORS, y, verbose=0), plain.evaluate(VECTORS[WORDS], y[WORDS], verbose=0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["LSTM", "GlobalAveragePooling1D", "Bidirectional"])
def test_time_distributed_over_words_is_that_of_keras(inner):
    import keras

    made = {
        "LSTM": lambda layers: layers.LSTM(3),
        "GlobalAveragePooling1D": lambda layers: layers.GlobalAveragePooling1D(),
        "Bidirectional": lambda layers: layers.Bidirectional(layers.LSTM(3)),
    }[inner]
    read = DOCUMENTS[:2]
    if inner == "GlobalAveragePooling1D":  # Keras divides by 0 where a sentence is all padding
        read = np.where(read.any(-1, keepdims=True), read, 1).astype("int32")
    with keras_rules():
        k = keras.layers
        start = k.Input((3, 4), dtype="int32")
        embedded = k.Embedding(6, 4, mask_zero=True)(start)
        with random_weights_unset():
            twin = keras.Model(start, k.TimeDistributed(made(k))(embedded))
        draw = np.random.default_rng(6).normal
        given = [draw(0, 0.4, v.shape).astype("float32") for v in twin.trainable_variables]
        others = [v.value for v in twin.non_trainable_variables]
        run = jit(lambda weights, x: twin.stateless_call(weights, others, x)[0])
        expected = np.asarray(run(given, read))
    model = fnn.Sequential([L.Embedding(6, 4, mask_zero=True), L.TimeDistributed(made(L))])
    model.build(read.shape)
    model.set_weights(given)
    received = np.asarray(model.predict(read, verbose=0))
    valid = (read != 0).any(2)
    close(received[valid], expected[valid])
    assert np.isfinite(received).all()


# -- masks that do not fit their values ------------------------------------------------------------

STEPS = np.random.default_rng(1).normal(size=(4, 5, 3)).astype("float32")
WRONG_MASKS = [
    (STEPS > 0, r"received a mask of shape \(4, 5, 3\); pass .* of shape \(4, 5\), by jnp\.any"),
    (STEPS[:, :4, 0] > 0, r"inputs of shape \(4, 5, 3\), received a mask of shape \(4, 4\)"),
    (STEPS[:3, :, 0] > 0, r"inputs of shape \(4, 5, 3\), received a mask of shape \(3, 5\)"),
    (STEPS[:, 0, 0] > 0, r"received a mask of shape \(4,\); pass one boolean for each step"),
]
LAYERS = [
    L.GlobalAveragePooling1D(),
    L.GlobalMaxPooling1D(),
    L.Dense(2),
    L.LSTM(2),
    L.Bidirectional(L.LSTM(2)),
    L.Attention(),
    L.AdditiveAttention(),
    L.MultiHeadAttention(1, 2),
]
ANY_AXES = (L.LSTM, L.Bidirectional)  # a step of theirs counts if any of its features does


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("mask", "message"), WRONG_MASKS)
def test_a_mask_that_does_not_fit_is_refused(layer, mask, message):
    two = isinstance(layer, (L.Attention, L.AdditiveAttention, L.MultiHeadAttention))
    x, given = ((STEPS, STEPS), (mask, mask)) if two else (STEPS, mask)
    params, state = weights(layer, x)
    if mask.ndim == 3 and isinstance(layer, ANY_AXES):
        layer.apply(params, state, x, Context(mask=given))
        return
    message = f"^{type(layer).__name__}: expected a mask .*{message}"
    with pytest.raises(ValueError, match=message):
        layer.apply(params, state, x, Context(mask=given))
    masked = (Masked(STEPS, mask),) * 2 if two else Masked(STEPS, mask)
    with pytest.raises(ValueError, match=message):
        run(layer, masked, params, state)


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_a_mask_that_does_not_fit_is_refused_where_the_layer_is_called(layer):
    x = fnn.Input((5, 3))
    name = type(layer).__name__
    for mask, shape in ((x > 0, r"\(None, 5, 3\)"), (x[:, :4, 0] > 0, r"\(None, 4\)")):
        if mask.shape[1:] == (5, 3) and isinstance(layer, ANY_AXES):
            assert layer(x, mask=mask).shape == layer(x).shape
            continue
        with pytest.raises(ValueError, match=f"^{name}: .*received a mask of shape {shape}"):
            if name == "MultiHeadAttention":
                layer(x, x, query_mask=mask)
            elif "Attention" in name:
                layer([x, x], mask=[mask, None])
            else:
                layer(x, mask=mask)


@pytest.mark.slow
def test_a_layer_of_its_own_takes_the_mask_of_masked_values_in_a_context():
    x = Masked(jnp.asarray(STEPS), jnp.asarray(STEPS[..., 0] > 0))
    for layer in (L.Dense(2), L.GlobalAveragePooling1D()):
        params, state = weights(layer, STEPS)
        with pytest.raises(
            TypeError, match=r"expected arrays, received Masked values; pass the mas"
        ):
            layer.apply(params, state, x)
        y, _ = layer.apply(params, state, x.values, Context(mask=x.mask))
        close(y, strip_masks(run(layer, x, params, state)))
