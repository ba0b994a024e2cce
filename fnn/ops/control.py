"""Branches, loops, scatters, casts and questions about arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.core.tree import Tree, dtype_name
from fnn.ops.operation import MOST_PARTS
from fnn.ops.table import keeps_lists
from fnn.symbolic.node import Node

Function = Callable[..., Tree]

# JAX's function is untyped.
_custom_gradient: Callable[[Function], Function] = jax.custom_gradient


def cond(
    pred: Tree,
    true_fn: Function,
    false_fn: Function,
) -> Tree:
    """The result of one of two functions without arguments."""
    return lax.cond(pred, true_fn, false_fn)


def switch(
    index: Tree,
    branches: Sequence[Function],
    *operands: Tree,
) -> Tree:
    """The result of one of several functions of the operands."""
    return lax.switch(index, branches, *operands)


def while_loop(
    cond: Function,
    body: Function,
    loop_vars: Tree,
    maximum_iterations: int | None = None,
) -> Tree:
    """Applies `body` to the variables as long as the condition on them holds."""
    several = isinstance(loop_vars, (tuple, list))

    def as_tuple(values: Tree) -> tuple[Tree, ...]:
        if several:
            return tuple(values)
        return (values,)

    def goes_on(carry: tuple[Tree, Tree]) -> Tree:
        count, values = carry
        going = cond(*values)
        if maximum_iterations is not None:
            going = going & (count < maximum_iterations)
        return going

    def step(carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        count, values = carry
        found = body(*values)
        if maximum_iterations is not None:
            count = count + 1
        return count, as_tuple(found)

    start = as_tuple(loop_vars)
    _, values = lax.while_loop(goes_on, step, (0, start))
    return values if several else values[0]


def fori_loop(
    lower: Tree,
    upper: Tree,
    body_fun: Function,
    init_val: Tree,
) -> Tree:
    """Applies `body_fun(i, value)` for each i from `lower` to below `upper`."""
    return lax.fori_loop(lower, upper, body_fun, init_val)


def scan(
    f: Function,
    init: Tree,
    xs: Tree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> Tree:
    """Carries a value through `f(carry, x)` along the first axis; and what it returned."""
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(
            f"scan: expected unroll to be a positive integer or a boolean, received {unroll!r}"
        )
    return lax.scan(f, init, xs, length, reverse, unroll)


def associative_scan(
    f: Function,
    elems: Tree,
    reverse: bool = False,
    axis: int = 0,
) -> Tree:
    """Combines the elements along an axis with all before them, by an associative function."""
    return lax.associative_scan(f, elems, reverse, axis)


def vectorized_map(function: Function, elements: Tree) -> Tree:
    """Applies a function to each element along the first axis, all at once."""
    return jax.vmap(function)(elements)


def custom_gradient(f: Function) -> Function:
    """A function with a gradient of its own: `f` returns its value and how to go back.

    >>> @custom_gradient
    ... def doubled_back(x):
    ...     return x, lambda upstream: 2 * upstream
    >>> jax.grad(doubled_back)(3.0).item()
    2.0
    """
    return _custom_gradient(f)


def stop_gradient(variable: Tree) -> Tree:
    """The same array, without a gradient."""
    return lax.stop_gradient(variable)


def shape(x: Tree) -> tuple[int | None, ...]:
    """The size of each axis; None where it is free in a symbolic node.

    >>> shape([[1, 2, 3]])
    (1, 3)
    """
    if hasattr(x, "shape"):
        return tuple(x.shape)
    return np.shape(x)


def dtype(x: Tree) -> str:
    """The name of the dtype of an array.

    >>> dtype(jnp.ones(2))
    'float32'
    """
    if not hasattr(x, "dtype"):
        x = jnp.asarray(x)
    return str(x.dtype)


def ndim(x: Tree) -> int:
    """The number of axes.

    >>> ndim([[1, 2, 3]])
    2
    """
    return len(shape(x))


def is_tensor(x: object) -> bool:
    """Whether `x` is an array of JAX.

    >>> is_tensor(jnp.ones(2)), is_tensor([1.0, 1.0])
    (True, False)
    """
    return isinstance(x, jax.Array)


def convert_to_numpy(x: Tree) -> np.ndarray:
    """A copy of an array on the host. Raises TypeError for a symbolic node.

    >>> convert_to_numpy(jnp.arange(3)).tolist()
    [0, 1, 2]
    """
    if isinstance(x, Node):
        raise TypeError(
            "convert_to_numpy: expected an array, received a symbolic node, which has no "
            "values; put it among the outputs of a model and call predict"
        )
    return np.array(x)


@keeps_lists
def convert_to_tensor(
    x: Tree,
    dtype: Tree = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
) -> Array:
    """An array of JAX, of a dtype if one is given."""
    if sparse or ragged:
        raise ValueError(
            "convert_to_tensor: expected no sparse or ragged arrays, which fnn does not have; "
            "leave the arguments out"
        )
    if dtype is not None:
        dtype = dtype_name(dtype)
    return jnp.asarray(x, dtype)


@keeps_lists
def cast(x: Tree, dtype: Tree) -> Array:
    """The numbers in another dtype."""
    if not isinstance(x, jax.Array):
        return jnp.asarray(x, dtype)
    if x.dtype == dtype:
        return x
    return x.astype(dtype)


def _bounds(dtype: Tree) -> tuple[Tree, Tree]:
    if jnp.issubdtype(dtype, jnp.bool_):
        return 0, 1
    limits = jnp.finfo if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo
    return limits(dtype).min, limits(dtype).max


def saturate_cast(x: Array, dtype: Tree) -> Array:
    """The numbers in another dtype, those out of its range at its bounds."""
    wanted = np.dtype(dtype)
    low, high = _bounds(wanted)
    own_low, own_high = _bounds(x.dtype)
    least = np.maximum(own_low, low).astype(x.dtype)
    if least < low:
        least = np.nextafter(least, 0, dtype=x.dtype)
    most = np.minimum(own_high, high).astype(x.dtype)
    if most > high:
        most = np.nextafter(most, 0, dtype=x.dtype)
    if x.dtype == bool:
        x = x.astype("int32")
    return jnp.clip(x, least, most).astype(wanted)


def slice_of(
    inputs: Array,
    start_indices: Tree,
    shape: Tree,
) -> Array:
    """The part of an array that starts there and has this shape; -1 goes to the end."""
    sizes = [
        inputs.shape[axis] - start_indices[axis] if size == -1 else size
        for axis, size in enumerate(shape)
    ]
    return lax.dynamic_slice(inputs, start_indices, sizes)


def slice_update(
    inputs: Array,
    start_indices: Tree,
    updates: Array,
) -> Array:
    """The array with a part of it replaced, from the given place on."""
    return lax.dynamic_update_slice(inputs, updates, start_indices)


def scatter(
    indices: Array,
    values: Array,
    shape: Tree,
) -> Array:
    """Zeros with values added at the places that the rows of indices name."""
    places = tuple(jnp.moveaxis(indices, -1, 0))
    return jnp.zeros(shape, values.dtype).at[places].add(values)


# Reductions of Keras -> methods of JAX.
_UPDATES = {
    None: "set",
    "add": "add",
    "max": "max",
    "min": "min",
    "mul": "multiply",
}


def scatter_update(
    inputs: Array,
    indices: Array,
    updates: Array,
    reduction: str | None = None,
) -> Array:
    """The array with elements replaced, or combined, at the places of the rows of indices."""
    name = reduction
    if reduction is not None:
        name = reduction.lower()
    if name not in _UPDATES:
        raise ValueError(
            "scatter_update: expected reduction to be 'add', 'max', 'min', 'mul' or None, "
            f"received {reduction!r}"
        )
    places = inputs.at[tuple(indices.T)]
    result: Array = getattr(places, _UPDATES[name])(updates)
    return result


def unstack(
    x: Array,
    num: int | None = None,
    axis: int = 0,
) -> list[Array]:
    """A list of the parts of an array along an axis."""
    if x.shape[axis] > MOST_PARTS:
        raise ValueError(
            f"unstack: expected an axis of at most {MOST_PARTS}, received shape {x.shape}; "
            "use map or scan"
        )
    return [
        lax.index_in_dim(x, place, axis, keepdims=False)
        for place in range(x.shape[axis])
    ]
