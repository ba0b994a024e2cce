"""Masking and Unmask: where a mask begins and where it ends."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, combine_masks


class Masking(Layer):
    """Masks positions whose features all equal `mask_value`.   (batch, time, ...) -> same shape

    The features are the last axis, so the mask of inputs `(batch, time, features)` is
    `(batch, time)`, and that of `(batch, sentences, words, features)` is
    `(batch, sentences, words)`. The outputs are `Masked`, with zeros in the masked positions. A
    mask that the inputs already have stays: a position is valid if both say so.
    Raises ValueError for a `mask_value` that is no number, NaN among them since nothing equals it,
    and for inputs of fewer than three axes.

    >>> Masking().apply({}, {}, jnp.array([[[1.0], [0.0]]]))[0].mask.tolist()
    [[True, False]]
    """

    masking = "use"
    by_step = True

    mask_value: float = 0.0

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 3, "(batch, time, features, ...)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        valid = jnp.any(x != self.mask_value, -1)
        y = jnp.where(valid[..., None], x, jnp.zeros_like(x))
        return Masked(y, combine_masks((ctx.mask, valid))), state


class Unmask(Layer):
    """Drops the mask and leaves the values as they are.   same shape -> same shape

    For a layer that refuses masks, where you know that padding does no harm.

    >>> Unmask().apply({}, {}, jnp.ones((1, 2, 3)))[0].shape
    (1, 2, 3)
    """

    masking = "use"
    by_step = True

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return x, state
