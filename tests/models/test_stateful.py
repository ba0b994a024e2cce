"""Models with recurrent layers that are stateful, against Keras: fit, evaluate, predict."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn.layers import GRU, LSTM, Dense, Input
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

BATCH = 4


def task(rows=8):
    draw = np.random.default_rng(0).normal
    return draw(size=(rows, 3, 2)).astype("float32"), draw(size=(rows, 1)).astype("float32")


def network():
    return fnn.Sequential(
        [Input(batch_shape=(BATCH, 3, 2)), LSTM(5, stateful=True), Dense(1)], seed=0
    )


def twin(model):
    layers = keras.layers
    other = keras.Sequential(
        [layers.Input(batch_shape=(BATCH, 3, 2)), layers.LSTM(5, stateful=True), layers.Dense(1)]
    )
    params = model.params
    other.set_weights([np.asarray(w) for layer in params.values() for w in layer.values()])
    return other


def test_each_call_goes_on_where_the_last_one_ended():
    """predict, evaluate, their kin for a batch, the call; until reset_states.

    Keras's own predict forgets the states on JAX, so the oracle is its layers called in order.
    """
    x, y = task()
    model = network()
    with keras_rules():
        other = twin(model)
    model.compile("sgd", "mse")

    def expected(*starts):
        with keras_rules():
            return np.concatenate([np.asarray(other(x[i : i + BATCH])) for i in starts])

    def check(received, expected):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)

    for _ in range(2):
        check(model.predict(x, batch_size=BATCH, verbose=0), expected(0, 4))
        check(model.predict_on_batch(x[:BATCH]), expected(0))
        loss = model.evaluate(x, y, batch_size=BATCH, verbose=0)
        check(loss, np.mean((expected(0, 4) - y) ** 2))
        check(model.test_on_batch(x[:BATCH], y[:BATCH]), np.mean((expected(0) - y[:BATCH]) ** 2))
        check(model(x[BATCH:]), expected(4))
    model.reset_states()
    with keras_rules():
        other.layers[0].reset_states()
    check(model.predict(x, batch_size=BATCH, verbose=0), expected(0, 4))


def test_training_carries_the_states_from_batch_to_batch():
    """As a plain loop does (Keras's fit forgets them on JAX); from epoch to epoch too."""
    x, y = task()
    model = network()
    params, state, losses = model.params, model.state, []

    def loss(params, state, x, y):
        outputs, state = model.layer.apply(params, state, x)
        return jnp.mean((outputs - y) ** 2), state

    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for at in (0, BATCH, 0, BATCH):
        batch = x[at : at + BATCH], y[at : at + BATCH]
        (value, state), gradient = graded(params, state, *batch)
        params = jax.tree.map(lambda w, g: w - 0.1 * g, params, gradient)
        losses.append(float(value))
    model.compile(fnn.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.history["loss"], np.reshape(losses, (2, 2)).mean(1), 1e-5)
    for received, expected in zip(
        jax.tree.leaves(model.params), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_validation_leaves_the_states_of_the_training_alone():
    x, y = task()
    states = []
    for given in (None, (x, y)):
        model = network()
        model.compile(fnn.optimizers.SGD(0.1), "mse")
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, validation_data=given)
        states.append(model.state["lstm"]["rnn_state"])
    np.testing.assert_array_equal(*states)


def test_a_text_read_in_pieces_is_the_text_read_at_once():
    """Step by step, as one writes the loop that generates."""
    x = task()[0]
    whole = fnn.Sequential([Input((3, 2)), GRU(5)], seed=0)
    piecewise = fnn.Sequential([Input(batch_shape=(8, 1, 2)), GRU(5, stateful=True)], seed=0)
    for at in range(3):
        last = piecewise.predict(x[:, at : at + 1], verbose=0)
    np.testing.assert_allclose(last, whole.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_another_batch_size_is_refused():
    model = network()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"expected a batch of 4, since stateful=True"):
        model.fit(*task(), batch_size=8, verbose=0)
