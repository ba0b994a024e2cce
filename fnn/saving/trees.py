"""Trees: any pytree as named arrays and a plain description, and back, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from fnn.core.tree import Path, Tree
from fnn.saving.report import LoadReport, compare

Arrays: TypeAlias = Mapping[str, Any]
Description: TypeAlias = Any  # null, or an object of one entry: data for JSON
# The name of a child in names of arrays, and the child.
Part: TypeAlias = tuple[str, Tree]

PRNG = ("threefry2x32", "rbg", "unsafe_rbg")
NAMES = {"~": "~0", "/": "~1"}
MADE_NAME = "__metadata__"  # means something else in a safetensors file
# The types of leaves that a description itself holds.
_NUMBERS = (bool, int, float, complex, str)
_ARRAYS = (np.ndarray, np.generic, jax.Array)


class Packed(NamedTuple):
    """The arrays of a tree by name, and what else makes the tree."""

    arrays: dict[str, np.ndarray | jax.Array]
    description: Description


def pack(tree: Tree) -> Packed:
    """`tree` as named arrays (its own, not copied) and a description for JSON.

    The name of an array is its path, joined by `/`; in keys `~` is written `~0` and `/` `~1`, and
    the integer 3 is `~i3`. Everything comes back as it was: dicts in their order with strings or
    integers as keys, lists, tuples, None, Python's numbers and strings (every bit of a float but
    the payload of NaN), arrays and scalars of NumPy, arrays of JAX, typed random keys. Named tuples
    and other classes that JAX knows come back by `restore` into a tree of the same structure, and
    as dicts of their fields by `unpack`. Raises TypeError for anything else, with its path.

    >>> arrays, description = pack({"a/b": [jnp.ones(2), None, 3]})
    >>> list(arrays), unpack(arrays, description)
    (['a~1b/0'], {'a/b': [Array([1., 1.], dtype=float32), None, 3]})
    """
    arrays: dict[str, np.ndarray | jax.Array] = {}
    return Packed(arrays, _describe(tree, (), arrays))


def unpack(arrays: Arrays, description: Description) -> Tree:
    """The tree that `pack` took apart. Raises ValueError for a description that is damaged."""
    return _make(description, arrays)


def restore(arrays: Arrays, description: Description, like: Tree) -> Tree:
    """The tree that `pack` took apart, in the structure of `like`; see `refit`."""
    return refit(unpack(arrays, description), like)


def refit(tree: Tree, like: Tree) -> Tree:
    """`like` with its leaves replaced by those of a tree of equal paths, shapes and dtypes.

    Named tuples and classes are those of `like`, and leaves have the types of its leaves (a scalar
    of NumPy, an array of JAX). Raises ValueError that lists every path that differs.
    """
    found = named_leaves(tree)
    report = differences(found, like)
    if not report.ok:
        lines = "\n  ".join(report.lines())
        raise ValueError(f"a tree of another structure:\n  {lines}")
    return _replace(like, (), found)


def differences(found: Mapping[str, Tree], like: Tree) -> LoadReport:
    """How leaves by name fit those of `like`."""
    leaves = named_leaves(like)
    wanted = {name: _Shown(leaf) for name, leaf in leaves.items()}
    shown = {name: _Shown(leaf) for name, leaf in found.items()}
    return compare(wanted, shown)


def named_leaves(tree: Tree) -> dict[str, Tree]:
    """Every leaf of `tree` by its name."""
    found: dict[str, Tree] = {}

    def note(path: Path, leaf: Tree) -> Tree:
        found[_joined(path)] = leaf
        return leaf

    _map(note, tree, ())
    return found


class _Shown:
    """Shape and dtype of a leaf; typed keys and numbers of Python included."""

    def __init__(self, leaf: Tree) -> None:
        self.shape: tuple[int, ...] = np.shape(leaf)
        self.dtype: Any = type(leaf).__name__
        if hasattr(leaf, "dtype"):
            self.dtype = str(leaf.dtype)


# -- names ---------------------------------------------------------------------------------------


def _joined(path: Path) -> str:
    name = "/".join(path)
    if name == MADE_NAME:
        return "~m"
    return name


def _below(path: Path, key: object) -> Path:
    """The path of an entry of the dict at `path`, or of a field of the class there."""
    if type(key) is int:
        return (*path, f"~i{key}")
    if type(key) is str:
        escaped = "".join(NAMES.get(letter, letter) for letter in key)
        return (*path, escaped)
    raise TypeError(
        f"expected strings or integers as keys of the dict at {_joined(path)!r}, received {key!r}; "
        "use one of these"
    )


# -- one level of a tree -------------------------------------------------------------------------


def _fields(node: Tree) -> list[Part] | None:
    """The fields of a named tuple, or of another class that JAX knows; None for a leaf."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return list(zip(node._fields, node, strict=True))
    if isinstance(node, (tuple, *_ARRAYS, *_NUMBERS)):
        return None
    pairs = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x: x is not node)
    if any(not path for path, _ in pairs):
        return None
    return [(_entry(path[0]), child) for path, child in pairs]


def _entry(entry: Any) -> str:
    """The name of a child in a path of JAX."""
    for attribute in ("name", "key", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _rebuilt(node: Tree, children: list[Tree]) -> Tree:
    """A node of a class like `node` with these children."""
    if isinstance(node, tuple):
        return type(node)(*children)
    structure: Any = jax.tree_util.tree_structure(node, is_leaf=lambda x: x is not node)
    return structure.unflatten(children)


def _map(
    function: Callable[[Path, Tree], Tree],
    node: Tree,
    path: Path,
) -> Tree:
    """`node` with `function(path, leaf)` in place of every leaf."""
    if node is None:
        return None
    if type(node) is dict:
        return {
            key: _map(function, item, _below(path, key)) for key, item in node.items()
        }
    if type(node) in (list, tuple):
        items = [
            _map(function, item, (*path, str(number)))
            for number, item in enumerate(node)
        ]
        return type(node)(items)
    fields = _fields(node)
    if fields is None:
        return function(path, node)
    children = [_map(function, item, _below(path, name)) for name, item in fields]
    return _rebuilt(node, children)


# -- describing ----------------------------------------------------------------------------------


def _describe(node: Tree, path: Path, arrays: dict[str, Any]) -> Description:
    if node is None:
        return None
    if type(node) is dict:
        items = [
            [key, _describe(item, _below(path, key), arrays)]
            for key, item in node.items()
        ]
        return {"dict": items}
    if type(node) in (list, tuple):
        parts = [
            _describe(item, (*path, str(number)), arrays)
            for number, item in enumerate(node)
        ]
        return {type(node).__name__: parts}
    if type(node) in _NUMBERS:
        return {type(node).__name__: _plain(node)}
    if isinstance(node, _ARRAYS):
        return _describe_array(node, path, arrays)
    fields = _fields(node)
    if fields is None:
        raise TypeError(
            f"expected arrays, numbers, strings, and classes that JAX knows as pytrees, received "
            f"{type(node).__name__} at {_joined(path)!r}; register the class by "
            "jax.tree_util.register_dataclass"
        )
    items = [
        [name, _describe(item, _below(path, name), arrays)] for name, item in fields
    ]
    return {"fields": items}


def _plain(number: Tree) -> Any:
    """A number of Python for JSON, which has neither NaN nor infinity."""
    if isinstance(number, float):
        return number.hex()
    if isinstance(number, complex):
        return [number.real.hex(), number.imag.hex()]
    return number


def _describe_array(array: Any, path: Path, arrays: dict[str, Any]) -> Description:
    name = _joined(path)
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        arrays[name] = random.key_data(array)
        kind = str(random.key_impl(array))
        if kind not in PRNG:
            raise TypeError(
                f"expected a random key of {PRNG} at {name!r}, received {kind}"
            )
        return {"key": [name, kind]}
    arrays[name] = array
    if isinstance(array, jax.Array):
        if _is_weak(array):
            return {"weak": name}
        return {"jax": name}
    if isinstance(array, np.generic):
        arrays[name] = np.asarray(array)
        return {"scalar": name}
    return {"numpy": name}


def _is_weak(array: jax.Array) -> bool:
    """Whether it is a number whose dtype gives way to that of other arrays."""
    return bool(array.weak_type) and not array.ndim


# -- making --------------------------------------------------------------------------------------


def _make(description: Description, arrays: Arrays) -> Tree:
    if description is None:
        return None
    if not isinstance(description, dict) or len(description) != 1:
        raise ValueError(
            f"expected the description of a tree, received {description!r:.80}"
        )
    ((kind, given),) = description.items()
    make = _MAKERS.get(kind)
    if make is None:
        raise ValueError(f"expected one of {list(_MAKERS)}, received {kind!r:.80}")
    return make(given, arrays)


def _make_dict(given: Any, arrays: Arrays) -> dict[Any, Tree]:
    pairs = [_pair(item) for item in _listed(given)]
    made = {key: _make(item, arrays) for key, item in pairs}
    if len(made) < len(pairs):
        raise ValueError("a key occurs twice in the description of a dict")
    return made


def _pair(item: Any) -> tuple[str | int, Description]:
    is_pair = isinstance(item, list) and len(item) == 2
    if not is_pair or type(item[0]) not in (str, int):
        raise ValueError(f"expected a key and its description, received {item!r:.80}")
    return item[0], item[1]


def _listed(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise ValueError(f"expected a list, received {given!r:.80}")
    return given


def _make_list(given: Any, arrays: Arrays) -> list[Tree]:
    return [_make(item, arrays) for item in _listed(given)]


def _make_float(given: Any, arrays: Arrays) -> float:
    if not isinstance(given, str):
        raise ValueError(f"expected a number in hexadecimal, received {given!r:.80}")
    return float.fromhex(given)


def _make_complex(given: Any, arrays: Arrays) -> complex:
    real, imaginary = (_make_float(part, arrays) for part in _listed(given))
    return complex(real, imaginary)


def _plain_maker(kind: type) -> Callable[[Any, Arrays], Tree]:
    def make(given: Any, arrays: Arrays) -> Tree:
        if type(given) is not kind:
            raise ValueError(f"expected a {kind.__name__}, received {given!r:.80}")
        return given

    return make


def _array(name: Any, arrays: Arrays) -> np.ndarray:
    if not isinstance(name, str) or name not in arrays:
        raise ValueError(f"expected the array {name!r:.80}, received none")
    return np.asarray(arrays[name])


def _make_jax(given: Any, arrays: Arrays) -> jax.Array:
    found = _array(given, arrays)
    made = jnp.array(found)
    if made.dtype != found.dtype:
        raise ValueError(
            f"{given} is of {found.dtype}, which JAX holds as {made.dtype}; call "
            'jax.config.update("jax_enable_x64", True) before'
        )
    return made


def _make_weak(given: Any, arrays: Arrays) -> jax.Array:
    strong = _make_jax(given, arrays)
    weak: jax.Array = jnp.asarray(strong.item())
    return weak if weak.dtype == strong.dtype else strong


def _make_key(given: Any, arrays: Arrays) -> jax.Array:
    name, kind = _listed(given)
    if kind not in PRNG:
        raise ValueError(f"expected a random key of {PRNG}, received {kind!r:.80}")
    data = jnp.array(_array(name, arrays))
    key: jax.Array = random.wrap_key_data(data, impl=kind)
    return key


_MAKERS: dict[str, Callable[[Any, Arrays], Tree]] = {
    "dict": _make_dict,
    "fields": _make_dict,
    "list": _make_list,
    "tuple": lambda given, arrays: tuple(_make_list(given, arrays)),
    "bool": _plain_maker(bool),
    "int": _plain_maker(int),
    "str": _plain_maker(str),
    "float": _make_float,
    "complex": _make_complex,
    "jax": _make_jax,
    "weak": _make_weak,
    "numpy": lambda given, arrays: np.array(_array(given, arrays)),
    "scalar": lambda given, arrays: _array(given, arrays)[()],
    "key": _make_key,
}


def _replace(like: Tree, path: Path, found: Mapping[str, Tree]) -> Tree:
    def take(at: Path, leaf: Tree) -> Tree:
        value = found[_joined(at)]
        if isinstance(leaf, np.generic):
            return np.asarray(value)[()]
        if isinstance(leaf, jax.Array) and not isinstance(value, jax.Array):
            value = jnp.array(value)
        if isinstance(leaf, np.ndarray):
            return np.asarray(value)
        return value

    return _map(take, like, path)
