"""stack and unstack: the same numbers from one Repeat as from blocks one by one."""

import jax
import numpy as np
import pytest

import fnn
from fnn.core import tree
from fnn.core.calling import call, initialize, weight_spec
from fnn.core.context import INFERENCE, Context
from fnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    ReLU,
    Repeat,
    Residual,
    Sequential,
    TransformerEncoderBlock,
    stack,
    unstack,
)
from fnn.testing.subject import jit

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
BLOCK = Residual(Sequential([Dense(6, "tanh"), BatchNormalization()]))
NETWORK = Sequential([Dense(6), *3 * [BLOCK], Dropout(0.4), Dropout(0.4), *2 * [BLOCK], Dense(2)])


def made(layer, x, least=0.1, scale=0.1):
    """(params, state) of random numbers, none so near to 0 that a variance blows up."""
    spec, draw = weight_spec(layer, x), np.random.default_rng(0).normal
    drawn = jax.tree.map(
        lambda a: jax.device_put((least + scale * draw(size=a.shape) ** 2).astype(a.dtype)), spec
    )
    return tuple(map(tree.same_order, drawn, spec))


def run(layer, params, state, x, ctx=INFERENCE):
    """(outputs, new state, gradients by params), compiled."""

    def loss(params):
        y, after = call(layer, params, state, x, ctx)
        return (y**2).sum(), (y, after)

    (_, found), gradients = jit(jax.value_and_grad(loss, has_aux=True))(params)
    return *found, gradients


def close(received, expected, tolerance=1e-5):
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        received,
        expected,
    )


@pytest.mark.slow
def test_runs_of_blocks_become_repeats():
    layer, params, state = stack(NETWORK, *made(NETWORK, X))
    first, drops = Dense(6), (Dropout(0.4), Dropout(0.4))
    assert layer == Sequential([first, Repeat(BLOCK, 3), *drops, Repeat(BLOCK, 2), Dense(2)])
    specs = weight_spec(layer, X)
    assert tree.spec((params, state)) == specs
    for part, spec in zip((params, state), specs, strict=True):  # and in the order of creation
        assert [p for p, _ in tree.flatten(part)] == [p for p, _ in tree.flatten(spec)]


def compare(network, x, weights, train, tolerance):
    """Outputs, states and gradients of a network are those of its stacked form."""
    ctx = Context(train=train)
    y, after, gradients = run(network, *weights, x, ctx)
    layer, *stacked = stack(network, *weights)
    y_stacked, *moved = run(layer, *stacked, x, ctx)
    close(y_stacked, y, tolerance)
    _, gradients_back, after_back = unstack(layer, moved[1], moved[0])
    close((after_back, gradients_back), (after, gradients), tolerance)


# In training the dropout between the blocks is off: it draws other numbers.
STILL = NETWORK.replace(layers=[a for a in NETWORK.layers if not isinstance(a, Dropout)])


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_numbers_states_and_gradients_are_equal(train):
    compare(STILL, X, made(STILL, X), train, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("train", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_they_differ_by_rounding_alone(train):
    """In float64 they are equal for weights at which float32 loses digits of the gradients.

    Variances near 0 and a saturated tanh (1 - y**2 of a y that rounds to 1) magnify the last bit:
    in float32 these gradients are up to 6e-4 apart, in float64 4e-12.
    """
    with jax.enable_x64(True):
        network, x = STILL.replace(dtype="float64"), X.astype("float64")
        weights = made(network, x, least=0.0, scale=0.4)
        assert {str(a.dtype) for a in jax.tree.leaves(weights)} == {"float64"}
        compare(network, x, weights, train, 1e-10)


def test_there_and_back():
    params, state = made(NETWORK, X)
    layer, *weights = unstack(*stack(NETWORK, params, state))
    assert layer == NETWORK
    jax.tree.map(np.testing.assert_array_equal, weights, [params, state])
    assert list(weights[0]) == list(params)
    inner = list(weights[0]["residual_1"]["dense"])
    assert inner == ["kernel", "bias"]  # as the layer makes them, not sorted


def test_what_a_repeat_says_goes_to_each_block():
    network = Sequential([Repeat(Dense(6, name="deep"), 2, trainable=False, dtype="bfloat16")])
    layer, params, _ = unstack(network, *made(network, X))
    block = Dense(6, trainable=False, dtype="bfloat16")
    assert layer == Sequential([block, block])
    assert list(params) == ["dense", "dense_1"]


def test_only_equal_blocks_with_weights_of_equal_shapes_are_stacked():
    kept = [
        Sequential([Dense(6), Dense(6, "tanh"), Dense(6, use_bias=False), Dense(6)]),
        Sequential([Dense(4), Dense(4)]),  # the first reads 6 features
        Sequential([ReLU(), ReLU(), Dropout(0.1), Dropout(0.1)]),  # no weights
        Sequential([]),
    ]
    for network in kept:
        params, state = made(network, X)
        layer, *weights = stack(network, params, state)
        assert layer == network
        jax.tree.map(np.testing.assert_array_equal, weights, [params, state])
    named = Sequential([Dense(6, name="a"), Dense(6, name="b"), Dense(6, name="last"), Dense(1)])
    assert stack(named, *made(named, X))[0] == Sequential([Repeat(Dense(6), 3), Dense(1)])


@pytest.mark.slow
def test_a_transformer_saved_block_by_block_is_stacked():
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype("float32")
    network = Sequential([*2 * [TransformerEncoderBlock(8, 2)], Dense(3)])
    params, state = made(network, x)
    layer, *stacked = stack(network, params, state)
    forward = lambda layer, *weights: jit(lambda x: call(layer, *weights, x, INFERENCE)[0])(x)
    close(forward(layer, *stacked), forward(network, params, state))


def test_it_works_under_jit_and_without_arrays(key):
    layer = Sequential([Dense(6), Dense(6)])
    fresh = lambda key: stack(layer, *initialize(layer, key, X))[1:]
    shapes = jax.tree.map(lambda a: a.shape, jax.eval_shape(fresh, key))
    assert shapes == ({"repeat": {"bias": (2, 6), "kernel": (2, 6, 6)}}, {"repeat": {}})


@pytest.mark.parametrize("function", [stack, unstack])
def test_only_a_sequential_is_taken_apart(function):
    model = fnn.Sequential([Dense(6)])
    for wrong in (Dense(2), model):
        message = rf"{function.__name__}: expected a Sequential, received .*; pass model\.layer"
        with pytest.raises(TypeError, match=message):
            function(wrong, {}, {})


@pytest.mark.slow
def test_blocks_that_change_the_shape_are_an_error_of_repeat():
    x = np.ones((1, 9, 9, 2), "float32")
    network = Sequential([Conv2D(2, 3), Conv2D(2, 3)])
    layer, params, state = stack(network, *made(network, x))
    with pytest.raises(ValueError, match=r"Repeat: expected an inner layer that keeps the shape"):
        call(layer, params, state, x, INFERENCE)
