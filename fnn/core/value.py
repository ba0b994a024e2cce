"""Value: a frozen dataclass that is compared by its fields, and its normalization of arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from fnn.core import arguments, fields, registry
from fnn.core.fields import DataclassField
from fnn.core.registry import TABLE, is_ours, lookup, name_of, without_arguments
from fnn.core.tree import dtype_name
from fnn.runtime.program_cache import changes, interned, shallow

V = TypeVar("V", bound="Value")
Known: TypeAlias = dict[int, Any]


def resolve(kind: str, identifier: object) -> Any:
    """What an identifier stands for: the function or an instance of the class of this name.

    None and callables are returned as they are, except that an initializer in Keras's form
    `(shape, dtype)` is wrapped to take a key. Raises ValueError for unknown names, and TypeError
    for anything that is neither a name nor callable.
    """
    if identifier is None:
        return None
    found = _resolved(kind, identifier)
    if kind == "initializer":
        return registry.keyed(found)
    return found


def _resolved(kind: str, identifier: object) -> Any:
    if isinstance(identifier, str):
        identifier = lookup(kind, identifier)
        if isinstance(identifier, type):
            return identifier()
    Value.on_foreign(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Value):
        return identifier()
    if isinstance(identifier, Value) or callable(identifier):
        return identifier
    if isinstance(identifier, dict) and "class_name" in identifier:
        return registry.described(kind, identifier)
    raise TypeError(
        f"expected a name, a function or a value for the {kind}, received {identifier!r} of type "
        f"{type(identifier).__name__}; e.g. one of {', '.join(registry.names_of(kind)[:6])}"
    )


def freeze(value: Any) -> Any:
    """`value` in hashable form: lists as tuples, NumPy scalars and arrays as Python numbers.

    A model becomes its layer, by whose identity `fnn.models` finds the weights again.
    """
    if issubclass(type(value), Value):
        return value
    for method in ("as_layer", "as_value"):  # of a model, and of its optimizer
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(freeze, value))  # a named tuple, e.g. one of optax
    if isinstance(value, (list, tuple)):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        return Fields(tuple((name, freeze(item)) for name, item in value.items()))
    if isinstance(value, (np.ndarray, np.generic)):
        return freeze(value.tolist())
    Value.on_foreign(value)
    if type(value).__hash__ is None and not isinstance(value, slice):
        raise TypeError(
            "expected plain data (numbers, strings, lists, dicts, functions, values), since values "
            f"are compared and saved, received {value!r} of type {type(value).__name__}; convert "
            "an array with np.asarray(...), which becomes a tuple, or close over it in a function"
        )
    return value


def _normalized(name: str, value: Any) -> Any:
    """The form in which a field called `name` holds this value."""
    kind = fields.field_kind(name)
    if kind is not None:
        return _normalized_of_kind(kind, value)
    if name == "dtype" and value is not None:
        return dtype_name(value)
    if type(value) in _PLAIN:
        return value
    return freeze(value)


_PLAIN = (int, float, bool, str, bytes)


def _normalized_of_kind(kind: str, value: Any) -> Any:
    """A registered function as its name; names and values unchanged."""
    if value is None:
        if kind == "initializer":
            return "glorot_uniform"  # as in Keras
        return None
    if isinstance(value, str):
        named = TABLE.get((kind, value))
        if without_arguments(named) is not None:
            return value
    meaning = resolve(kind, value)  # raises for an unknown name, at the user's line
    if isinstance(value, dict):
        return meaning
    if isinstance(value, (str, type, Value)):
        return value
    return name_of(kind, value) or value


def compared_field(name: str, value: Any) -> tuple[object, ...]:
    """What a field is compared by: `"he_normal"`, `"HeNormal"` and `HeNormal()` are equal."""
    kind = fields.field_kind(name)
    if kind is None or value is None:
        return fields.typed(freeze(value))
    meaning = TABLE.get((kind, value)) if isinstance(value, str) else value
    cls: Any = type(meaning)
    if isinstance(meaning, Value) and meaning == without_arguments(cls):
        meaning = cls
    return fields.typed(name_of(kind, meaning) or freeze(value))


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
    """The base class of frozen dataclasses: equal by fields, hashable, printable, savable.

    Fields are normalized and checked on construction: lists become tuples, `"relu"` and
    `fnn.activations.relu` are the same. A subclass that defines `__init__` is a plain open class,
    compared by its attributes. `loadable=False`: not registered, so saved files cannot refer to it.

    >>> class Point(Value):
    ...     x: int
    ...     y: int = 0
    >>> Point(1), Point(1) == Point(1, 0), hash(Point(1)) == hash(Point(1))
    (Point(x=1), True, True)
    """

    kind: ClassVar[str] = "value"
    # Raises TypeError for objects of another library; set by `fnn.keras_names`.
    on_foreign: ClassVar[Callable[[object], None]] = staticmethod(lambda _: None)
    # How the fields must go together; `validate` checks what rules cannot say.
    field_rules: ClassVar[tuple[Callable[[Any], object], ...]] = ()
    _open: ClassVar[bool] = False  # the class or a base defines `__init__`
    # Copies and values from files are made in this block.
    without_policy: ClassVar[Callable[[], AbstractContextManager[None]]] = nullcontext
    rebuilds: ClassVar[bool] = False  # saved by `get_config`, not by its attributes
    __dataclass_fields__: ClassVar[dict[str, DataclassField]]

    # Names of attributes that begin with `_fnn_` are caches: not part of the value. `_sealed`
    # is set after construction; from then on assignments raise.

    def __init_subclass__(cls, loadable: bool = True, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._open = "__init__" in cls.__dict__ or cls._open
        if not cls._open:
            fields.declare(cls)
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]
        if is_ours(cls) and loadable and not cls.__name__.startswith("_"):
            registry.register(cls)

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        """The names of the positional arguments, given the positional and keyword-only fields."""
        return own

    def __post_init__(self) -> None:
        for rule in self.field_rules:
            rule(self)
        self.validate()
        if not self._open:
            object.__setattr__(self, "_sealed", True)

    def validate(self) -> None:
        """Raises ValueError for arguments that cannot work. Called once, on construction."""

    def replace(self: V, **changes: object) -> V:
        """A copy with some fields changed. The `__init__` of an open class is not run again."""
        if not self._open:
            held = {name: item for name, item in vars(self).items() if name[0] != "_"}
            with type(self).without_policy():
                return type(self)(**held | changes)
        changed = shallow(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, freeze(value))
        return changed

    def __setattr__(self, name: str, value: object) -> None:
        if "_sealed" in vars(self):
            raise dataclasses.FrozenInstanceError(
                f"{type(self).__name__} is a value, its {name} cannot be assigned; "
                f"{self._instead(name, value)}"
            )
        object.__setattr__(self, name, value)

    def _instead(self, name: str, value: object) -> str:
        """The advice of the error for an assignment."""
        if name not in vars(self):
            return "it has no field of that name"
        return f"{self.kind}.replace({name}={value!r}) makes a changed copy"

    def _key(self) -> tuple[object, ...]:
        """The key for comparison: the class, and the attributes with their types."""
        memory = self.__dict__.get("_fnn_memory", changes.NO_MEMORY)
        if memory["count"] != changes.now:
            memory = changes.new_memory(self)
        if "key" not in memory:
            key: tuple[object, ...] = (type(self),)
            for name, value in self._attributes():
                with fields.noted(self, name):
                    key += (name, compared_field(name, value))
            memory["key"] = key
        return memory["key"]  # type: ignore[no-any-return]

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        """The attributes that define the value: its fields, or those of an open class.

        Private attributes of an open class count only if they are plain data or values, which
        may change what it computes; others may be caches.
        """
        held = vars(self)
        if not self._open:
            for name in self.__dataclass_fields__:
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
        memory = self.__dict__.get("_fnn_memory", changes.NO_MEMORY)
        if memory["count"] != changes.now:
            memory = changes.new_memory(self)
        if "hash" not in memory:
            memory["hash"] = hash(self._key())
        return memory["hash"]  # type: ignore[no-any-return]

    @property
    def _twin(self: V) -> V:
        """An equal value made of other objects, the same one for all equal values.

        It is the key of caches, which so keep no object of the user alive, nor its weights.
        """
        held = vars(self)
        if "_fnn_is_twin" in held:
            return self
        if "_sealed" not in held:
            return separate(self)  # type: ignore[no-any-return]
        memory = self.__dict__.get("_fnn_memory", changes.NO_MEMORY)
        if memory["count"] != changes.now:
            memory = changes.new_memory(self)
        if "twin" not in memory:
            memory["twin"] = interned(self, separate)
        return memory["twin"]  # type: ignore[no-any-return]

    def _apart(self, known: Known) -> Self:
        """A copy of this value and of the values in its fields, marked as a twin."""
        twin = shallow(self)
        for name, item in vars(self).items():
            if name[0] != "_":
                object.__setattr__(twin, name, separate(item, known))
        object.__setattr__(twin, "_fnn_is_twin", True)
        return twin

    def __getstate__(self) -> dict[str, object]:
        return {n: v for n, v in vars(self).items() if n[:5] != "_fnn_"}

    def _defaults(self) -> dict[str, object]:
        """The values that are not printed, by field."""
        if self._open:
            return {}
        return {
            name: field.default for name, field in self.__dataclass_fields__.items()
        }

    def __repr__(self) -> str:
        defaults = self._defaults()
        shown = [
            f"{name}={getattr(value, '__name__', None) or repr(value)}"
            for name, value in vars(self).items()
            if name[0] != "_"
            and (name not in defaults or not _same(value, defaults[name]))
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _constructor(cls: type[Value]) -> Callable[..., None]:
    """The `__init__` of a class: each argument that is not its default is checked and normalized.

    Defaults are normalized once, when the first value is made: names may be registered until then.
    """
    declared = {name: f for name, f in cls.__dataclass_fields__.items() if f.init}
    order = fields.positional(cls, declared)
    names = tuple(dict.fromkeys((*order, *declared)))
    # Both are MISSING.
    required = [n for n, f in declared.items() if f.default is f.default_factory]
    factories = {
        name: field.default_factory
        for name, field in declared.items()
        if field.default_factory is not MISSING
    }
    defaults: dict[str, Any] = {}

    def __init__(self: Value, *given: object, **named: Any) -> None:  # noqa: N807
        if not defaults:
            defaults.update(_normalized_defaults(declared))
        attributes = self.__dict__
        if "_sealed" in attributes:
            raise dataclasses.FrozenInstanceError(
                f"{type(self).__name__} is a value, its __init__ cannot be called again"
            )
        attributes.update(defaults)
        if given:
            named = arguments.by_name(self, order, given, named)
        if not named.keys() <= defaults.keys():
            named = arguments.by_field(type(self).__name__, names, named)
        for name, value in named.items():
            if value is not defaults[name]:
                attributes[name] = _checked(self, declared[name], value)
        for name, factory in factories.items():
            if name not in named:
                attributes[name] = _normalized(name, factory())
        missing = [name for name in required if attributes[name] is MISSING]
        if missing:
            raise arguments.missing_arguments(type(self).__name__, missing)
        self.__post_init__()

    __init__.__signature__ = fields.signature_of(cls, declared, order)  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _normalized_defaults(declared: dict[str, DataclassField]) -> dict[str, object]:
    """The normalized default of each field; MISSING if it has none."""
    found = {}
    for name, field in declared.items():
        found[name] = field.default
        if field.default is not MISSING:
            found[name] = _normalized(name, field.default)
    return found


def _checked(value: Value, field: DataclassField, given: object) -> object:
    """The normalized argument of a field. Raises TypeError and ValueError."""
    with fields.noted(value, field.name):
        given = fields.converted(value, field, given)
        held = _normalized(field.name, given)
    fields.check(value, field.name, held, field.metadata.get("bound"))
    return held


def separate(value: Any, known: Known | None = None) -> Any:
    """A copy of a value and of those in its fields, each marked as a twin; one of each object."""
    known = {} if known is None else known
    if type(value) is tuple:
        return tuple([separate(item, known) for item in value])
    if not isinstance(value, Value):
        return value
    if id(value) not in known:
        known[id(value)] = value._apart(known)
    return known[id(value)]


def _same(value: object, default: object) -> bool:
    default = freeze(default)
    return type(value) is type(default) and fields.typed(value) == fields.typed(default)


class Fields(Value):
    """A dict as a value: its items in order. `as_dict` returns the dict."""

    items: tuple[tuple[Any, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dict(self.items)
