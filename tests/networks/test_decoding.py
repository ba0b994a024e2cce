"""Decoding: token by token equals all at once, and what cannot do so says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import layers as L
from fnn import networks
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, Masked, strip_masks
from fnn.networks import generate, start_decoding
from fnn.symbolic.graph import connect
from tests.helpers.catalogue import Case, jit

pytestmark = pytest.mark.slow


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def ids(*shape, below, seed=0):
    return np.random.default_rng(seed).integers(1, below, shape).astype("int32")


def weights(layer, x):
    case = Case(layer, x)
    case.x = x
    return case.random_weights(0)


def seq2seq():
    """The states of an LSTM that has read the source start the one that writes."""
    source, target = L.Input((None, 3)), L.Input((None, 4))
    _, *states = L.LSTM(5, return_state=True)(source)
    return connect((source, target), L.Dense(2)(L.LSTM(5, return_sequences=True)(target, states)))


def looking():
    """A query that moves on and looks at a memory that is there."""
    memory, x = L.Input((None, 6)), L.Input((None, 6))
    h = L.GRU(6, return_sequences=True)(x)
    h = L.Concatenate()([h, L.Attention()(h, memory), L.AdditiveAttention()(h, memory)])
    return connect((memory, x), L.LayerNormalization()(h))


X, MEMORY = drawn(2, 7, 4), drawn(2, 5, 6, seed=1)
REAL = np.arange(7)[None] != np.array([[0], [3]])
SOURCE, TARGET = ids(2, 5, below=9), ids(2, 7, below=11, seed=1)
STEPWISE = {  # a layer, all of its inputs, and the place of those that come step by step
    "LSTM": (L.LSTM(3, return_sequences=True), X),
    "the last output of GRU": (L.Sequential([L.GRU(3), L.Dense(2)]), X),
    "SimpleRNN without bias": (L.SimpleRNN(3, use_bias=False, return_sequences=True), X),
    "RNN": (L.RNN([L.GRUCell(3), L.LSTMCell(2)], return_sequences=True), X),
    "causal Conv1D": (L.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2), X),
    "Conv1D of one step": (L.Conv1D(6, 1), X),
    "many": (
        L.Sequential(
            [
                L.Embedding(11, 4, mask_zero=True),
                L.Residual(L.LSTM(4, return_sequences=True)),
                L.Repeat(L.TransformerEncoderBlock(4, 2, use_causal_mask=True), 2),
                L.TimeDistributed(L.Sequential([L.RepeatVector(2), L.Flatten()])),
                L.MixtureOfExperts(L.Dense(3), 3),
                L.EinsumDense("abc,cd->abd", (None, 5)),
            ]
        ),
        TARGET,
    ),
    "a masked LSTM": (L.LSTM(3, return_sequences=True), Masked(X, REAL)),
    "repeated": (L.Repeat(L.Residual(L.Conv1D(4, 2, padding="causal")), 3), X),
    "decoder block": (L.TransformerDecoderBlock(4, 2), (X, MEMORY), 0),
    "encoder-decoder": (networks.encoder_decoder((9, 11), 4, 2, 2), (SOURCE, TARGET), 1),
    "frozen, LSTM to LSTM": (L.Frozen(seq2seq()), (drawn(2, 5, 3), X), 1),
    "attention to a memory": (looking(), (MEMORY, drawn(2, 7, 6)), 1),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_step_by_step_equals_all_at_once(name):
    layer, x, *place = STEPWISE[name]
    params, plain = weights(layer, x)
    run = jit(lambda state, x: call(layer, params, state, x, INFERENCE))
    expected = strip_masks(run(plain, x)[0])
    state, outputs = start_decoding(layer, params, plain, batch=2, length=7), []
    traced = run._cache_size()
    for at in range(7):
        one = lambda a, at=at: a[:, at : at + 1]
        now = (
            jax.tree.map(one, x)
            if not place
            else (*x[: place[0]], one(x[place[0]]), *x[place[0] + 1 :])
        )
        y, state = run(state, now)
        outputs.append(strip_masks(y))
    received = outputs[-1] if expected.ndim == 2 else np.concatenate(outputs, 1)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
    assert run._cache_size() == traced + 1  # one compilation for all steps


def test_several_steps_at_a_time_of_a_convolution_longer_than_they_are():
    layer = L.Conv1D(3, 5, padding="causal")
    params, plain = weights(layer, X)
    state, outputs = start_decoding(layer, params, plain, 2, 7), []
    for piece in np.split(X, (3, 4, 6), axis=1):
        y, state = layer.apply(params, state, piece)
        outputs.append(y)
    expected = layer.apply(params, plain, X)[0]
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.Remat], ids=["cut", "whole"])
def test_generate_of_an_encoder_decoder_continues_as_the_full_pass_says(wrap):
    network = wrap(networks.encoder_decoder((9, 11), 4, 2, 2))
    params, state = weights(network, (SOURCE, TARGET))
    prompt = TARGET[:, :2]
    made = generate(network, params, state, (SOURCE, prompt), steps=4)
    assert made.shape == (2, 6)
    np.testing.assert_array_equal(made[:, :2], prompt)
    probabilities = jit(network.apply)(params, state, (SOURCE, made[:, :-1]))[0].values
    np.testing.assert_array_equal(made[:, 2:], probabilities[:, 1:].argmax(-1))


def test_the_source_is_read_once():
    """What does without the target stands before the loop."""
    once, rest = networks.encoder_decoder((9, 11), 4, 2, 2).cut()
    assert "repeat" in dict(once.children())
    assert "repeat" not in dict(rest.children())
    assert not set(dict(once.children())) & set(dict(rest.children()))


SUMMING = L.Lambda(lambda x: jnp.cumsum(x, 1))
shared = L.LSTM(4, return_sequences=True)
twice = L.Input((None, 4))
MIXING = {
    "Bidirectional": (L.Bidirectional(L.LSTM(3)), "Bidirectional"),
    "go_backwards": (L.LSTM(3, go_backwards=True), "go_backwards=True"),
    "Reverse": (L.Reverse(), "Reverse"),
    "pooling": (L.MaxPooling1D(), "mixes steps"),
    "a mean": (L.GlobalAveragePooling1D(), "LSTM, Conv1D(padding='causal')"),
    "Conv1D": (L.Conv1D(3, 2), "padding='valid'"),
    "Conv1D in strides": (L.Conv1D(3, 2, strides=2, padding="causal"), "strides=2"),
    "channels first": (
        L.Conv1D(3, 2, padding="causal", data_format="channels_first"),
        "data_format='channels_first'",
    ),
    "depthwise": (L.DepthwiseConv1D(2, padding="same"), "DepthwiseConv1D"),
    "attention": (L.MultiHeadAttention(2, 3), "use_causal_mask=False"),
    "plain attention": (L.Attention(use_causal_mask=True), "MultiHeadAttention"),
    "normalization over steps": (L.LayerNormalization(axis=1), "LayerNormalization(axis=1)"),
    "over groups": (L.GroupNormalization(2), "GroupNormalization"),
    "along time": (L.Concatenate(1), "Concatenate(axis=1)"),
    "PReLU": (L.PReLU(), "shared_axes=None"),
    "crowded experts": (L.MixtureOfExperts(L.Dense(2), 2, capacity_factor=1.0), "=1.0"),
    "an equation": (L.EinsumDense("abc,bd->adc", (7, None)), "equation="),
    "Flatten": (L.Flatten(), "Flatten"),
    "Lambda": (SUMMING, 'masking = "pass"'),
    "ConvLSTM": (L.ConvLSTM1D(2, 2), "stateful=False"),
    "one layer twice": (connect(twice, shared(shared(twice))), "used once"),
}
INPUTS = {"plain attention": (X, X), "along time": (X, X), "ConvLSTM": drawn(2, 3, 4, 2)}
INPUTS["an equation"] = drawn(2, 7, 7)


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_steps_without_a_cache_is_refused(name):
    layer, words = MIXING[name]
    layer = layer if name in INPUTS else L.Sequential([L.Dense(4), layer])
    x = INPUTS.get(name, X)
    spec = weight_spec(layer, x)
    with pytest.raises(ValueError, match=r"expected .* received ") as error:
        start_decoding(layer, *spec, batch=2, length=7)
    assert words in str(error.value)
    if name not in INPUTS:
        assert error.value.__notes__[0].startswith("in layer ")


def test_attention_to_a_memory_looks_at_all_of_it():
    layer = L.MultiHeadAttention(2, 4, use_causal_mask=True)
    params, state = weights(layer, (X, X))
    with pytest.raises(ValueError, match="expected use_causal_mask not to be set if the values"):
        start_decoding(layer, params, state, 2, 7, coming=(True, False))
    with pytest.raises(ValueError, match="expected a layer that treats each step alone"):
        start_decoding(layer, params, state, 2, 7, coming=(False, True))


def test_a_cell_that_shows_another_thing_than_its_state_refuses_masks():
    class Halves(L.Layer):
        state_size = 4

        def apply(self, params, state, x, ctx=INFERENCE):
            x, h = x
            return ((x + h) / 2, x), state

    layer = L.RNN(Halves(), return_sequences=True)
    state = start_decoding(layer, *layer.init(jax.random.key(0), X), batch=2, length=7)
    with pytest.raises(ValueError, match=r"expected no mask .* received a mask"):
        call(layer, {}, state, Masked(X[:, :1], REAL[:, :1]), INFERENCE)
