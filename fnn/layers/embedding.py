"""Embedding: a vector for each integer id, and logits of ids from vectors."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.sharding import NamedSharding

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import (
    INFERENCE,
    Context,
    Masked,
    attach_mask,
    combine_masks,
    salt,
)
from fnn.core.fields import one_of, positive
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.placement import sharding, spec_of, used_by, without

CAN_BE_MASKED = Rule(
    "inputs",
    lambda layer, x: not layer.mask_zero or _are_vectors(x) or len(x.shape) > 1,
    "to be ids (batch, time) or of more axes with mask_zero=True",
    "set mask_zero=False",
)


class Embedding(Layer):
    """The row of a table for each id.   (batch, ...) -> (batch, ..., output_dim)

    `mask_zero` says that id 0 is padding: the outputs are `Masked`, with a mask of the shape of the
    ids. Ids must be integers from 0 to `input_dim - 1`. A model, and `apply` on arrays, raise for
    other ids. Under `jit` and other transformations of JAX, where the values are unknown, the
    output for such an id is NaN, also for negative ids (which Keras counts from the end).
    Weights: `embeddings (input_dim, output_dim)`.
    Raises ValueError for wrong arguments and for ids that are not in the table.

    >>> init, apply = Embedding(10, 4, mask_zero=True)
    >>> ids = jnp.array([[3, 7, 0]])
    >>> apply(*init(jax.random.key(0), ids), ids)[0].mask.tolist()
    [[True, True, False]]
    """

    masking = "use"
    by_step = True
    casts_inputs = False  # ids above 256 are not exact in bfloat16
    keeps_sharding = True
    input_layout = "(batch, ...)"
    input_rules = (CAN_BE_MASKED,)

    input_dim: int = positive()
    output_dim: int = positive()
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: bool = False

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for ids that are not in the table."""
        _check_values(self, x)

    def compute_mask(self, inputs: Tree, mask: Tree = None) -> Tree:
        """The mask of the outputs for ids, of arrays or nodes; None without `mask_zero`."""
        if not self.mask_zero:
            return None
        return inputs != 0

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.input_dim, self.output_dim)
        return {"embeddings": self.weight("embeddings", key, shape)}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        if "embeddings_scale" not in params:
            return _look_up(params["embeddings"], x, ctx.mask, self.mask_zero), state
        rows = ctx.stored.rows(params, lambda table: _look_up(table, x, None, False))
        mask = _mask_of(x, ctx.mask, self.mask_zero)
        return attach_mask(rows, mask), state


class ReversibleEmbedding(Layer):
    """`Embedding`, and the reverse: a logit for each id from vectors, by the same table.

    Integer inputs are ids, (batch, ...) -> (batch, ..., output_dim). Floating-point inputs are
    vectors, (batch, ..., output_dim) -> logits (batch, ..., input_dim), x @ embeddings^T. In a
    graph, vectors need `layer(x, reverse=True)`, and ids need `Input(..., dtype="int32")`.
    With `tie_weights=False` the reverse has a kernel of its own. `reverse_dtype` is the dtype in
    which logits are computed; `logit_soft_cap` c makes them c * tanh(logits / c). A mask stays on
    the logits (Keras drops it). Weights: `embeddings (input_dim, output_dim)` and, untied,
    `reverse_embeddings (output_dim, input_dim)`.
    Raises ValueError for wrong arguments, for ids like `Embedding`, and if `reverse` does not match
    the inputs (Press and Wolf 2016, section 3).

    >>> layer, ids = ReversibleEmbedding(10, 4), jnp.array([[3, 7, 0]])
    >>> params, state = layer.init(jax.random.key(0), ids)
    >>> vectors, _ = layer.apply(params, state, ids)
    >>> layer.apply(params, state, vectors)[0].shape
    (1, 3, 10)
    """

    masking = "use"
    by_step = True
    input_layout = "(batch, ...)"
    input_rules = (
        CAN_BE_MASKED,
        Rule(
            "inputs",
            lambda layer, x: not _are_vectors(x) or x.shape[-1] == layer.output_dim,
            "to be ids (integers), or vectors of {self.output_dim} features to turn into logits, "
            "not {x.dtype}",
            'use Input(..., dtype="int32") for ids',
        ),
    )

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

    def __call__(self, x: Tree, reverse: bool = False) -> Tree:
        """A node of a graph; `reverse` says that `x` are vectors. Both directions share weights."""
        if hasattr(x, "dtype") and reverse != _are_vectors(x):
            expected = f"to be {not reverse} for inputs of {x.dtype}, shape {x.shape}"
            advice = 'use Input(..., dtype="int32") for ids, layer(x, reverse=True) for vectors'
            raise arguments.wrong(self, "reverse", expected, reverse, advice)
        return super().__call__(x)

    def check_values(self, x: np.ndarray) -> None:
        """Raises ValueError for ids that are not in the table."""
        if not _are_vectors(x):
            _check_values(self, x)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.input_dim, self.output_dim)
        params = {"embeddings": self.weight("embeddings", key, shape)}
        if not self.tie_weights:
            # The initializer of the embeddings, with another key.
            key = random.fold_in(key, salt("reverse_embeddings"))
            shape = (self.output_dim, self.input_dim)
            params["reverse_embeddings"] = self.weight("embeddings", key, shape)
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        if not _are_vectors(x):
            return _look_up(params["embeddings"], x, ctx.mask, self.mask_zero), state
        tied = self.tie_weights
        # (output_dim, input_dim)
        kernel = params["embeddings"].T if tied else params["reverse_embeddings"]
        if self.reverse_dtype is not None:
            x = x.astype(self.reverse_dtype)
            kernel = kernel.astype(self.reverse_dtype)
        logits = jnp.matmul(x, kernel)  # (batch, ..., input_dim)
        cap = self.logit_soft_cap
        if cap is not None:
            logits = jnp.tanh(logits / cap) * cap
        return attach_mask(logits, ctx.mask), state


def _check_values(layer: Embedding | ReversibleEmbedding, x: np.ndarray) -> None:
    """Raises ValueError for ids that are not in the table."""
    if not x.size:
        return
    name = type(layer).__name__
    lowest = x.min()
    highest = x.max()
    if lowest < 0 or highest >= layer.input_dim:
        worst = highest
        if lowest < 0:
            worst = lowest
        place = tuple(np.argwhere(x == worst)[0].tolist())
        raise ValueError(
            f"{name}: expected ids from 0 to {layer.input_dim - 1}, received {worst} at "
            f"{place}; renumber the ids, or make input_dim larger"
        )
    if x.dtype.kind != "f":
        return
    not_integer = x != np.floor(x)
    if not_integer.any():
        raise ValueError(
            f"{name}: expected ids that are integers, received {x[not_integer][0]}"
            "; pass class numbers as they are, not scaled"
        )


def _look_up(
    table: Array,
    x: Array,
    mask: Array | None,
    mask_zero: bool,
) -> Array | Masked:
    """The rows of the table, with the mask of the ids, where id 0 may be masked too."""
    # Input() is float32 by default; a number with a fraction is not an id.
    if not jnp.issubdtype(x.dtype, jnp.integer):
        is_integer = x == jnp.floor(x)
        x = jnp.where(is_integer, x, -1).astype(jnp.int32)
    rows = jnp.asarray(table).at[x]
    # (batch, ..., output_dim)
    y = rows.get(
        mode="fill",
        fill_value=jnp.nan if jnp.issubdtype(table.dtype, jnp.floating) else 0,
        wrap_negative_indices=False,
        out_sharding=_sharding_of_rows(table, x),
    )
    result: Array | Masked = attach_mask(y, _mask_of(x, mask, mask_zero))
    return result


def _mask_of(x: Array, mask: Array | None, mask_zero: bool) -> Array | None:
    if mask_zero:
        return combine_masks((mask, x != 0))
    return mask


def _sharding_of_rows(table: Array, x: Array) -> NamedSharding | None:
    """Divided like the ids and the columns of the table; None if neither is divided."""
    ids = spec_of(x)
    columns = spec_of(table)
    if not used_by(ids, columns):
        return None
    front = ids or (None,) * x.ndim
    features = (columns or (None,))[-1:]
    back = without(features, used_by(front))
    on_mesh = table if ids is None else x
    return sharding(on_mesh, (*front, *back))


def _are_vectors(x: SpecTree) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
