"""Embedding: a vector for each integer, and back."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context, salt
from fnn.core.fields import one_of, positive
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.masking import attach_mask, combine_masks
from fnn.runtime.placement import sharding, spec_of, used_by, without


class Embedding(Layer):
    """Row `id` of a table, for each id.   (batch, ...) -> (batch, ..., output_dim)

    `mask_zero` says that id 0 is padding: the outputs are `Masked`, their mask has the shape of the
    ids. An id outside 0 to `input_dim - 1` (or not an integer) is refused where the ids are known,
    by a model and by `apply` on arrays. Under `jit` and other transformations of JAX they are not
    known, and such an id gives NaN, a negative one too (Keras reads it from the end).
    Weights: `embeddings (input_dim, output_dim)`.
    Raises ValueError for wrong arguments and for known ids that are not in the table.

    >>> init, apply = Embedding(10, 4, mask_zero=True)
    >>> ids = jnp.array([[3, 7, 0]])
    >>> apply(*init(jax.random.key(0), ids), ids)[0].mask.tolist()
    [[True, True, False]]
    """

    masking = "use"
    by_step = True
    keeps_sharding = True

    input_dim: int = positive()
    output_dim: int = positive()
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: bool = False

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for ids that are not in the table."""
        _check_values(self, x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        _check_ids(self, x)
        shape = (self.input_dim, self.output_dim)
        return {"embeddings": self.weight("embeddings", key, shape)}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return _look_up(params["embeddings"], x, ctx.mask, self.mask_zero), state


class ReversibleEmbedding(Layer):
    """`Embedding`, and the way back: from vectors to a logit for each id, by the same table.

    Integers are ids, (batch, ...) -> (batch, ..., output_dim); floating-point inputs are
    vectors, (batch, ..., output_dim) -> logits (batch, ..., input_dim), x @ embeddings^T. In a
    graph `layer(x, reverse=True)` says which is meant, and ids need `Input(..., dtype="int32")`.
    With `tie_weights=False` the way back has a kernel of its own. `reverse_dtype` is the dtype to
    compute the logits in; `logit_soft_cap` c makes them c * tanh(logits / c). A mask stays on the
    logits (Keras drops it there). Weights: `embeddings (input_dim, output_dim)` and, untied,
    `reverse_embeddings (output_dim, input_dim)`.
    Raises ValueError for wrong arguments, for ids as `Embedding`, and for inputs of the other kind
    than `reverse` says (Press and Wolf 2016, section 3).

    >>> layer, ids = ReversibleEmbedding(10, 4), jnp.array([[3, 7, 0]])
    >>> params, state = layer.init(jax.random.key(0), ids)
    >>> vectors, _ = layer.apply(params, state, ids)
    >>> layer.apply(params, state, vectors)[0].shape
    (1, 3, 10)
    """

    masking = "use"
    by_step = True

    input_dim: int = positive()
    output_dim: int = positive()
    tie_weights: bool = True
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: bool = False
    reverse_dtype: str | None = one_of(
        (None, "float64", "float32", "bfloat16", "float16"), default=None
    )
    logit_soft_cap: float | None = positive(default=None)

    def __call__(self, x: Any, reverse: bool = False) -> Any:
        """A node of a graph; `reverse` says that `x` are vectors. Both share the weights."""
        if hasattr(x, "dtype") and reverse != _are_vectors(x):
            expected = "vectors (float32)" if reverse else "ids (integers)"
            advice = (
                'Input(..., dtype="int32") for ids, layer(x, reverse=True) for vectors'
            )
            raise ValueError(
                f"ReversibleEmbedding: expected {expected} with reverse={reverse}, received "
                f"{x.dtype} of shape {x.shape}; use {advice}"
            )
        return super().__call__(x)

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for ids that are not in the table."""
        if not _are_vectors(x):
            _check_values(self, x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        if not _are_vectors(x):
            _check_ids(self, x)
        elif not x.shape or x.shape[-1] != self.output_dim:
            raise ValueError(
                f"ReversibleEmbedding: expected ids (integers), or vectors of "
                f"{self.output_dim} numbers to turn into logits, received {x.dtype} of shape "
                f'{tuple(x.shape)}; use Input(..., dtype="int32") for ids'
            )
        shape = (self.input_dim, self.output_dim)
        params = {"embeddings": self.weight("embeddings", key, shape)}
        if not self.tie_weights:
            # By the initializer of the embeddings, from a key of its own.
            own = random.fold_in(key, salt("reverse_embeddings"))
            params["reverse_embeddings"] = self.weight("embeddings", own, shape[::-1])
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        if not _are_vectors(x):
            return _look_up(params["embeddings"], x, ctx.mask, self.mask_zero), state
        kernel = (
            params["embeddings"].T if self.tie_weights else params["reverse_embeddings"]
        )
        if self.reverse_dtype is not None:
            x, kernel = x.astype(self.reverse_dtype), kernel.astype(self.reverse_dtype)
        logits, cap = jnp.matmul(x, kernel), self.logit_soft_cap
        if cap is not None:
            logits = jnp.tanh(logits / cap) * cap
        return attach_mask(logits, ctx.mask), state


def _check_values(layer: Any, x: np.ndarray) -> None:
    """Raises ValueError for ids that are not in the table."""
    if not x.size:
        return
    name, low, high = type(layer).__name__, x.min(), x.max()
    if low < 0 or high >= layer.input_dim:
        worst = low if low < 0 else high
        place = tuple(int(i) for i in np.argwhere(x == worst)[0])
        raise ValueError(
            f"{name}: expected ids from 0 to {layer.input_dim - 1}, received {worst} at "
            f"{place}; renumber the ids, or make input_dim larger"
        )
    if x.dtype.kind == "f" and (x != np.floor(x)).any():
        raise ValueError(
            f"{name}: expected ids that are integers, received {x[x != np.floor(x)][0]}"
            "; give class numbers as they are, not scaled"
        )


def _check_ids(layer: Any, x: Any) -> None:
    """Raises ValueError in `init` for ids that cannot be masked."""
    arguments.minimum_rank(layer, x, 1, "(batch, ...)")
    if layer.mask_zero and len(x.shape) < 2:
        raise ValueError(
            f"{type(layer).__name__}: expected ids (batch, time) or of more axes with "
            f"mask_zero=True, received shape {tuple(x.shape)}; set mask_zero=False"
        )


def _look_up(table: Any, x: Array, mask: Array | None, mask_zero: bool) -> Any:
    """The rows of the table, masked by the mask that the ids have and by the ids 0."""
    if not jnp.issubdtype(
        x.dtype, jnp.integer
    ):  # Input() is float32 unless told otherwise
        x = jnp.where(x == jnp.floor(x), x, -1).astype(jnp.int32)
    where: dict[str, Any] = {}
    ids, columns = spec_of(x), spec_of(table)
    if used_by(ids, columns):  # as the ids are divided, and the columns of the table
        front = ids or (None,) * x.ndim
        back = without((columns or (None,))[-1:], used_by(front))
        where = {"out_sharding": sharding(table if ids is None else x, (*front, *back))}
    rows = jnp.asarray(table).at[x]
    y = rows.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, **where)
    return attach_mask(y, combine_masks((mask, x != 0 if mask_zero else None)))


def _are_vectors(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
