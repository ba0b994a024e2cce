"""Mask layers: Masking adds a mask, Unmask removes it."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from fnn.core.context import INFERENCE, Context, Masked, combine_masks
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree


class Masking(Layer):
    """Masks positions whose features all equal `mask_value`.   (batch, time, ...) -> same shape

    The features are the last axis: inputs `(batch, time, features)` get a mask `(batch, time)`,
    inputs `(batch, sentences, words, features)` a mask `(batch, sentences, words)`. The outputs are
    `Masked`, with zeros in the masked positions. If the inputs already have a mask, a position is
    valid where both masks are True.
    Raises ValueError for a `mask_value` that is not a number or is NaN, which equals nothing, and
    for inputs of fewer than three axes.

    >>> Masking().apply({}, {}, jnp.array([[[1.0], [0.0]]]))[0].mask.tolist()
    [[True, False]]
    """

    masking = "use"
    by_step = True

    input_layout = "(batch, time, features, ...)"

    mask_value: float = 0.0

    def compute_mask(self, inputs: Array, mask: Array | None = None) -> Array:
        """The mask of the outputs for an array."""
        return jnp.any(jnp.asarray(inputs) != self.mask_value, -1)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Masked, State]:
        valid = jnp.any(x != self.mask_value, -1)  # (batch, time)
        y = jnp.where(valid[..., None], x, jnp.zeros_like(x))
        mask = combine_masks((ctx.mask, valid))
        return Masked(y, mask), state


class Unmask(Layer):
    """Removes the mask and leaves the values as they are.   same shape -> same shape

    Use it before a layer that refuses masks, if you know that padding does no harm there.

    >>> Unmask().apply({}, {}, jnp.ones((1, 2, 3)))[0].shape
    (1, 2, 3)
    """

    masking = "use"
    by_step = True

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        return x, state
