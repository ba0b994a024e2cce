"""Keras's random functions and SeedGenerator: numbers from a seed, a generator or a key."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree
from fnn.runtime.scope import scoped_key
from fnn.runtime.seed import next_key

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]

Shape = Sequence[int]
Numbers = Tree  # a number, or an array or a list of them


class SeedGenerator:
    """A seed that moves on: each call that gets it draws other numbers.

    The numbers are those of Keras's JAX backend for the same seed. Without a seed it takes one of
    the process (`fnn.set_seed`). It counts in Python: inside `jit` it moves on when the function is
    traced, not when it runs, so pass a key of `jax.random` there.

    >>> generator = SeedGenerator(1)
    >>> first, second = uniform((2,), seed=generator), uniform((2,), seed=generator)
    >>> bool((first == second).any()), generator.state.tolist()
    (False, [1, 2])
    """

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        self.name = name or "seed_generator"
        self._initial_seed = seed
        if seed is None:
            words = jax.random.key_data(next_key())
            seed = int(words[-1])
        self._seed, self._count = _checked(seed), 0

    @property
    def state(self) -> Array:
        """The seed and the number of draws, the two words of the next key."""
        return jnp.asarray([self._seed, self._count], "uint32")

    def next(self, ordered: bool = True) -> Array:
        """The two words of a key; the next call returns others. In `call` those of the context."""
        scoped = scoped_key()
        if scoped is not None:
            return jax.random.key_data(scoped)
        words = self.state
        self._count += 1
        return words

    def get_config(self) -> dict[str, object]:
        """The arguments that make an equal generator."""
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> SeedGenerator:
        """The generator that `get_config` described."""
        return cls(**config)  # type: ignore[arg-type]


def _checked(seed: object) -> int:
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:  # type: ignore[operator]
        raise ValueError(
            "expected seed to be an integer from 0 to 2**32 - 1, a SeedGenerator, a key of "
            f"jax.random or None, received {seed!r}; e.g. seed=0"
        )
    return seed  # type: ignore[return-value]


def draw_key(seed: int | SeedGenerator | Array | None) -> Array:
    """The key for one call: of a seed always the same, of a generator the next.

    Raises ValueError for None inside `jit`, where it would be drawn once and for all.

    >>> jax.random.key_data(draw_key(7)).tolist()
    [7, 0]
    """
    if isinstance(seed, jax.Array):
        if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
            return seed
        result: Array = jax.random.wrap_key_data(seed, impl="threefry2x32")
        return result
    if seed is None or isinstance(seed, SeedGenerator):
        scoped = scoped_key()
        if scoped is not None:
            return scoped
    if seed is None:
        key = next_key()
        if isinstance(key, jax.core.Tracer):
            raise ValueError(
                "expected a seed inside jit, where numbers without one would be drawn once, "
                "when the function is traced, received seed=None; pass a key of jax.random"
            )
        return key
    if isinstance(seed, SeedGenerator):
        words = seed.next()
    else:
        words = jnp.asarray([_checked(seed), 0], "uint32")
    result = jax.random.wrap_key_data(words, impl="threefry2x32")
    return result


Seed = int | SeedGenerator | Array | None


def normal(
    shape: Shape,
    mean: Numbers = 0.0,
    stddev: Numbers = 1.0,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """Numbers of a normal distribution.

    >>> normal((2, 3), seed=0).shape
    (2, 3)
    """
    drawn = jax.random.normal(draw_key(seed), tuple(shape), dtype or "float32")
    result: Array = drawn * stddev + mean
    return result


def truncated_normal(
    shape: Shape,
    mean: Numbers = 0.0,
    stddev: Numbers = 1.0,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """Numbers of a normal distribution, none further than two deviations from the mean.

    >>> bool(abs(truncated_normal((100,), seed=0)).max() <= 2)
    True
    """
    drawn = jax.random.truncated_normal(
        draw_key(seed), -2.0, 2.0, tuple(shape), dtype or "float32"
    )
    result: Array = drawn * stddev + mean
    return result


def uniform(
    shape: Shape,
    minval: Numbers = 0.0,
    maxval: Numbers = 1.0,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """Numbers from `minval` to below `maxval`, all equally likely.

    >>> bool((uniform((100,), -1, 1, seed=0) < 1).all())
    True
    """
    return jax.random.uniform(
        draw_key(seed), tuple(shape), dtype or "float32", minval, maxval
    )


def randint(
    shape: Shape,
    minval: Numbers,
    maxval: Numbers,
    dtype: str = "int32",
    seed: Seed = None,
) -> Array:
    """Integers from `minval` to below `maxval`, all equally likely.

    >>> randint((3,), 5, 6, seed=0).tolist()
    [5, 5, 5]
    """
    return jax.random.randint(draw_key(seed), tuple(shape), minval, maxval, dtype)


def categorical(
    logits: Array,
    num_samples: int,
    dtype: str = "int32",
    seed: Seed = None,
) -> Array:
    """Numbers of classes, as likely as the logits say.   (batch, classes) -> (batch, samples)

    >>> categorical(jnp.array([[-jnp.inf, 0.0]]), 3, seed=0).tolist()
    [[1, 1, 1]]
    """
    logits = jnp.asarray(logits)
    shape = (logits.shape[0], num_samples, *logits.shape[2:])
    drawn = jax.random.categorical(
        draw_key(seed), logits[..., None], axis=1, shape=shape
    )
    return drawn.astype(dtype)


def dropout(
    inputs: Array,
    rate: float,
    noise_shape: Sequence[int | None] | None = None,
    seed: Seed = None,
) -> Array:
    """The inputs, a fraction `rate` of them 0 and the others divided by 1 - rate.

    `noise_shape` has 1 for the axes along which elements are dropped together.

    >>> dropout(jnp.ones(4), 0.5, noise_shape=(1,), seed=1).tolist() in ([0] * 4, [2] * 4)
    True
    """
    inputs = jnp.asarray(inputs)
    if rate == 1.0:
        return jnp.zeros_like(inputs)
    if rate == 0.0:
        return inputs
    shape = inputs.shape
    if noise_shape is not None:
        pairs = zip(noise_shape, shape, strict=True)
        shape = tuple(own if size is None else size for size, own in pairs)
    kept = jax.random.bernoulli(draw_key(seed), 1.0 - rate, shape)
    kept = jnp.broadcast_to(kept, inputs.shape)
    return jnp.where(kept, inputs / (1.0 - rate), jnp.zeros_like(inputs))


def shuffle(
    x: Array,
    axis: int = 0,
    seed: Seed = None,
) -> Array:
    """The elements in another order along an axis, in each line by itself.

    >>> sorted(shuffle(jnp.arange(4), seed=0).tolist())
    [0, 1, 2, 3]
    """
    return jax.random.permutation(
        draw_key(seed), jnp.asarray(x), axis, independent=True
    )


def gamma(
    shape: Shape,
    alpha: Numbers,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """Numbers of a gamma distribution of scale 1.

    >>> bool((gamma((100,), 2.0, seed=0) > 0).all())
    True
    """
    return jax.random.gamma(
        draw_key(seed), jnp.asarray(alpha), tuple(shape), dtype or "float32"
    )


def binomial(
    shape: Shape,
    counts: Numbers,
    probabilities: Numbers,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """How many of `counts` trials succeed, each with the given probability.

    >>> binomial((2,), 10, 1.0, seed=0).tolist()
    [10.0, 10.0]
    """
    return jax.random.binomial(
        draw_key(seed),
        jnp.asarray(counts),
        jnp.asarray(probabilities),
        tuple(shape),
        dtype or "float32",
    )


def beta(
    shape: Shape,
    alpha: Numbers,
    beta: Numbers,
    dtype: str | None = None,
    seed: Seed = None,
) -> Array:
    """Numbers of a beta distribution, between 0 and 1.

    >>> bool((beta((100,), 2.0, 3.0, seed=0) < 1).all())
    True
    """
    return jax.random.beta(
        draw_key(seed),
        jnp.asarray(alpha),
        jnp.asarray(beta),
        tuple(shape),
        dtype or "float32",
    )
