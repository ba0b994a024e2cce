"""Nested structures with Keras's names: lists, tuples, deques and dicts."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = [
    "MAP_TO_NONE",
    "assert_same_paths",
    "assert_same_structure",
    "flatten",
    "flatten_with_path",
    "is_nested",
    "lists_to_tuples",
    "map_shape_structure",
    "map_structure",
    "map_structure_up_to",
    "pack_sequence_as",
    "traverse",
]

Tree: TypeAlias = Any
Path: TypeAlias = tuple[Any, ...]


class MAP_TO_NONE:  # noqa: N801 - Keras's name
    """What a function of `traverse` returns to put None into the result.

    >>> traverse(lambda x: MAP_TO_NONE if x == 1 else None, [1, 2])
    [None, 2]
    """


class _Level(NamedTuple):
    """A container: the keys of its items, the items, and the container of other items."""

    keys: list[Any]
    items: list[Tree]
    rebuild: Callable[[list[Tree]], Tree]


def _level(structure: Tree) -> _Level | None:
    """The items of a container, those of a dict in the order of its keys; None for a leaf."""
    kind = type(structure)
    if isinstance(structure, tuple) and hasattr(kind, "_fields"):
        return _Level(_places(structure), list(structure), lambda i: kind(*i))
    if kind in (list, tuple):
        return _Level(_places(structure), list(structure), kind)
    if kind is collections.deque:
        longest = structure.maxlen
        return _Level(
            _places(structure),
            list(structure),
            lambda i: collections.deque(i, longest),
        )
    if kind in (dict, collections.OrderedDict, collections.defaultdict):
        keys = list(structure)
        if kind is not collections.OrderedDict:
            keys = sorted(structure)

        def filled(items: list[Tree]) -> Tree:
            other = structure.copy()  # keeps the order of the keys
            other.update(zip(keys, items, strict=True))
            return other

        return _Level(keys, [structure[key] for key in keys], filled)
    return None


def _places(structure: Sequence[Any]) -> list[int]:
    return list(range(len(structure)))


def is_nested(structure: Tree) -> bool:
    """Whether `structure` is a container: a list, a tuple, a deque or a dict, even empty.

    >>> is_nested([]), is_nested({"a": 1}), is_nested(1), is_nested(None)
    (True, True, False, False)
    """
    return _level(structure) is not None


def flatten_with_path(structure: Tree) -> list[tuple[Path, Any]]:
    """The leaves with their paths of keys and places.

    >>> flatten_with_path([{"foo": 42}])
    [((0, 'foo'), 42)]
    """
    level = _level(structure)
    if level is None:
        return [((), structure)]
    return [
        ((key, *path), leaf)
        for key, item in zip(level.keys, level.items, strict=True)
        for path, leaf in flatten_with_path(item)
    ]


def flatten(structure: Tree) -> list[Any]:
    """The leaves of a structure, dicts in the order of their keys; None is a leaf.

    >>> flatten({"b": [2, None], "a": 1})
    [1, 2, None]
    """
    return [leaf for _, leaf in flatten_with_path(structure)]


def pack_sequence_as(structure: Tree, flat_sequence: Iterable[Any]) -> Tree:
    """The structure with other leaves, in the order of `flatten`.

    Raises ValueError for too few or too many of them.

    >>> pack_sequence_as({"a": 0, "b": (0, 0)}, [1, 2, 3])
    {'a': 1, 'b': (2, 3)}
    """
    leaves = list(flat_sequence)
    count = len(flatten(structure))
    if len(leaves) != count:
        raise ValueError(
            f"pack_sequence_as: expected {count} leaves, received {len(leaves)}; "
            "pass one for each leaf of the structure"
        )
    return _packed(structure, iter(leaves))


def _packed(structure: Tree, leaves: Iterator[Any]) -> Tree:
    level = _level(structure)
    if level is None:
        return next(leaves)
    return level.rebuild([_packed(item, leaves) for item in level.items])


def map_structure(
    func: Callable[..., Any],
    *structures: Tree,
    none_is_leaf: bool = True,
) -> Tree:
    """The structure with `func` of the leaves; of several structures, of the leaves together.

    `none_is_leaf=False` leaves None as it is. Raises ValueError for structures that differ, and
    for none.

    >>> map_structure(lambda a, b: a + b, [1, (2,)], [10, (20,)])
    [11, (22,)]
    """
    if not structures:
        raise ValueError(
            "map_structure: expected at least one structure, received none"
        )

    def mapped(*leaves: Any) -> Any:
        if leaves[0] is None and not none_is_leaf:
            return None
        return func(*leaves)

    first, *others = structures
    columns = [flatten(first), *(_like(first, other) for other in others)]
    return pack_sequence_as(
        first, [mapped(*leaves) for leaves in zip(*columns, strict=True)]
    )


def _like(first: Tree, other: Tree) -> list[Any]:
    """The leaves of a structure of the same form as the first, in the order of the first."""
    assert_same_structure(first, other)
    return _up_to(first, other)


def map_structure_up_to(
    shallow_structure: Tree,
    func: Callable[..., Any],
    *structures: Tree,
) -> Tree:
    """`func` of the parts of the structures at the leaves of a shallower structure.

    Raises ValueError for structures that differ from it above these leaves.

    >>> map_structure_up_to([None, None], len, [[1, 1], [2]])
    [2, 1]
    """
    if not structures:
        raise ValueError(
            "map_structure_up_to: expected at least one structure, received none"
        )
    parts = [_up_to(shallow_structure, structure) for structure in structures]
    return pack_sequence_as(
        shallow_structure, [func(*these) for these in zip(*parts, strict=True)]
    )


def _up_to(shallow: Tree, structure: Tree) -> list[Tree]:
    """The parts of a structure at the leaves of a shallower one."""
    if not is_nested(shallow):
        return [structure]
    return [part for pair in _pairs(shallow, structure) for part in _up_to(*pair)]


def _pairs(a: Tree, b: Tree) -> list[tuple[Tree, Tree]]:
    """The items of two containers of one kind, by key. Raises ValueError for others."""
    first, second = _level(a), _level(b)
    both_dicts = isinstance(a, dict) and isinstance(b, dict)
    if first and second and (both_dicts or type(a) is type(b)):
        items = dict(zip(second.keys, second.items, strict=True))
        same_keys = first.keys == second.keys
        if same_keys or (both_dicts and set(a) == set(b)):
            pairs = zip(first.keys, first.items, strict=True)
            return [(item, items[key]) for key, item in pairs]
    raise ValueError(f"expected structures of one form, received {a!r} and {b!r}")


def assert_same_structure(a: Tree, b: Tree, check_types: None = None) -> None:
    """Raises ValueError unless both are containers of the same kinds, nested in the same way.

    All kinds of dicts with the same keys are the same.

    >>> assert_same_structure([(0, 1)], [(2, 3)])
    """
    if is_nested(a) or is_nested(b):
        for one, other in _pairs(a, b):
            assert_same_structure(one, other)


def assert_same_paths(a: Tree, b: Tree) -> None:
    """Raises ValueError unless the leaves of both have the same paths, in any containers.

    >>> assert_same_paths([0, 1], (2, 3))
    """
    first = {path for path, _ in flatten_with_path(a)}
    second = {path for path, _ in flatten_with_path(b)}
    if first != second:
        raise ValueError(
            "expected structures with the same paths, received some that only one has: "
            f"{sorted(map(str, first ^ second))}"
        )


def traverse(
    func: Callable[[Tree], Any],
    structure: Tree,
    top_down: bool = True,
) -> Tree:
    """The structure with the results of `func` in place of its parts; None changes nothing.

    `func` gets every part: from the whole to the leaves, without what is inside of a part that
    it replaced, or with `top_down=False` from the leaves to the whole. It returns `MAP_TO_NONE`
    for None.

    >>> traverse(lambda x: sum(x) if isinstance(x, tuple) else None, [(1, 2), (3,)])
    [3, 3]
    """
    if not top_down:
        structure = _inside(func, structure, top_down)
    result = func(structure)
    if result is MAP_TO_NONE:
        return None
    if result is not None:
        return result
    if top_down:
        return _inside(func, structure, top_down)
    return structure


def _inside(
    func: Callable[[Tree], Any],
    structure: Tree,
    top_down: bool,
) -> Tree:
    """A container with its items traversed; a leaf as it is."""
    level = _level(structure)
    if level is None:
        return structure
    return level.rebuild([traverse(func, item, top_down) for item in level.items])


def lists_to_tuples(structure: Tree) -> Tree:
    """The structure with tuples for lists.

    >>> lists_to_tuples([1, {"a": [2]}])
    (1, {'a': (2,)})
    """

    def as_tuple(part: Tree) -> tuple[Any, ...] | None:
        if isinstance(part, list):
            return tuple(part)
        return None

    return traverse(as_tuple, structure, top_down=False)


def map_shape_structure(func: Callable[[Any], Any], structure: Tree) -> Tree:
    """The structure with `func` of the shapes in it: lists and tuples of integers and None.

    >>> map_shape_structure(len, {"a": (None, 3), "b": [(2,), (4, 5)]})
    {'a': 2, 'b': [1, 2]}
    """

    level = _level(structure)
    is_shape = isinstance(structure, (list, tuple)) and all(
        isinstance(size, (int, type(None))) for size in structure
    )
    if level is None or is_shape:
        return func(structure)
    return level.rebuild([map_shape_structure(func, item) for item in level.items])
