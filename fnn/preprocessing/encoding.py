"""CategoryEncoding: integers as one-hot, multi-hot and count vectors; the same on the host."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.preprocessing.strings import dtype_of, refuse_sparse

# Keras's older names of modes.
OLD_MODES = {"binary": "multi_hot", "tf-idf": "tf_idf"}


def mode(*names: str, default: str) -> Any:
    """The field `output_mode`: one of these names, or an older name of Keras for one."""
    field = one_of(names, default=default)
    return _with_old_names(field)


def _with_old_names(field: Any) -> Any:
    field.metadata = {**field.metadata, "convert": _current_name}
    return field


def _current_name(given: Any) -> Any:
    if isinstance(given, str):
        return OLD_MODES.get(given, given)
    return given


def encoded_shape(
    shape: tuple[int, ...], output_mode: str, depth: int
) -> tuple[int, ...]:
    """The shape of integers of a shape, encoded."""
    if output_mode == "int":
        return shape
    if output_mode == "one_hot":
        if len(shape) > 1 and shape[-1] == 1:
            shape = shape[:-1]
        return (*shape, depth)
    # The second axis holds the tokens of an example; a single axis those of one example.
    rest = (*shape[:1], *shape[2:])
    if len(shape) < 2:
        rest = ()
    return (*rest, depth)


def encode(
    indices: Array,
    output_mode: str,
    depth: int,
    dtype: Any,
    weights: Array | None = None,
) -> Array:
    """Integers as vectors of length `depth`, on the device; those out of range count nowhere."""
    if output_mode == "int":
        return indices.astype(dtype)
    if indices.ndim == 0:
        indices = indices[None]
    if output_mode == "one_hot":
        if indices.ndim > 1 and indices.shape[-1] == 1:
            indices = indices[..., 0]
        return jax.nn.one_hot(indices, depth, dtype=dtype)
    axis = min(indices.ndim, 2) - 1
    hot = jax.nn.one_hot(indices, depth, dtype=dtype)  # (batch, tokens, ..., depth)
    if output_mode == "multi_hot":
        return jnp.max(hot, axis, initial=0)
    if weights is not None:
        hot = hot * weights[..., None]
    return jnp.sum(hot, axis)


def encode_on_host(
    indices: np.ndarray, output_mode: str, depth: int, dtype: Any
) -> np.ndarray:
    """`encode` of integers in NumPy."""
    if output_mode == "int":
        return indices.astype(dtype)
    shape = encoded_shape(indices.shape or (1,), output_mode, depth)
    size = math.prod(shape[:-1])
    groups = indices.reshape(-1, 1)
    if output_mode != "one_hot":
        axis = min(max(indices.ndim, 1), 2) - 1
        groups = np.moveaxis(np.atleast_1d(indices), axis, -1)
        groups = groups.reshape(size, groups.shape[-1])
    rows = np.repeat(np.arange(size), groups.shape[-1])
    counted = count_tokens(rows, groups.reshape(-1), size, depth, dtype)
    if output_mode in ("multi_hot", "one_hot"):
        np.minimum(counted, 1, out=counted)
    return counted.reshape(shape)


def count_tokens(
    rows: np.ndarray, indices: np.ndarray, size: int, depth: int, dtype: Any
) -> np.ndarray:
    """How often each token is in each row.   indices in `rows` -> (size, depth)"""
    valid = (indices >= 0) & (indices < depth)
    flat = rows[valid] * depth + indices[valid]
    counted = np.zeros(size * depth, dtype)
    places, counts = np.unique(flat, return_counts=True)
    counted[places] = counts
    return counted.reshape(size, depth)


class CategoryEncoding(Layer):
    """Integers from 0 to num_tokens - 1 as vectors of that length.

    "one_hot": a vector for each integer, `(batch, 1)` or `(batch,)` -> `(batch, num_tokens)`;
    "multi_hot": 1 for each that is in the example, "count": how often it is, both
    `(batch, tokens)` -> `(batch, num_tokens)`. With "count" a second input `count_weights`, of
    the shape of the first, is added in place of ones.
    Raises ValueError for integers out of range, if they are known before the program is compiled.

    >>> CategoryEncoding(num_tokens=4, output_mode="count")(np.array([[0, 1], [3, 3]])).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    """

    input_names = ("inputs", "count_weights")

    num_tokens: int | None = positive(default=None)
    output_mode: str = mode("multi_hot", "one_hot", "count", default="multi_hot")
    sparse: bool = False

    def validate(self) -> None:
        refuse_sparse(self)
        if self.num_tokens is None:
            raise ValueError(
                "CategoryEncoding: expected num_tokens, the number of different integers, "
                "received None; use IntegerLookup if it is not known"
            )

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for integers out of range."""
        assert self.num_tokens is not None
        if x.size and not (x.min() >= 0 and x.max() < self.num_tokens):
            wrong = x[(x < 0) | (x >= self.num_tokens)][0]
            raise ValueError(
                f"CategoryEncoding: expected integers from 0 to {self.num_tokens - 1}, received "
                f"{wrong}; raise num_tokens, or use IntegerLookup"
            )

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        weights = None
        if isinstance(x, tuple):
            x, weights = x
        if weights is not None and self.output_mode != "count":
            raise ValueError(
                'CategoryEncoding: expected count_weights with output_mode="count" only, received '
                f"them with {self.output_mode!r}; leave them out"
            )
        assert self.num_tokens is not None
        dtype = dtype_of(self, self.output_mode)
        if weights is not None:
            weights = weights.astype(dtype)
        indices = x.astype(jnp.int32)
        return encode(indices, self.output_mode, self.num_tokens, dtype, weights), state
