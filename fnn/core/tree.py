"""Tree: pytrees of weights and their paths: list, get, put, match patterns, count."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from fnn.core import arguments

Path: TypeAlias = tuple[str, ...]
# A pytree of arrays: an array, or nested dicts, tuples, lists of them.
Tree: TypeAlias = Any
# A pytree of jax.ShapeDtypeStruct, or of arrays of which only the shapes are read.
SpecTree: TypeAlias = Any
# In the functions below a branch is a pytree of nested dicts; its leaves are not dicts.
Branch: TypeAlias = Any

# The constructor, which JAX does not annotate: array_spec(shape, dtype).
array_spec: Callable[..., jax.ShapeDtypeStruct] = jax.ShapeDtypeStruct


def flatten(tree: Branch, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every (path, leaf) of nested dicts, in the order in which the dicts hold them."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from flatten(branch, (*prefix, name))
    else:
        yield prefix, tree


def unflatten(leaves: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """The nested dicts that hold these (path, leaf) pairs."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves:
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree


def get(tree: Branch, path: Path) -> Branch:
    """The branch of nested dicts at `path`; an empty dict if there is none."""
    for name in path:
        tree = tree.get(name, {})
    return tree


def put(
    tree: Branch,
    path: Path,
    branch: Branch,
) -> Branch:
    """A copy of `tree` with `branch` at `path`."""
    if not path:
        return branch
    name = path[0]
    inner = tree.get(name, {})
    return {**tree, name: put(inner, path[1:], branch)}


def fill(tree: Branch, leaves: Branch) -> Branch:
    """`tree` with its leaves replaced by those of `leaves`; empty branches are kept."""
    if not isinstance(tree, dict):
        return leaves
    filled = {}
    for name, branch in tree.items():
        filled[name] = fill(branch, leaves.get(name, {}))
    return filled


def same_order(tree: Branch, like: Branch) -> Branch:
    """`tree` with the keys of its dicts in the order of `like` (JAX sorts them)."""
    if not isinstance(tree, dict):
        return tree
    return {name: same_order(tree[name], like[name]) for name in like}


def names(tree: Branch) -> Branch:
    """The nested dicts (and tuples of them) of a tree, with None in place of the leaves."""
    if isinstance(tree, tuple):
        return tuple(map(names, tree))
    if isinstance(tree, dict):
        return {name: names(branch) for name, branch in tree.items()}
    return None


def count(tree: SpecTree) -> int:
    """The total size of the leaves."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nbytes(tree: SpecTree) -> int:
    """The total size of the leaves in bytes (random keys not counted)."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        itemsize = getattr(leaf.dtype, "itemsize", 0)
        total += math.prod(leaf.shape) * itemsize
    return total


def spec(tree: SpecTree) -> SpecTree:
    """Shapes and dtypes of a pytree, without its values."""
    return jax.tree.map(_spec_of_leaf, tree)


def _spec_of_leaf(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return array_spec(leaf.shape, leaf.dtype)


def cast(tree: Tree, dtype: DTypeLike | None) -> Tree:
    """`tree` with its floating-point leaves in `dtype`."""

    def cast_leaf(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.astype(dtype)
        return leaf

    return jax.tree.map(cast_leaf, tree)


def batch_size(tree: SpecTree) -> int:
    """The number of examples of a batch: the length of the first axis of its leaves."""
    first = tree
    if not hasattr(tree, "shape"):
        first = jax.tree.leaves(tree)[0]
    size: int = first.shape[0]
    return size


def resized(tree: SpecTree, size: int) -> SpecTree:
    """Shapes and dtypes of a batch of `size` examples like those in `tree`."""

    def resized_leaf(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        shape = (size, *leaf.shape[1:])
        return array_spec(shape, leaf.dtype)

    return jax.tree.map(resized_leaf, tree)


def kind(tree: SpecTree, by_example: bool = False) -> tuple[Any, ...]:
    """Structure, shapes and dtypes of arrays, hashable; without the batch axis if `by_example`."""
    first = int(by_example)
    if hasattr(tree, "shape"):
        return tree.shape[first:], tree.dtype
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, *((leaf.shape[first:], leaf.dtype) for leaf in leaves)


def describe(tree: SpecTree) -> str:
    """Shapes and dtypes as a string: `float32[64, 31], int32[64]`."""
    return ", ".join(map(_describe_leaf, jax.tree.leaves(tree)))


def _describe_leaf(leaf: object) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}{list(leaf.shape)}"
    return type(leaf).__name__


def checked(
    name: str,
    given: Tree,
    now: Tree,
) -> Tree:
    """`given` as arrays, if it is a tree like `now`. Raises ValueError listing every difference."""
    old = dict(flatten(now))
    new = dict(flatten(given))
    lines = [f"{_joined(p)}: missing" for p in old if p not in new]
    lines += [f"{_joined(p)}: not in this model" for p in new if p not in old]
    for path, leaf in old.items():
        problem = ""
        if path in new:
            problem = _misfit(new[path], leaf)
        if problem:
            lines.append(f"{_joined(path)}: {problem}")
    if lines:
        differences = "\n  ".join(lines)
        raise ValueError(
            f"expected {name} like those of the model, received\n  {differences}"
        )
    arrays = []
    for path, leaf in old.items():
        array = owned(new[path], leaf.dtype)
        arrays.append((path, array))
    return fill(now, unflatten(arrays))


def _joined(path: Path) -> str:
    return "/".join(map(str, path))


def _misfit(given: Any, wanted: jax.Array) -> str:
    """Why a leaf cannot replace `wanted`; empty if it can."""
    array = given
    if not hasattr(given, "dtype"):
        try:
            array = np.asarray(given)
        except ValueError:  # lists of different lengths
            return f"expected an array, received {type(given).__name__}"
    if isinstance(given, str) or array.dtype == object:  # as for None
        return f"expected an array, received {given!r:.60}"
    if tuple(array.shape) != tuple(wanted.shape):
        return f"expected {tuple(wanted.shape)}, received {tuple(array.shape)}"
    if _breadth(array.dtype) > _breadth(wanted.dtype):
        return f"expected {wanted.dtype}, received {array.dtype}"
    return ""


def _breadth(dtype: DTypeLike) -> int:
    """The place of a dtype in an order of kinds, each of which can hold those before it."""
    kinds = (np.bool_, np.integer, np.floating, np.complexfloating)
    for place, kind in enumerate(kinds):
        if jnp.issubdtype(dtype, kind):
            return place
    return len(kinds)


def owned(array: Any, dtype: DTypeLike | None = None) -> jax.Array:
    """`array` on the device. Host memory is copied, since JAX may use it without a copy.

    >>> host = np.zeros(100, "float32")
    >>> array, host[:] = owned(host), 1
    >>> float(array.sum())
    0.0
    """
    if isinstance(array, jax.Array):
        return jnp.asarray(array, dtype)
    # Not `jnp.asarray`, which compiles a program for each shape.
    copied: jax.Array = jax.device_put(np.array(array, dtype, copy=True))
    return copied


BIASES_AND_NORMS = "biases_and_norms"
_SCALES = ("gamma", "beta", "scale", "alpha")


def path_name(path: Iterable[object]) -> str:
    """A path of `jax.tree_util.tree_map_with_path` as a string: `encoder/dense/kernel`."""
    names = []
    for part in path:
        index = getattr(part, "idx", part)
        names.append(str(getattr(part, "key", index)))
    return "/".join(names)


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches: `*` is any part of one name, `**` any number of names.

    "biases_and_norms" matches weights called `...bias`, `gamma`, `beta`, `scale`, or `alpha` as
    the slopes of PReLU: those that do not multiply into sums. Embeddings are not among them.

    >>> matches("encoder/**", "encoder/dense/kernel"), matches("*/bias", "encoder/dense/bias")
    (True, False)
    >>> matches("**/bias", "dense/bias"), matches("biases_and_norms", "layer_normalization/gamma")
    (True, True)
    """
    if pattern == BIASES_AND_NORMS:
        name = path.rpartition("/")[2]
        return name.endswith("bias") or name in _SCALES
    return _match(pattern.split("/"), path.split("/"), "**", _matches_name)


def _matches_name(pattern: str, name: str) -> bool:
    return pattern == "*" or _match(pattern, name, "*", operator.eq)


def _match(
    pattern: Sequence[str],
    items: Sequence[str],
    star: str,
    same: Callable[[str, str], bool],
) -> bool:
    """Whether `pattern` matches all `items`, where `star` matches any number of them.

    Takes at most len(pattern) * len(items) comparisons, whatever the pattern: only the last star
    is tried again, with one more item.
    """
    at, place = 0, 0  # the next part of the pattern, the next item
    last, tried = -1, 0  # the last star, and the item after those that it matches
    while place < len(items):
        if at < len(pattern) and pattern[at] == star:
            last, tried = at, place
            at += 1
        elif at < len(pattern) and same(pattern[at], items[place]):
            at += 1
            place += 1
        elif last >= 0:
            tried += 1
            at, place = last + 1, tried
        else:
            return False
    return all(part == star for part in pattern[at:])


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    """Whether a path matches one of the patterns."""
    return any(matches(pattern, path) for pattern in patterns)


def check_patterns(
    thing: object,
    argument: str,
    patterns: object,
) -> None:
    """Raises ValueError unless `patterns` is a tuple of patterns of paths."""
    if isinstance(patterns, tuple) and all(isinstance(p, str) and p for p in patterns):
        return
    expected = "to be patterns of paths"
    raise arguments.wrong(thing, argument, expected, patterns, 'e.g. ("**/bias",)')


def check_matches(
    thing: object,
    argument: str,
    patterns: tuple[str, ...],
    paths: list[str],
) -> None:
    """Raises ValueError for patterns that match no path, suggesting similar paths.

    "biases_and_norms" may match none.
    """
    idle = [p for p in patterns if p != BIASES_AND_NORMS and not _any(p, paths)]
    if not idle or not paths:
        return
    near = []
    for pattern in idle:
        near += difflib.get_close_matches(pattern, paths, 3, 0.5)
    examples = ", ".join((near or paths)[:8])
    expected = "to be patterns of weights that learn"
    advice = f"which match none; use paths, e.g. {examples} (see model.params)"
    raise arguments.wrong(thing, argument, expected, idle, advice)


def _any(pattern: str, paths: list[str]) -> bool:
    return any(matches(pattern, path) for path in paths)
