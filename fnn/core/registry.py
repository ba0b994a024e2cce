"""Registry: the names that a string or a saved file may refer to."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from typing import Any, TypeAlias, TypeVar

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fnn.runtime.program_cache import clear_all

Shape: TypeAlias = tuple[int, ...]
T = TypeVar("T")

# By (kind, name). Nothing outside these tables is ever loaded.
TABLE: dict[tuple[str, str], Any] = {}
_NAMES: dict[
    tuple[str, object], str
] = {}  # by (kind, function or class), for `name_of`

# The names of modules, classes and fields in configs: `fnn.runtime.keras_objects`, set by `fnn`.
SCHEMA: Any = None

# What users give names of any kind: for the process, and in `custom_object_scope`.
CUSTOM: dict[str, Any] = {}
_SCOPES: ContextVar[tuple[Mapping[str, Any], ...]] = ContextVar("scopes", default=())


def register(
    thing: Any = None,
    /,
    *names: Any,
    kind: str | None = None,
) -> Any:
    """Makes your class or function loadable from a saved model, under its own name.

    A decorator. `names` are more strings that stand for it; a function without a name of its own
    needs one: `register(lambda x: x / 2, "half")`. `kind` is needed only for a function that is
    passed where Keras accepts a string (`kind="activation"`). Registering a name again, as by a
    notebook cell that runs twice, replaces the old entry. Raises ValueError without a name, and
    for a name that fnn itself uses.

    >>> @register
    ... def halve(x):
    ...     return x / 2
    >>> lookup("function", "halve")(3.0)
    1.5
    """
    if thing is None:
        return lambda it: register(it, *names, kind=kind)
    if isinstance(thing, str):
        return lambda it: register(it, thing, *names, kind=kind)
    key = str(kind or getattr(thing, "kind", "function"))
    own_names = _own_names(thing, names, key)
    if any(TABLE.get((key, name), thing) is not thing for name in own_names):
        clear_all()  # compiled programs and shapes that the old entry made
    TABLE.update({(key, name): thing for name in own_names})
    for name in own_names:
        # Of several names the lower-case one is saved and printed.
        known = _NAMES.setdefault((key, thing), name)
        if known[:1].isupper() and name[:1].islower():
            _NAMES[key, thing] = name
    return thing


def _own_names(
    thing: object,
    names: tuple[str, ...],
    kind: str,
) -> list[str]:
    """The names to register. Raises ValueError for none, and for one that fnn itself uses."""
    given = (getattr(thing, "__name__", ""), *names)
    own = [name for name in given if name.isidentifier()]
    if not own:
        raise ValueError(
            f"expected a name for {thing!r}, received none; use fnn.register(function, 'name')"
        )
    if is_ours(thing):
        return own
    for name in own:
        if is_ours(TABLE.get((kind, name))):
            raise ValueError(
                f"expected a new name for the {kind}, received {name!r}, which fnn uses; "
                f"call it e.g. My{name}"
            )
    return own


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[T], T]:
    """`register` under Keras's name: a decorator, always with parentheses.

    The registered name is `package>name`, the name by default that of the function or class.
    In saved files the name stands alone, unless fnn has something of that name.

    >>> @register_keras_serializable(package="mine")
    ... def third(x):
    ...     return x / 3
    >>> lookup("function", "third")(3.0), get_registered_name(third)
    (1.0, 'mine>third')
    """

    def decorate(thing: T) -> T:
        kind = str(getattr(thing, "kind", "function"))
        own = getattr(thing, "__name__", "")
        full = f"{package}>{name or own}"
        if not is_ours(TABLE.get((kind, own))):
            register(thing, *filter(None, [name]))
        CUSTOM[full] = TABLE[kind, full] = thing
        _NAMES.setdefault((kind, thing), full)
        return thing

    return decorate


class CustomObjectScope:
    """In a `with` block, names stand for your classes and functions, as strings and in files.

    `custom_objects` is a dict from names to them. Scopes may be nested; the innermost counts.

    >>> with CustomObjectScope({"double": lambda x: 2 * x}):
    ...     fnn.activations.get("double")(1.5)
    3.0
    """

    def __init__(self, custom_objects: Mapping[str, Any] | None) -> None:
        self.custom_objects = dict(custom_objects or {})
        self._tokens: list[Token[tuple[Mapping[str, Any], ...]]] = []

    def __enter__(self) -> CustomObjectScope:
        scopes = (self.custom_objects, *_SCOPES.get())
        self._tokens.append(_SCOPES.set(scopes))
        return self

    def __exit__(self, *error: object) -> None:
        _SCOPES.reset(self._tokens.pop())


custom_object_scope = CustomObjectScope


def get_custom_objects() -> dict[str, Any]:
    """The dict of names of the whole process; what is added to it is found by its name.

    >>> get_custom_objects()["half"] = lambda x: x / 2
    >>> fnn.activations.get("half")(3.0)
    1.5
    >>> del get_custom_objects()["half"]
    """
    return CUSTOM


def get_registered_name(obj: Any) -> str:
    """`package>name` of what `register_keras_serializable` registered, else its own name.

    >>> get_registered_name(fnn.layers.Dense)
    'Dense'
    """
    for full, thing in CUSTOM.items():
        if thing is obj:
            return full
    return str(obj.__name__)


def get_registered_object(
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
) -> Any:
    """What the name stands for, in a scope, registered or in one of the dicts, or None.

    >>> get_registered_object("f", {"f": len}) is len, get_registered_object("nobody")
    (True, None)
    """
    return _found(name, (*_SCOPES.get(), CUSTOM, custom_objects, module_objects))


def _found(name: str, places: Iterable[Mapping[str, Any] | None]) -> Any:
    """What the first of these dicts that has the name has there, or None."""
    for place in places:
        if place and name in place:
            return place[name]
    return None


def is_ours(thing: object) -> bool:
    """Whether a class or function is defined in fnn itself."""
    module = str(getattr(thing, "__module__", ""))
    return module.partition(".")[0] == "fnn"


def is_from_optax(function: object) -> bool:
    """Whether a function is defined in optax; also if wrapped in `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    module = str(getattr(function, "__module__", ""))
    return module.partition(".")[0] == "optax"


def names_of(kind: str) -> list[str]:
    """Every registered name of a kind, sorted."""
    return sorted(name for k, name in TABLE if k == kind)


def name_of(kind: str, thing: object) -> str | None:
    """The first registered name of a function or class, preferably in lower case, or None.

    >>> name_of("function", print) is None
    True
    """
    try:
        name = _NAMES.get((kind, thing))
    except TypeError:  # not hashable
        return None
    if name is None or TABLE[kind, name] is thing:
        return name
    # It was registered again, for something else; one with the package may be left.
    names = (n for (k, n), known in TABLE.items() if k == kind and known is thing)
    return next(names, None)


def lookup(
    kind: str,
    name: str,
    custom: Mapping[str, object] | None = None,
) -> Any:
    """The class or function called `name`. Raises ValueError with the closest names otherwise."""
    # Names of the user come first: they may replace those of fnn.
    own = _found(name, (custom, *_SCOPES.get(), CUSTOM))
    if own is not None:
        return own
    if (kind, name) in TABLE:
        return TABLE[kind, name]
    if kind in _IN_COMPILE:
        for other in _IN_COMPILE:
            if (other, name) in TABLE:
                raise ValueError(misplaced(kind, other, name))
    known = names_of(kind)
    close = difflib.get_close_matches(name, known, 3) or known
    raise ValueError(
        f"expected {_a(kind)} that fnn knows, received {name!r}; "
        f"did you mean {' or '.join(map(repr, close[:8]))}? (your own: pass it as a value, or "
        f"put fnn.register on it; when loading, pass custom_objects={{{name!r}: ...}})"
    )


def described(
    kind: str | None,
    data: Mapping[str, Any],
    custom: Mapping[str, object] | None = None,
) -> Any:
    """What Keras's form `{"module", "class_name", "config", "registered_name"}` describes.

    The module tells the kind, if it is not given. Raises ValueError for an unknown name.

    >>> described("loss", {"class_name": "Huber", "config": {"delta": 2.0}})
    Huber(delta=2.0)
    """
    name, config = data["class_name"], data.get("config")
    if name == "function":
        name, config = config, {}
    elif data.get("registered_name") in CUSTOM:
        name = data["registered_name"]
    parts = str(data.get("module")).split(".")
    by_part = {home.rpartition(".")[2]: other for other, home in SCHEMA.MODULES.items()}
    # The last part counts: schedules are a module of `optimizers`.
    for part in reversed(parts[1:]):
        kind = kind or by_part.get(part)
    if not kind:
        kinds = (k for k in SCHEMA.MODULES if (k, name) in TABLE)
        kind = next(kinds, "layer")
    found = lookup(kind, name, custom)
    if not isinstance(found, type):
        return found
    with CustomObjectScope(custom):
        return found.from_config(config or {})  # type: ignore[attr-defined]


# The arguments of `compile` by kind, the likeliest meaning of a name first.
_IN_COMPILE = {"loss": "loss={}", "optimizer": "optimizer={}", "metric": "metrics=[{}]"}


def misplaced(
    kind: str,
    other: str,
    given: object,
) -> str:
    """The error message for a value or a name of another kind than expected.

    >>> misplaced("loss", "metric", "accuracy")
    "expected a loss, received 'accuracy', which is a metric; use compile(metrics=['accuracy'])"
    """
    advice = ""
    if other in _IN_COMPILE:
        advice = f"; use compile({_IN_COMPILE[other].format(repr(given))})"
    if kind == "metric" and other == "loss":  # a loss as a value could be a metric
        advice += f", or for its mean metrics=[fnn.losses.get({given!r})]"
    return f"expected {_a(kind)}, received {given!r}, which is {_a(other)}{advice}"


def _a(kind: str) -> str:
    if kind[:1] in tuple("aeiou"):
        return f"an {kind}"
    return f"a {kind}"


def unregistered(kind: str, name: str) -> ValueError:
    """The error for saving a class or function that is not registered."""
    advice = "put @fnn.register above its definition"
    if kind == "function":
        advice = f"{advice}, or call fnn.register(function, 'name') if it is not yours"
        for other, known in TABLE:
            if known == name:  # a function of JAX, which fnn has too
                advice = f"pass {other}={name!r}, fnn's own, or {advice}"
                break
    return ValueError(
        f"expected a registered {kind} to save, received {name}; {advice}, so that a saved file "
        "can refer to it"
    )


def keyed(initializer: Callable[..., Array]) -> Callable[..., Array]:
    """An initializer of (key, shape, dtype); one of (shape, dtype=None), as in Keras, is wrapped.

    Raises TypeError for a function that takes neither.

    >>> keyed(lambda shape, dtype=None: jnp.ones(shape, dtype))(None, (2,), "float32").tolist()
    [1.0, 1.0]
    """
    try:
        signature = inspect.signature(initializer)
    except (TypeError, ValueError):  # of functions in C
        return initializer
    first = next(iter(signature.parameters), "")
    if first != "shape" and _takes(signature, 0, 1, 2):
        return initializer
    takes_dtype = _takes(signature, 0, dtype=1)
    if not takes_dtype and not (first == "shape" and _takes(signature, 0)):
        raise TypeError(
            "expected an initializer that is called as (key, shape, dtype), or as (shape, "
            f"dtype=None), received {initializer!r} of {signature}; e.g. "
            "lambda key, shape, dtype: 0.01 * jax.random.normal(key, shape, dtype)"
        )

    def with_key(
        key: Array,
        shape: Shape,
        dtype: DTypeLike,
    ) -> Array:
        if takes_dtype:
            return jnp.asarray(initializer(shape, dtype=dtype), dtype)
        return jnp.asarray(initializer(shape), dtype)

    return with_key


def _takes(
    signature: inspect.Signature,
    *args: object,
    **kwargs: object,
) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def snake_case(name: str) -> str:
    """Keras's default name for a class: `MaxPooling2D` -> `max_pooling2d`."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()


@functools.lru_cache(maxsize=512)
def without_arguments(thing: object) -> object:
    """An instance of a class with its defaults, None if it needs arguments; functions as is."""
    if not isinstance(thing, type):
        return thing
    if getattr(thing, "_open", False):
        return None
    try:
        return thing()
    except (TypeError, ValueError):
        return None
