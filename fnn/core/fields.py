"""Fields: what a value was given, checked against what its fields are annotated to hold."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn.core import arguments

# What an annotation is called in an error, and whether a value is of it. Numbers are the plain
# ones of Python by now; True is no number here, and NaN is none anywhere.
_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: (
        "a number",
        lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and v == v,
    ),
    str: ("a text", lambda v: isinstance(v, str)),
    types.NoneType: ("None", lambda v: v is None),
}
_MANY = {bool: "booleans", int: "whole numbers", float: "numbers", str: "texts"}


# The kind of thing that a field holds, by the end of the field's name.
_FIELD_KINDS = ("activation", "initializer", "regularizer", "constraint")


def field_kind(field_name: str) -> str | None:
    """`kernel_initializer` -> `initializer`; None for a plain field."""
    kind = field_name.rpartition("_")[2]
    return kind if kind in _FIELD_KINDS else None


def restored(cls: Any, attributes: dict[str, Any]) -> Any:
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
        if name in getattr(cls, "__dataclass_fields__", ()):  # of a base without `__init__`
            check(made, name)
    return made


def _holds_data(cls: type, name: str) -> bool:
    fixed = any("ClassVar" in str(inspect.get_annotations(c).get(name, "")) for c in cls.__mro__)
    code = hasattr(inspect.getattr_static(cls, name, None), "__get__")
    return name.isidentifier() and name[0] != "_" and not fixed and not code


def check(value: Any, name: str) -> None:
    """Raises ValueError unless a field of `value` holds what its annotation says."""
    cls: Any = type(value)
    hint = hints(cls).get(name, Any)
    if not fits(getattr(value, name), hint):
        raise arguments.wrong(value, name, f"to be {words(hint)}", getattr(value, name))


def given(value: Any, name: str) -> Any:
    """What a field was given; a jax.Array where its annotation says numbers as a NumPy array."""
    found = getattr(value, name)
    concrete = isinstance(found, jax.Array) and not isinstance(found, jax.core.Tracer)
    cls: Any = type(value)
    return np.asarray(found) if concrete and _has_numbers(hints(cls).get(name)) else found


def _has_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(map(_has_numbers, typing.get_args(hint)))


def dtype_name(dtype: Any) -> str:
    """`jnp.float32`, `np.dtype("float32")` and `"float32"` -> `"float32"`."""
    try:
        return str(np.dtype(dtype))
    except TypeError as error:
        raise ValueError(
            f"expected the name of a dtype, received {dtype!r}; do e.g. dtype='bfloat16'"
        ) from error


def typed(value: Any) -> Any:
    """What a field is compared by: 2, 2.0 and True compute in different dtypes.

    A float is what it prints, so -0.0 is not 0.0, and NaN is NaN.

    >>> typed((1, 2.0)) == typed((1.0, 2.0)), typed(float("nan")) == typed(float("nan"))
    (False, True)
    """
    if isinstance(value, tuple):
        return (type(value), *map(typed, value))
    return type(value), repr(value) if isinstance(value, (float, complex)) else value


@functools.cache
def hints(cls: Any) -> dict[str, Any]:
    """The annotations of a class; none where they name what cannot be found."""
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what `hint` says; True for hints of other than plain data.

    >>> fits((3, 3), int | tuple[int, ...]), fits("3", int), fits(True, int), fits(3, float)
    (True, False, False, True)
    """
    if hint in _PLAIN:
        return _PLAIN[hint][1](value)
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return any(fits(value, part) for part in parts)
    if kind is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is not Ellipsis:
            return len(value) == len(parts) and all(map(fits, value, parts))
        return all(fits(item, parts[0]) for item in value)
    return True


def words(hint: Any) -> str:
    """What `hint` allows, in words.

    >>> words(int | tuple[int, ...] | None)
    'a whole number, a tuple of whole numbers or None'
    >>> words(tuple[int | None, ...] | None)
    'a tuple of whole numbers and None, or None'
    """
    if hint in _PLAIN:
        return _PLAIN[hint][0]
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        *first, last = [words(part) for part in parts]
        return f"{', '.join(first)}{',' * (' and ' in first[-1])} or {last}"
    if kind is tuple:
        inner = typing.get_args(parts[0]) or parts[:1]
        return "a tuple of " + " and ".join(_MANY.get(part, words(part)) for part in inner)
    return getattr(hint, "__name__", str(hint))
