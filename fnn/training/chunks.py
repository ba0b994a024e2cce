"""Chunks: arrays on the host that hold several batches of a stream, padded to one size."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.training.data import is_on_several_devices


def zeros(capacity: int, batch: SpecTree) -> Tree:
    """Zeros for `capacity` batches, stacked."""

    def stacked(spec: jax.ShapeDtypeStruct) -> np.ndarray:
        return np.zeros((capacity, *spec.shape), spec.dtype)

    return jax.tree.map(stacked, batch)


def write(batch: Tree, chunk: Tree, position: int, pad: bool) -> None:
    """Copies a batch into a chunk, so that the source may reuse its memory.

    Padding is a copy of an example: no NaN or infinity is computed from it. With `pad` the
    chunk is `(arrays, valid)`.
    """
    arrays = chunk
    if pad:
        arrays, valid = chunk
        valid[position, : tree.batch_size(batch)] = True
    count = tree.batch_size(batch)
    wholes, parts = jax.tree.leaves(arrays), jax.tree.leaves(batch)
    for whole, part in zip(wholes, parts, strict=True):
        whole[position, :count] = part
        whole[position, count:] = part[:1]


def own(array: Any) -> Any:
    """A copy of an array that its source may change; arrays on several devices stay there."""
    if is_on_several_devices(array):
        return array
    return copied(array)


def copied(array: Any) -> np.ndarray:
    """A copy on the host."""
    return np.array(array, copy=True)
