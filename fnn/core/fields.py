"""Fields: their bounds, the arguments of constructors, and the checks of what they are given."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.core import arguments

# What an annotation is called in an error, and whether a value is of it. Numbers are the plain
# ones of Python by now; True is no number here, and NaN is none anywhere.
_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: (
        "a number",
        lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and v == v,
    ),
    str: ("a string", lambda v: isinstance(v, str)),
    types.NoneType: ("None", lambda v: v is None),
}
_MANY = {bool: "booleans", int: "integers", float: "numbers", str: "strings"}


# The kind of thing that a field holds, by the end of the field's name.
_FIELD_KINDS = ("activation", "initializer", "regularizer", "constraint")


def field_kind(field_name: str) -> str | None:
    """`kernel_initializer` -> `initializer`; None for a plain field."""
    kind = field_name.rpartition("_")[2]
    return kind if kind in _FIELD_KINDS else None


def check(value: Any, name: str, held: Any, bound: Bound | None = None) -> None:
    """Raises ValueError unless a field of `value` may hold this, by its annotation and bound."""
    cls: Any = type(value)
    hint = hints(cls).get(name, Any)
    if not fits(held, hint):
        raise arguments.wrong(value, name, f"to be {words(hint)}", held)
    if bound is not None and not bound.allows(cls, held):
        advice = (
            f"e.g. {cls.__name__}({name}={bound.example!r})" if bound.example else ""
        )
        raise arguments.wrong(
            value, name, f"to be {bound.words_for(cls, hint)}", held, advice
        )


class Bound(NamedTuple):
    """What a field allows beyond its annotation: each number of a tuple by itself, and None."""

    words: str
    holds: Callable[[Any], bool]
    example: Any = None
    per_axis: bool = (
        False  # a tuple has one entry for each of the `spatial` axes of the class
    )

    def allows(self, cls: Any, held: Any) -> bool:
        """Whether a field of this bound may hold a value, in this class."""
        if self.per_axis and isinstance(held, tuple) and len(held) != cls.spatial:
            return False
        try:
            return all(item is None or self.holds(item) for item in flat(held))
        except TypeError:  # what cannot be compared with a number
            return False

    def words_for(self, cls: Any, hint: Any) -> str:
        """What a field of this annotation allows, in words."""
        if self.words[:6] == "one of":
            return self.words
        kinds = [
            kind
            for kind in typing.get_args(hint) or (hint,)
            if kind is not types.NoneType
        ]
        numbers = " or ".join(map(words, kinds))
        if self.holds(2**31) and not self.holds(math.inf):
            numbers = numbers.replace("a number", "a finite number")
        if self.per_axis:
            numbers = f"an integer or a tuple of {cls.spatial},"
        return f"{numbers} {self.words}" + ", or None" * fits(None, hint)


def flat(held: Any) -> tuple[Any, ...]:
    """The values in nested tuples; of another value itself."""
    return sum(map(flat, held), ()) if isinstance(held, tuple) else (held,)


def _bounded(default: Any, kw_only: Any, bound: Bound) -> Any:
    return dataclasses.field(
        default=default, kw_only=kw_only, metadata={"bound": bound}
    )


_POSITIVE = Bound("above 0", lambda v: 0 < v < math.inf, 32)
_NOT_NEGATIVE = Bound("not below 0", lambda v: 0 <= v < math.inf)
_FRACTION = Bound("between 0 and 1", lambda v: 0 <= v <= 1, 0.5)
_SEED = Bound("from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)


def positive(*, default: Any = MISSING, kw_only: Any = MISSING) -> Any:
    """A field of finite numbers above 0.

    >>> class Scale(fnn.Layer):
    ...     factor: float = positive(default=1.0)
    >>> Scale(-2.0)
    Traceback (most recent call last):
    ValueError: Scale: expected factor to be a finite number above 0, received factor=-2.0; \
e.g. Scale(factor=32)
    """
    return _bounded(default, kw_only, _POSITIVE)


def not_negative(*, default: Any = MISSING, kw_only: Any = MISSING) -> Any:
    """A field of finite numbers that are 0 or more."""
    return _bounded(default, kw_only, _NOT_NEGATIVE)


def fraction(*, default: Any = MISSING, kw_only: Any = MISSING) -> Any:
    """A field of numbers from 0 to 1."""
    return _bounded(default, kw_only, _FRACTION)


def random_seed(*, default: Any = MISSING, kw_only: Any = MISSING) -> Any:
    """A field for a seed of 32 bits, or None."""
    return _bounded(default, kw_only, _SEED)


def one_of(
    choices: tuple[Any, ...], *, default: Any = MISSING, kw_only: Any = MISSING
) -> Any:
    """A field that holds one of a few choices."""
    words = f"one of {', '.join(map(repr, choices))}"
    return _bounded(default, kw_only, Bound(words, lambda v: v in choices))


def per_axis(*, default: Any = MISSING, minimum: int = 1) -> Any:
    """A field of one integer, or of one for each of the `spatial` axes of a layer."""
    least = f"of at least {minimum}" if minimum else "not below 0"
    return _bounded(
        default, MISSING, Bound(least, lambda v: v >= minimum, per_axis=True)
    )


def converted(value: Any, field: dataclasses.Field[Any], given: Any) -> Any:
    """What a field was given, by its own `convert`; numbers in a jax.Array as a NumPy array."""
    convert = field.metadata.get("convert")
    if convert is not None:
        return convert(given)
    if not isinstance(given, jax.Array) or isinstance(given, jax.core.Tracer):
        return given
    cls: Any = type(value)
    is_number = given.shape == () or _has_numbers(hints(cls).get(field.name))
    return np.asarray(given) if is_number else given


def _has_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(map(_has_numbers, typing.get_args(hint)))


def dtype_name(dtype: Any) -> str:
    """`jnp.float32`, `np.dtype("float32")` and `"float32"` -> `"float32"`."""
    try:
        return str(np.dtype(dtype))
    except TypeError as error:
        raise ValueError(
            f"expected the name of a dtype, received {dtype!r}; e.g. dtype='bfloat16'"
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
    'an integer, a tuple of integers or None'
    >>> words(tuple[int | None, ...] | None)
    'a tuple of integers and None, or None'
    """
    if hint in _PLAIN:
        return _PLAIN[hint][0]
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        *first, last = [words(part) for part in parts]
        return f"{', '.join(first)}{',' * (' and ' in first[-1])} or {last}"
    if kind is tuple:
        inner = typing.get_args(parts[0]) or parts[:1]
        return "a tuple of " + " and ".join(
            _MANY.get(part, words(part)) for part in inner
        )
    return getattr(hint, "__name__", str(hint))


def signature_of(
    cls: Any, declared: dict[str, dataclasses.Field[Any]]
) -> inspect.Signature:
    """The signature of the constructor of a class with these fields."""
    own = [name for name, field in declared.items() if not field.kw_only]
    keyword = [name for name, field in declared.items() if field.kw_only]
    order = cls._positions(own, keyword)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [itself]
    for name in dict.fromkeys((*order, *own, *keyword)):
        field = declared[name]
        kind = itself.kind if name in order else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        if field.default_factory is not MISSING:
            default = field.default_factory
        parameters.append(
            inspect.Parameter(name, kind, default=default, annotation=field.type)
        )
    if parameters[-1].name == "kwargs":
        parameters[-1] = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    try:
        return inspect.Signature(parameters)
    except ValueError as error:  # a field without a default after one with a default
        raise TypeError(
            f"{cls.__name__}: {error}; declare fields without a default first"
        ) from error


def as_declared(cls: type, shared: tuple[str, ...], own: list[str]) -> list[str]:
    """Arguments by position in the order in which a class and its bases declare them.

    The `shared` ones, which are those of the base that asks for this order by its `_positions`,
    come last unless they are declared again.
    """
    root = next(base for base in cls.__mro__ if "_positions" in vars(base))
    bases = cls.__mro__[: cls.__mro__.index(root)][::-1]
    declared = [name for base in bases for name in inspect.get_annotations(base)]
    places = [name for name in declared if name in own or name in shared]
    return list(dict.fromkeys([*places, *shared]))


def by_name(
    value: Any, order: list[str], given: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """All arguments by name. Raises TypeError for too many by position, and for one given twice."""
    owner = type(value).__name__
    if len(given) > len(order):
        raise TypeError(
            f"{owner}: expected at most {len(order)} arguments by position, received "
            f"{len(given)}; name the others"
        )
    by_place = dict(zip(order, given, strict=False))
    twice = by_place.keys() & named.keys()
    if twice:
        raise TypeError(f"{owner} got multiple values for argument {min(twice)!r}")
    return by_place | named


def without(owner: str, missing: list[str]) -> TypeError:
    """The error for arguments that are needed."""
    names = ", ".join(map(repr, missing[:-1])) + "," * (len(missing) > 2)
    names += " and " * (len(missing) > 1) + repr(missing[-1])
    number = f"{len(missing)} required argument{'s' * (len(missing) > 1)}"
    return TypeError(f"{owner}.__init__() missing {number}: {names}")


# Keras's arguments that are no fields, as `fnn.keras_names` lists them.
# Another word for a field: (the field, what it holds then).
OTHER_WORDS: dict[str, tuple[str, Callable[[Any], Any]]] = {}
# What changes nothing in a layer: at these values (None: at any), and what to do for another.
IDLE: dict[str, tuple[tuple[Any, ...] | None, str]] = {}


def in_fields(
    owner: str, fields: tuple[str, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """The arguments by the names of the fields. Raises TypeError for one that has no meaning.

    A field called `kwargs` takes what no other does, as pairs of name and value.

    >>> in_fields("Dense", ("units", "input_shape"), {"units": 3, "input_dim": 5})
    {'units': 3, 'input_shape': (5,)}
    """
    found: dict[str, Any] = {}
    for name, value in named.items():
        field, convert = OTHER_WORDS.get(name, (name, None))
        if name in fields:
            found[name] = value
        elif convert and field in fields and field not in named:
            found[field] = convert(value)
        elif "kwargs" in fields:
            found["kwargs"] = (
                *found.get("kwargs", named.get("kwargs", ())),
                (name, value),
            )
        elif name in IDLE and "input_shape" in fields:  # in a layer
            values, advice = IDLE[name]
            if values is not None and not any(value is idle for idle in values):
                expected = f"to be {values[0]!r}, since it has no other meaning here"
                raise arguments.wrong(owner, name, expected, value, advice)
        else:
            close = difflib.get_close_matches(name, fields, 3)
            advice = f"do you mean {' or '.join(close)}?" if close else "leave it out"
            raise TypeError(
                f"{owner}: expected arguments among {', '.join(fields) or 'none'}, received "
                f"{name}={value!r}; {advice}"
            )
    return found
