"""Tree: pytrees of weights and their paths: list, get, put, count; shapes and dtypes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Path: TypeAlias = tuple[str, ...]
# A pytree of arrays: an array, or nested dicts, tuples, lists of them.
Tree: TypeAlias = Any
# A pytree of jax.ShapeDtypeStruct, or of arrays of which only the shapes are read.
SpecTree: TypeAlias = Any
# In the functions below a branch is a pytree of nested dicts; its leaves are not dicts.
Branch: TypeAlias = Any

Spec: TypeAlias = jax.ShapeDtypeStruct
numeric_spec: Callable[..., Spec] = Spec  # which JAX does not annotate


@dataclasses.dataclass(frozen=True)
class StringSpec:
    """The shape of an array of strings, which JAX does not compute with.

    `free` stands for the sizes that are not known from it: the number of words of a string.
    """

    shape: tuple[int, ...]
    free: int = 97

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(str)


STRINGS = ("U", "S", "O", "T")  # the kinds of NumPy's dtypes


def is_string(dtype: Any) -> bool:
    """Whether arrays of this dtype hold strings: `"string"`, and NumPy's str, bytes and object."""
    if isinstance(dtype, str):
        return dtype == "string"
    return getattr(dtype, "kind", "") in STRINGS


def array_spec(shape: Sequence[int], dtype: DTypeLike, **options: Any) -> Spec:
    """Shape and dtype of an array; the options are those of `jax.ShapeDtypeStruct`."""
    kind = getattr(dtype, "kind", "")
    if kind in STRINGS or (not kind and is_string(dtype)):
        return StringSpec(tuple(shape))  # type: ignore[return-value]
    return numeric_spec(shape, dtype, **options)


class TrialStrings(np.ndarray):
    """Empty strings in place of those of a `StringSpec`, in a run on shapes."""


def shapes_of(function: Callable[..., Any], *arguments: SpecTree) -> SpecTree:
    """`jax.eval_shape` of a function that may also take strings, which JAX does not trace."""
    leaves, treedef = jax.tree.flatten(arguments)
    numbers = [leaf for leaf in leaves if not isinstance(leaf, StringSpec)]

    def run(*given: Any) -> Any:
        others = iter(given)
        filled = []
        for leaf in leaves:
            if isinstance(leaf, StringSpec):
                filled.append(np.full(leaf.shape, "").view(TrialStrings))
            else:
                filled.append(next(others))
        return function(*jax.tree.unflatten(treedef, filled))

    return jax.eval_shape(run, *numbers)


def trial(tree: SpecTree) -> Tree:
    """Empty strings and zeros of these shapes, as arrays of NumPy."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)


def has_strings(tree: SpecTree) -> bool:
    """Whether one of the arrays or specs in a pytree is of strings."""
    leaves = jax.tree.leaves(tree)
    return any(is_string(getattr(leaf, "dtype", None)) for leaf in leaves)


def spec_of_strings(layer: Any, x: SpecTree) -> SpecTree:
    """The outputs of a layer that moves strings, or that NumPy runs on them."""
    made = spec(on_strings(layer, trial(x)))
    return jax.tree.map(lambda leaf: array_spec(leaf.shape, leaf.dtype), made)


def on_strings(layer: Any, x: Tree) -> Tree:
    """The outputs of such a layer for arrays of NumPy."""
    if layer.with_strings == "run":
        return _run_on_strings(layer, x)
    treedef: Any
    leaves, treedef = jax.tree.flatten(x)
    if not all(is_string(leaf.dtype) for leaf in leaves):
        raise refuse_strings(layer)
    # It moves the numbers of the strings.
    ends = np.cumsum([leaf.size for leaf in leaves])
    numbers = np.arange(ends[-1], dtype=np.int32)
    pairs = zip(np.split(numbers, ends[:-1]), leaves, strict=True)
    shaped = [own.reshape(leaf.shape) for own, leaf in pairs]
    moved, _ = layer.apply({}, {}, treedef.unflatten(shaped))
    strings = np.concatenate([leaf.reshape(-1) for leaf in leaves])
    return jax.tree.map(lambda places: strings[np.asarray(places)], moved)


def _run_on_strings(layer: Any, x: Tree) -> Tree:
    try:
        y, _ = type(layer).unchecked_apply(layer, {}, {}, x)
    except TypeError as error:
        raise TypeError(
            f"{type(layer).__name__}: expected a function of NumPy for strings, received {layer}; "
            "use those of numpy and numpy.char"
        ) from error
    return jax.tree.map(np.asarray, y)


def refuse_strings(layer: Any) -> TypeError:
    """The error for a layer that computes with numbers alone."""
    return TypeError(
        f"{type(layer).__name__}: expected numbers, received strings; put a layer that takes "
        "strings before it, not inside it: StringLookup, TextVectorization or Hashing"
    )


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


def union(first: Branch, second: Branch) -> Branch:
    """`first` with the branches of `second` that it does not have.

    >>> union({"a": {"x": 1}}, {"a": {"x": 5, "y": 2}, "b": 3})
    {'a': {'x': 1, 'y': 2}, 'b': 3}
    """
    both = {**second, **first}
    for name in first.keys() & second.keys():
        if isinstance(first[name], dict):
            both[name] = union(first[name], second[name])
    return {name: both[name] for name in (*first, *second)}


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


def _spec_of_leaf(leaf: Any) -> Any:
    if isinstance(leaf, StringSpec):
        return leaf
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
        name = "string" if is_string(leaf.dtype) else leaf.dtype
        return f"{name}{list(leaf.shape)}"
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


def path_name(path: Iterable[object]) -> str:
    """A path of `jax.tree_util.tree_map_with_path` as a string: `encoder/dense/kernel`."""
    names = []
    for part in path:
        index = getattr(part, "idx", part)
        names.append(str(getattr(part, "key", index)))
    return "/".join(names)


def dtype_name(dtype: Any) -> str:
    """`jnp.float32`, `np.dtype("float32")` and `"float32"` -> `"float32"`.

    Of a policy of Keras, the dtype to compute in: "mixed_bfloat16" -> "bfloat16".
    """
    dtype = getattr(dtype, "compute_dtype", dtype)
    if isinstance(dtype, str):
        dtype = dtype.removeprefix("mixed_")
    if is_string(dtype):
        return "string"
    try:
        return str(np.dtype(dtype))
    except TypeError as error:
        raise ValueError(
            f"expected the name of a dtype, received {dtype!r}; e.g. dtype='bfloat16'"
        ) from error
