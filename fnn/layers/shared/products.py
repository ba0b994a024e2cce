"""Products: queries times keys, exact forward and in half precision backward."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array


def product(equation: str, q: Array, k: Array) -> Array:
    """The product of queries and keys by an einsum, in float32 at least."""
    is_half = q.dtype in (jnp.bfloat16, jnp.float16)
    if is_half and q.dtype == k.dtype:
        return _wide_product(equation, q, k)
    exact = jnp.promote_types(q.dtype, jnp.float32)
    return jnp.einsum(equation, q, k, preferred_element_type=exact)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _wide_product(equation: str, q: Array, k: Array) -> Array:
    return jnp.einsum(equation, q, k, preferred_element_type=jnp.float32)


@_wide_product.defjvp
def _wide_product_jvp(
    equation: str, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The derivative by products in half precision; JAX's own has one operand in float32."""
    q, k = primals
    dq, dk = tangents
    by_q = jnp.einsum(equation, dq, k)
    by_k = jnp.einsum(equation, q, dk)
    dy = by_q + by_k
    y = _wide_product(equation, q, k)
    return y, dy.astype(y.dtype)
