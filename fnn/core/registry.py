"""The table of registered names: what a string may stand for."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from fnn.runtime.program_cache import clear_all

# By (kind, name). Nothing outside this table is ever loaded.
TABLE: dict[tuple[str, str], Any] = {}
_NAMES: dict[tuple[str, Any], str] = {}  # by (kind, function or class), for `name_of`


def register(thing: Any = None, /, *names: Any, kind: str | None = None) -> Any:
    """Makes a class or function of yours loadable from a saved model, under its own name.

    A decorator. `names` are further strings that stand for it, the only ones of a function that has
    no name of its own: `register(lambda x: x / 2, "half")`; `kind` is needed only where a function
    plays a part that Keras names by string (`kind="activation"`). Registered again, as by a
    notebook cell that runs twice, the new one counts. Raises ValueError without a name, and for one
    of fnn's own, which would change what fnn itself makes of it.

    >>> @register
    ... def halve(x):
    ...     return x / 2
    >>> lookup("function", "halve")(3.0)
    1.5
    """
    if thing is None or isinstance(thing, str):
        extra = names if thing is None else (thing, *names)
        return lambda it: register(it, *extra, kind=kind)
    key = str(kind or getattr(thing, "kind", "function"))
    own = [
        name for name in (getattr(thing, "__name__", ""), *names) if name.isidentifier()
    ]
    if not own:
        raise ValueError(
            f"expected a name for {thing!r}, received none; use fnn.register(function, 'name')"
        )
    taken = [
        name for name in own if not is_ours(thing) and is_ours(TABLE.get((key, name)))
    ]
    if taken:
        raise ValueError(
            f"expected a name of its own for the {key}, received {taken[0]!r}, which is fnn's; "
            f"call it e.g. My{taken[0]}"
        )
    if any(TABLE.get((key, name), thing) is not thing for name in own):
        clear_all()  # programs that were made of the old one
    TABLE.update({(key, name): thing for name in own})
    for name in own:
        known = _NAMES.setdefault((key, thing), name)
        if known[:1].isupper() and name[:1].islower():
            _NAMES[key, thing] = name
    return thing


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Any:
    """`register` by Keras's name for it: a decorator, always with parentheses.

    `name` is one more name in place of the only one; `package` changes nothing.

    >>> @register_keras_serializable(package="mine")
    ... def third(x):
    ...     return x / 3
    >>> lookup("function", "third")(3.0)
    1.0
    """
    return register(*filter(None, [name]))


def is_ours(thing: Any) -> bool:
    """Whether a class or function is of fnn itself."""
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "fnn"


def is_from_optax(function: Any) -> bool:
    """Whether a function is one of optax's, or such a one with arguments (`functools.partial`)."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__module__", "")).partition(".")[0] == "optax"


def names_of(kind: str) -> list[str]:
    """Every registered name of a kind, sorted."""
    return sorted(name for k, name in TABLE if k == kind)


def name_of(kind: str, thing: Any) -> str | None:
    """The first name of a function or class, in lower case if it has one; None if it has none.

    >>> name_of("function", print) is None
    True
    """
    try:
        name = _NAMES.get((kind, thing))
    except TypeError:  # not hashable
        return None
    return name if name is not None and TABLE[kind, name] is thing else None


def lookup(kind: str, name: str, custom: Mapping[str, Any] | None = None) -> Any:
    """What `name` stands for. Raises ValueError with the closest names if it is unknown."""
    if custom and name in custom:
        return custom[name]
    if (kind, name) in TABLE:
        return TABLE[kind, name]
    known = names_of(kind)
    close = difflib.get_close_matches(name, known, 3) or known
    for other in _IN_COMPILE if kind in _IN_COMPILE else ():
        if (other, name) in TABLE:
            raise ValueError(misplaced(kind, other, name))
    raise ValueError(
        f"expected {_a(kind)} that fnn knows, received {name!r}; "
        f"did you mean {' or '.join(map(repr, close[:8]))}? (your own: pass it as a value, and "
        "put fnn.register on it to save it)"
    )


# Where `compile` takes what, the likeliest meaning of a name first.
_IN_COMPILE = {"loss": "loss={}", "optimizer": "optimizer={}", "metric": "metrics=[{}]"}


def misplaced(kind: str, other: str, given: Any) -> str:
    """The words for what is known, but of another kind than it is given for.

    >>> misplaced("loss", "metric", "accuracy")
    "expected a loss, received 'accuracy', which is a metric; use compile(metrics=['accuracy'])"
    """
    advice = ""
    if other in _IN_COMPILE:
        advice = f"; use compile({_IN_COMPILE[other].format(repr(given))})"
    if (kind, other) == (
        "metric",
        "loss",
    ):  # by its name: as a value it would be a metric
        advice += f", or for its mean metrics=[fnn.losses.get({given!r})]"
    return f"expected {_a(kind)}, received {given!r}, which is {_a(other)}{advice}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[:1] in tuple("aeiou") else f"a {kind}"


def unregistered(kind: str, name: str) -> ValueError:
    """The error for what is to be saved and is not in the table."""
    way = "put @fnn.register above its definition"
    if kind == "function":  # which may be one of JAX
        ours = [
            f"give {k}={known!r}, fnn's own, or " for k, known in TABLE if known == name
        ]
        way = f"{''.join(ours[:1])}{way}, or fnn.register(function, 'name') where it is not yours"
    return ValueError(
        f"expected a registered {kind} to save, received {name}; {way}, so that a file can name it"
    )


def keyed(initializer: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer of (key, shape, dtype); one of (shape, dtype=None), as in Keras, made so.

    What takes three stays as it is. Raises TypeError for a function of neither form.

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
    if _takes(signature, 0, dtype=1):
        return lambda key, shape, dtype: jnp.asarray(
            initializer(shape, dtype=dtype), dtype
        )
    if first == "shape" and _takes(signature, 0):
        return lambda key, shape, dtype: jnp.asarray(initializer(shape), dtype)
    raise TypeError(
        "expected an initializer that is called as (key, shape, dtype), or as (shape, dtype=None), "
        f"received {initializer!r} of {signature}; e.g. "
        "lambda key, shape, dtype: 0.01 * jax.random.normal(key, shape, dtype)"
    )


def _takes(signature: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
