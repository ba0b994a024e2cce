"""Signature: names, shapes and dtypes of what a program takes and returns, and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax import export

from fnn.core.tree import Tree, array_spec, dtype_name

Size = int | None


class Spec(NamedTuple):
    """An array that a program takes or returns; None is a free size."""

    name: str
    path: tuple[str | int, ...]  # where it is in a tuple or dict; () for an array alone
    shape: tuple[Size, ...]
    dtype: str

    def as_json(self) -> dict[str, Any]:
        """The spec as plain data."""
        return {
            **self._asdict(),
            "path": list(self.path),
            "shape": list(self.shape),
        }

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} ({sizes})"


def signature_of(arguments: tuple[Tree, ...]) -> tuple[Tree, ...]:
    """What arguments are like, with `Spec` as leaves: of nodes, `InputSpec`, arrays and so on.

    Lists become tuples. Raises TypeError for a leaf without shape and dtype, ValueError for inputs
    of one name.
    """
    numbers = itertools.count()

    def leaf(path: Any, item: Any) -> Spec:
        number = next(numbers)
        shape, dtype = getattr(item, "shape", None), getattr(item, "dtype", None)
        if shape is None or dtype is None:
            raise TypeError(
                f"expected a signature of arrays, InputSpec or Input, with shape and dtype, "
                f"received {item!r}; e.g. [fnn.InputSpec(shape=(None, 3), dtype='float32')]"
            )
        name = dtype_name(dtype)
        # A path begins with the number of the argument.
        place = path_of(path)[1:]
        called = _name(place, getattr(item, "name", None), number)
        return Spec(called, place, tuple(map(_size, shape)), name)

    made: tuple[Tree, ...] = jax.tree_util.tree_map_with_path(
        leaf, as_tuples(arguments), is_leaf=_is_leaf
    )
    names = [spec.name for spec in specs_in(made)]
    if len(set(names)) < len(names):
        raise ValueError(f"expected inputs with different names, received {names}")
    return made


def as_tuples(given: Tree) -> Tree:
    """Lists, also those of other classes, as tuples; dicts as plain dicts."""
    if _is_leaf(given):
        return given
    if isinstance(given, dict):
        return {name: as_tuples(item) for name, item in given.items()}
    if isinstance(given, (list, tuple)):
        return tuple(map(as_tuples, given))
    return given


def _is_leaf(item: Any) -> bool:
    return hasattr(item, "shape") and hasattr(item, "dtype")


def _size(size: Any) -> Size:
    if isinstance(size, (int, np.integer)):
        return int(size)
    return None


def path_of(path: Iterable[Any]) -> tuple[str | int, ...]:
    """A path of JAX as strings and integers."""
    return tuple(getattr(key, "key", getattr(key, "idx", "")) for key in path)


def _name(path: Sequence[str | int], known: str | None, number: int) -> str:
    """The key in a dict, the name of a node, or one by number."""
    if path and isinstance(path[-1], str):
        return "/".join(map(str, path))
    return known or f"input_{number}"


def specs_in(signature: Tree) -> list[Spec]:
    """The specs in a signature, in the order of JAX."""
    leaves: list[Spec] = jax.tree.leaves(signature, is_leaf=is_spec)
    return leaves


def is_spec(item: object) -> bool:
    """Whether this is a leaf of a signature."""
    return isinstance(item, Spec)


def map_specs(function: Callable[[Spec], Any], signature: Tree) -> Tree:
    """A signature with `function(spec)` in place of each spec."""
    return jax.tree.map(function, signature, is_leaf=is_spec)


def outputs_of(outputs: Tree, names: Sequence[str] = ()) -> list[Spec]:
    """The specs of outputs, whose shapes may be symbolic."""
    found = []
    pairs = jax.tree_util.tree_leaves_with_path(outputs)
    for number, (path, leaf) in enumerate(pairs):
        place = path_of(path)
        name = "output"
        if len(names) == len(pairs):
            name = names[number]
        elif place and isinstance(place[-1], str):
            name = "/".join(map(str, place))
        elif len(pairs) > 1:
            name = f"output_{number}"
        shape = tuple(map(_size, leaf.shape))
        found.append(Spec(name, place, shape, dtype_name(leaf.dtype)))
    return found


def dimensions(signature: Tree, shared: bool) -> Tree:
    """The axes of each spec: an integer, or the name of a free size.

    The first axes are one size, "batch". Other free sizes are each their own or, if `shared`,
    equal at the same axis of all inputs.
    """
    numbers = itertools.count()

    def axes(spec: Spec) -> tuple[int | str, ...]:
        number = next(numbers)
        names: list[int | str] = []
        for axis, size in enumerate(spec.shape):
            if size is not None:
                names.append(size)
            elif axis == 0:
                names.append("batch")
            elif shared:
                names.append(f"size_{axis}")
            else:
                names.append(f"size_{number}_{axis}")
        return tuple(names)

    return map_specs(axes, signature)


def shapes_for_jax(signature: Tree, shared: bool = False) -> Tree:
    """The signature with shapes of `jax.export`, where free sizes are symbols."""
    scope = export.SymbolicScope()

    def shape(spec: Spec, axes: Sequence[int | str]) -> jax.ShapeDtypeStruct:
        named = ", ".join(map(str, axes))
        sizes = export.symbolic_shape(named, scope=scope)
        return array_spec(cast(Any, sizes), np.dtype(spec.dtype))

    named = dimensions(signature, shared)
    return jax.tree.map(shape, signature, named, is_leaf=is_spec)
