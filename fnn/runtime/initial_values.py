"""Initial values of weights and optimizer states, made without a compilation for every shape.

XLA compiles a program for each shape that `jax.random` draws and `jnp.zeros` fills: for a network
with many shapes these compilations took longer than that of its training step. Here a weight is
drawn in blocks of one size, by one program for all shapes, and filled by NumPy. The values are
those of `jax.random`, bit for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.extend.random import define_prng_impl, threefry_2x32

Shape = tuple[int, ...]

BLOCK = 2**14  # values: small enough to waste nothing on a bias, 0.1 ms of work


def uniform(key: Array, shape: Shape, dtype: Any, low: float, high: float) -> Any:
    """`jax.random.uniform`; a NumPy array for a key that is not traced."""
    return _draw("uniform", key, shape, dtype, low, high)


def normal(key: Array, shape: Shape, dtype: Any) -> Any:
    """`jax.random.normal`; a NumPy array for a key that is not traced."""
    return _draw("normal", key, shape, dtype)


def truncated_normal(
    key: Array, shape: Shape, dtype: Any, low: float, high: float
) -> Any:
    """`jax.random.truncated_normal`; a NumPy array for a key that is not traced."""
    return _draw("truncated_normal", key, shape, dtype, low, high)


def filled(key: Array | None, shape: Shape, dtype: Any, value: Any) -> Array:
    """An array of this shape with one value everywhere, or with values that broadcast to it."""
    if isinstance(key, jax.core.Tracer):
        return jnp.broadcast_to(jnp.asarray(value, dtype), shape)
    return on_device(np.broadcast_to(np.asarray(value, dtype), shape))


def on_device(values: Any, dtype: Any = None) -> Array:
    """`jnp.asarray`, which would compile a program for the shape of values on the host."""
    if isinstance(values, Array):
        return jnp.asarray(values, dtype)
    return jax.device_put(np.asarray(values, dtype))


def orthonormal(matrix: Any) -> tuple[Any, Any]:
    """q and r of a matrix, by the LAPACK that JAX uses on CPU, too."""
    if not isinstance(matrix, np.ndarray):
        return jnp.linalg.qr(matrix)
    from scipy.linalg import qr  # type: ignore[import-untyped]  # comes with JAX

    return qr(matrix, mode="economic")


def _draw(name: str, key: Array, shape: Shape, dtype: Any, *limits: float) -> Any:
    device = _host(key)
    if device is None or jnp.dtype(dtype) != jnp.float32:
        return _DRAWS[name](key, shape, dtype, *limits)
    size = math.prod(shape)
    with jax.ensure_compile_time_eval(), jax.default_device(device):
        words = np.asarray(random.key_data(key))
        blocks = [
            _block(name, _at(words, start), *limits) for start in range(0, size, BLOCK)
        ]
    values = np.concatenate([np.zeros(0, np.float32), *map(np.asarray, blocks)])
    return values[:size].reshape(shape)


def _host(key: Array) -> jax.Device | None:
    """Where to draw blocks: the CPU, so that a seed gives the same weights on any device.

    None where blocks cannot be drawn: a traced key, another generator, a process without CPU.
    """
    if isinstance(key, jax.core.Tracer) or not isinstance(key, Array) or key.shape:
        return None
    if random.key_impl(key) != "threefry2x32" or not _partitionable():
        return None
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS without it
        return None


def _partitionable() -> bool:
    return jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]


def _at(words: np.ndarray, start: int) -> np.ndarray:
    """The two words of a key, and the two of the position at which to start."""
    return np.array([*words, start & 0xFFFFFFFF, start >> 32], np.uint32)


def _bits_from_start(key: Array, width: int, shape: Shape) -> Array:
    """The bits of JAX's partitionable threefry: element i is a hash of the key and i alone."""
    low = key[2] + lax.iota(np.uint32, shape[0])
    high = key[3] + (low < key[2]).astype(np.uint32)
    first, second = jnp.split(
        threefry_2x32((key[0], key[1]), jnp.concatenate([high, low])), 2
    )
    return first ^ second


_unused: Any = None  # such a key only draws
_FROM_START = define_prng_impl(
    key_shape=(4,),
    random_bits=_bits_from_start,
    seed=_unused,
    split=_unused,
    fold_in=_unused,
    name="threefry_from_start",
    tag="fry_from",
)

_DRAWS: dict[str, Callable[..., Array]] = {
    "uniform": random.uniform,
    "normal": random.normal,
    "truncated_normal": lambda key, shape, dtype, low, high: random.truncated_normal(
        key, low, high, shape, dtype
    ),
}


@functools.partial(jax.jit, static_argnums=0)
def _block(name: str, words: Array, *limits: Any) -> Array:
    key = random.wrap_key_data(words, impl=_FROM_START)
    return _DRAWS[name](key, (BLOCK,), jnp.float32, *limits)


def without_compiling(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` where all arrays that it makes are filled with one value each.

    So are the states of most optimizers: zeros. A function that computes more is called as it is.

    >>> without_compiling(lambda w: {"step": 0, "sum": jnp.zeros_like(w)}, jnp.ones(2))
    {'step': 0, 'sum': Array([0., 0.], dtype=float32)}
    """
    if any(_is_placed(leaf) for leaf in jax.tree.leaves(arguments)):
        return function(*arguments)
    seen: list[Any] = []

    def run(*arguments: Any) -> list[Any]:
        leaves, treedef = jax.tree.flatten(function(*arguments))
        traced = [isinstance(leaf, jax.core.Tracer) for leaf in leaves]
        kept = [None if t else leaf for t, leaf in zip(traced, leaves, strict=True)]
        seen.append((treedef, traced, kept))
        return [leaf for t, leaf in zip(traced, leaves, strict=True) if t]

    jaxpr = jax.make_jaxpr(run)(*arguments).jaxpr
    fills = {
        equation.outvars[0]: equation.invars[0].val
        for equation in jaxpr.eqns
        if equation.primitive.name == "broadcast_in_dim"
        and hasattr(equation.invars[0], "val")
    }
    values = [
        out.val if hasattr(out, "val") else fills.get(out) for out in jaxpr.outvars
    ]
    if any(value is None for value in values):
        return function(*arguments)
    made = iter(
        filled(None, out.aval.shape, out.aval.dtype, value)
        for out, value in zip(jaxpr.outvars, values, strict=True)
    )
    treedef, traced, kept = seen[-1]
    leaves = [next(made) if t else leaf for t, leaf in zip(traced, kept, strict=True)]
    return jax.tree.unflatten(treedef, leaves)


def _is_placed(leaf: Any) -> bool:
    """Whether what is like `leaf` cannot be made on the host: it is traced, or lies divided."""
    if isinstance(leaf, jax.core.Tracer):
        return True
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
