"""Copies of a state: on its devices, and on the host."""

from __future__ import annotations

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.runtime.processes import is_global


def copied(state: Tree) -> Tree:
    """A copy on the device; nothing is compiled for it on one device."""
    if any(map(is_global, jax.tree.leaves(state))):
        return jax.tree.map(lambda array: array.copy(), state)

    def copied_leaf(array: Tree, copy: Tree) -> Tree:
        # For a random key on several devices `device_put` returns another name for the memory
        # of the first one, which is gone after a donation.
        if _is_shared_key(array):
            return array.copy()
        return copy

    copies = jax.device_put(state, may_alias=False)
    return jax.tree.map(copied_leaf, state, copies)


def _is_key(leaf: Tree) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)


def _is_shared_key(leaf: Tree) -> bool:
    return _is_key(leaf) and len(leaf.sharding.device_set) > 1


def on_host(leaf: Tree) -> Tree:
    """A copy on the host, unless it is there; a random key stays, since steps do not change it.

    So does an array of several processes, of which none may have all.
    """
    if jax.default_backend() == "cpu" or _is_key(leaf) or is_global(leaf):
        return leaf
    return np.array(leaf, copy=True)
