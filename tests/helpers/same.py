"""Pytrees compared bit for bit, typed random keys among their leaves."""

import jax
import numpy as np


def data_of(leaf):
    """A leaf as an array of NumPy."""
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def assert_same_states(first, second):
    """Of equal structure, dtypes, shapes and bits."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    pairs = zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True)
    for (path, one), other in pairs:
        a, b = data_of(one), data_of(other)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        assert a.tobytes() == b.tobytes(), path
