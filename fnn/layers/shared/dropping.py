"""Dropping: what dropout does to an array, wherever a layer uses it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core.context import Context


def drop(
    layer: Any,
    x: Array,
    rate: float,
    ctx: Context,
    purpose: str = "",
    shape: tuple[int, ...] | None = None,
) -> Array:
    """0 with probability `rate`, else x / (1 - rate), in training; `x` itself in inference.

    There is a draw for each entry of `shape`, which spreads over x.
    """
    if not ctx.train or rate == 0:
        return x
    if rate == 1:
        return jnp.zeros_like(x)
    kept = random.bernoulli(
        seeded_key(layer, ctx, purpose), 1 - rate, x.shape if shape is None else shape
    )
    return jnp.where(kept, x / (1 - rate), 0)


def seeded_key(layer: Any, ctx: Context, purpose: str = "") -> Array:
    """The key of this call, changed by the `seed` of the layer if it has one."""
    key = ctx.random_key(purpose)
    return key if layer.seed is None else random.fold_in(key, layer.seed)
