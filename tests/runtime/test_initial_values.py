"""Initial values: the bits of `jax.random`, and nothing compiled for a shape."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn
from fnn.runtime import initial_values
from fnn.runtime.initial_values import BLOCK, filled, on_device, orthonormal, without_compiling
from tests.helpers.compiling import run_as_users_do
from tests.helpers.counting import compilations

FEW_SHAPES = [(7, 3), (2, BLOCK + 5)]  # JAX compiles its draws for each
SHAPES = [*FEW_SHAPES, (), (0,), (1,), (BLOCK - 1,), (4, 4, 16, BLOCK // 256)]
DRAWS = {
    "uniform": ((-0.3, 0.7), lambda k, s, d: jax.random.uniform(k, s, d, -0.3, 0.7)),
    "normal": ((), jax.random.normal),
    "truncated_normal": ((-2.0, 2.0), lambda k, s, d: jax.random.truncated_normal(k, -2, 2, s, d)),
}


def check_draws():
    """All shapes by one of them: how blocks are put together is the same for each."""
    keys = jax.random.key(0), jax.random.fold_in(jax.random.key(7), 5)
    rows = [("normal", SHAPES), ("uniform", FEW_SHAPES), ("truncated_normal", FEW_SHAPES)]
    assert {name for name, _ in rows} == set(DRAWS)
    for (name, shapes), key in itertools.product(rows, keys):
        check_draw(name, shapes, key)


def check_draw(name, shapes, key):
    limits, expected = DRAWS[name]
    for shape in shapes:
        drawn = getattr(initial_values, name)(key, shape, "float32", *limits)
        assert isinstance(drawn, np.ndarray)
        assert drawn.dtype == np.float32
        np.testing.assert_array_equal(drawn, expected(key, shape, "float32"), f"{name}{shape}")


def check_constant_keys():
    """Inside a jitted function; the program of a block is compiled once more within a trace."""
    key = jax.random.key(4)
    for name in ("glorot_uniform", "he_normal", "truncated_normal"):
        draw = fnn.initializers.get(name)
        inside = jax.jit(lambda draw=draw: draw(key, (5, 3), "float32"))()
        np.testing.assert_array_equal(inside, draw(key, (5, 3), "float32"))


@pytest.mark.slow
def test_draws_are_those_of_jax_bit_for_bit():
    """For keys that are given and for constant ones inside a jitted function."""
    run_as_users_do(
        "from tests.runtime import test_initial_values as t; "
        "t.check_draws(); t.check_constant_keys()"
    )


@pytest.mark.slow
def test_a_block_starts_at_any_position():
    key, start = jax.random.key(3), 2**32 - 5  # the low word of the position runs over
    words = initial_values._at(np.asarray(jax.random.key_data(key)), start)
    bits = initial_values._bits_from_start(jnp.asarray(words), 32, (8,))
    low = np.array([*range(2**32 - 5, 2**32), 0, 1, 2], np.uint32)
    high = np.array([0] * 5 + [1] * 3, np.uint32)
    hashed = jax.extend.random.threefry_2x32(
        tuple(jax.random.key_data(key)), jnp.asarray(np.concatenate([high, low]))
    )
    np.testing.assert_array_equal(bits, hashed[:8] ^ hashed[8:])


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(
    ("key", "dtype"),
    [
        (jax.random.PRNGKey(1), "float32"),
        (jax.random.key(1, impl="rbg"), "float32"),
        (jax.random.key(1), "bfloat16"),
    ],
    ids=["raw key", "another generator", "another dtype"],
)
def test_what_is_not_drawn_in_blocks_is_drawn_by_jax(name, key, dtype):
    limits, expected = DRAWS[name]
    drawn = getattr(initial_values, name)(key, (4, 5), dtype, *limits)
    assert isinstance(drawn, jax.Array)
    np.testing.assert_array_equal(drawn, expected(key, (4, 5), dtype))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "orthogonal", "zeros", "ones"])
def test_traced_and_concrete_keys_give_the_same_weights(name):
    draw = fnn.initializers.get(name)
    traced = jax.jit(lambda key: draw(key, (6, 4), "float32"))(jax.random.key(2))
    concrete = draw(jax.random.key(2), (6, 4), "float32")
    assert isinstance(concrete, jax.Array)
    np.testing.assert_allclose(traced, concrete, rtol=2e-6, atol=2e-7)


def test_orthonormal_is_what_jax_computes_on_cpu():
    draw = np.random.default_rng(0).normal
    matrices = [draw(size=shape).astype("float32") for shape in [(5, 5), (40, 7), (200, 130)]]
    factors = jax.jit(lambda matrices: list(map(jnp.linalg.qr, matrices)))(matrices)
    for matrix, expected in zip(matrices, factors, strict=True):
        for one, other in zip(orthonormal(matrix), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_new_shapes_compile_nothing():
    names = ["glorot_uniform", "random_normal", "truncated_normal", "orthogonal", "zeros"]
    draws = [fnn.initializers.get(name) for name in (*names, fnn.initializers.Constant(2.0))]
    make = lambda size: [draw(jax.random.key(0), (size, 3), "float32") for draw in draws]
    make(4)
    with compilations() as compiled:
        make(9)
        make(11)
    assert compiled == []


def test_filled_arrays_are_those_of_numpy():
    np.testing.assert_array_equal(filled(None, (2, 3), "float32", 1.5), np.full((2, 3), 1.5))
    np.testing.assert_array_equal(filled(None, (2, 2), "int32", [1, 2]), [[1, 2], [1, 2]])
    assert on_device([1, 2], "float32").dtype == jnp.float32


def weights():
    return {"a": jnp.arange(6.0).reshape(2, 3), "b": {"c": jnp.ones(3)}}


@pytest.mark.parametrize(
    "init",
    [
        optax.adam(1e-3).init,
        optax.adagrad(0.1).init,
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9).init,
        optax.ema(0.9).init,
        fnn.optimizers.Adam(1e-3, use_ema=True).init,  # which copies the weights
        fnn.optimizers.AdamW(fnn.schedules.CosineDecay(0.1, 10)).init,
        lambda params: {"step": 0, "kept": np.ones(2), "sum": jax.tree.map(jnp.sum, params)},
        lambda params: {"step": 0, "none": None, "name": jax.tree.map(jnp.zeros_like, params)},
    ],
)
def test_states_without_compiling_are_those_of_the_function(init):
    found, expected = without_compiling(init, weights()), init(weights())
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(one) is type(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


def test_states_can_be_made_inside_of_a_trace():
    made = jax.jit(lambda params: without_compiling(optax.adam(1e-3).init, params))(weights())
    jax.tree.map(np.testing.assert_array_equal, made, optax.adam(1e-3).init(weights()))
