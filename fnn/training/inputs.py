"""The arguments of fit, evaluate and predict as the arrays that a step takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.symbolic.node import Node
from fnn.training import checks
from fnn.training.data import is_on_several_devices, take

# {"x": ..., "y": (one per output, ...), "weight": (one per output, ...)}
Arrays: TypeAlias = dict[str, Any]
Data: TypeAlias = Any  # data as a user passes it: arrays, frames, lists, dicts, None


def is_stream(x: Data) -> bool:
    """Whether `x` yields batches one by one, rather than being arrays."""
    if x is None or isinstance(x, (dict, str, list, tuple)):
        return False
    if hasattr(x, "shape") or hasattr(x, "to_numpy"):
        return False
    return isinstance(x, Iterable) or callable(x) or hasattr(x, "__getitem__")


def as_inputs(x: Data, several: bool, name: str = "x", finite: bool = True) -> Tree:
    """The inputs of a network as numeric arrays, in a tuple or dict if there are several."""
    if isinstance(x, dict):
        arrays = {}
        for key, part in x.items():
            arrays[key] = as_inputs(part, False, f"{name}[{key!r}]", finite)
        return arrays
    if isinstance(x, (list, tuple)):
        single = len(x) == 1 and hasattr(x[0], "shape")
        if several or single:
            parts = tuple(
                as_inputs(part, False, f"{name}[{i}]", finite)
                for i, part in enumerate(x)
            )
            if several:
                return parts
            return parts[0]
    array = checks.as_array(name, x)
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
    if all(len(part.shape) == len(node.shape) - 1 for part in x):
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


def check_axes(x: Tree, nodes: Tree) -> None:
    """Raises ValueError for inputs with another number of axes than the model was built for.

    A layer such as `Dense` would accept them, and compute something else.
    """
    arrays = jax.tree.leaves(x)
    shapes = [node.shape for node in jax.tree.leaves(nodes)]
    if len(arrays) != len(shapes):
        return
    for array, shape in zip(arrays, shapes, strict=True):
        if len(array.shape) != len(shape):
            raise ValueError(
                f"expected inputs of shape {shape}, for which the model was built, received "
                f"{tuple(array.shape)}; pass one array with an example along the first axis"
            )


def by_output(value: Data, names: Sequence[str], argument: str) -> tuple[Data, ...]:
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


def as_targets(
    y: Data, names: Sequence[str], finite: bool = True
) -> tuple[checks.Array | None, ...]:
    """The targets, one array per output; an empty tuple if there are none."""
    if y is None:
        return ()
    targets: list[checks.Array | None] = []
    for name, part in zip(names, by_output(y, names, "y"), strict=True):
        if part is None:
            targets.append(None)
            continue
        label = "y"
        if len(names) > 1:
            label = f"y[{name!r}]"
        array = checks.as_array(label, part)
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


def unpack_batch(batch: Data) -> tuple[Data, Data, Data]:
    """An item of a stream as (x, y, sample_weight).

    It may be `(x,)`, `(x, y)`, `(x, y, sample_weight)` or x alone.
    """
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                "expected batches (x,), (x, y) or (x, y, sample_weight), received "
                f"{len(batch)} items; put several inputs into one tuple: ((x1, x2), y)"
            )
        x, y, sample_weight = [*batch, None, None][:3]
        return x, y, sample_weight
    if batch is None:
        raise TypeError("expected batches (x, y), received None; check the generator")
    return batch, None, None


def split_validation(arrays: Arrays, fraction: float) -> tuple[Data, Data]:
    """The examples to train on, and the last fraction of them to validate on.

    Examples are taken in their order, before shuffling. Each part is (x, y,
    sample_weight).
    """
    count = len(jax.tree.leaves(arrays)[0])
    first = 0
    if isinstance(fraction, (int, float, np.number)) and 0 < fraction < 1:
        first = int(np.floor(count * (1 - fraction)))
    if first in (0, count):
        raise ValueError(
            "expected validation_split as a fraction that leaves examples on both sides of "
            f"{count}, received {fraction!r}; pass e.g. validation_split=0.2"
        )
    return _slice(arrays, 0, first), _slice(arrays, first, count)


def _slice(arrays: Arrays, first: int, last: int) -> Data:
    """(x, y, sample_weight) of the examples from `first` up to `last`."""

    def cut(array: checks.Array) -> checks.Array:
        if is_on_several_devices(array):
            taken: checks.Array = take(array, np.arange(first, last))
            return taken
        return array[first:last]

    part = jax.tree.map(cut, arrays)
    return part["x"], list(part["y"]) or None, list(part["weight"]) or None
