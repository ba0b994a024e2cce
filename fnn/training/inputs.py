"""What a user gives to fit, evaluate and predict, as the arrays that a step takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fnn.core.node import Node
from fnn.training import checks

Arrays = dict[str, Any]  # {"x": ..., "y": (one an output, ...), "weight": (one an output, ...)}


def is_stream(x: Any) -> bool:
    """Whether `x` gives batches one by one, rather than being arrays."""
    if x is None or hasattr(x, "shape") or hasattr(x, "to_numpy") or isinstance(x, (dict, str)):
        return False
    if isinstance(x, (list, tuple)):
        return False
    return isinstance(x, Iterable) or callable(x) or hasattr(x, "__getitem__")


def as_inputs(x: Any, several: bool, name: str = "x", finite: bool = True) -> Any:
    """The inputs of a network as numeric arrays, in a tuple or dict where it takes several."""
    if isinstance(x, dict):
        return {key: as_inputs(part, False, f"{name}[{key!r}]", finite) for key, part in x.items()}
    alone = isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape")
    if isinstance(x, (list, tuple)) and (several or alone):
        parts = tuple(as_inputs(p, False, f"{name}[{i}]", finite) for i, p in enumerate(x))
        return parts if several else parts[0]
    array = checks.as_array(name, x)
    if finite:
        checks.finite(name, array, getattr(x, "columns", None))
    return array


def are_arrays(x: Any) -> bool:
    """Whether `x` is a list or tuple of arrays, rather than of numbers."""
    return isinstance(x, (list, tuple)) and all(hasattr(part, "shape") for part in x)


def by_node(x: Any, nodes: Any) -> Any:
    """`x` in the structure of the input nodes: a dict by their names becomes a tuple."""
    if isinstance(nodes, tuple) and isinstance(x, dict):
        names = [node.name for node in nodes]
        if set(names) - set(x):
            raise ValueError(
                f"expected inputs by the names {names}, received {sorted(x)}; "
                "do name each Input(name=...), or give a list"
            )
        return tuple(x[name] for name in names)
    if isinstance(nodes, tuple) and len(nodes) == 1 and hasattr(x, "shape"):
        return (x,)
    if isinstance(nodes, Node) and isinstance(x, dict):
        if set(x) != {nodes.name}:
            named = f", or a dict with {nodes.name!r}" if nodes.name else ""
            raise ValueError(
                f"expected one array as input{named}, received a dict with {sorted(x)}; do give "
                "the array"
            )
        return x[nodes.name]
    return x


def by_output(value: Any, names: list[str], argument: str) -> tuple[Any, ...]:
    """`value` as a tuple with one item for each output, None for one that a dict leaves out."""
    if isinstance(value, dict):
        if set(value) - set(names):
            raise ValueError(
                f"expected {argument} by the names of the outputs {names}, received the keys "
                f"{sorted(value)}; do name outputs that there are"
            )
        return tuple(value.get(name) for name in names)
    if len(names) > 1:
        if not isinstance(value, (list, tuple)) or len(value) != len(names):
            received = len(value) if isinstance(value, (list, tuple)) else "one array"
            raise ValueError(
                f"expected {argument} for the {len(names)} outputs {names}, received {received}; "
                "do give a list, or a dict by these names"
            )
        return tuple(value)
    if isinstance(value, (list, tuple)) and len(value) == 1 and hasattr(value[0], "shape"):
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
    sample_weight: Any,
    class_weight: Any,
    y: tuple[Any, ...],
    names: list[str],
    classes: int | None = None,
) -> tuple[Any, ...]:
    """The weights of the rows, one array for each output; an empty tuple if there are none.

    `classes` is how many the network tells apart, if that is known.
    """
    if class_weight is not None:
        if sample_weight is not None:
            raise ValueError(
                "expected sample_weight or class_weight, received both; do multiply them"
            )
        if len(names) != 1 or not y:
            raise ValueError(
                f"expected one output and targets for class_weight, received outputs {names}; "
                "do give sample_weight by output"
            )
        return (class_weights(class_weight, np.asarray(y[0]), classes),)
    if sample_weight is None:
        return ()
    listed = isinstance(sample_weight, (list, tuple)) and len(sample_weight) > 0
    if hasattr(sample_weight, "shape") or (
        listed and len(names) > 1 and isinstance(sample_weight[0], (int, float, np.number))
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


def class_weights(class_weight: Any, y: np.ndarray, classes: int | None = None) -> np.ndarray:
    """The weight of each row by the class it has; one-hot targets count by their class."""
    if not isinstance(class_weight, dict):
        raise TypeError(
            f"expected class_weight as a dict from class to weight, received {class_weight!r}; "
            "do e.g. {0: 1.0, 1: 5.0}"
        )
    labels = y.argmax(-1) if y.ndim > 1 and y.shape[-1] != 1 else y.reshape(len(y), -1)[:, 0]
    present = {int(label) for label in np.unique(labels)}
    given = {int(label): float(weight) for label, weight in class_weight.items()}
    missing = sorted(present - set(given))
    last = max(present, default=0) if classes is None else classes - 1
    unknown = sorted(label for label in given if not 0 <= label <= last)
    if missing or unknown:
        problem = f"none for {missing}" if missing else f"one for {unknown}"
        raise ValueError(
            f"expected class_weight for each of the classes 0..{last}, received {problem}; "
            "do give every class its weight, 1.0 for an ordinary one"
        )
    checks.sample_weight("class_weight", np.array(list(given.values())))
    table = np.array([given.get(label, 1.0) for label in range(last + 1)], np.float32)
    return table[labels.astype(int)]


def unpack_batch(batch: Any) -> tuple[Any, Any, Any]:
    """What a stream yields, as (x, y, sample_weight): `(x,)`, `(x, y)`, `(x, y, w)` or x alone."""
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                f"expected batches (x,), (x, y) or (x, y, sample_weight), received {len(batch)} "
                "items; do put several inputs into one tuple: ((x1, x2), y)"
            )
        return tuple([*batch, None, None][:3])
    if batch is None:
        raise TypeError("expected batches (x, y), received None; do check the generator")
    return batch, None, None


def split_validation(arrays: Any, share: float) -> tuple[Any, Any]:
    """The first rows to train on and the last `share` of them to validate on, before shuffling."""
    count = len(jax.tree.leaves(arrays)[0])
    at = int(np.floor(count * (1 - share)))
    if not 0 < share < 1 or at == 0 or at == count:
        raise ValueError(
            f"expected validation_split as a share that leaves rows on both sides of {count}, "
            f"received {share!r}; do e.g. validation_split=0.2"
        )
    return jax.tree.map(lambda a: a[:at], arrays), jax.tree.map(lambda a: a[at:], arrays)
