"""Structures: the tensors of a graph in a config, in lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from fnn.core.tree import Tree

Config: TypeAlias = dict[str, Any]
# In a graph: the name of a layer, which call of it, and which of the outputs.
Tensor: TypeAlias = tuple[str, int, int]
# Of objects in a config; the largest published network of Keras has 10,000 of them.
MOST_PARTS = 50_000


def check_size(config: object) -> None:
    """Raises ValueError for more parts than a network has, before the first is made."""
    count = _count(config)
    if count > MOST_PARTS:
        raise ValueError(
            f"expected a network of at most {MOST_PARTS} parts, received {count:.3g}"
        )


def _count(data: object) -> int:
    """How many parts a config has, those of a layer as often as it is called.

    So a model that calls a model twice, which calls one twice, and so on, has exponentially many.
    """
    if isinstance(data, (list, tuple)):
        return sum(map(_count, data))
    if not isinstance(data, Mapping):
        return 0
    counts = {name: _count(item) for name, item in data.items()}
    of_calls = counts.pop("inbound_nodes", 0)
    calls = data.get("inbound_nodes")
    times = max(len(calls), 1) if isinstance(calls, list) else 1
    return ("class_name" in data) + sum(counts.values()) * times + of_calls


def as_tensor(value: Any) -> Tensor | None:
    """`["dense", 0, 0]` as a tensor; None for anything else."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    name, number, index = value
    if isinstance(name, str) and type(number) is int and type(index) is int:
        return name, number, index
    return None


def described_tensor(value: dict[str, Any]) -> Tensor | None:
    """The tensor of a `__keras_tensor__`; None for another dict."""
    if value.get("class_name") != "__keras_tensor__":
        return None
    config = value.get("config")
    if isinstance(config, dict):
        tensor = as_tensor(config.get("keras_history"))
        if tensor is not None:
            return tensor
    raise ValueError(f"expected a tensor with keras_history, received {config!r}")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every `__keras_tensor__` in the arguments of a call."""
    if isinstance(value, dict):
        tensor = described_tensor(value)
        if tensor is not None:
            yield tensor
        else:
            value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def map_leaves(function: Callable[[str, int, int], Tree], value: Any) -> Tree:
    """The structure with `function` of each tensor. Raises ValueError for anything else."""
    tensor = as_tensor(value)
    if tensor is not None:
        return function(*tensor)
    if isinstance(value, dict):
        return {name: map_leaves(function, item) for name, item in value.items()}
    if isinstance(value, list):
        return [map_leaves(function, item) for item in value]
    raise ValueError(f"expected the inputs or outputs of a graph, received {value!r}")
