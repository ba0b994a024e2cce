"""The description of a model as plain data: its network, its inputs, how it was compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fnn.core.config import from_config, to_config
from fnn.symbolic.node import Node, input_specs

KEYS = {"class", "name", "layer", "inputs", "compile"}


def describe(model: Any) -> dict[str, Any]:
    """`model` without its weights. Raises ValueError for what has no registered name."""
    return {
        "class": type(model).__name__,
        "name": model.name,
        "layer": to_config(model.layer),
        "inputs": _describe_inputs(model._network.inputs),
        "compile": _compile_config(model._program.arguments),
    }


def _describe_inputs(inputs: Any) -> Any:
    if isinstance(inputs, tuple):
        return [_describe_inputs(item) for item in inputs]
    if isinstance(inputs, dict):
        return {name: _describe_inputs(item) for name, item in inputs.items()}
    return {
        "shape": list(inputs.shape),
        "dtype": str(inputs.dtype),
        "name": inputs.name,
    }


def _compile_config(compiled: dict[str, Any] | None) -> Any:
    """What `compile` was given, None if something in it has no name in a file."""
    if compiled is None:
        return None
    try:
        return {name: _plain(value) for name, value in compiled.items()}
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {"by": {name: _plain(item) for name, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return to_config(value)


def check(described: dict[str, Any]) -> None:
    """Raises ValueError for what is not the description of a model."""
    if described.keys() != KEYS:
        raise ValueError(
            f"expected the keys {sorted(KEYS)}, received {sorted(described)}"
        )
    if not all(isinstance(described[key], str) for key in ("class", "name")):
        raise ValueError("expected strings as class and name")
    if not isinstance(described["compile"], dict | None):
        raise ValueError("expected compile to be null or the arguments by their names")


def inputs_of(described: Any) -> Any:
    """The input nodes that a description lists. Raises ValueError for other than shapes."""
    if isinstance(described, list):
        return tuple(map(inputs_of, described))
    if not isinstance(described, dict) or not described:
        raise ValueError(f"expected a description of inputs, received {described!r}")
    if not isinstance(described.get("shape"), list):
        return {name: inputs_of(item) for name, item in described.items()}
    shape, dtype, name = (described[key] for key in ("shape", "dtype", "name"))
    sizes = all(
        size is None or (type(size) is int and 0 <= size < 2**31) for size in shape
    )
    if not sizes or not isinstance(dtype, str) or not isinstance(name, str | None):
        raise ValueError(
            f"expected the shape, dtype and name of an input, received {described!r}"
        )
    return Node(None, (), input_specs(tuple(shape), dtype), name)


def from_plain(value: Any, custom: Mapping[str, Any] | None) -> Any:
    """An argument of `compile` as it was given, from what a file says of it."""
    if isinstance(value, dict) and list(value) == ["by"]:
        return {name: from_plain(item, custom) for name, item in value["by"].items()}
    if isinstance(value, list):
        return [from_plain(item, custom) for item in value]
    return from_config(value, custom)
