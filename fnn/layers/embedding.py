"""Embedding: a vector for each whole number."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.masking import attach_mask, combine_masks


class Embedding(Layer):
    """Row `id` of a table, for each id.   (batch, ...) -> (batch, ..., output_dim)

    `mask_zero` says that id 0 is padding: the outputs are `Masked`. An id that is not a whole
    number from 0 to `input_dim - 1` gives NaN, a negative one too (Keras reads it from the end);
    a model checks the ids that it is given and raises. Weights: `embeddings (input_dim,
    output_dim)`.
    Raises ValueError for wrong arguments.

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

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for ids in the data of a model that are not in the table."""
        if not x.size:
            return
        low, high = x.min(), x.max()
        if low < 0 or high >= self.input_dim:
            worst = low if low < 0 else high
            place = tuple(int(i) for i in np.argwhere(x == worst)[0])
            raise ValueError(
                f"Embedding: expected ids from 0 to {self.input_dim - 1}, received {worst} at "
                f"{place}; do renumber the ids, or make input_dim larger"
            )
        if x.dtype.kind == "f" and (x != np.floor(x)).any():
            raise ValueError(
                f"Embedding: expected ids that are whole numbers, received {x[x != np.floor(x)][0]}"
                "; do give class numbers as they are, not scaled"
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
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
        if not jnp.issubdtype(x.dtype, jnp.integer):  # Input() is float32 unless told otherwise
            x = jnp.where(x == jnp.floor(x), x, -1).astype(jnp.int32)
        table = jnp.asarray(params["embeddings"]).at[x]
        y = table.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        return attach_mask(y, combine_masks((ctx.mask, x != 0 if self.mask_zero else None))), state
