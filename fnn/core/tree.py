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


def names(tree: Any) -> Any:
    """The nested dicts (and tuples of them) of a tree, with None in place of the leaves."""
    if isinstance(tree, tuple):
        return tuple(map(names, tree))
    return {n: names(branch) for n, branch in tree.items()} if isinstance(tree, dict) else None


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


def cast(tree: Any, dtype: Any) -> Any:
    """`tree` with its floating-point leaves in `dtype`."""
    return jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def batch_size(tree: Any) -> int:
    """How many examples a batch holds: the length of the first axis of its leaves."""
    leaf = tree if hasattr(tree, "shape") else jax.tree.leaves(tree)[0]
    return leaf.shape[0]


def resized(tree: Any, size: int) -> Any:
    """Shapes and dtypes of a batch of `size` examples like those in `tree`."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), tree)


def kind(tree: Any, by_example: bool = False) -> Any:
    """Structure, shapes and dtypes of arrays, to hash and compare; of one example, if asked."""
    first = 1 if by_example else 0
    if hasattr(tree, "shape"):
        return tree.shape[first:], tree.dtype
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, *((leaf.shape[first:], leaf.dtype) for leaf in leaves)


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
    lines = [f"{_shown(p)}: missing" for p in old if p not in new]
    lines += [f"{_shown(p)}: not in this model" for p in new if p not in old]
    found = {path: _misfit(new[path], leaf) for path, leaf in old.items() if path in new}
    lines += [f"{_shown(path)}: {words}" for path, words in found.items() if words]
    if lines:
        raise ValueError(
            f"expected {name} like those of the model, received\n  " + "\n  ".join(lines)
        )
    return fill(now, unflatten((path, owned(new[path], leaf.dtype)) for path, leaf in old.items()))


def _shown(path: Any) -> str:
    return "/".join(map(str, path))


def _misfit(given: Any, wanted: Any) -> str:
    """What is wrong with a leaf that is to take the place of `wanted`; empty if nothing is."""
    try:
        array = given if hasattr(given, "dtype") else np.asarray(given)
    except ValueError:  # of lists of different lengths
        return f"expected an array, received {type(given).__name__}"
    if isinstance(given, str) or array.dtype == object:  # None, too
        return f"expected an array, received {given!r:.60}"
    if tuple(array.shape) != tuple(wanted.shape):
        return f"expected {tuple(wanted.shape)}, received {tuple(array.shape)}"
    if _breadth(array.dtype) > _breadth(wanted.dtype):
        return f"expected {wanted.dtype}, received {array.dtype}"
    return ""


def _breadth(dtype: Any) -> int:
    """The place of a dtype among those of which each can hold the ones before it."""
    kinds = (np.bool_, np.integer, np.floating, np.complexfloating)
    return next((i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), len(kinds))


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
