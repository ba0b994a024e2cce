"""Configs: values as plain JSON data, and back."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

from fnn.core import fields
from fnn.core.registry import TABLE, lookup, unregistered
from fnn.core.value import Fields, Value

Json: TypeAlias = Any  # None, a number, a string, or a list or dict of these


def to_config(value: object) -> Json:
    """`value` as plain JSON data: registered names, fields, numbers, strings.

    Raises ValueError for a class or function that is not registered.

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


def from_config(data: Json, custom: Mapping[str, object] | None = None) -> Any:
    """The value that `to_config` described; `custom` maps names to classes or functions.

    Names are looked up in `custom` and among the registered ones: nothing is imported, nothing
    executed. Raises ValueError for unknown names.
    """
    if isinstance(data, list):
        return tuple(from_config(item, custom) for item in data)
    if not isinstance(data, dict):
        return data
    if not data:
        raise _damaged("a description of a value", "an empty dict")
    (kind, name), *others = data.items()
    if kind == "dict":
        return _dict_from_config(name, custom)
    if not isinstance(name, str):
        raise _damaged(f"the name of a {kind}", repr(name))
    found = lookup(kind, name, custom)
    if isinstance(found, type) and issubclass(found, Value):
        given = {key: from_config(item, custom) for key, item in others}
        return _made(found, name, given)
    if others:
        raise _damaged(f"nothing beside the {kind} {name}", repr(others[0][0]))
    return found


def _dict_from_config(items: Json, custom: Mapping[str, object] | None) -> Fields:
    is_valid = isinstance(items, list) and all(
        isinstance(item, list) and len(item) == 2 for item in items
    )
    if not is_valid:
        raise _damaged("a list of [key, value] for a dict", repr(items))
    pairs = tuple((key, from_config(item, custom)) for key, item in items)
    return Fields(pairs)


def _made(cls: type[Value], name: str, given: dict[str, object]) -> Value:
    """The value of a class with these fields."""
    if cls._open:
        return _restored(cls, given)
    known = {field.name: field.default for field in dataclasses.fields(cls)}
    missing = dataclasses.MISSING
    needed = {name for name, default in known.items() if default is missing}
    if not needed <= set(given) <= set(known):
        raise ValueError(
            f"expected fields of {name} out of {sorted(known)}, and {sorted(needed)} at least, "
            f"received {sorted(given)}; the file is damaged or of another version"
        )
    return cls(**given)


def _damaged(expected: str, received: str) -> ValueError:
    return ValueError(f"expected {expected}, received {received}; the file is damaged")


def _restored(cls: type[Value], attributes: dict[str, object]) -> Value:
    """A value of a class with its own `__init__`, which is not run, from its attributes.

    Raises ValueError for names of methods and ClassVars: such a file would replace code.
    """
    made = cls.__new__(cls)
    for name, value in attributes.items():
        if not _holds_data(cls, name):
            raise ValueError(
                f"expected attributes of {cls.__name__} that hold data, received {name!r}; the "
                "file is damaged"
            )
        object.__setattr__(made, name, value)
        # A field of a base class that has no `__init__` of its own.
        if name in getattr(cls, "__dataclass_fields__", ()):
            fields.check(made, name, value)
    return made


def _holds_data(cls: type, name: str) -> bool:
    """Whether an attribute of this name may be set: it is neither code nor a ClassVar."""
    annotations = [inspect.get_annotations(c).get(name, "") for c in cls.__mro__]
    if any("ClassVar" in str(annotation) for annotation in annotations):
        return False
    if hasattr(inspect.getattr_static(cls, name, None), "__get__"):
        return False
    return name.isidentifier() and name[0] != "_"
