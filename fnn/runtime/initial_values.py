"""Initial values of weights and optimizer states, made without a compilation for each shape.

XLA compiles a program for each shape that `jax.random` draws and `jnp.zeros` fills: for a network
with many shapes this took longer than compiling its training step. Here random weights are drawn
in blocks of one size, by one program for all shapes, and constant ones are filled by NumPy. The
values equal those of `jax.random`, bit for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.extend.random import define_prng_impl, threefry_2x32
from jax.typing import ArrayLike, DTypeLike

from fnn.runtime.placement import Tree

Shape: TypeAlias = tuple[int, ...]
Values: TypeAlias = Any  # an Array for a traced key, else a NumPy array

# The number of values of a block: 0.1 ms of work, so little is wasted on a bias.
BLOCK = 2**14


def uniform(
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
    low: float,
    high: float,
) -> Values:
    """`jax.random.uniform`; a NumPy array for a key that is not traced."""
    return _draw("uniform", key, shape, dtype, low, high)


def normal(
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
) -> Values:
    """`jax.random.normal`; a NumPy array for a key that is not traced."""
    return _draw("normal", key, shape, dtype)


def truncated_normal(
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
    low: float,
    high: float,
) -> Values:
    """`jax.random.truncated_normal`; a NumPy array for a key that is not traced."""
    return _draw("truncated_normal", key, shape, dtype, low, high)


def filled(
    key: Array | None,
    shape: Shape,
    dtype: DTypeLike,
    value: ArrayLike,
) -> Array:
    """An array of this shape filled with a value, or with values that broadcast to it."""
    if isinstance(key, jax.core.Tracer):
        return jnp.broadcast_to(jnp.asarray(value, dtype), shape)
    return on_device(np.broadcast_to(np.asarray(value, dtype), shape))


def on_device(values: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """`jnp.asarray`, without compiling a program for the shape of values on the host."""
    if isinstance(values, Array):
        return jnp.asarray(values, dtype)
    placed: Array = jax.device_put(np.asarray(values, dtype))
    return placed


def orthonormal(matrix: Values) -> tuple[Values, Values]:
    """The QR decomposition of a matrix, by the LAPACK routine that JAX uses on CPU."""
    if not isinstance(matrix, np.ndarray):
        return jnp.linalg.qr(matrix)
    from scipy.linalg import qr  # type: ignore[import-untyped]  # comes with JAX

    q, r = qr(matrix, mode="economic")
    return q, r


def _draw(
    name: str,
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
    *limits: float,
) -> Values:
    device = _host(key)
    if device is None or jnp.dtype(dtype) != jnp.float32:
        return _DRAWS[name](key, shape, dtype, *limits)
    size = math.prod(shape)
    blocks = []
    with jax.ensure_compile_time_eval(), jax.default_device(device):
        words = np.asarray(random.key_data(key))
        for position in range(0, size, BLOCK):
            block = _block(name, _at(words, position), *limits)
            blocks.append(block)
    # The empty array is for a size of 0.
    start = np.zeros(0, np.float32)
    values = np.concatenate([start, *map(np.asarray, blocks)])
    return values[:size].reshape(shape)


def _host(key: Array) -> jax.Device | None:
    """The device that draws blocks: the CPU, so a seed gives the same weights on any device.

    None if blocks cannot be drawn: a traced key, another generator, a process without CPU.
    """
    if isinstance(key, jax.core.Tracer) or not isinstance(key, Array) or key.shape:
        return None
    if random.key_impl(key) != "threefry2x32" or not _partitionable():
        return None
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves out the CPU
        return None


def _partitionable() -> bool:
    return bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]


def _at(words: np.ndarray, start: int) -> np.ndarray:
    """The two words of a key, then the low and the high word of the start position."""
    return np.array([*words, start & 0xFFFFFFFF, start >> 32], np.uint32)


def _bits_from_start(
    key: Array,
    width: int,
    shape: Shape,
) -> Array:
    """The bits of JAX's partitionable threefry: element i is a hash of the key and of i."""
    low = key[2] + lax.iota(np.uint32, shape[0])
    high = key[3] + (low < key[2]).astype(np.uint32)
    counts = jnp.concatenate([high, low])
    hashed = threefry_2x32((key[0], key[1]), counts)
    first, second = jnp.split(hashed, 2)
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


def _truncated_normal(
    key: Array,
    shape: Shape,
    dtype: DTypeLike,
    low: float,
    high: float,
) -> Array:
    return random.truncated_normal(key, low, high, shape, dtype)


_DRAWS: dict[str, Callable[..., Array]] = {
    "uniform": random.uniform,
    "normal": random.normal,
    "truncated_normal": _truncated_normal,
}


@functools.partial(jax.jit, static_argnums=0)
def _block(
    name: str,
    words: Array,
    *limits: float,
) -> Array:
    key = random.wrap_key_data(words, impl=_FROM_START)
    return _DRAWS[name](key, (BLOCK,), jnp.float32, *limits)


def without_compiling(function: Callable[..., Tree], *arguments: Tree) -> Tree:
    """`function(*arguments)`, without compiling anything if each array it makes has one value.

    So are the states of most optimizers: zeros. A function that computes more is called as it is.

    >>> without_compiling(lambda w: {"step": 0, "sum": jnp.zeros_like(w)}, jnp.ones(2))
    {'step': 0, 'sum': Array([0., 0.], dtype=float32)}
    """
    if any(_is_on_devices(leaf) for leaf in jax.tree.leaves(arguments)):
        return function(*arguments)
    # The leaves that the function returns, `_TRACED` for those that the jaxpr computes.
    returned: list[Any] = []
    structures = []

    def run(*arguments: Tree) -> list[Array]:
        leaves, treedef = jax.tree.flatten(function(*arguments))
        returned[:] = map(_without_tracer, leaves)
        structures.append(treedef)
        return [leaf for leaf in leaves if isinstance(leaf, jax.core.Tracer)]

    jaxpr = jax.make_jaxpr(run)(*arguments).jaxpr
    values = _constant_outputs(jaxpr)
    if any(value is None for value in values):
        return function(*arguments)
    made = iter(
        filled(None, out.aval.shape, out.aval.dtype, value)
        for out, value in zip(jaxpr.outvars, values, strict=True)
    )
    leaves = []
    for leaf in returned:
        if leaf is _TRACED:
            leaf = next(made)
        leaves.append(leaf)
    return jax.tree.unflatten(structures[-1], leaves)


_TRACED = object()


def _without_tracer(leaf: object) -> object:
    if isinstance(leaf, jax.core.Tracer):
        return _TRACED
    return leaf


def _constant_outputs(jaxpr: Any) -> list[Any]:
    """For each output of a jaxpr its value if it is a broadcast constant, else None."""
    fills = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name != "broadcast_in_dim":
            continue
        source = equation.invars[0]
        if hasattr(source, "val"):
            fills[equation.outvars[0]] = source.val
    values = []
    for out in jaxpr.outvars:
        if hasattr(out, "val"):
            values.append(out.val)
        else:
            values.append(fills.get(out))
    return values


def _is_on_devices(leaf: object) -> bool:
    """Whether arrays like `leaf` cannot be made on the host: it is traced, or divided."""
    if isinstance(leaf, jax.core.Tracer):
        return True
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
