"""The few lines of mathematics that leaf layers share."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def float_dtype(*arrays: Any) -> Any:
    """The widest floating-point dtype among these; float32 if there is none."""
    floats = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.result_type(*floats) if floats else jnp.dtype("float32")


def floating(x: Any) -> Array:
    """`x` as an array of floating-point numbers, of its own dtype if it has such."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype("float32")


def unit_length(
    x: Array, axes: int | tuple[int, ...] | None = None, least: float = 1e-12
) -> Array:
    """`x` divided by its L2 length along `axes`, at least sqrt(`least`): zeros stay zeros.

    Their gradient is finite. A product with the inverse root is faster than division by the root.
    """
    square = jnp.sum(jnp.square(x), axes, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(square, least))
