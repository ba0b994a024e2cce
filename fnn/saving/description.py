"""The description of a model as plain data: network, inputs, `compile` arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fnn.core.config import from_config, to_config
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree
from fnn.symbolic.node import Node, input_specs

KEYS = {"class", "name", "layer", "inputs", "compile"}


class HasInputs(Protocol):
    """A network: its input nodes."""

    inputs: SpecTree


class HasArguments(Protocol):
    """A program: the arguments of `compile`, None before it was called."""

    arguments: dict[str, Any] | None


class Describable(Protocol):
    """The attributes of a model that are saved, except its weights."""

    @property
    def name(self) -> str: ...

    @property
    def layer(self) -> Layer: ...

    @property
    def _network(self) -> HasInputs: ...

    @property
    def _program(self) -> HasArguments: ...


def describe(model: Describable) -> dict[str, object]:
    """`model` without its weights. Raises ValueError for objects without a registered name."""
    return {
        "class": type(model).__name__,
        "name": model.name,
        "layer": to_config(model.layer),
        "inputs": _describe_inputs(model._network.inputs),
        "compile": _compile_config(model._program.arguments),
    }


def _describe_inputs(inputs: SpecTree) -> object:
    if isinstance(inputs, tuple):
        return [_describe_inputs(item) for item in inputs]
    if isinstance(inputs, dict):
        return {name: _describe_inputs(item) for name, item in inputs.items()}
    return {
        "shape": list(inputs.shape),
        "dtype": str(inputs.dtype),
        "name": inputs.name,
    }


def _compile_config(compiled: dict[str, Any] | None) -> dict[str, object] | None:
    """The arguments of `compile`; None if one of them has no registered name."""
    if compiled is None:
        return None
    try:
        return {name: _plain(value) for name, value in compiled.items()}
    except ValueError:
        return None


def _plain(value: object) -> object:
    if isinstance(value, dict):
        # `from_plain` takes other dicts for registered objects.
        named = {name: _plain(item) for name, item in value.items()}
        return {"by": named}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return to_config(value)


def check(described: dict[str, object]) -> None:
    """Raises ValueError unless `described` is the description of a model."""
    if described.keys() != KEYS:
        raise ValueError(
            f"expected the keys {sorted(KEYS)}, received {sorted(described)}"
        )
    strings = (described["class"], described["name"])
    if not all(isinstance(value, str) for value in strings):
        raise ValueError("expected strings as class and name")
    if not isinstance(described["compile"], dict | None):
        raise ValueError("expected compile to be null or an object of arguments")


def inputs_of(described: object) -> Any:
    """The input nodes of a description. Raises ValueError if it does not describe inputs."""
    if isinstance(described, list):
        return tuple(map(inputs_of, described))
    if not isinstance(described, dict) or not described:
        raise ValueError(f"expected a description of inputs, received {described!r}")
    if not isinstance(described.get("shape"), list):
        return {name: inputs_of(item) for name, item in described.items()}
    shape = described["shape"]
    dtype = described["dtype"]
    name = described["name"]
    is_named = isinstance(dtype, str) and isinstance(name, str | None)
    if not is_named or not all(map(_is_size, shape)):
        raise ValueError(
            f"expected the shape, dtype and name of an input, received {described!r}"
        )
    specs = input_specs(tuple(shape), dtype)
    return Node(None, (), specs, name)


def _is_size(size: object) -> bool:
    if size is None:
        return True
    return type(size) is int and 0 <= size < 2**31


def from_plain(value: object, custom: Mapping[str, Any] | None) -> Any:
    """An argument of `compile`, from its description in a file."""
    if isinstance(value, dict) and list(value) == ["by"]:
        named = value["by"]
        return {name: from_plain(item, custom) for name, item in named.items()}
    if isinstance(value, list):
        return [from_plain(item, custom) for item in value]
    return from_config(value, custom)
