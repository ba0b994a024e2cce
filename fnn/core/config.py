"""Configs: values as plain JSON data, and back; in files, and in Keras's form."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import fields, registry
from fnn.core.registry import (
    CUSTOM,
    TABLE,
    CustomObjectScope,
    described,
    get_registered_name,
    is_ours,
    lookup,
    name_of,
    unregistered,
)
from fnn.core.value import Fields, Value, freeze, resolve

Json: TypeAlias = Any  # None, a number, a string, or a list or dict of these


def to_config(value: object) -> Json:
    """`value` as plain JSON data: registered names, fields, numbers, strings.

    Raises ValueError for a class or function that is not registered.

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
            full = name_of(value.kind, type(value))
            if full is None:
                raise unregistered(value.kind, name)
            name = full
        if value.rebuilds:
            return {value.kind: name} | _plain(value)
        return {value.kind: name} | {
            n: to_config(v) for n, v in value._attributes() if n[0] != "_"
        }
    # By identity: not every function can be hashed.
    for (kind, name), thing in TABLE.items():
        if thing is value:
            return {kind: name}
    raise unregistered("function", getattr(value, "__name__", None) or repr(value))


def _plain(value: Any) -> dict[str, Json]:
    """What `get_config` returns, as plain data: its items may be data or values."""
    # A layer has more in a file than in Keras: how it is called in a graph.
    describe = getattr(value, "file_config", value.get_config)
    return {name: to_config(freeze(item)) for name, item in describe().items()}


def from_config(data: Json, custom: Mapping[str, object] | None = None) -> Any:
    """The value that `to_config` described; `custom` maps names to classes or functions.

    Names are looked up in `custom` and among the registered ones: nothing is imported, nothing
    executed. Raises ValueError for unknown names.
    """
    if isinstance(data, list):
        return tuple(from_config(item, custom) for item in data)
    if not isinstance(data, dict):
        return data
    if not data:
        raise _damaged("a description of a value", "an empty dict")
    # The first item says what it is; the others are its fields.
    (kind, name), *others = data.items()
    if kind == "dict":
        return _dict_from_config(name, custom)
    if not isinstance(name, str):
        raise _damaged(f"the name of a {kind}", repr(name))
    found = lookup(kind, name, custom)
    if isinstance(found, type) and issubclass(found, Value):
        given = {key: from_config(item, custom) for key, item in others}
        return _made(found, name, given)
    if others:
        raise _damaged(f"nothing beside the {kind} {name}", repr(others[0][0]))
    return found


def _dict_from_config(items: Json, custom: Mapping[str, object] | None) -> Fields:
    is_valid = isinstance(items, list) and all(
        isinstance(item, list) and len(item) == 2 for item in items
    )
    if not is_valid:
        raise _damaged("a list of [key, value] for a dict", repr(items))
    return Fields(tuple((key, from_config(item, custom)) for key, item in items))


def _made(cls: type[Value], name: str, given: dict[str, object]) -> Value:
    """The value of a class with these fields."""
    if cls.rebuilds:
        return _rebuilt(cls, given)
    if cls._open:
        return _restored(cls, given)
    known = {field.name: field.default for field in dataclasses.fields(cls)}
    missing = dataclasses.MISSING
    # A field that a later version adds has a default, so that files of before can be read.
    needed = {name for name, default in known.items() if default is missing}
    if not needed <= set(given) <= set(known):
        raise ValueError(
            f"expected fields of {name} out of {sorted(known)}, and {sorted(needed)} at least, "
            f"received {sorted(given)}; the file is damaged or of another version"
        )
    with cls.without_policy():
        return cls(**given)


def _rebuilt(cls: Any, config: dict[str, object]) -> Value:
    """The value that a class makes of its config."""
    make = getattr(cls, "from_file_config", cls.from_config)
    return make(with_dicts(config))  # type: ignore[no-any-return]


def with_dicts(value: Any) -> Any:
    """Plain data with dicts in place of `Fields` and lists of tuples, as users write it."""
    if isinstance(value, Fields):
        value = value.as_dict()
    if isinstance(value, dict):
        return {name: with_dicts(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [with_dicts(item) for item in value]
    return value


def _damaged(expected: str, received: str) -> ValueError:
    return ValueError(f"expected {expected}, received {received}; the file is damaged")


def _restored(cls: type[Value], attributes: dict[str, object]) -> Value:
    """A value of a class with its own `__init__`, which is not run, from its attributes.

    Raises ValueError for names of methods and ClassVars: such a file would replace code.
    """
    made = cls.__new__(cls)
    for name, value in attributes.items():
        if not _holds_data(cls, name):
            raise ValueError(
                f"expected attributes of {cls.__name__} that hold data, received {name!r}; the "
                "file is damaged"
            )
        object.__setattr__(made, name, value)
        # A field of a base class that has no `__init__` of its own.
        if name in getattr(cls, "__dataclass_fields__", ()):
            fields.check(made, name, value)
    return made


def _holds_data(cls: type, name: str) -> bool:
    """Whether an attribute of this name may be set: it is neither code nor a ClassVar."""
    of_classes = map(inspect.get_annotations, cls.__mro__)
    annotations = [hints.get(name, "") for hints in of_classes]
    if any("ClassVar" in str(annotation) for annotation in annotations):
        return False
    if name in getattr(cls, "__dataclass_fields__", ()):
        return True
    if hasattr(inspect.getattr_static(cls, name, None), "__get__"):
        return False
    return name.isidentifier() and name[0] != "_"


# -- Keras's form --------------------------------------------------------------------------------


def serialize_keras_object(obj: Any) -> Json:
    """An object in Keras's form: values and functions by their names, with their arguments.

    Plain data stays as it is. Raises TypeError for an object that has no `get_config`, and
    ValueError for a function without a name.

    >>> serialize_keras_object(fnn.regularizers.L2(0.5))["config"]
    {'l2': 0.5}
    """
    if isinstance(obj, Fields):
        obj = obj.as_dict()
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if type(obj) in (list, tuple):  # not a named tuple, such as an optimizer of optax
        return type(obj)(map(serialize_keras_object, obj))
    if isinstance(obj, dict):
        return {key: serialize_keras_object(item) for key, item in obj.items()}
    # Before `get_config`, which arrays do not have.
    for name, (kind, write, _) in _FORMS.items():
        if isinstance(obj, kind):
            return {"class_name": name, "config": write(obj)}
    if isinstance(obj, type):
        return _builtin("type", obj.__name__)
    if hasattr(obj, "get_config"):
        return _by_class(obj)
    if callable(obj):
        return _builtin("function", _function_name(obj))
    raise TypeError(
        f"expected plain data, a function or an object with get_config, received {obj!r:.80}; "
        f"define get_config in {type(obj).__name__}"
    )


# Plain objects that JSON does not have: by Keras's name, the type, and how to write and read it.
_FORMS: dict[str, tuple[Any, Callable[[Any], Json], Callable[[Any], Any]]] = {
    "__bytes__": (
        bytes,
        lambda b: {"value": b.decode()},
        lambda c: c["value"].encode(),
    ),
    "__slice__": (
        slice,
        lambda s: {"start": s.start, "stop": s.stop, "step": s.step},
        lambda c: slice(c["start"], c["stop"], c["step"]),
    ),
    "__ellipsis__": (type(...), lambda _: {}, lambda _: ...),
    "__numpy__": (
        np.ndarray,
        lambda a: {"value": a.tolist(), "dtype": str(a.dtype)},
        lambda c: np.array(c["value"], c["dtype"]),
    ),
    "__tensor__": (
        jax.Array,
        lambda a: {"value": a.tolist(), "dtype": str(a.dtype)},
        lambda c: jnp.array(c["value"], c["dtype"]),
    ),
}


def _builtin(kind: str, name: str) -> Json:
    form = {"module": "builtins", "class_name": kind, "config": name}
    return form | {"registered_name": kind}


def _by_class(obj: Any) -> Json:
    cls = type(obj)
    name = get_registered_name(cls)
    registered: str | None = name
    module: str | None = None
    # Keras reads a class without `registered_name` from its module.
    if name not in CUSTOM and is_ours(cls):
        registered = None
        kind = str(getattr(obj, "kind", ""))
        module = registry.SCHEMA.home_of(kind, cls.__name__)
    return {
        "module": module,
        "class_name": registry.SCHEMA.name_in_keras(cls),
        "config": obj.get_config(),
        "registered_name": registered,
    }


def _function_name(function: Any) -> str:
    """The registered name of a function, or its own. Raises ValueError for a lambda."""
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        # A lambda may have been registered under a name.
        names = (name_of(kind, function) for kind in registry.SCHEMA.MODULES)
        name = next(filter(None, names), None)
        if name is None:
            raise unregistered("function", repr(function))
        return str(name)
    return get_registered_name(function)


def deserialize_keras_object(
    config: Json,
    custom_objects: Mapping[str, object] | None = None,
    safe_mode: bool = True,
    **kwargs: object,
) -> Any:
    """The object that `serialize_keras_object` of fnn or of Keras described.

    Names are looked up in `custom_objects`, in scopes and among the registered ones; nothing is
    imported or executed, whatever `safe_mode` says. Raises ValueError for unknown names, and for
    a lambda, which is code.

    >>> deserialize_keras_object({"class_name": "L2", "config": {"l2": 0.5}})
    L2(l2=0.5)
    """
    if isinstance(config, (list, tuple)):
        return [deserialize_keras_object(item, custom_objects) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {
            key: deserialize_keras_object(item, custom_objects)
            for key, item in config.items()
        }
    name = config["class_name"]
    if name in _FORMS:
        return _FORMS[name][2](config["config"])
    if name == "__lambda__":
        raise ValueError(
            "expected a function by its name, received the code of a lambda, which fnn never "
            "runs; register the function by fnn.register(function, 'name') and save by that name"
        )
    if name == "type":
        return np.dtype(config["config"]).type
    return described(None, config, custom_objects)


class Configurable(Value, loadable=False):
    """A value with Keras's `get_config` and `from_config`: its fields as plain data.

    >>> layer = fnn.layers.Dense(3, "relu")
    >>> layer.get_config()["units"], fnn.layers.Dense.from_config(layer.get_config()) == layer
    (3, True)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if cls._open and "get_config" in own and "rebuilds" not in own:
            cls.rebuilds = True

    def get_config(self) -> dict[str, Any]:
        """The fields in Keras's form; `type(value).from_config(config)` reads them.

        Of a class with its own `__init__`, the attributes that it takes by these names.
        Raises ValueError for a function without a name.
        """
        config = {}
        for name in self._configured():
            held = vars(self)[name]
            if is_ours(type(self)):
                defaults = self._defaults()
                if registry.SCHEMA.is_left_out(
                    type(self), name
                ) and held == defaults.get(name):
                    continue
                name, held = registry.SCHEMA.argument_of(self.kind, name, held)
            config[name] = serialize_keras_object(held)
        return config

    def _configured(self) -> list[str]:
        """The attributes that the constructor takes by these names."""
        names = [name for name in vars(self) if name[0] != "_"]
        taken = {*self.__dataclass_fields__}
        if self._open:
            parameters = inspect.signature(type(self).__init__).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                taken.clear()
            taken |= {*parameters}
        return [name for name in names if name in taken]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The value that `get_config` described, of fnn or of Keras."""
        given = {name: deserialize_keras_object(item) for name, item in config.items()}
        return cls(**given)


def serializers(
    kind: str, home: str, shown: str
) -> tuple[Callable[[Any], Json], Callable[..., Any]]:
    """The functions `serialize` and `deserialize` of a kind, whose docstrings show a value.

    >>> serialize, deserialize = serializers("regularizer", "fnn.regularizers", "L2(0.5)")
    >>> deserialize(serialize(fnn.regularizers.L2(0.5))), deserialize("l2")
    (L2(l2=0.5), L2())
    """

    def serialize(value: Any) -> Json:
        """Keras's form of a value, a function or a name; a name of fnn stays a name."""
        # Keras too writes its own activations as plain names.
        if kind == "activation" and callable(value):
            name = name_of(kind, value)
            if name is not None:
                return name
        return serialize_keras_object(value)

    def deserialize(
        config: Any, custom_objects: Mapping[str, object] | None = None
    ) -> Any:
        """What a name, or Keras's form, stands for. Raises ValueError for an unknown name."""
        if isinstance(config, dict):
            return described(kind, config, custom_objects)
        with CustomObjectScope(custom_objects):
            return resolve(kind, config)

    value, form = f"{home}.{shown}", f"{home}.serialize({home}.{shown})"
    example = f"\n\n>>> {home}.deserialize({form}) == {value}\nTrue\n"
    for function in (serialize, deserialize):
        function.__module__, function.__doc__ = home, f"{function.__doc__}{example}"
    return serialize, deserialize
