"""A value <-> a plain dict, by its fields."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from fnn.core import fields, further
from fnn.core.drawing import keyed
from fnn.core.fields import field_kind
from fnn.core.registry import TABLE, is_ours, lookup, names_of, register, unregistered

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
        f"{type(identifier).__name__}; do e.g. one of {', '.join(names_of(kind)[:6])}"
    )


def freeze(value: Any) -> Any:
    """`value` with lists as tuples and NumPy scalars and arrays as plain numbers: hashable.

    A model becomes its layer, which remembers where its weights are until they are taken over.
    """
    for way in ("as_layer", "as_value"):  # of a model, of the optimizer of one
        if hasattr(value, way):
            return getattr(value, way)()
    if hasattr(value, "_fields") and isinstance(value, tuple):  # optax's pairs have names
        return type(value)(*map(freeze, value))
    if isinstance(value, (list, tuple)):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        return Fields(tuple((name, freeze(item)) for name, item in value.items()))
    if isinstance(value, (np.ndarray, np.generic)):
        return freeze(value.tolist())
    if type(value).__hash__ is None and not isinstance(value, slice):  # a jax.Array, a set
        raise TypeError(
            "expected plain data (numbers, texts, lists, dicts, functions, values), since values "
            f"are compared and saved, received {value!r} of type {type(value).__name__}; do give "
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
    kind = field_kind(name)
    if name == "dtype" and value is not None:
        return fields.dtype_name(value)
    if kind == "initializer" and value is None:
        return "glorot_uniform"  # as in Keras
    if kind is None or value is None:
        return freeze(value)
    resolve(kind, value)  # an unknown name is an error at the user's line
    if not isinstance(value, str):
        for (k, known), thing in TABLE.items():
            if k == kind and thing is value and not isinstance(thing, type):
                return known
    return value


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
class Value:
    """A frozen dataclass, made so by subclassing: equal by fields, hashable, printable, savable.

    Fields are normalized on construction (lists become tuples) and checked by `validate`. A
    subclass that writes its own `__init__` stays an ordinary open class; it is compared by its
    attributes as they are. A class of fnn's with `loadable=False` is none that a file can name.

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
            _make_dataclass(cls)
        if is_ours(cls) and loadable and not cls.__name__.startswith("_"):
            register(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            with _noted(self, field.name):
                value = _canonical(field.name, fields.given(self, field.name))
            object.__setattr__(self, field.name, value)
            fields.check(self, field.name)
        self.validate()
        if not self._open:
            object.__setattr__(self, "_sealed", True)

    def validate(self) -> None:
        """Raises ValueError for arguments that cannot work. Called once, on construction."""

    def replace(self: T, **changes: Any) -> T:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

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
        """What it is compared by: its class, and its attributes with their types."""
        known: tuple[Any, ...] | None = vars(self).get("_known")
        if known is None:
            known = (type(self),)
            for name, value in vars(self).items():
                if name[0] != "_":
                    with _noted(self, name):
                        known += (name, fields.typed(freeze(value)))
            if "_sealed" in vars(self):
                object.__setattr__(self, "_known", known)
        return known

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return hasattr(other, "as_value") and bool(self == other.as_value())
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        known: int | None = self.__dict__.get("_hash")
        if known is None:
            known = hash(self._key())
            if "_sealed" in self.__dict__:
                object.__setattr__(self, "_hash", known)
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("_hash", "_known", "_owner")}

    def _defaults(self) -> dict[str, Any]:
        """What is not printed."""
        declared = () if self._open else dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: field.default for field in declared}

    def __repr__(self) -> str:
        defaults = self._defaults()
        shown = [
            f"{name}={getattr(value, '__name__', None) or repr(value)}"
            for name, value in vars(self).items()
            if name[0] != "_" and (name not in defaults or not _same(value, defaults[name]))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _make_dataclass(cls: Any) -> None:
    """The fields of a class, whatever its bases call by their names.

    Left alone, dataclasses takes a method or ClassVar of a base for the default of a field that
    has none, and puts it where that ClassVar stood. What a base takes by keyword stays so where it
    is declared again: it would come before all that is declared here.
    """
    inherited = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    known = {field.name: field.kw_only for field in inherited}
    for name, annotation in inspect.get_annotations(cls).items():
        if name not in known and name not in vars(cls) and "ClassVar" not in str(annotation):
            setattr(cls, name, dataclasses.field())
        elif known.get(name) and not isinstance(vars(cls).get(name), dataclasses.Field):
            default = vars(cls).get(name, dataclasses.MISSING)
            setattr(cls, name, dataclasses.field(default=default, kw_only=True))
    dataclasses.dataclass(eq=False, repr=False)(cls)
    cls.__dataclass_fields__ = {field.name: field for field in dataclasses.fields(cls)}
    further.accept(cls)


def _same(value: Any, default: Any) -> bool:
    default = freeze(default)
    return type(value) is type(default) and fields.typed(value) == fields.typed(default)


class Fields(Value):
    """A dict that is a value: its items in order. `Fields.of` and `dict(...)` convert."""

    items: tuple[tuple[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dict(self.items)


def to_config(value: Any) -> Any:
    """`value` as plain JSON data: names from the table, fields, numbers, strings.

    Raises ValueError for what has no name in the table (register it).

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
        return {value.kind: name} | {n: to_config(v) for n, v in vars(value).items() if n[0] != "_"}
    for (kind, name), thing in TABLE.items():
        if thing is value:
            return {kind: name}
    raise unregistered("function", getattr(value, "__name__", None) or repr(value))


def from_config(data: Any, custom: Mapping[str, Any] | None = None) -> Any:
    """The value that `to_config` described; `custom` maps names to classes or functions.

    Looks names up in the table and in `custom`: nothing is imported, nothing executed. Raises
    ValueError naming what it does not know.
    """
    if isinstance(data, list):
        return tuple(from_config(item, custom) for item in data)
    if not isinstance(data, dict):
        return data
    if not data:
        raise ValueError(_damaged("a description of a value", "an empty dict"))
    (kind, name), *described = data.items()
    if kind == "dict":
        if not isinstance(name, list) or not all(isinstance(i, list) and len(i) == 2 for i in name):
            raise ValueError(_damaged("a list of [key, value] for a dict", repr(name)))
        return Fields(tuple((key, from_config(item, custom)) for key, item in name))
    if not isinstance(name, str):
        raise ValueError(_damaged(f"the name of a {kind}", repr(name)))
    found = lookup(kind, name, custom)
    if not (isinstance(found, type) and issubclass(found, Value)):
        if described:
            raise ValueError(_damaged(f"nothing beside the {kind} {name}", repr(described[0][0])))
        return found
    given = {key: from_config(item, custom) for key, item in described}
    if found._open:
        return fields.restored(found, given)
    known = {f.name: f.default for f in dataclasses.fields(found)}  # type: ignore[arg-type]
    needed = {n for n, default in known.items() if default is dataclasses.MISSING}
    if not needed <= set(given) <= set(known):
        raise ValueError(
            f"expected fields of {name} out of {sorted(known)}, and {sorted(needed)} at least, "
            f"received {sorted(given)}; the file is damaged or of another version"
        )
    return found(**given)


def _damaged(expected: str, received: str) -> str:
    return f"expected {expected}, received {received}; the file is damaged"
