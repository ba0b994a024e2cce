"""Dropping: dropout of an array, and its random key, for every layer that drops."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, random

from fnn.core.context import Context
from fnn.core.layer import Layer


def drop(
    layer: Layer,
    x: Array,
    rate: float,
    ctx: Context,
    purpose: str = "",
    shape: tuple[int, ...] | None = None,
) -> Array:
    """In training 0 with probability `rate`, else x / (1 - rate); in inference `x` itself.

    Entries are dropped independently, or together along the axes of size 1 of `shape`.
    """
    if not ctx.train or rate == 0:
        return x
    if rate == 1:  # x / (1 - rate) would be infinite
        return jnp.zeros_like(x)
    if shape is None:
        shape = x.shape
    key = seeded_key(layer, ctx, purpose)
    kept = random.bernoulli(key, 1 - rate, shape)  # broadcasts over x
    return jnp.where(kept, x / (1 - rate), 0)


def seeded_key(
    layer: Layer,
    ctx: Context,
    purpose: str = "",
) -> Array:
    """The random key of this call, combined with the `seed` of the layer if it has one."""
    key = ctx.random_key(purpose)
    seed = getattr(layer, "seed", None)
    if seed is None:
        return key
    return random.fold_in(key, seed)
