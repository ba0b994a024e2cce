"""The seed of the process: the source of keys for models without a seed of their own."""

from __future__ import annotations

import os
from typing import Any

import jax
from jax import Array, random

from fnn.runtime.process import check_process
from fnn.runtime.processes import are_several, from_first

# The seed, None without one, and how many keys were made from it.
_SEED: dict[str, Any] = {"seed": None, "count": 0}


def set_seed(seed: int) -> None:
    """Makes every model built from now on reproducible: initial weights, shuffling, dropout.

    The same seed and the same sequence of models give the same results, bit for bit. The random
    states of Python and NumPy are not changed. Raises ValueError unless `seed` is an integer.

    >>> def fresh():
    ...     set_seed(7)
    ...     return fnn.Sequential([fnn.layers.Dense(1, input_shape=(4,))]).get_weights()[0]
    >>> bool((fresh() == fresh()).all())
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(
            f"expected seed as an integer, received {seed!r}; use set_seed(0)"
        )
    _SEED.update(seed=seed, count=0)


def next_key(seed: int | None = None) -> Array:
    """The key of a new model: from its own seed, else from `set_seed`, else a random one.

    Several processes that make the same models get the same random keys.
    """
    check_process()
    if seed is not None:
        return jax.random.key(seed)
    if _SEED["seed"] is None and are_several():
        number = from_first("seed", lambda: int.from_bytes(os.urandom(4), "big"))
        _SEED.update(seed=number, count=0)
    if _SEED["seed"] is None:
        return jax.random.key(int.from_bytes(os.urandom(4), "big"))
    _SEED["count"] += 1
    return random.fold_in(jax.random.key(_SEED["seed"]), _SEED["count"])
