"""Fields: how a value declares them, their bounds, and the checks of what they hold."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np

from fnn.core import arguments

T = TypeVar("T")
Hint: TypeAlias = Any  # an annotation: a class, a union, `tuple[int, ...]`
DataclassField: TypeAlias = dataclasses.Field[Any]
Convert: TypeAlias = Callable[[Any], object]
_UNSET: Any = MISSING  # an argument of `dataclasses.field` that is left out

# The kind of thing that a field holds, by the last part of its name.
_FIELD_KINDS = ("activation", "initializer", "regularizer", "constraint")


def field_kind(field_name: str) -> str | None:
    """`kernel_initializer` -> `initializer`; None for a plain field."""
    kind = field_name.rpartition("_")[2]
    if kind in _FIELD_KINDS:
        return kind
    return None


def check(value: object, name: str, held: object, bound: Bound | None = None) -> None:
    """Raises ValueError unless `held` fits the annotation and the bound of a field."""
    cls: Any = type(value)
    hint = hints(cls).get(name, Any)
    if _holds_layers(hint):
        _check_layers(value, name, held, hint)
    if not fits(held, hint):
        raise arguments.wrong(value, name, f"to be {words(hint)}", held)
    if bound is None or bound.allows(cls, held):
        return
    advice = ""
    if bound.example:
        advice = f"e.g. {cls.__name__}({name}={bound.example!r})"
    expected = f"to be {bound.description(cls, hint)}"
    raise arguments.wrong(value, name, expected, held, advice)


@functools.cache
def _holds_layers(hint: Hint) -> bool:
    """Whether an annotation stands for layers: one or a list, perhaps or None."""
    if isinstance(hint, type):
        return getattr(hint, "kind", None) == "layer"
    if typing.get_origin(hint) not in (*_UNIONS, tuple, Sequence):
        return False
    parts = set(typing.get_args(hint)) - {_NONE, Ellipsis}
    return all(map(_holds_layers, parts))


def _check_layers(value: object, name: str, held: object, hint: Hint) -> None:
    """Raises TypeError unless `held` is the layer or the list of layers that a field needs."""
    parts = typing.get_args(hint)
    takes_one = typing.get_origin(hint) in _UNIONS or not parts
    takes_list = not takes_one or any(map(typing.get_args, parts))
    if takes_list and (isinstance(held, tuple) or not takes_one):
        arguments.layers(value, held, name)
    elif held is not None or _NONE not in parts:
        arguments.layer(value, held, f"as {name}")


class Bound(NamedTuple):
    """What a field accepts beyond its annotation; None and each item of a tuple alone count."""

    words: str
    holds: Callable[[Any], bool]
    example: object = None
    # A tuple must have one item for each of the `spatial` axes of the class.
    per_axis: bool = False

    def allows(self, cls: type, held: object) -> bool:
        """Whether a field of `cls` with this bound may hold a value."""
        if self.per_axis and isinstance(held, tuple) and len(held) != _spatial(cls):
            return False
        try:
            return all(item is None or self.holds(item) for item in flat(held))
        except TypeError:  # a value that cannot be compared with a number
            return False

    def description(self, cls: type, hint: Hint) -> str:
        """What a field with this annotation and bound accepts."""
        if self.words.startswith("one of"):
            return self.words
        kinds = typing.get_args(hint) or (hint,)
        numbers = " or ".join(words(kind) for kind in kinds if kind is not _NONE)
        if self.holds(2**31) and not self.holds(math.inf):
            numbers = numbers.replace("a number", "a finite number")
        if self.per_axis:
            numbers = f"an integer or a tuple of {_spatial(cls)},"
        return f"{numbers} {self.words}" + ", or None" * fits(None, hint)


def _spatial(cls: type) -> int:
    """How many spatial axes the inputs of a layer class have."""
    # Only classes with this attribute use `per_axis`.
    axes: int = cls.spatial  # type: ignore[attr-defined]
    return axes


def flat(held: object) -> tuple[object, ...]:
    """The items of nested tuples; a tuple of the value itself if it is not a tuple."""
    if not isinstance(held, tuple):
        return (held,)
    return sum(map(flat, held), ())


def _bounded(
    default: T, kw_only: bool, bound: Bound, convert: Convert | None = None
) -> T:
    metadata = {"bound": bound, "convert": convert}
    return dataclasses.field(default=default, kw_only=kw_only, metadata=metadata)


_POSITIVE = Bound("above 0", lambda v: 0 < v < math.inf, 32)
_NOT_NEGATIVE = Bound("not below 0", lambda v: 0 <= v < math.inf)
_FRACTION = Bound("between 0 and 1", lambda v: 0 <= v <= 1, 0.5)
_SEED = Bound("from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)


# The functions below return fields; like `dataclasses.field` they are typed as if they returned
# what the field holds.


def positive(
    *, default: T = _UNSET, kw_only: bool = _UNSET, convert: Convert | None = None
) -> T:
    """A field of finite numbers above 0. `convert` is applied to an argument first.

    >>> class Scale(fnn.Layer):
    ...     factor: float = positive(default=1.0)
    >>> Scale(-2.0)
    Traceback (most recent call last):
    ValueError: Scale: expected factor to be a finite number above 0, received factor=-2.0; \
e.g. Scale(factor=32)
    """
    return _bounded(default, kw_only, _POSITIVE, convert)


def not_negative(*, default: T = _UNSET, kw_only: bool = _UNSET) -> T:
    """A field of finite numbers that are 0 or more."""
    return _bounded(default, kw_only, _NOT_NEGATIVE)


def fraction(*, default: T = _UNSET, kw_only: bool = _UNSET) -> T:
    """A field of numbers between 0 and 1."""
    return _bounded(default, kw_only, _FRACTION)


def random_seed(*, default: T = _UNSET, kw_only: bool = _UNSET) -> T:
    """A field for a seed of 32 bits, or None."""
    return _bounded(default, kw_only, _SEED)


def one_of(
    choices: tuple[object, ...], *, default: T = _UNSET, kw_only: bool = _UNSET
) -> T:
    """A field that holds one of a few choices."""
    description = f"one of {', '.join(map(repr, choices))}"
    return _bounded(default, kw_only, Bound(description, lambda v: v in choices))


def per_axis(*, default: T = _UNSET, minimum: int = 1) -> T:
    """A field of one integer, or of one for each of the `spatial` axes of a layer."""
    lower = "not below 0"
    if minimum:
        lower = f"of at least {minimum}"
    bound = Bound(lower, lambda v: v >= minimum, per_axis=True)
    return _bounded(default, _UNSET, bound)


def converted(value: object, field: DataclassField, given: object) -> object:
    """`given` after the field's own `convert`; a jax.Array of plain numbers as a NumPy array."""
    convert = field.metadata.get("convert")
    if convert is not None:
        return convert(given)
    if not isinstance(given, jax.Array) or isinstance(given, jax.core.Tracer):
        return given
    cls: Any = type(value)
    if given.shape == () or _has_numbers(hints(cls).get(field.name)):
        return np.asarray(given)
    return given


def _has_numbers(hint: Hint) -> bool:
    return hint in (int, float) or any(map(_has_numbers, typing.get_args(hint)))


def typed(value: object) -> tuple[object, ...]:
    """A value with its types, for comparison: 2, 2.0 and True compute in different dtypes.

    Floats are compared as they are printed: -0.0 differs from 0.0, and NaN equals NaN.

    >>> typed((1, 2.0)) == typed((1.0, 2.0)), typed(float("nan")) == typed(float("nan"))
    (False, True)
    """
    if isinstance(value, tuple):
        return (type(value), *map(typed, value))
    if isinstance(value, (float, complex)):
        return type(value), repr(value)
    return type(value), value


@functools.cache
def hints(cls: type) -> dict[str, Hint]:
    """The annotations of a class; empty if one of them names something that cannot be found."""
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):
        return {}


_NONE: Hint = types.NoneType
_UNIONS: tuple[Hint, ...] = (types.UnionType, typing.Union)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value == value  # False for NaN


# By annotation: its name in errors, and whether a value fits it. NumPy's numbers have been
# converted to Python's before. True is not a number here, and NaN fits no annotation.
_PLAIN: dict[Hint, tuple[str, Callable[[object], bool]]] = {
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("an integer", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: ("a number", _is_number),
    str: ("a string", lambda v: isinstance(v, str)),
    _NONE: ("None", lambda v: v is None),
}
_PLURAL = {bool: "booleans", int: "integers", float: "numbers", str: "strings"}


def fits(value: object, hint: Hint) -> bool:
    """Whether `value` fits an annotation; True for annotations of other than plain data.

    >>> fits((3, 3), int | tuple[int, ...]), fits("3", int), fits(True, int), fits(3, float)
    (True, False, False, True)
    """
    if hint in _PLAIN:
        return _PLAIN[hint][1](value)
    origin: Hint = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin in _UNIONS:
        return any(fits(value, part) for part in parts)
    if origin is not tuple:
        return True
    if not isinstance(value, tuple):
        return False
    if parts[-1] is Ellipsis:
        return all(fits(item, parts[0]) for item in value)
    if len(value) != len(parts):
        return False
    return all(map(fits, value, parts))


def words(hint: Hint) -> str:
    """What an annotation accepts, for an error message.

    >>> words(int | tuple[int, ...] | None)
    'an integer, a tuple of integers or None'
    >>> words(tuple[int | None, ...] | None)
    'a tuple of integers and None, or None'
    """
    if hint in _PLAIN:
        return _PLAIN[hint][0]
    origin: Hint = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin in _UNIONS:
        *first, last = [words(part) for part in parts]
        comma = "," * (" and " in first[-1])
        return f"{', '.join(first)}{comma} or {last}"
    if origin is tuple:
        inner = typing.get_args(parts[0]) or parts[:1]
        items = [_PLURAL.get(part, words(part)) for part in inner]
        return f"a tuple of {' and '.join(items)}"
    return getattr(hint, "__name__", str(hint))


def declare(cls: type) -> None:
    """Makes a class a dataclass whose fields are its own annotations and those of its bases.

    Without this, dataclasses takes a method or ClassVar of a base for the default of a field
    that has none, and puts the field where that ClassVar stood. A field that is declared again
    keeps its bound, and stays keyword-only: it would come before all fields of this class.
    """
    inherited: dict[str, DataclassField] = {}
    if dataclasses.is_dataclass(cls):
        inherited = {field.name: field for field in dataclasses.fields(cls)}
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" in str(annotation):
            continue
        if name[0] == "_":
            raise TypeError(
                f"{cls.__name__}: values are compared by their fields, but {name} begins with "
                "'_'; rename it, or annotate it as a ClassVar"
            )
        declared = _declared_field(cls, name)
        if name in inherited:
            _inherit(declared, inherited[name], annotation)
        setattr(cls, name, declared)
    dataclasses.dataclass(init=False, eq=False, repr=False)(cls)
    in_order = {field.name: field for field in dataclasses.fields(cls)}
    cls.__dataclass_fields__ = in_order  # type: ignore[attr-defined]


def _declared_field(cls: type, name: str) -> DataclassField:
    """The field that a class declares by this name; a default value becomes a field."""
    given = vars(cls).get(name, MISSING)
    if isinstance(given, dataclasses.Field):
        return given
    declared: DataclassField = dataclasses.field()
    declared.default = given
    return declared


def _inherit(declared: DataclassField, base: DataclassField, annotation: Hint) -> None:
    """Gives a field that is declared again the options of the base's field."""
    if declared.kw_only is MISSING:
        declared.kw_only = base.kw_only
    if str(base.type) == str(annotation):
        metadata: Mapping[Any, Any] = {**base.metadata, **declared.metadata}
        declared.metadata = types.MappingProxyType(metadata)


def positional(cls: Any, declared: dict[str, DataclassField]) -> list[str]:
    """The names of the positional arguments of a constructor, in order."""
    own = [name for name, field in declared.items() if not field.kw_only]
    keyword = [name for name, field in declared.items() if field.kw_only]
    positions: list[str] = cls._positions(own, keyword)
    return positions


def signature_of(
    cls: type, declared: dict[str, DataclassField], order: list[str]
) -> inspect.Signature:
    """The signature of the constructor of a class; the arguments in `order` are positional."""
    own = [name for name, field in declared.items() if not field.kw_only]
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [itself]
    for name in dict.fromkeys((*order, *own, *declared)):
        kind = itself.kind
        if name not in order:
            kind = inspect.Parameter.KEYWORD_ONLY
        field = declared[name]
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory
        if default is MISSING:
            default = inspect.Parameter.empty
        options = {"default": default, "annotation": field.type}
        parameters.append(inspect.Parameter(name, kind, **options))
    if parameters[-1].name == "kwargs":
        parameters[-1] = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    try:
        return inspect.Signature(parameters)
    except ValueError as error:  # a field without a default after one with a default
        raise TypeError(
            f"{cls.__name__}: {error}; declare fields without a default first"
        ) from error


def as_declared(cls: type, shared: tuple[str, ...], own: list[str]) -> list[str]:
    """Positional arguments in the order in which a class and its bases declare them.

    `shared` are the fields of the base that defines `_positions`; they come last unless a
    subclass declares them again.
    """
    root = next(base for base in cls.__mro__ if "_positions" in vars(base))
    bases = cls.__mro__[: cls.__mro__.index(root)]
    annotations = map(inspect.get_annotations, reversed(bases))
    declared = [name for names in annotations for name in names]
    places = [name for name in declared if name in own or name in shared]
    return list(dict.fromkeys([*places, *shared]))


@contextlib.contextmanager
def noted(value: object, field_name: str) -> Iterator[None]:
    """Adds a note to an error: which field of `value` it is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"as {field_name} of {type(value).__name__}")
        raise
