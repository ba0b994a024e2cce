"""The description of a model as plain data: network, inputs, `compile` arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fnn.core.config import from_config, to_config
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree
from fnn.symbolic.node import Node, input_specs

KEYS = {"class", "name", "layer", "inputs", "compile"}
# In place of an argument of `compile` that has no registered name: the name to give it by.
LEFT_OUT = "left_out"


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


class LeftOutError(ValueError):
    """An argument of `compile` that a file does not hold, and nobody has given."""


def describe(model: Describable) -> dict[str, object]:
    """`model` without its weights. Raises ValueError for layers without a registered name."""
    return {
        "class": type(model).__name__,
        "name": model.name,
        "layer": to_config(model.layer),
        "inputs": _describe_inputs(model._network.inputs),
        "compile": _compile_config(model._program.arguments),
    }


def left_out(model: Describable) -> dict[str, str]:
    """What `compile` was given that has no registered name: how it looks, by its name in files."""
    found: dict[str, str] = {}
    for argument, value in (model._program.arguments or {}).items():
        _plain(value, argument, found)
    return found


def _describe_inputs(inputs: SpecTree) -> object:
    if inputs is None:
        return None
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
    """The arguments of `compile`."""
    if compiled is None:
        return None
    return {name: _plain(value, name, {}) for name, value in compiled.items()}


def _plain(value: object, argument: str, missing: dict[str, str]) -> object:
    """An argument of `compile` as plain data; what has no registered name goes to `missing`."""
    if isinstance(value, dict):
        # `from_plain` takes other dicts for registered objects.
        named = {n: _plain(item, argument, missing) for n, item in value.items()}
        return {"by": named}
    is_named_tuple = hasattr(value, "_fields")  # an optimizer of optax
    if isinstance(value, (list, tuple)) and not is_named_tuple:
        return [_plain(item, argument, missing) for item in value]
    try:
        return to_config(value)
    except ValueError:
        name = str(getattr(value, "__name__", argument))
        if not name.isidentifier() or name in missing:
            name = argument
        missing[name] = f"{argument}={value!r:.60}"
        return {LEFT_OUT: name}


def check(described: dict[str, object]) -> None:
    """Raises ValueError unless `described` is the description of a model."""
    # Later versions say by which versions they were written.
    if described.keys() - {"versions"} != KEYS:
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
    if isinstance(value, dict) and list(value) == [LEFT_OUT]:
        return _given(value[LEFT_OUT], custom)
    if isinstance(value, list):
        return [from_plain(item, custom) for item in value]
    return from_config(value, custom)


def _given(name: str, custom: Mapping[str, Any] | None) -> Any:
    """What a file does not hold, as the user gave it. Raises LeftOutError if there is none."""
    if not isinstance(name, str) or name not in (custom or {}):
        raise LeftOutError(name)
    return (custom or {})[name]
