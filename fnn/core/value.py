"""Value: a frozen dataclass that compares by its fields; what a field may be given."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from fnn.core import fields
from fnn.core.registry import TABLE, is_ours, keyed, lookup, name_of, names_of, register

T = TypeVar("T")


def resolve(kind: str, identifier: Any) -> Any:
    """The value behind a name: an instance for a class, the function for a function.

    None stays None and anything callable stays as it is, but for initializers in Keras's form,
    which are given a key to leave aside. Raises ValueError for unknown names and TypeError for what
    is neither a name nor callable.
    """
    if identifier is None:
        return None
    found = _resolved(kind, identifier)
    return keyed(found) if kind == "initializer" else found


def _resolved(kind: str, identifier: Any) -> Any:
    if isinstance(identifier, str):
        found = lookup(kind, identifier)
        return found() if isinstance(found, type) else found
    if isinstance(identifier, type) and issubclass(identifier, Value):
        return identifier()
    if isinstance(identifier, Value) or callable(identifier):
        return identifier
    raise TypeError(
        f"expected a name, a function or a value for the {kind}, received {identifier!r} of type "
        f"{type(identifier).__name__}; e.g. one of {', '.join(names_of(kind)[:6])}"
    )


def freeze(value: Any) -> Any:
    """`value` with lists as tuples and NumPy scalars and arrays as plain numbers: hashable.

    A model becomes its layer, by whose identity `fnn.models` finds the weights again.
    """
    for way in ("as_layer", "as_value"):  # of a model, of the optimizer of one
        if hasattr(value, way):
            return getattr(value, way)()
    if hasattr(value, "_fields") and isinstance(
        value, tuple
    ):  # optax's pairs have names
        return type(value)(*map(freeze, value))
    if isinstance(value, (list, tuple)):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        return Fields(tuple((name, freeze(item)) for name, item in value.items()))
    if isinstance(value, (np.ndarray, np.generic)):
        return freeze(value.tolist())
    if type(value).__hash__ is None and not isinstance(
        value, slice
    ):  # a jax.Array, a set
        raise TypeError(
            "expected plain data (numbers, strings, lists, dicts, functions, values), since values "
            f"are compared and saved, received {value!r} of type {type(value).__name__}; give "
            "np.asarray(...) of an array, which becomes a tuple, or close over it in a function"
        )
    return value


@contextlib.contextmanager
def _noted(value: Any, field_name: str) -> Iterator[None]:
    """Adds to an error which field of `value` it is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"as {field_name} of {type(value).__name__}")
        raise


def _canonical(name: str, value: Any) -> Any:
    """The one form in which a field called `name` holds this value."""
    kind = fields.field_kind(name)
    if kind is not None:
        return _canonical_of_kind(kind, value)
    if name == "dtype" and value is not None:
        return fields.dtype_name(value)
    return value if type(value) in _PLAIN else freeze(value)


_PLAIN = (int, float, bool, str, bytes)


def _canonical_of_kind(kind: str, value: Any) -> Any:
    """A registered function by its name; names and values as they are."""
    if value is None:
        return "glorot_uniform" if kind == "initializer" else None  # as in Keras
    if (
        isinstance(value, str)
        and _without_arguments(TABLE.get((kind, value))) is not None
    ):
        return value
    resolve(kind, value)  # an unknown name is an error at the user's line
    is_function = not isinstance(value, (str, type, Value))
    return (name_of(kind, value) if is_function else None) or value


def _compared(name: str, value: Any) -> Any:
    """What a field is compared by: `"he_normal"`, `"HeNormal"` and `HeNormal()` are equal."""
    kind = fields.field_kind(name)
    if kind is None or value is None:
        return fields.typed(freeze(value))
    thing: Any = TABLE.get((kind, value)) if isinstance(value, str) else value
    cls: Any = type(thing)
    if isinstance(thing, Value) and thing == _without_arguments(cls):
        thing = cls
    return fields.typed(name_of(kind, thing) or freeze(value))


@functools.lru_cache(maxsize=512)
def _without_arguments(thing: Any) -> Any:
    """The value of a class with its defaults, None where it needs arguments; a function itself."""
    if not isinstance(thing, type):
        return thing
    try:
        return None if getattr(thing, "_open", False) else thing()
    except (TypeError, ValueError):
        return None


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(
        dataclasses.field,
        fields.positive,
        fields.not_negative,
        fields.fraction,
        fields.one_of,
        fields.random_seed,
        fields.per_axis,
    ),
)
class Value:
    """A frozen dataclass, made so by subclassing: equal by fields, hashable, printable, savable.

    Fields are normalized and checked on construction: lists become tuples, `"relu"` and
    `fnn.activations.relu` are the same; `validate` checks how they go together. A subclass that
    writes its own `__init__` stays an ordinary open class, compared by its attributes as they are.
    `loadable=False`: not registered, so saved files cannot refer to it.

    >>> class Point(Value):
    ...     x: int
    ...     y: int = 0
    >>> Point(1), Point(1) == Point(1, 0), hash(Point(1)) == hash(Point(1))
    (Point(x=1), True, True)
    """

    kind: ClassVar[str] = "value"
    _open: ClassVar[bool] = False

    def __init_subclass__(cls, loadable: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._open = "__init__" in cls.__dict__ or cls._open
        if not cls._open:
            _declare_fields(cls)
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]
        if is_ours(cls) and loadable and not cls.__name__.startswith("_"):
            register(cls)

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        """The names of the arguments that may go by position, of fields in their order."""
        return own

    def __post_init__(self) -> None:
        self.validate()
        if not self._open:
            object.__setattr__(self, "_sealed", True)

    def validate(self) -> None:
        """Raises ValueError for arguments that cannot work. Called once, on construction."""

    def replace(self: T, **changes: Any) -> T:
        """A copy with some fields changed; of an open class, whose `__init__` is not run again."""
        if not self._open:  # type: ignore[attr-defined]
            return dataclasses.replace(self, **changes)  # type: ignore[type-var]
        changed = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, freeze(value))
        return changed

    def __setattr__(self, name: str, value: Any) -> None:
        if "_sealed" in vars(self):
            text = f"{type(self).__name__} is a value, its {name} cannot be assigned; "
            raise dataclasses.FrozenInstanceError(text + self._instead(name, value))
        object.__setattr__(self, name, value)

    def _instead(self, name: str, value: Any) -> str:
        """What to do in place of an assignment."""
        if name not in vars(self):
            return "it has no field of that name"
        return f"{self.kind}.replace({name}={value!r}) makes a changed copy"

    def _key(self) -> tuple[Any, ...]:
        """What it is compared by: its class, and its attributes with their types.

        What it has found out about itself is under names that begin with `_fnn_`, and stays out.
        """
        known: tuple[Any, ...] | None = vars(self).get("_fnn_key")
        if known is None:
            known = (type(self),)
            for name, value in self._attributes():
                with _noted(self, name):
                    known += (name, _compared(name, value))
            if "_sealed" in vars(self):
                object.__setattr__(self, "_fnn_key", known)
        return known

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        """What makes it the value that it is: its fields, or the attributes of an open class.

        Of those that begin with `_` only plain data and values, which change what it computes;
        others may be notes that it takes.
        """
        held = vars(self)
        if not self._open:
            for name in self.__dataclass_fields__:  # type: ignore[attr-defined]
                if name in held:
                    yield name, held[name]
            return
        for name, value in held.items():
            counts = name[0] != "_" or isinstance(value, (*_PLAIN, tuple, Value))
            if counts and name != "_sealed" and name[:5] != "_fnn_":
                yield name, value

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return hasattr(other, "as_value") and bool(self == other.as_value())
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        known: int | None = self.__dict__.get("_fnn_hash")
        if known is None:
            known = hash(self._key())
            if "_sealed" in self.__dict__:
                object.__setattr__(self, "_fnn_hash", known)
        return known

    @property
    def _twin(self) -> Any:
        """An equal value of other objects, the same one each time, for the keys of caches."""
        twin = vars(self).get("_fnn_twin")
        if twin is None:
            twin = self if "_fnn_is_twin" in vars(self) else _copied(self)
            if twin is not self and "_sealed" in vars(self):
                object.__setattr__(self, "_fnn_twin", twin)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {n: value for n, value in vars(self).items() if n[:5] != "_fnn_"}

    def _defaults(self) -> dict[str, Any]:
        """What is not printed."""
        declared = () if self._open else dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: field.default for field in declared}

    def __repr__(self) -> str:
        defaults = self._defaults()
        shown = [
            f"{name}={getattr(value, '__name__', None) or repr(value)}"
            for name, value in vars(self).items()
            if name[0] != "_"
            and (name not in defaults or not _same(value, defaults[name]))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _declare_fields(cls: Any) -> None:
    """The fields of a class, whatever its bases call by their names.

    Left alone, dataclasses takes a method or ClassVar of a base for the default of a field that
    has none, and puts it where that ClassVar stood. A field that is declared again keeps its bound,
    and goes by keyword if it did: it would come before all that is declared here.
    """
    inherited = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    known = {field.name: field for field in inherited}
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" in str(annotation):
            continue
        given = vars(cls).get(name, dataclasses.MISSING)
        declared = (
            given if isinstance(given, dataclasses.Field) else dataclasses.field()
        )
        if declared is not given:
            declared.default = given
        if name in known:
            base = known[name]
            if declared.kw_only is dataclasses.MISSING:
                declared.kw_only = base.kw_only
            if str(base.type) == str(annotation):
                declared.metadata = {**base.metadata, **declared.metadata}
        if name[0] == "_":
            raise TypeError(
                f"{cls.__name__}: fields are what values are compared by, but {name} begins with "
                "'_'; rename it, or annotate it as a ClassVar"
            )
        setattr(cls, name, declared)
    dataclasses.dataclass(init=False, eq=False, repr=False)(cls)
    cls.__dataclass_fields__ = {field.name: field for field in dataclasses.fields(cls)}


def _constructor(cls: Any) -> Callable[..., None]:
    """The `__init__` of a class: each argument that is not its default is checked and normalized.

    Defaults are normalized once, when the first value is made: names may be registered until then.
    """
    declared = {name: f for name, f in cls.__dataclass_fields__.items() if f.init}
    signature = fields.signature_of(cls, declared)
    order = [
        p.name
        for p in signature.parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ][1:]
    names = tuple(dict.fromkeys((*order, *declared)))
    required = [
        n for n, f in declared.items() if f.default is f.default_factory
    ]  # both MISSING
    factories = [
        n for n, f in declared.items() if f.default_factory is not dataclasses.MISSING
    ]
    start: dict[str, Any] = {}

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        if not start:
            start.update(_normalized_defaults(declared))
        attributes = self.__dict__
        if "_sealed" in attributes:
            raise dataclasses.FrozenInstanceError(
                f"{type(self).__name__} is a value, made already"
            )
        attributes.update(start)
        if given:
            named = fields.by_name(self, order, given, named)
        if not named.keys() <= start.keys():
            named = fields.in_fields(type(self).__name__, names, named)
        for name, value in named.items():
            if value is not start[name]:
                attributes[name] = _checked(self, declared[name], value)
        for name in factories:
            if name not in named:
                attributes[name] = _canonical(name, declared[name].default_factory())
        missing = [name for name in required if attributes[name] is dataclasses.MISSING]
        if missing:
            raise fields.without(type(self).__name__, missing)
        self.__post_init__()

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _normalized_defaults(declared: dict[str, dataclasses.Field[Any]]) -> dict[str, Any]:
    """The normalized default of each field; MISSING where it has none."""
    found = {}
    for name, field in declared.items():
        is_missing = field.default is dataclasses.MISSING
        found[name] = field.default if is_missing else _canonical(name, field.default)
    return found


def _checked(value: Any, field: dataclasses.Field[Any], given: Any) -> Any:
    """What a field of `value` holds where it was given this. Raises TypeError and ValueError."""
    with _noted(value, field.name):
        given = fields.converted(value, field, given)
        held = _canonical(field.name, given)
    fields.check(value, field.name, held, field.metadata.get("bound"))
    return held


def _copied(value: Any) -> Any:
    """A copy of a value, and of the values inside it; marked as one that no user holds."""
    if type(value) is tuple:
        return tuple(map(_copied, value))
    if not isinstance(value, Value):
        return value
    twin = copy.copy(value)
    for name, item in vars(value).items():
        if name[0] != "_":
            object.__setattr__(twin, name, _copied(item))
    object.__setattr__(twin, "_fnn_is_twin", True)
    return twin


def _same(value: Any, default: Any) -> bool:
    default = freeze(default)
    return type(value) is type(default) and fields.typed(value) == fields.typed(default)


class Fields(Value):
    """A dict that is a value: its items in order. `as_dict` gives it back."""

    items: tuple[tuple[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dict(self.items)
