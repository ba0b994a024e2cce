"""Mixture of experts against a loop over tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import weights
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, Context, Masked
from fnn.layers import (
    LSTM,
    BatchNormalization,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    MixtureOfExperts,
    Residual,
    Sequential,
)
from fnn.testing.subject import jit

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
MASK = np.random.default_rng(1).random((4, 6)) > 0.3
ROWS = np.array([True, True, False, True])


def made(layer, x, seed=0):
    """(params, state), the params random and wide apart, so that routing is decided."""
    params, state = weight_spec(layer, x)
    draw = np.random.default_rng(seed).normal
    fill = lambda scale: lambda a: jax.device_put((scale * draw(size=a.shape)).astype(a.dtype))
    return jax.tree.map(fill(0.8), params), jax.tree.map(lambda a: jnp.zeros(a.shape), state)


def loop(layer, params, x, real):
    """(outputs, aux_loss) of experts Dense(units, "tanh"), token by token, choice by choice."""
    params = jax.tree.map(lambda a: np.asarray(a, "float64"), params)
    kernels, biases = params["experts"]["kernel"], params["experts"]["bias"]
    tokens, real = x.reshape(-1, x.shape[-1]).astype("float64"), real.ravel()
    y = np.zeros((len(tokens), kernels.shape[-1]))
    shares, orders = [], []
    for token in tokens:
        e = np.exp(token @ params["router"] - (token @ params["router"]).max())
        shares.append(e / e.sum())
        orders.append(np.argsort(-shares[-1], kind="stable")[: layer.top_k])
    room = [math.inf] * layer.experts
    if layer.capacity_factor is not None:
        each = layer.capacity_factor * layer.top_k * real.sum() / layer.experts
        room = [math.ceil(each)] * layer.experts
    taken, likely = np.zeros(layer.experts), np.zeros(layer.experts)
    for choice in range(layer.top_k):
        for i in np.flatnonzero(real):
            expert, share = orders[i][choice], shares[i]
            taken[expert] += 1 / (real.sum() * layer.top_k)
            likely += share / (real.sum() * layer.top_k)
            if room[expert] > 0:
                room[expert] -= 1
                weight = share[expert] / (share[orders[i]].sum() if layer.top_k > 1 else 1)
                y[i] += weight * np.tanh(tokens[i] @ kernels[expert] + biases[expert])
    loss = layer.balance * layer.experts * (taken * likely).sum()
    return y.reshape(*x.shape[:-1], -1), loss


def close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("experts", "top_k", "factor"),
    [
        *((5, 2, 0.25), (3, 1, None)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((5, 2, None), (5, 2, 1.0), (3, 1, 0.25), (2, 2, 8.0), (1, 1, 1))
        ),
    ],
)
def test_it_is_the_loop_over_tokens(experts, top_k, factor):
    layer = MixtureOfExperts(Dense(4, "tanh"), experts, top_k, factor, balance=0.3)
    params, state = made(layer, X)
    run = jit(lambda x, ctx: call(layer, params, state, x, ctx))
    for mask, rows in [(None, None), (MASK, ROWS)]:
        real = np.ones((4, 6), bool) if mask is None else mask
        real = real if rows is None else real & rows[:, None]
        x = X if mask is None else Masked(X, jnp.asarray(mask))
        ctx = Context(rows=None if rows is None else jnp.asarray(rows))
        y, after = run(x, ctx)
        y = y if mask is None else y.values
        expected, loss = loop(layer, params, X, real)
        close(y, expected)
        close(after["aux_loss"], loss)
        assert factor != 0.25 or (np.asarray(y) == 0).all(-1).any()  # some found no room


@pytest.mark.slow
def test_vectors_and_images_are_tokens_too():
    layer = MixtureOfExperts(Dense(2, "tanh"), 3)
    for shape in ((24, 3), (2, 3, 4, 3)):
        x = X.reshape(shape)
        params, state = made(layer, x)
        y, _ = jit(lambda x, given=(params, state): call(layer, *given, x, INFERENCE))(x)
        close(y, loop(layer, params, x, np.ones(shape[:-1], bool))[0])


@pytest.mark.slow
def test_gradients_are_those_of_the_loop_written_in_jax():
    layer = MixtureOfExperts(Dense(4, "tanh"), 4, 2)
    params, state = made(layer, X)
    tokens = X.reshape(-1, 3)

    def plain(params, tokens):
        shares = jax.nn.softmax(tokens @ params["router"])
        order = jnp.argsort(-shares, axis=-1)[:, :2]
        y = 0
        for choice in range(2):
            expert = order[:, choice]
            chosen = jnp.take_along_axis(shares, order, 1)
            weight = chosen[:, choice] / chosen.sum(1)
            kernel, bias = params["experts"]["kernel"][expert], params["experts"]["bias"][expert]
            y += weight[:, None] * jnp.tanh(jnp.einsum("tf,tfu->tu", tokens, kernel) + bias)
        return (y**2).sum()

    expected = jit(jax.grad(plain, (0, 1)))(params, tokens)
    for factor in (None, 2.0):  # room for all: the same numbers
        wide = layer.replace(capacity_factor=factor)
        loss = lambda params, x, wide=wide: (call(wide, params, state, x, INFERENCE)[0] ** 2).sum()
        jax.tree.map(close, jit(jax.grad(loss, (0, 1)))(params, tokens), expected)


@pytest.mark.slow
def test_the_balance_is_least_where_all_share_alike():
    """And its gradient moves the router that way; equation 4 of Switch Transformers by hand."""
    layer, x = MixtureOfExperts(Dense(2), experts=4, top_k=1, balance=0.01), np.abs(X)
    params, state = made(layer, x)
    even = {**params, "router": jnp.zeros((3, 4))}
    balance = lambda params: call(layer, params, state, x, INFERENCE)[1]["aux_loss"]
    graded = jit(jax.value_and_grad(balance))
    close(graded(even)[0], 0.01)
    before, gradient = graded(params)
    assert before > 0.011
    assert (gradient["router"] != 0).any()
    assert not any((g != 0).any() for g in jax.tree.leaves(gradient["experts"]))
    moved = jax.tree.map(lambda p, g: np.asarray(p) - 10 * np.asarray(g), params, gradient)
    assert graded(moved)[0] < before


@pytest.mark.slow
def test_each_expert_has_its_own_weights_dropout_and_rows(key):
    layer = MixtureOfExperts(Dense(4), 3)
    params, _ = jit(layer.init)(key, X)
    assert len({kernel.tobytes() for kernel in np.asarray(params["experts"]["kernel"])}) == 3

    x, ctx = np.ones((1, 64), "float32"), Context(train=True, key=key)
    dropping = MixtureOfExperts(Dropout(0.5), 3, 3)
    given = made(dropping, x)
    y, _ = jit(lambda x: call(dropping, *given, x, ctx))(x)
    assert len(np.unique(np.asarray(y).round(4))) > 2  # one draw for all would give two values

    layer = MixtureOfExperts(BatchNormalization(momentum=0.0), 3, 1)
    params, state = made(layer, X)
    _, after = jit(lambda x: call(layer, params, state, x, ctx))(X)
    tokens = X.reshape(-1, 3)
    best = np.argmax(tokens @ np.asarray(params["router"]), -1)
    for expert in range(3):
        mean = after["experts"]["moving_mean"][expert]
        close(mean, tokens[best == expert].mean(0))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [pytest.param(None, marks=pytest.mark.thorough), 1.25])
def test_training_counts_the_balance_once(factor):
    """One epoch with a learning rate of 0: the loss is the mean square and `aux_loss`, no more."""
    layer = MixtureOfExperts(Dense(3, "tanh"), 4, 2, factor, balance=0.5)
    model = fnn.Model(Sequential([Residual(layer), Dense(1)]), seed=0)
    model.compile(fnn.optimizers.SGD(0.0), "mse")
    x, y = X.reshape(-1, 3), np.zeros((24, 1), "float32")
    logs = model.fit(x, y, batch_size=24, verbose=0, shuffle=False).history
    outputs, state = jit(model.layer.apply)(model.params, model.state, x)
    square = float(jnp.square(outputs).mean())
    balance = float(state["residual"]["aux_loss"])
    assert balance > 0.4
    close(float(weights.auxiliary(state)), balance)
    close(logs["loss"][0], square + balance)
    close(model.evaluate(x, y, batch_size=24, verbose=0), square + balance)


@pytest.mark.slow
def test_a_padded_last_batch_trains_as_the_real_rows_alone():
    """With room for few: padding must not take places, nor change how many there are."""
    layer = MixtureOfExperts(Dense(3, "tanh"), 4, 2, 0.6, balance=0.5)
    x, y = X.reshape(-1, 3)[:10], np.ones((10, 3), "float32")
    found = []
    for batch_size in (10, 16):
        padded = fnn.Model(layer, seed=0)
        padded.compile(fnn.optimizers.SGD(0.5), "mse")
        padded.fit(x, y, batch_size=batch_size, epochs=3, verbose=0, shuffle=False)
        found.append(jax.tree.leaves(padded.params))
    for a, b in zip(*found, strict=True):
        close(a, b)


@pytest.mark.slow
def test_it_learns_what_one_expert_cannot():
    """Two lines, each right on its side: half of the work for each expert."""
    x = np.linspace(-1, 1, 256, dtype="float32")[:, None]
    model = fnn.Model(MixtureOfExperts(Dense(1), 2, 1), seed=0)
    model.compile(fnn.optimizers.Adam(0.05), "mse")
    model.fit(x, np.abs(x), batch_size=64, epochs=60, verbose=0)
    assert model.evaluate(x, np.abs(x), verbose=0) < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixtureOfExperts(Dense), "MixtureOfExperts: expected a layer as expert, rec"),
        (lambda: MixtureOfExperts(Dense(1), 0), "experts to be an integer above 0, received"),
        (lambda: MixtureOfExperts(Dense(1), 4, 0), "top_k to be an integer above 0, received"),
        (lambda: MixtureOfExperts(Dense(1), 4, 5), "top_k to be at most experts=4, received top_k"),
        (
            lambda: MixtureOfExperts(Dense(1), capacity_factor=0),
            "capacity_factor to be a finite number above 0",
        ),
        (lambda: MixtureOfExperts(Dense(1), capacity_factor="a"), "capacity_factor to be a number"),
        (lambda: MixtureOfExperts(Dense(1), balance=-1), "balance to be a finite number not below"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    "expert",
    [Flatten(), Sequential([Dense(2)])],
    ids=["Flatten", "Sequential"],
)
def test_experts_for_single_tokens(expert):
    assert weight_spec(MixtureOfExperts(expert, 2), X)


@pytest.mark.slow
def test_an_expert_keeps_its_tokens_apart():
    class Total(fnn.Layer):
        def apply(self, params, state, x, ctx=INFERENCE):
            return x.sum(0), state

    for expert, received in [
        (Total(), r"float32\[3\]"),
        (Embedding(4, 2, mask_zero=True), r"float32\[24, 3, 2\], bool\[24, 3\]"),
    ]:
        message = rf"an array \(tokens, ...\) for \(24, 3\), received {received} from"
        with pytest.raises(ValueError, match=message):
            weight_spec(MixtureOfExperts(expert, 2), X)
    with pytest.raises(ValueError, match="LSTM: expected inputs of 3 axes"):
        weight_spec(MixtureOfExperts(LSTM(2), 2), X)
    layer = MixtureOfExperts(Dense(2), 2)
    with pytest.raises(ValueError, match="expected inputs of 3 features, received 5"):
        call(layer, *made(layer, X), np.ones((2, 5), "float32"), INFERENCE)
