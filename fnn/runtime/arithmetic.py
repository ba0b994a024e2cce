"""Arithmetic: small functions of arrays that layers share."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

# The limits of dtypes: functions that JAX does not annotate.
finfo: Callable[[DTypeLike], jnp.finfo] = jnp.finfo
iinfo: Callable[[DTypeLike], jnp.iinfo] = jnp.iinfo


def float_dtype(*arrays: Array) -> np.dtype:
    """The widest floating-point dtype among these arrays; float32 if none is floating-point."""
    dtypes = [array.dtype for array in arrays]
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    if not floats:
        return jnp.dtype("float32")
    return jnp.result_type(*floats)


def floating(x: object) -> Array:
    """`x` as a floating-point array: its own dtype if that is floating-point, else float32."""
    array = jnp.asarray(x)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype("float32")


def exactly(function: Callable[[Array], Array], x: Array) -> Array:
    """`function(x)` computed in float32 at least, in the dtype of `x`.

    For sums of exponentials, of which bfloat16 keeps two or three digits.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = function(x.astype(wide))
    if jnp.issubdtype(x.dtype, jnp.floating):
        return y.astype(x.dtype)
    return y


def unit_length(
    x: Array,
    axes: int | tuple[int, ...] | None = None,
    least: float = 1e-12,
) -> Array:
    """`x` divided by its L2 norm along `axes`, which is at least sqrt(`least`).

    So zeros stay zeros and their gradient is finite. Multiplying by the inverse root is
    faster than dividing by the root.
    """
    square = jnp.sum(jnp.square(x), axes, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(square, least))
