"""Paths of a pytree of weights: list, get, put, select by pattern, count."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments

Path: TypeAlias = tuple[str, ...]
Tree: TypeAlias = Any  # a pytree of arrays: an array, or nested dicts, tuples, lists of them
SpecTree: TypeAlias = Any  # a pytree of jax.ShapeDtypeStruct, or of arrays read for their shapes


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
    return (
        {n: names(branch) for n, branch in tree.items()}
        if isinstance(tree, dict)
        else None
    )


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
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), tree
    )


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
    found = {
        path: _misfit(new[path], leaf) for path, leaf in old.items() if path in new
    }
    lines += [f"{_shown(path)}: {words}" for path, words in found.items() if words]
    if lines:
        raise ValueError(
            f"expected {name} like those of the model, received\n  "
            + "\n  ".join(lines)
        )
    return fill(
        now,
        unflatten((path, owned(new[path], leaf.dtype)) for path, leaf in old.items()),
    )


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
    return next(
        (i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), len(kinds)
    )


def owned(array: Any, dtype: Any = None) -> Any:
    """`array` on the device; what is on the host is copied, since JAX may use its memory as it is.

    >>> host = np.zeros(100, "float32")
    >>> array, host[:] = owned(host), 1
    >>> float(array.sum())
    0.0
    """
    if isinstance(array, jax.Array):
        return jnp.asarray(array, dtype)
    return jax.device_put(
        np.array(array, dtype, copy=True)
    )  # `asarray` compiles for the shape


BIASES_AND_NORMS = "biases_and_norms"
_SCALES = ("gamma", "beta", "scale", "alpha")


def path_name(path: Any) -> str:
    """A path as JAX gives it to `tree_map_with_path`, as `encoder/dense/kernel`."""
    return "/".join(
        str(getattr(part, "key", getattr(part, "idx", part))) for part in path
    )


def matches(pattern: str, path: str) -> bool:
    """Whether a path fits: `*` stands for any part of one name, `**` for any number of names.

    "biases_and_norms" fits what is called `...bias`, `gamma`, `beta`, `scale` or, as the slopes of
    PReLU are, `alpha`: what is not multiplied into sums. Embeddings are not among them.

    >>> matches("encoder/**", "encoder/dense/kernel"), matches("*/bias", "encoder/dense/bias")
    (True, False)
    >>> matches("**/bias", "dense/bias"), matches("biases_and_norms", "layer_normalization/gamma")
    (True, True)
    """
    if pattern == BIASES_AND_NORMS:
        name = path.rpartition("/")[2]
        return name.endswith("bias") or name in _SCALES
    same = lambda name, one: name == "*" or _covers(name, one, "*", operator.eq)
    return _covers(pattern.split("/"), path.split("/"), "**", same)


def _covers(
    pattern: Any, items: Any, star: str, same: Callable[[Any, Any], bool]
) -> bool:
    """Whether `pattern` matches all `items`, `star` in it any number of them.

    In at most len(pattern) * len(items) comparisons, which no pattern in a file can make more:
    only the last star is ever tried again, one item longer.
    """
    at, place, last, tried = 0, 0, -1, 0
    while place < len(items):
        if at < len(pattern) and pattern[at] == star:
            at, last, tried = at + 1, at, place
        elif at < len(pattern) and same(pattern[at], items[place]):
            at, place = at + 1, place + 1
        elif last >= 0:
            tried += 1
            at, place = last + 1, tried
        else:
            return False
    return all(part == star for part in pattern[at:])


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether a path fits one of the patterns."""
    return any(matches(pattern, path) for pattern in patterns)


def check_patterns(thing: Any, argument: str, patterns: Any) -> None:
    """Raises ValueError for what are no patterns of paths."""
    if not isinstance(patterns, tuple) or not all(
        isinstance(p, str) and p for p in patterns
    ):
        raise arguments.wrong(
            thing, argument, "to be patterns of paths", patterns, 'e.g. ("**/bias",)'
        )


def check_matches(
    thing: Any, argument: str, patterns: tuple[str, ...], paths: list[str]
) -> None:
    """Raises ValueError for patterns that fit none of the paths, with those that are near.

    "biases_and_norms" is no slip, where there are none.
    """
    idle = [
        p
        for p in patterns
        if p != BIASES_AND_NORMS and not any(matches(p, x) for x in paths)
    ]
    if idle and paths:
        near = [
            x for p in idle for x in difflib.get_close_matches(p, paths, 3, 0.5)
        ] or paths
        raise arguments.wrong(
            thing, argument, "to be patterns of weights that learn", idle,
            f"which fit none; name some, e.g. {', '.join(near[:8])} (see model.params)",
        )  # fmt: skip
