"""`fnn.random` beside Keras: the same numbers for the same seed; generators, keys, the process."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnn
from fnn import random
from tests.helpers.oracle import keras_rules

with keras_rules():
    import keras

pytestmark = pytest.mark.slow

LOGITS = np.log(np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], "float32"))
X = jnp.arange(12, dtype="float32").reshape(3, 4)
CALLS = {
    "normal": [((2, 3),), ((4,), 1.0, 2.0), ((2,), 0.0, 1.0, "bfloat16"), ([2, 3],)],
    "truncated_normal": [((2, 3),), ((4,), 1.0, 2.0)],
    "uniform": [((2, 3),), ((4,), -1.0, 2.0), ((2,), 0.0, 1.0, "float16")],
    "randint": [((2, 3), 0, 9), ((4,), -3, 3, "int8")],
    "categorical": [(LOGITS, 5), (LOGITS, 2, "uint8")],
    "dropout": [(X, 0.5), (X, 0.3, (None, 1)), (X, 0.0), (X, 1.0)],
    "shuffle": [(X,), (X, 1)],
    "gamma": [((2, 3), 2.0), ((2,), [1.0, 3.0])],
    "binomial": [((2, 3), 10.0, 0.3), ((2,), [5.0, 9.0], [0.5, 0.1])],
    "beta": [((2, 3), 2.0, 3.0), ((2,), [1.0, 2.0], [3.0, 1.0])],
}
SOME = [(name, given) for name, calls in CALLS.items() for given in calls]
SOME = [pytest.param(name, given, id=f"{name}-{n}") for n, (name, given) in enumerate(SOME)]


def theirs(name, *given, seed):
    if name in ("gamma",):
        given = (given[0], np.asarray(given[1], "float32"))
    with keras_rules():
        return getattr(keras.random, name)(*given, seed=seed)


def ours(name, *given, seed):
    with jax.numpy_rank_promotion("allow"):
        return getattr(random, name)(*given, seed=seed)


def same(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(np.asarray(found, float), np.asarray(expected, float))


def test_every_name_is_here_with_the_arguments_of_keras():
    names = [name for name in dir(keras.random) if name[0] != "_"]
    assert sorted(names) == sorted(random.__all__)
    for name in names[1:]:
        found, expected = (
            [(p.name, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (getattr(random, name), getattr(keras.random, name))
        )
        assert found == expected, name


@pytest.mark.parametrize(("name", "arguments"), SOME)
def test_a_seed_gives_the_numbers_of_keras(name, arguments):
    @settings(max_examples=3, deadline=None, database=None, derandomize=True)
    @given(st.integers(0, 2**32 - 1))
    def compare(seed):
        expected = theirs(name, *arguments, seed=seed)
        same(ours(name, *arguments, seed=seed), expected)
        same(ours(name, *arguments, seed=seed), expected)  # the same each time

    compare()


def test_a_generator_moves_on_as_that_of_keras_does():
    found, expected = random.SeedGenerator(7), keras.random.SeedGenerator(7)
    for _ in range(3):
        same(random.normal((2,), seed=found), theirs("normal", (2,), seed=expected))
    assert found.state.tolist() == np.asarray(expected.state.value).tolist() == [7, 3]
    same(random.SeedGenerator(7).next(), jnp.asarray([7, 0], "uint32"))


def test_a_generator_has_a_config():
    generator = random.SeedGenerator(3, name="mine")
    assert generator.get_config() == {"seed": 3, "name": "mine"}
    again = random.SeedGenerator.from_config(generator.get_config())
    same(again.next(), generator.next())


def test_without_a_seed_the_process_has_one():
    fnn.set_seed(5)
    first = [random.normal((2,)), random.normal((2,)), random.SeedGenerator().next()]
    assert (first[0] != first[1]).any()
    fnn.set_seed(5)
    for one, again in zip(
        first, [random.normal((2,)), random.normal((2,)), random.SeedGenerator().next()],
        strict=True,
    ):  # fmt: skip
        same(again, one)


def test_keys_of_jax_go_into_programs():
    key = jax.random.key(3)
    same(random.normal((2,), seed=key), jax.random.normal(key, (2,)))
    old = jnp.asarray([3, 0], "uint32")
    same(random.normal((2,), seed=old), random.normal((2,), seed=3))
    drawn = jax.jit(lambda key: random.dropout(X, 0.5, seed=key))(key)
    same(drawn, random.dropout(X, 0.5, seed=key))


def test_seeds_that_cannot_be():
    for seed in (-1, 2**32, 1.5, True, "a"):
        with pytest.raises(ValueError, match="expected seed to be an integer from 0 to"):
            random.normal((2,), seed=seed)
    with pytest.raises(ValueError, match="expected a seed inside jit"):
        jax.jit(lambda x: x + random.normal((2,)))(jnp.ones(2))
