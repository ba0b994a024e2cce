"""What a symbolic call says beside its inputs: training, masks, states, and fields given there."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.calling import call
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE, Context, Masked
from fnn.layers import (
    LSTM,
    Add,
    AdditiveAttention,
    Attention,
    BatchNormalization,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    Inference,
    Input,
    MultiHeadAttention,
    Operator,
    Sequential,
    Softmax,
)
from fnn.symbolic.graph import connect
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
REAL = np.array([[1, 1, 0, 1, 0, 0], [1] * 6, [0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]], bool)
TRAIN = Context(train=True, key=jax.random.key(3))


def run(graph, x, ctx=INFERENCE, seed=0):
    params, state = graph.init(jax.random.key(seed), x)
    return graph.apply(params, state, x, ctx)


# -- training --------------------------------------------------------------------------------------


def test_training_false_is_inference_under_the_same_names():
    x, block = Input((3,)), Sequential([Dense(3), BatchNormalization(), Dropout(0.5)], name="block")
    still, moving = connect(x, block(x, training=False)), connect(x, block(x))
    assert still.steps == (("block", Inference(block), 0),)
    assert from_config(json.loads(json.dumps(to_config(still)))) == still
    params, state = still.init(jax.random.key(0), X[:, 0])
    jax.tree.map(np.testing.assert_array_equal, params, moving.init(jax.random.key(0), X[:, 0])[0])
    y, after = still.apply(params, state, X[:, 0], TRAIN)
    np.testing.assert_array_equal(y, moving.apply(params, state, X[:, 0])[0])
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert connect(x, block(x, training=None)) == moving


@pytest.mark.slow
def test_a_layer_called_both_ways_has_one_set_of_weights():
    x, dense = Input((3,)), Sequential([Dense(3), Dropout(0.5)])
    graph = connect(x, (dense(x), dense(x, training=False), dense(x, training=False)))
    params, state = graph.init(jax.random.key(0), X[:, 0])
    assert list(params) == ["sequential"]
    dropped, still, again = graph.apply(params, state, X[:, 0], TRAIN)[0]
    np.testing.assert_array_equal(still, again)
    assert (dropped == 0).any()
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(np.asarray(dropped)[kept], 2 * np.asarray(still)[kept], rtol=1e-5)


@pytest.mark.slow
def test_transfer_learning_keeps_the_weights_of_the_base():
    """Keras's recipe: a base that is frozen and runs as in inference, below a new head."""
    base = fnn.Sequential([Dense(5, "relu", input_shape=(3,)), BatchNormalization()], name="base")
    before = jax.tree.map(np.asarray, (base.params, base.state))
    base.trainable = False
    x = Input((3,))
    model = fnn.Model(x, Dense(1)(base(x, training=False)), seed=1)
    assert list(model.params) == ["base", "dense"]
    jax.tree.map(np.testing.assert_array_equal, model.params["base"], before[0])
    model.compile("sgd", "mse")
    head = np.asarray(model.params["dense"]["kernel"])
    model.fit(X[:, 0], X[:, 0, :1], verbose=0)
    jax.tree.map(np.testing.assert_array_equal, model.params["base"], before[0])
    jax.tree.map(np.testing.assert_array_equal, model.state["base"], before[1])
    assert (np.asarray(model.params["dense"]["kernel"]) != head).any()


# -- fields given at the call ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda **f: MultiHeadAttention(2, 3, **f), lambda **f: Attention(**f),
             lambda **f: AdditiveAttention(**f)]
)  # fmt: skip
def test_fields_of_a_call_are_those_of_the_layer(make):
    x = Input((6, 3))
    layer, fields = make(), {"use_causal_mask": True, "return_attention_scores": True}
    (y, scores), (expected, _) = layer(x, x, **fields), make(**fields)(x, x)
    assert scores.shape[-2:] == (6, 6)
    one, other = run(connect(x, y), X)[0], run(connect(x, expected), X)[0]
    np.testing.assert_array_equal(one, other)
    assert (np.asarray(run(connect(x, layer(x, x)), X)[0]) != np.asarray(one)).any()


def test_a_field_of_a_call_leaves_the_weights_shared():
    x, layer = Input((6, 3)), MultiHeadAttention(2, 3)
    graph = connect(x, (layer(x, x), layer(x, x, use_causal_mask=True)))
    params, _ = graph.init(jax.random.key(0), X)
    assert list(params) == ["multi_head_attention"]


# -- masks and states ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_mask_of_a_call_is_that_of_keras():
    import keras

    def build(k):
        x, real = k.Input((6, 3)), k.Input((6,), dtype="bool")
        first = k.layers.LSTM(3, return_sequences=True)(x, mask=real)
        return (x, real), k.layers.GlobalAveragePooling1D()(first, mask=real)

    with keras_rules():
        inputs, y = build(keras)
        theirs = keras.Model(list(inputs), y)
        expected = np.asarray(theirs([X, REAL]))
        weights = theirs.get_weights()
    ours = fnn.Model(*build(fnn))
    ours.set_weights(weights)
    np.testing.assert_allclose(ours.predict((X, REAL), verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_mask_of_a_call_is_that_of_masked_values():
    x, real = Input((6, 3)), Input((6,), dtype="bool")
    graph = connect((x, real), LSTM(3)(x, mask=real))
    assert from_config(json.loads(json.dumps(to_config(graph)))) == graph
    y = run(graph, (X, REAL))[0]
    changed = np.where(REAL[..., None], X, 9.0)
    np.testing.assert_array_equal(y, run(graph, (changed, REAL))[0])
    lstm, params = LSTM(3), graph.init(jax.random.key(0), (X, REAL))[0]["lstm"]
    expected = call(lstm, params, {}, Masked(jnp.asarray(X), jnp.asarray(REAL)), INFERENCE)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert connect(x, LSTM(3)(x, mask=None)) == connect(x, LSTM(3)(x))


@pytest.mark.slow
def test_masks_of_several_inputs():
    x, real, other = Input((6, 3)), Input((6,), dtype="int32"), Input((6,), dtype="bool")
    nodes, values = (x, real, other), (X, REAL.astype("int32"), ~REAL)
    by_list = connect(nodes, Attention()([x, x], mask=[real, other]))
    by_name = connect(nodes, Attention()(x, x, query_mask=real, value_mask=other))
    first, second = run(by_list, values)[0], run(by_name, values)[0]
    np.testing.assert_array_equal(first.mask, REAL)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    changed = (X * REAL[..., None], *values[1:])
    assert (np.asarray(run(by_name, changed)[0].values)[REAL] != first.values[REAL]).any()
    added = run(connect(nodes, Add()([x, x], mask=[None, other])), values)[0]
    np.testing.assert_array_equal(added.mask, ~REAL)


def test_a_mask_that_is_an_input_stays_one():
    x, real = Input((6, 6)), Input((6, 6), dtype="bool")
    assert [name for name, _, _ in connect((x, real), Softmax()(x, mask=real)).steps] == ["softmax"]


def test_masks_are_no_layers_in_the_order_of_weights():
    x, real = Input((6,), dtype="int32"), Input((6,), dtype="bool")
    long = GlobalAveragePooling1D()(Embedding(5, 3)(x), mask=real)
    names = [name for name, _, _ in connect((x, real), Dense(2)(long)).steps]
    assert names == ["embedding", "with_mask", "global_average_pooling1d", "dense"]


@pytest.mark.slow
def test_states_of_a_call_by_name():
    x, h, c = Input((6, 3)), Input((2,)), Input((2,))
    lstm = LSTM(2)
    graph = connect((x, h, c), lstm(x, initial_state=[h, c]) - lstm([x, h, c]))
    y = run(graph, (X, X[:, 0, :2], X[:, 1, :2]))[0]
    np.testing.assert_allclose(y, np.zeros((4, 2)), atol=1e-6)
    assert lstm(x, initial_state=None).shape == (None, 2)


# -- errors ----------------------------------------------------------------------------------------

NODE, MASK, PAIRS = Input((6, 3)), Input((6,), dtype="bool"), Input((6, 6), dtype="bool")
WRONG = [
    (lambda: Dropout(0.5)(NODE, training="yes"), TypeError,
     r"Dropout: expected training to be True, False or None, received training='yes'"),
    (lambda: Dense(3)(NODE, activation="relu"), TypeError,
     r"received the argument 'activation'; use Dense\(activation=...\), when the layer is made"),
    (lambda: Dense(3)(NODE, foo=1), TypeError, "'foo'; the arguments of a call are inputs"),
    (lambda: LSTM(3)(NODE, state=1), TypeError, r"inputs \('sequences', 'initial_state'\)"),
    (lambda: Conv1D(3, 2)(NODE, mask=MASK), ValueError, "Conv1D mixes or drops time steps"),
    (lambda: LSTM(3)(NODE, mask=Input((5,))), ValueError, r"LSTM: .*mask of shape \(None, 5\)"),
    (lambda: LSTM(3)(NODE, mask=REAL), TypeError, "WithMask: expected symbolic inputs .*ndarray"),
    (lambda: Attention()(NODE, NODE, key_mask=MASK), TypeError,
     "for the 2 inputs of this call, received one for input 2 by key_mask; pass that input"),
    (lambda: LSTM(3)(mask=MASK), TypeError, "expected masks for the 0 inputs"),
    (lambda: MultiHeadAttention(2, 3)(NODE, NODE, attention_mask=PAIRS, key_mask=MASK), TypeError,
     "for the 3 inputs of this call, received one for input 2 by key_mask; pass that input too"),
    (lambda: MultiHeadAttention(2, 3)(NODE, attention_mask=PAIRS), TypeError,
     "MultiHeadAttention: expected value to be an array, received None; only optional inputs"),
    (lambda: Attention()(None, NODE), TypeError, "Attention: expected query to be an array"),
    (lambda: Add()([NODE, None, NODE]), TypeError, "Add: expected input 1 to be an array"),
    (lambda: Operator("add")(NODE, None, NODE), TypeError, "Operator: expected input 1 to be an"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_a_call_that_cannot_be_is_an_error_that_says_what_to_do(make, error, message):
    with pytest.raises(error, match=message):
        make()
