"""Containers: lists, dicts and sets among the attributes, which tell their owner of changes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

import jax

from fnn.runtime.program_cache import changes

Method: TypeAlias = Callable[..., Any]


class Owner(Protocol):
    """An object whose attributes are tracked."""

    def _before_change(self, name: str, added: tuple[Any, ...]) -> None: ...

    def _note_change_inside(self, name: str) -> None: ...


class Attribute:
    """The attribute of an object in which a container stands."""

    def __init__(self, owner: Owner, name: str) -> None:
        self._owner = weakref.ref(owner)
        self.name = name

    def before(self, added: tuple[Any, ...]) -> None:
        """Called before a change that puts these things into the container."""
        owner = self._owner()
        if owner is not None:
            owner._before_change(self.name, added)

    def after(self) -> None:
        """Called after a change."""
        owner = self._owner()
        if owner is None:
            changes.note()
        else:
            owner._note_change_inside(self.name)


class TrackedList(list[Any]):
    """A list as an attribute; in a copy or file of its own it is a plain list."""

    def __init__(self, items: Any, attribute: Attribute) -> None:
        super().__init__(tracked(item, attribute) for item in items)
        self._attribute = attribute

    def _track(self) -> None:
        for index, item in enumerate(self):
            list.__setitem__(self, index, tracked(item, self._attribute))

    def __reduce__(self) -> tuple[type, tuple[object]]:
        return list, (list(self),)


class TrackedDict(dict[Any, Any]):
    """A dict as an attribute; in a copy or file of its own it is a plain dict."""

    def __init__(self, items: Any, attribute: Attribute) -> None:
        super().__init__((k, tracked(v, attribute)) for k, v in items.items())
        self._attribute = attribute

    def _track(self) -> None:
        for key, item in self.items():
            dict.__setitem__(self, key, tracked(item, self._attribute))

    def __reduce__(self) -> tuple[type, tuple[object]]:
        return dict, (dict(self),)


class TrackedSet(set[Any]):
    """A set as an attribute; in a copy or file of its own it is a plain set."""

    def __init__(self, items: Any, attribute: Attribute) -> None:
        super().__init__(items)
        self._attribute = attribute

    def _track(self) -> None:
        """Nothing to do: containers cannot be in a set."""

    def __reduce__(self) -> tuple[type, tuple[object]]:
        return set, (set(self),)


_KINDS: dict[type, Any] = {list: TrackedList, dict: TrackedDict, set: TrackedSet}
_CHANGES = {
    TrackedList: "append extend insert pop remove clear sort reverse __setitem__ __delitem__ "
    "__iadd__ __imul__",
    TrackedDict: "__setitem__ __delitem__ pop popitem clear update setdefault __ior__",
    TrackedSet: "add discard remove pop clear update difference_update intersection_update "
    "symmetric_difference_update __ior__ __iand__ __isub__ __ixor__",
}


def _telling(name: str, method: Method) -> Method:
    def change(self: Any, *given: Any, **named: Any) -> Any:
        self._attribute.before((*given, *named.values()))
        result = method(self, *given, **named)
        self._track()
        self._attribute.after()
        return result

    change.__name__ = name
    return change


for _kind, _names in _CHANGES.items():
    for _name in _names.split():
        setattr(_kind, _name, _telling(_name, getattr(_kind, _name)))


def _items_of_list(items: TrackedList) -> tuple[list[Any], None]:
    return list(items), None


def _items_of_dict(items: TrackedDict) -> tuple[list[Any], tuple[Any, ...]]:
    keys = tuple(sorted(items))
    return [items[key] for key in keys], keys


# For JAX they are what they contain; what it makes of them are plain ones.
register: Method = jax.tree_util.register_pytree_node
register(TrackedList, _items_of_list, lambda _, items: list(items))
register(
    TrackedDict,
    _items_of_dict,
    lambda keys, items: dict(zip(keys, items, strict=True)),
)


def tracked(value: Any, attribute: Attribute) -> Any:
    """A value as an attribute holds it: lists, dicts and sets tracked, others as they are."""
    kind = _KINDS.get(type(value))
    if kind is None:
        return value
    return kind(value, attribute)


def copied(value: Any, attribute: Attribute) -> Any:
    """A copy of a tracked value in an attribute of another object; other values as they are."""
    return tracked(plain(value), attribute)


def plain(value: Any) -> Any:
    """A copy of a tracked value without what tracks it; other values as they are."""
    if isinstance(value, TrackedList) or type(value) is list:
        return [plain(item) for item in value]
    if isinstance(value, TrackedDict) or type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, TrackedSet):
        return set(value)
    return value


def leaves(value: Any) -> Iterator[Any]:
    """What lists, tuples, sets and dicts contain at the bottom."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from leaves(item)
    else:
        yield value
