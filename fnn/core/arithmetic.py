"""The few lines of mathematics that leaf layers share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core.config import resolve
from fnn.core.context import Context


def activate(activation: Any, y: Array) -> Array:
    """The activation, by name or as a function, of `y`; `y` itself for None."""
    return y if activation is None else resolve("activation", activation)(y)


def along(vector: Array, ndim: int, axis: int = -1) -> Array:
    """`vector` shaped to broadcast along one axis of an array of `ndim` axes (strict JAX)."""
    shape = [1] * ndim
    shape[axis] = vector.shape[0]
    return vector.reshape(shape)


def add_bias(y: Array, bias: Array, axis: int = -1) -> Array:
    """`y` plus one number for each channel along `axis`."""
    return y + along(bias, y.ndim, axis)


def float_dtype(*arrays: Any) -> Any:
    """The widest floating-point dtype among these; float32 if there is none."""
    floats = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.result_type(*floats) if floats else jnp.dtype("float32")


def floating(x: Any) -> Array:
    """`x` as an array of floating-point numbers, of its own dtype if it has such."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype("float32")


def unit_length(x: Array, axes: int | tuple[int, ...] | None = None, least: float = 1e-12) -> Array:
    """`x` divided by its L2 length along `axes`, at least sqrt(`least`): zeros stay zeros.

    Their gradient is finite. A product with the inverse root is faster than division by the root.
    """
    square = jnp.sum(jnp.square(x), axes, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(square, least))


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
