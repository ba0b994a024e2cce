"""Paths of a pytree of weights: list, get, put, count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Path = tuple[str, ...]


def flatten(tree: Any, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every (path, leaf) of nested dicts, in the order in which the dicts hold them."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from flatten(branch, (*prefix, name))
    else:
        yield prefix, tree


def unflatten(leaves: Any) -> dict[str, Any]:
    """The nested dicts that hold the given (path, leaf) pairs."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves:
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree


def get(tree: Any, path: Path) -> Any:
    """The branch of nested dicts at `path`; an empty dict where there is none."""
    for name in path:
        tree = tree.get(name, {})
    return tree


def put(tree: Any, path: Path, branch: Any) -> Any:
    """A copy of `tree` with `branch` at `path`."""
    if not path:
        return branch
    return {**tree, path[0]: put(tree.get(path[0], {}), path[1:], branch)}


def fill(tree: Any, leaves: Any) -> Any:
    """`tree` with the leaves that `leaves` has, empty branches kept."""
    if not isinstance(tree, dict):
        return leaves
    return {name: fill(branch, leaves.get(name, {})) for name, branch in tree.items()}


def same_order(tree: Any, like: Any) -> Any:
    """`tree` with the keys of its dicts in the order of `like` (JAX sorts them)."""
    if not isinstance(tree, dict):
        return tree
    return {name: same_order(tree[name], like[name]) for name in like}


def count(tree: Any) -> int:
    """How many numbers the leaves hold."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
    """How many bytes the leaves take (random keys not counted)."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(a.shape) * getattr(a.dtype, "itemsize", 0) for a in leaves)


def spec(tree: Any) -> Any:
    """Shapes and dtypes of a pytree, without its values."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def resized(count: int, tree: Any) -> Any:
    """The specs of a pytree of arrays, for batches of `count` examples."""
    other = lambda a: jax.ShapeDtypeStruct((count, *a.shape[1:]), a.dtype)
    return jax.tree.map(other, tree)


def describe(tree: Any) -> str:
    """Shapes and dtypes in words: `float32[64, 31], int32[64]`."""
    return ", ".join(
        f"{a.dtype}{list(a.shape)}"
        if hasattr(a, "shape") and hasattr(a, "dtype")
        else type(a).__name__
        for a in jax.tree.leaves(tree)
    )


def checked(name: str, given: Any, now: Any) -> Any:
    """`given` as arrays, if it is a tree like `now`. Raises ValueError listing every difference."""
    old, new = dict(flatten(now)), dict(flatten(given))
    lines = [f"{'/'.join(p)}: missing" for p in old if p not in new]
    lines += [f"{'/'.join(p)}: not in this model" for p in new if p not in old]
    lines += [
        f"{'/'.join(p)}: expected {tuple(old[p].shape)}, received {np.shape(new[p])}"
        for p in old
        if p in new and tuple(old[p].shape) != np.shape(new[p])
    ]
    if lines:
        raise ValueError(
            f"expected {name} like those of the model, received\n  " + "\n  ".join(lines)
        )
    return jax.tree.map(lambda a, b: owned(a, b.dtype), given, now)


def owned(array: Any, dtype: Any = None) -> Any:
    """`array` on the device; what is on the host is copied, since JAX may use its memory as it is.

    >>> host = np.zeros(100, "float32")
    >>> array, host[:] = owned(host), 1
    >>> float(array.sum())
    0.0
    """
    if isinstance(array, jax.Array):
        return jnp.asarray(array, dtype)
    return jax.device_put(np.array(array, dtype, copy=True))  # `asarray` compiles for the shape
