"""Registry: the names that a string or a saved file may refer to."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fnn.runtime.program_cache import clear_all

Shape: TypeAlias = tuple[int, ...]

# By (kind, name). Nothing outside this table is ever loaded.
TABLE: dict[tuple[str, str], Any] = {}
_NAMES: dict[
    tuple[str, object], str
] = {}  # by (kind, function or class), for `name_of`


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
) -> Any:
    """`register` under Keras's name: a decorator, always with parentheses.

    `name` is an additional name; `package` has no effect.

    >>> @register_keras_serializable(package="mine")
    ... def third(x):
    ...     return x / 3
    >>> lookup("function", "third")(3.0)
    1.0
    """
    return register(*filter(None, [name]))


def is_ours(thing: object) -> bool:
    """Whether a class or function is defined in fnn itself."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "fnn"


def is_from_optax(function: object) -> bool:
    """Whether a function is defined in optax; also if wrapped in `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__module__", "")).partition(".")[0] == "optax"


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
    if name is None or TABLE[kind, name] is not thing:
        return None
    return name


def lookup(
    kind: str,
    name: str,
    custom: Mapping[str, object] | None = None,
) -> Any:
    """The class or function called `name`. Raises ValueError with the closest names otherwise."""
    if custom and name in custom:
        return custom[name]
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
        f"did you mean {' or '.join(map(repr, close[:8]))}? (your own: pass it as a value, and "
        "put fnn.register on it to save it)"
    )


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
