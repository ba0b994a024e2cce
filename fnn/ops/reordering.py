"""Functions of shapes and order that JAX lacks or takes in another form."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.tree import Tree


def split(
    x: Array,
    indices_or_sections: Tree,
    axis: int = 0,
) -> list[Array]:
    """Split an array into a list of parts along an axis."""
    if isinstance(indices_or_sections, list):
        indices_or_sections = tuple(indices_or_sections)
    return list(jnp.split(x, indices_or_sections, axis=axis))


def get_item(x: Tree, key: Tree) -> Tree:
    """`x[key]`: elements and slices of an array, or the item of a dict."""
    return x[key]


def meshgrid(*x: Tree, indexing: str = "xy") -> list[Array]:
    """Coordinates of a grid, from the coordinates along each axis."""
    arrays = map(jnp.asarray, x)
    return list(jnp.meshgrid(*arrays, indexing=indexing))


# So many times an axis may be repeated on a side; JAX adds an operation for each.
_MOST_REPEATS = 100


def check_repeats(name: str, x: Array, pad_width: Tree, mode: str) -> None:
    """Raises ValueError for pads that repeat an axis very often."""
    if mode not in ("reflect", "symmetric", "wrap"):
        return
    shape = np.shape(x)
    pads = np.asarray(pad_width, object)
    widths = np.broadcast_to(pads, (len(shape), 2)).max(-1)
    for size, width in zip(shape, widths, strict=True):
        if width > _MOST_REPEATS * max(size, 1):
            raise ValueError(
                f"{name}: expected at most {_MOST_REPEATS} repeats of an axis on a side, received "
                f"an axis of size {size} to be extended by {width}; pad less"
            )


def pad(
    x: Array,
    pad_width: Tree,
    mode: str = "constant",
    constant_values: Tree = None,
) -> Array:
    """Add elements at the ends of the axes."""
    check_repeats("pad", x, pad_width, mode)
    if constant_values is None:
        return jnp.pad(x, pad_width, mode=mode)
    if mode != "constant":
        raise ValueError(
            f"pad: expected constant_values only with mode='constant', received "
            f"mode={mode!r}; leave constant_values out"
        )
    return jnp.pad(x, pad_width, mode=mode, constant_values=constant_values)


def argpartition(
    x: Array,
    kth: int,
    axis: int | None = -1,
) -> Array:
    """Positions that put the smallest `kth` elements first."""
    if axis is None:
        return jnp.argpartition(x.reshape(-1), kth, axis=0)
    return jnp.argpartition(x, kth, axis=axis)


def argsort(x: Array, axis: int | None = -1) -> Array:
    """Positions that sort an array."""
    return jnp.argsort(x, axis=axis if x.ndim else None)


def digitize(x: Array, bins: Tree) -> Array:
    """The interval between increasing bounds in which each element lies."""
    return jnp.digitize(x, jnp.asarray(bins))


def searchsorted(
    sorted_sequence: Array,
    values: Array,
    side: str = "left",
) -> Array:
    """Positions at which values belong into a sorted sequence."""
    if sorted_sequence.ndim != 1:
        raise ValueError(
            "searchsorted: expected a sorted sequence of one axis, received shape "
            f"{sorted_sequence.shape}; use vectorized_map for several"
        )
    return jnp.searchsorted(sorted_sequence, values, side=side)


def unique(
    x: Array,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Tree = None,
) -> Tree:
    """The different elements of an array; with `size` under jit, too."""
    return jnp.unique(
        x,
        return_index=return_index,
        return_inverse=return_inverse,
        return_counts=return_counts,
        axis=axis,
        equal_nan=False,
        size=size,
        sorted=sorted,
        fill_value=fill_value,
    )
