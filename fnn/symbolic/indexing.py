"""Indexing: the items of an index as plain data, which a value can hold, and back."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import Any, TypeAlias

# An item of an index, as JAX takes it.
Selector: TypeAlias = int | slice | EllipsisType | None


def as_plain(item: Any) -> int | str | None:
    """An item of an index as plain data, which a value can hold; TypeError if it cannot be."""
    if isinstance(item, slice):
        bounds = f"{_bound(item.start)}:{_bound(item.stop)}"
        if item.step is None:
            return bounds
        return f"{bounds}:{_bound(item.step)}"
    if isinstance(item, bool):
        raise TypeError("a boolean is not an index here")
    if item is None or isinstance(item, str):
        return item
    if item is Ellipsis:
        return "..."
    return operator.index(item)


def _bound(bound: Any) -> str:
    if bound is None:
        return ""
    return str(operator.index(bound))


def selector(item: int | str | None) -> Selector:
    """ "2:5" -> slice(2, 5); integers and None as they are. ValueError for another string."""
    if not isinstance(item, str):
        return item
    if item == "...":
        return Ellipsis
    bounds: list[int | None] = []
    for bound in item.split(":"):
        if bound:
            bounds.append(int(bound))
        else:
            bounds.append(None)
    if not 2 <= len(bounds) <= 3:
        raise ValueError(f"{item!r} is not a slice")
    return slice(*bounds)
