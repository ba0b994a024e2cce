"""What a user gives to fit, evaluate and predict, as the arrays that a step takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.symbolic.node import Node
from fnn.training import checks
from fnn.training.data import lies_on_several, take

Arrays = dict[
    str, Any
]  # {"x": ..., "y": (one an output, ...), "weight": (one an output, ...)}


def is_stream(x: Any) -> bool:
    """Whether `x` gives batches one by one, rather than being arrays."""
    if (
        x is None
        or hasattr(x, "shape")
        or hasattr(x, "to_numpy")
        or isinstance(x, (dict, str))
    ):
        return False
    if isinstance(x, (list, tuple)):
        return False
    return isinstance(x, Iterable) or callable(x) or hasattr(x, "__getitem__")


def as_inputs(x: Any, several: bool, name: str = "x", finite: bool = True) -> Any:
    """The inputs of a network as numeric arrays, in a tuple or dict where it takes several."""
    if isinstance(x, dict):
        return {
            key: as_inputs(part, False, f"{name}[{key!r}]", finite)
            for key, part in x.items()
        }
    alone = isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape")
    if isinstance(x, (list, tuple)) and (several or alone):
        parts = tuple(
            as_inputs(p, False, f"{name}[{i}]", finite) for i, p in enumerate(x)
        )
        return parts if several else parts[0]
    array = checks.as_array(name, x)
    if finite:
        checks.finite(name, array, getattr(x, "columns", None))
    return array


def are_arrays(x: Any) -> bool:
    """Whether `x` is a list or tuple of several arrays, rather than of numbers."""
    if not isinstance(x, (list, tuple)) or len(x) < 2:
        return False
    return all(hasattr(part, "shape") and len(part.shape) for part in x)


def refuse_several(x: Any, node: Node) -> None:
    """Raises ValueError for several inputs where the model takes one; examples in a list are one.

    As in Keras a list of batches stands for several inputs, and is not stacked.
    """
    if not are_arrays(x) or all(len(part.shape) == len(node.shape) - 1 for part in x):
        return
    shown = tree.describe(x[:3]) + (", ..." if len(x) > 3 else "")
    raise ValueError(
        f"expected inputs of shape {node.shape}, for which the model was built, received a "
        f"{type(x).__name__} of {len(x)} arrays, {shown}: as many inputs; pass one array with an "
        "example along the first axis (np.concatenate makes one of several batches)"
    )


def by_node(x: Any, nodes: Any) -> Any:
    """`x` in the structure of the input nodes: a dict by their names becomes a tuple."""
    if isinstance(nodes, tuple) and isinstance(x, dict):
        names = [node.name for node in nodes]
        if set(names) - set(x):
            raise ValueError(
                f"expected inputs by the names {names}, received {sorted(x)}; "
                "name each Input(name=...), or give a list"
            )
        return tuple(x[name] for name in names)
    if isinstance(nodes, tuple) and len(nodes) == 1 and hasattr(x, "shape"):
        return (x,)
    if isinstance(nodes, Node) and isinstance(x, dict):
        if set(x) != {nodes.name}:
            named = f", or a dict with {nodes.name!r}" if nodes.name else ""
            raise ValueError(
                f"expected one array as input{named}, received a dict with {sorted(x)}; give "
                "the array"
            )
        return x[nodes.name]
    return x


def check_axes(x: Any, nodes: Any) -> None:
    """Raises ValueError for inputs with another number of axes than the model was built for.

    A layer such as `Dense` would take them, and compute something else.
    """
    arrays, shapes = jax.tree.leaves(x), [node.shape for node in jax.tree.leaves(nodes)]
    if len(arrays) != len(shapes):
        return
    for array, shape in zip(arrays, shapes, strict=True):
        if len(array.shape) != len(shape):
            raise ValueError(
                f"expected inputs of shape {shape}, for which the model was built, received "
                f"{tuple(array.shape)}; pass one array with an example along the first axis"
            )


def by_output(value: Any, names: list[str], argument: str) -> tuple[Any, ...]:
    """`value` as a tuple with one item for each output, None for one that a dict leaves out."""
    if isinstance(value, dict):
        if set(value) - set(names):
            raise ValueError(
                f"expected {argument} by the names of the outputs {names}, received the keys "
                f"{sorted(value)}; name outputs that there are"
            )
        return tuple(value.get(name) for name in names)
    if len(names) > 1:
        if not isinstance(value, (list, tuple)) or len(value) != len(names):
            received = len(value) if isinstance(value, (list, tuple)) else "one array"
            raise ValueError(
                f"expected {argument} for the {len(names)} outputs {names}, received {received}; "
                "give a list, or a dict by these names"
            )
        return tuple(value)
    if (
        isinstance(value, (list, tuple))
        and len(value) == 1
        and hasattr(value[0], "shape")
    ):
        return (value[0],)
    return (value,)


def as_targets(y: Any, names: list[str], finite: bool = True) -> tuple[Any, ...]:
    """The targets, one array for each output; an empty tuple if there are none."""
    if y is None:
        return ()
    found = []
    for name, part in zip(names, by_output(y, names, "y"), strict=True):
        label = "y" if len(names) == 1 else f"y[{name!r}]"
        array = None if part is None else checks.as_array(label, part)
        if finite and array is not None:
            checks.finite(label, array, getattr(part, "columns", None))
        found.append(array)
    return tuple(found)


def as_weights(
    sample_weight: Any, y: tuple[Any, ...], names: list[str]
) -> tuple[Any, ...]:
    """The weights of the examples, one array for each output; an empty tuple if there are none."""
    if sample_weight is None:
        return ()
    listed = isinstance(sample_weight, (list, tuple)) and len(sample_weight) > 0
    if hasattr(sample_weight, "shape") or (
        listed
        and len(names) > 1
        and isinstance(sample_weight[0], (int, float, np.number))
    ):
        parts: tuple[Any, ...] = (sample_weight,) * len(names)
    else:
        parts = by_output(sample_weight, names, "sample_weight")
    rows = len(y[0]) if y and y[0] is not None else None
    found = []
    for part in parts:
        array = np.ones(rows or 0, np.float32) if part is None else part
        array = np.asarray(checks.as_array("sample_weight", array), np.float32)
        checks.sample_weight("sample_weight", array)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        found.append(array)
    return tuple(found)


def unpack_batch(batch: Any) -> tuple[Any, Any, Any]:
    """What a stream yields, as (x, y, sample_weight): `(x,)`, `(x, y)`, `(x, y, w)` or x alone."""
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                f"expected batches (x,), (x, y) or (x, y, sample_weight), received {len(batch)} "
                "items; put several inputs into one tuple: ((x1, x2), y)"
            )
        return tuple([*batch, None, None][:3])
    if batch is None:
        raise TypeError("expected batches (x, y), received None; check the generator")
    return batch, None, None


def split_validation(arrays: Any, share: float) -> tuple[Any, Any]:
    """The first examples to train on, the last `share` of them to validate on, before shuffling.

    Each is (x, y, sample_weight).
    """
    count = len(jax.tree.leaves(arrays)[0])
    number = isinstance(share, (int, float, np.number)) and 0 < share < 1
    at = int(np.floor(count * (1 - share))) if number else 0
    if at == 0 or at == count:
        raise ValueError(
            f"expected validation_split as a fraction that leaves examples on both sides of {count}"
            f", received {share!r}; pass e.g. validation_split=0.2"
        )
    cut = lambda a, first, last: (
        take(a, np.arange(first, last)) if lies_on_several(a) else a[first:last]
    )
    sides = (0, at), (at, count)
    parts = (jax.tree.map(lambda a, side=side: cut(a, *side), arrays) for side in sides)
    first, last = (
        (a["x"], list(a["y"]) or None, list(a["weight"]) or None) for a in parts
    )
    return first, last
