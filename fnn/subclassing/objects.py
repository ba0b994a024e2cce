"""Objects: what is read of an object of any class that is an attribute, and whether it changed."""

from __future__ import annotations

import contextlib
import weakref
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core.fields import typed
from fnn.core.value import Value
from fnn.runtime.program_cache import changes

Contents: TypeAlias = tuple[object, ...]

_PLAIN = (int, float, complex, bool, str, bytes, type(None))
_DEPTH = 3  # of objects in objects
_ITEMS = 100  # of a list or dict; longer ones are not compared

# The objects that layers are compared by, by id, and what they contained then.
_watched: dict[int, tuple[weakref.ref[Any], Contents]] = {}


def watched(thing: Any) -> Contents:
    """The plain values in an object; `look` finds out when they have changed."""
    found = _contents(thing, _DEPTH)
    if found:
        key = id(thing)

        def forget(_: weakref.ref[Any]) -> None:
            _watched.pop(key, None)

        with contextlib.suppress(TypeError):  # it takes no weak references
            _watched[key] = weakref.ref(thing, forget), found
    return found


def look() -> None:
    """Notes a change, if an object that a layer is compared by contains other values now."""
    for key, (reference, before) in list(_watched.items()):
        thing = reference()
        if thing is not None and _contents(thing, _DEPTH) != before:
            _watched.pop(key, None)
            changes.note()


def _contents(thing: Any, depth: int) -> Contents:
    """The plain values among the public attributes of an object and of objects in it."""
    known = (type, FunctionType, ModuleType, Value, np.ndarray, jax.Array)
    if isinstance(thing, known) or depth <= 0 or hasattr(type(thing), "as_layer"):
        return ()
    found: Contents = ()
    for name, value in getattr(thing, "__dict__", {}).items():
        part = _part(value, depth)
        if part != () and name[:1] != "_":
            found += (name, part)
    return found


def _part(value: Any, depth: int) -> object:
    if isinstance(value, _PLAIN):
        return typed(value)
    if isinstance(value, (list, tuple, dict)):
        if depth <= 0 or len(value) > _ITEMS:
            return ()
        if isinstance(value, dict):
            value = [item for pair in value.items() for item in pair]
        return tuple(_part(item, depth - 1) for item in value)
    return _contents(value, depth - 1)
