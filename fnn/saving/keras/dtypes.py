"""Dtypes: the policies of layers in a config, left out where all are the default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fnn.saving.keras.operations import HOME


def without_plain_dtypes(entry: Any) -> Any:
    """The config without the dtypes of layers if all compute in float32, as by default."""
    others = {name for name in _policies(entry) if "float" in name} - {"float32"}
    if others:
        return entry
    return _stripped(entry)


def _is_layer(data: dict[str, Any]) -> bool:
    """Whether the `dtype` in the config of an entry is what it computes in."""
    name = str(data.get("class_name", "__none__"))
    is_array = name.startswith("__")  # such as `__numpy__`
    is_operation = str(data.get("module")).startswith(HOME)
    return name != "InputLayer" and not is_array and not is_operation


def _policies(data: Any, inside: bool = False) -> Iterator[str]:
    """The names of the dtype policies of the layers in a config."""
    if isinstance(data, list):
        for item in data:
            yield from _policies(item, inside)
    elif isinstance(data, dict):
        for key, item in data.items():
            if key == "dtype" and inside:
                yield _policy_name(item)
            else:
                yield from _policies(item, key == "config" and _is_layer(data))


def _policy_name(policy: Any) -> str:
    if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
        policy = policy["config"].get("name", "a float of its own")
    return str(policy)


def _stripped(data: Any, inside: bool = False) -> Any:
    if isinstance(data, list):
        return [_stripped(item, inside) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: _stripped(item, key == "config" and _is_layer(data))
        for key, item in data.items()
        if key != "dtype" or not inside or _policy_name(item) != "float32"
    }
