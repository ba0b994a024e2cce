"""Embedding: a vector for each whole number."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.masking import attach_mask, combine_masks


class Embedding(Layer):
    """Row `id` of a table, for each id.   (batch, ...) -> (batch, ..., output_dim)

    `mask_zero` says that id 0 is padding: the outputs are `Masked`. An id outside 0 to
    `input_dim - 1` gives NaN, a negative one too (Keras reads it from the end). Weights:
    `embeddings (input_dim, output_dim)`.
    Raises ValueError for wrong arguments, TypeError for ids that are not whole numbers.

    >>> init, apply = Embedding(10, 4, mask_zero=True)
    >>> ids = jnp.array([[3, 7, 0]])
    >>> apply(*init(jax.random.key(0), ids), ids)[0].mask.tolist()
    [[True, True, False]]
    """

    masking = "use"

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: bool = False

    def validate(self) -> None:
        arguments.positive_int(self, "input_dim", "output_dim")

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(
                f"Embedding: expected ids of a whole-number dtype, received {x.dtype}; do give "
                "them as int32, e.g. x.astype('int32') or Input(shape, dtype='int32')"
            )
        if self.mask_zero and len(x.shape) != 2:
            raise ValueError(
                "Embedding: expected ids of 2 axes (batch, time) with mask_zero=True, received "
                f"shape {tuple(x.shape)}; do set mask_zero=False"
            )
        shape = (self.input_dim, self.output_dim)
        return {"embeddings": self.weight("embeddings", key, shape)}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        y = (
            params["embeddings"]
            .at[x]
            .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        )
        return attach_mask(y, combine_masks((ctx.mask, x != 0 if self.mask_zero else None))), state
