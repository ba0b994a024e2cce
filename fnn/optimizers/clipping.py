"""Gradient clipping: by value, by the norm of each weight, by the global norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.tree import Tree


def clip_by_value(grads: Tree, limit: float) -> Tree:
    """Every element between -limit and limit."""

    def clip(g: Array) -> Array:
        return jnp.clip(g, -limit, limit)

    return jax.tree.map(clip, grads)


def clip_by_norm(grads: Tree, limit: float) -> Tree:
    """Each gradient scaled down to a norm of at most `limit`, separately."""

    def clip(g: Array) -> Array:
        # The sum of squares overflows early in float16.
        wide = g.astype(jnp.promote_types(g.dtype, "float32"))
        norm = jnp.sqrt(jnp.square(wide).sum())
        factor = limit / jnp.maximum(norm, limit)
        return g * factor.astype(g.dtype)

    return jax.tree.map(clip, grads)


def clip_by_global_norm(grads: Tree, limit: float) -> Tree:
    """All gradients scaled down together to a norm of at most `limit`."""
    clipping = optax.clip_by_global_norm(limit)
    clipped, _ = clipping.update(grads, optax.EmptyState())
    return clipped
