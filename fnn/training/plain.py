"""Plain: numbers, strings, arrays and nestings of them as JSON, and back, exactly."""

from __future__ import annotations

import base64
import math
from typing import Any, TypeAlias

import numpy as np

Plain: TypeAlias = Any  # what `json.dumps(..., allow_nan=False)` takes

TAG = "$"


def to_plain(value: Any, place: str = "value") -> Plain:
    """A value as JSON: None, numbers, strings, bytes, arrays, and lists, tuples, dicts of them.

    Raises TypeError for anything else.

    >>> to_plain((1, float("inf"), b"a"))
    {'$': 'tuple', 'items': [1, {'$': 'float', 'value': 'inf'}, {'$': 'bytes', 'value': 'YQ=='}]}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) is int:
        return value
    if type(value) is float:
        if math.isfinite(value):
            return value
        return {TAG: "float", "value": repr(value)}
    if isinstance(value, bytes):
        return {TAG: "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {TAG: "tuple", "items": _items(value, place)}
    if isinstance(value, list):
        return _items(value, place)
    if isinstance(value, dict):
        return _of_dict(value, place)
    if hasattr(value, "__array__"):
        return _of_array(value, place)
    raise TypeError(
        f"{place} is {value!r}, which a checkpoint cannot hold; use numbers, strings, bytes, "
        "arrays, and lists, tuples and dicts of them"
    )


def _items(values: Any, place: str) -> list[Plain]:
    return [to_plain(item, f"{place}[{i}]") for i, item in enumerate(values)]


def _of_dict(value: dict[Any, Any], place: str) -> Plain:
    if all(isinstance(key, str) for key in value) and TAG not in value:
        return {key: to_plain(item, f"{place}.{key}") for key, item in value.items()}
    pairs = []
    for key, item in value.items():
        plain_key = to_plain(key, place)
        plain_item = to_plain(item, f"{place}[{key!r}]")
        pairs.append([plain_key, plain_item])
    return {TAG: "dict", "items": pairs}


def _of_array(value: Any, place: str) -> Plain:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(
            f"{place} is an array of objects, which a checkpoint cannot hold; use numbers"
        )
    return {
        TAG: "array",
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "value": base64.b64encode(array.tobytes()).decode(),
    }


def from_plain(value: Plain) -> Any:
    """The value that `to_plain` was given; arrays are NumPy's.

    >>> from_plain(to_plain({1: (2.0, None)}))
    {1: (2.0, None)}
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(TAG)
    if kind is None:
        return {key: from_plain(item) for key, item in value.items()}
    if kind == "float":
        return float(value["value"])
    if kind == "bytes":
        return base64.b64decode(value["value"])
    if kind == "tuple":
        return tuple(from_plain(item) for item in value["items"])
    if kind == "dict":
        return {from_plain(k): from_plain(v) for k, v in value["items"]}
    if kind != "array":
        raise ValueError(f"expected a value as JSON, received one of the kind {kind!r}")
    content = base64.b64decode(value["value"])
    raw = np.frombuffer(content, np.dtype(value["dtype"]))
    array = raw.reshape(value["shape"]).copy()
    return array if array.ndim else array[()]
