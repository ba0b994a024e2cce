"""A value <-> a plain dict, by its fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from fnn.core import fields
from fnn.core.registry import TABLE, lookup, unregistered
from fnn.core.value import Fields, Value


def to_config(value: Any) -> Any:
    """`value` as plain JSON data: names from the table, fields, numbers, strings.

    Raises ValueError for what has no name in the table (register it).

    >>> to_config((1, "same", None))
    [1, 'same', None]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_config(item) for item in value]
    if isinstance(value, Fields):
        return {"dict": [[name, to_config(item)] for name, item in value.items]}
    if isinstance(value, Value):
        name = type(value).__name__
        if TABLE.get((value.kind, name)) is not type(value):
            raise unregistered(value.kind, name)
        return {value.kind: name} | {
            n: to_config(v) for n, v in value._attributes() if n[0] != "_"
        }
    for (kind, name), thing in TABLE.items():
        if thing is value:
            return {kind: name}
    raise unregistered("function", getattr(value, "__name__", None) or repr(value))


def from_config(data: Any, custom: Mapping[str, Any] | None = None) -> Any:
    """The value that `to_config` described; `custom` maps names to classes or functions.

    Looks names up in the table and in `custom`: nothing is imported, nothing executed. Raises
    ValueError naming what it does not know.
    """
    if isinstance(data, list):
        return tuple(from_config(item, custom) for item in data)
    if not isinstance(data, dict):
        return data
    if not data:
        raise ValueError(_damaged("a description of a value", "an empty dict"))
    (kind, name), *described = data.items()
    if kind == "dict":
        if not isinstance(name, list) or not all(
            isinstance(i, list) and len(i) == 2 for i in name
        ):
            raise ValueError(_damaged("a list of [key, value] for a dict", repr(name)))
        return Fields(tuple((key, from_config(item, custom)) for key, item in name))
    if not isinstance(name, str):
        raise ValueError(_damaged(f"the name of a {kind}", repr(name)))
    found = lookup(kind, name, custom)
    if not (isinstance(found, type) and issubclass(found, Value)):
        if described:
            raise ValueError(
                _damaged(f"nothing beside the {kind} {name}", repr(described[0][0]))
            )
        return found
    given = {key: from_config(item, custom) for key, item in described}
    if found._open:
        return _restored(found, given)
    known = {f.name: f.default for f in dataclasses.fields(found)}
    needed = {n for n, default in known.items() if default is dataclasses.MISSING}
    if not needed <= set(given) <= set(known):
        raise ValueError(
            f"expected fields of {name} out of {sorted(known)}, and {sorted(needed)} at least, "
            f"received {sorted(given)}; the file is damaged or of another version"
        )
    return found(**given)


def _damaged(expected: str, received: str) -> str:
    return f"expected {expected}, received {received}; the file is damaged"


def _restored(cls: Any, attributes: dict[str, Any]) -> Any:
    """The value of a class with an `__init__` of its own, which is not run, by its attributes.

    Raises ValueError for names of methods and ClassVars: a file that has them would replace code.
    """
    made = cls.__new__(cls)
    for name, value in attributes.items():
        if not _holds_data(cls, name):
            raise ValueError(
                f"expected attributes of {cls.__name__} that hold data, received {name!r}; the "
                "file is damaged"
            )
        object.__setattr__(made, name, value)
        if name in getattr(
            cls, "__dataclass_fields__", ()
        ):  # of a base without `__init__`
            fields.check(made, name, value)
    return made


def _holds_data(cls: type, name: str) -> bool:
    fixed = any(
        "ClassVar" in str(inspect.get_annotations(c).get(name, "")) for c in cls.__mro__
    )
    code = hasattr(inspect.getattr_static(cls, name, None), "__get__")
    return name.isidentifier() and name[0] != "_" and not fixed and not code
