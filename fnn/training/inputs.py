"""The arguments of fit, evaluate and predict as the arrays that a step takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.context import is_masked
from fnn.core.tree import Tree
from fnn.symbolic.node import Node
from fnn.training import checks
from fnn.training.data import is_on_several_devices, take
from fnn.training.lazy import LazyArray
from fnn.training.sources import Data

# {"x": ..., "y": (one per output, ...), "weight": (one per output, ...)}
Arrays: TypeAlias = dict[str, Any]
Rows: TypeAlias = slice | np.ndarray  # the numbers of some examples


def as_inputs(
    x: Data,
    several: bool,
    name: str = "x",
    finite: bool = True,
    lazy: bool = False,
    strings: bool = False,
) -> Tree:
    """The inputs of a network as arrays, in a tuple or dict if there are several.

    They are numbers, or with `strings` also strings, for a network that takes them.
    """
    if isinstance(x, dict):
        arrays = {}
        for key, part in x.items():
            nested, label = are_arrays(part), f"{name}[{key!r}]"
            arrays[key] = as_inputs(part, nested, label, finite, lazy, strings)
        return arrays
    if isinstance(x, (list, tuple)):
        single = len(x) == 1 and hasattr(x[0], "shape")
        if several or single:
            parts = []
            for i, part in enumerate(x):
                nested, label = are_arrays(part), f"{name}[{i}]"
                parts.append(as_inputs(part, nested, label, finite, lazy, strings))
            if several:
                return tuple(parts)
            return parts[0]
    array = checks.as_array(name, x, lazy, strings)
    if finite:
        checks.check_finite(name, array, getattr(x, "columns", None))
    return array


def are_arrays(x: Data) -> bool:
    """Whether `x` is a list or tuple of several arrays, rather than of numbers."""
    if not isinstance(x, (list, tuple)) or len(x) < 2:
        return False
    return all(hasattr(part, "shape") and len(part.shape) for part in x)


def refuse_several(x: Data, node: Node) -> None:
    """Raises ValueError for several inputs if the model takes one.

    A list of examples is one input. As in Keras, a list of batches is several inputs; it
    is not stacked.
    """
    if not are_arrays(x):
        return
    ndim = len(node.shape) - 1  # of one example
    if all(len(part.shape) == ndim for part in x):
        return
    shown = tree.describe(x[:3])
    if len(x) > 3:
        shown += ", ..."
    raise ValueError(
        f"expected inputs of shape {node.shape}, for which the model was built, received a "
        f"{type(x).__name__} of {len(x)} arrays, {shown}: as many inputs; pass one array "
        "with an example along the first axis (np.concatenate makes one of several batches)"
    )


def by_node(x: Tree, nodes: Node | tuple[Node, ...]) -> Tree:
    """`x` in the structure of the input nodes: a dict by their names becomes a tuple."""
    if isinstance(nodes, tuple) and isinstance(x, dict):
        names = [node.name for node in nodes]
        if set(names) - set(x):
            raise ValueError(
                f"expected inputs by the names {names}, received {sorted(x)}; "
                "name each Input(name=...), or pass a list"
            )
        return tuple(x[name] for name in names)
    if isinstance(nodes, tuple) and len(nodes) == 1 and hasattr(x, "shape"):
        return (x,)
    if isinstance(nodes, Node) and isinstance(x, dict):
        if set(x) != {nodes.name}:
            expected = "one array as input"
            if nodes.name:
                expected += f", or a dict with {nodes.name!r}"
            raise ValueError(
                f"expected {expected}, received a dict with {sorted(x)}; pass the array"
            )
        return x[nodes.name]
    return x


def with_axes(x: Tree, nodes: Tree) -> Tree:
    """`x` with the number of axes that the model was built for, as in Keras.

    A last axis of size 1 is added or removed. Raises ValueError for other differences: a layer
    such as `Dense` would accept them, and compute something else.
    """
    arrays, treedef = jax.tree.flatten(x)
    shapes = [node.shape for node in jax.tree.leaves(nodes)]
    if len(arrays) != len(shapes):
        return x
    ndims = list(map(np.ndim, arrays))
    if ndims == list(map(len, shapes)):
        return x
    fitting = map(_with_axes, arrays, shapes)
    return jax.tree.unflatten(treedef, fitting)


def _with_axes(array: checks.Array, shape: tuple[int | None, ...]) -> checks.Array:
    missing = len(shape) - len(array.shape)
    if missing == 1 and shape[-1] == 1:
        return array.reshape(*array.shape, 1)
    if missing == -1 and array.shape[-1] == 1:
        return array.reshape(*array.shape[:-1])
    if missing:
        raise ValueError(
            f"expected inputs of shape {shape}, for which the model was built, received "
            f"{tuple(array.shape)}; pass one array with an example along the first axis"
        )
    return array


def by_output(
    value: Data,
    names: Sequence[str],
    argument: str,
) -> tuple[Data, ...]:
    """`value` as a tuple with one item per output, None for those missing in a dict."""
    if isinstance(value, dict):
        if set(value) - set(names):
            raise ValueError(
                f"expected {argument} by the names of the outputs {names}, received the keys "
                f"{sorted(value)}; use these names"
            )
        return tuple(value.get(name) for name in names)
    is_list = isinstance(value, (list, tuple))
    if len(names) > 1:
        if is_list and len(value) == len(names):
            return tuple(value)
        received: object = "one array"
        if is_list:
            received = len(value)
        raise ValueError(
            f"expected {argument} for the {len(names)} outputs {names}, received {received}; "
            "pass a list, or a dict by these names"
        )
    if is_list and len(value) == 1 and hasattr(value[0], "shape"):
        return (value[0],)
    return (value,)


def flat(value: Data, outputs: Tree) -> Data:
    """`value` as a list with one item per output, if it has the structure of nested outputs.

    >>> flat({"a": [1, 2], "b": 3}, {"a": (0, 0), "b": 0})
    [1, 2, 3]
    """
    if hasattr(outputs, "shape"):
        return value
    is_nested = any(map(_is_structure, _parts(outputs) or ()))
    found = is_nested and _flat(value, outputs)
    return found or value


def _flat(value: Data, outputs: Tree) -> list[Data] | None:
    """None if the structures differ."""
    if not _is_structure(outputs):
        return [value]
    if value is None:
        return [None] * len(jax.tree.leaves(outputs, is_leaf=is_masked))
    names, parts = _keys(outputs), _parts(outputs)
    if not _is_structure(value) or not set(_keys(value)) <= set(names):
        return None
    given = dict(zip(_keys(value), _parts(value), strict=True))
    found: list[Data] = []
    for name, part in zip(names, parts, strict=True):
        inside = _flat(given.get(name), part)
        if inside is None:
            return None
        found += inside
    return found


def _is_structure(value: Tree) -> bool:
    return isinstance(value, (dict, list, tuple)) and not is_masked(value)


def _keys(structure: Tree) -> list[Any]:
    if isinstance(structure, dict):
        return sorted(structure)
    return list(range(len(structure)))


def _parts(structure: Tree) -> list[Any]:
    if not _is_structure(structure):
        return []
    return [structure[key] for key in _keys(structure)]


def as_targets(
    y: Data,
    names: Sequence[str],
    finite: bool = True,
    lazy: bool = False,
) -> tuple[checks.Array | None, ...]:
    """The targets, one array per output; an empty tuple if there are none."""
    if y is None:
        return ()
    targets: list[checks.Array | None] = []
    parts = by_output(y, names, "y")
    for name, part in zip(names, parts, strict=True):
        if part is None:
            targets.append(None)
            continue
        label = "y"
        if len(names) > 1:
            label = f"y[{name!r}]"
        array = checks.as_array(label, part, lazy)
        if finite:
            checks.check_finite(label, array, getattr(part, "columns", None))
        targets.append(array)
    return tuple(targets)


def as_weights(
    sample_weight: Data, y: Sequence[Any], names: Sequence[str]
) -> tuple[np.ndarray, ...]:
    """The weights of the examples, one array per output; an empty tuple if there are none."""
    if sample_weight is None:
        return ()
    if _is_for_all_outputs(sample_weight, names):
        parts: tuple[Data, ...] = (sample_weight,) * len(names)
    else:
        parts = by_output(sample_weight, names, "sample_weight")
    count = 0
    if y and y[0] is not None:
        count = len(y[0])
    weights = []
    for part in parts:
        if part is None:
            part = np.ones(count, np.float32)
        array = np.asarray(checks.as_array("sample_weight", part), np.float32)
        checks.sample_weight("sample_weight", array)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        weights.append(array)
    return tuple(weights)


def _is_for_all_outputs(sample_weight: Data, names: Sequence[str]) -> bool:
    """Whether these are the weights of the examples for every output."""
    if hasattr(sample_weight, "shape"):
        return True
    is_list = isinstance(sample_weight, (list, tuple)) and len(sample_weight) > 0
    if not is_list or len(names) == 1:
        return False
    return isinstance(sample_weight[0], (int, float, np.number))


class Split(Protocol):
    """A way to split examples in two, such as `fnn.data.split(0.2, stratify=True)`."""

    def indices(self, count: int, targets: Any) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the examples in each part."""


def split_validation(arrays: Arrays, split: float | Split) -> tuple[Data, Data]:
    """The examples to train on, and those to validate on. Each part is (x, y, sample_weight)."""
    count = len(jax.tree.leaves(arrays)[0])
    train, valid = split_rows(count, split, arrays["y"])
    return _part(arrays, train), _part(arrays, valid)


def split_rows(
    count: int,
    split: float | Split,
    targets: Tree,
) -> tuple[Rows, Rows]:
    """The examples to train on, and those to validate on.

    A fraction takes the last examples in their order, before shuffling.
    """
    if hasattr(split, "indices"):
        only = None
        leaves = jax.tree.leaves(targets)
        if len(leaves) == 1:
            only = leaves[0]
        return split.indices(count, only)
    first = 0
    if isinstance(split, (int, float, np.number)) and 0 < split < 1:
        first = int(np.floor(count * (1 - split)))
    if first in (0, count):
        raise ValueError(
            "expected validation_split as a fraction that leaves examples on both sides of "
            f"{count}, received {split!r}; pass e.g. validation_split=0.2"
        )
    return slice(0, first), slice(first, count)


def _part(arrays: Arrays, rows: Rows) -> Data:
    """(x, y, sample_weight) of some examples."""

    def cut(array: checks.Array) -> checks.Array:
        if isinstance(array, LazyArray):
            return array.part(rows)
        if is_on_several_devices(array):
            index = np.arange(len(array))[rows]
            taken: checks.Array = take(array, index)
            return taken
        return array[rows]

    part = jax.tree.map(cut, arrays)
    y, weight = list(part["y"]), list(part["weight"])
    return part["x"], y or None, weight or None
