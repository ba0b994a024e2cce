"""Checking: runs every check on a layer, and writes the message of the first that fails."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable
from typing import NamedTuple

import jax
from jax import Array

from fnn.core import arguments, tree
from fnn.core.calling import walk
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree

# Imported to fill the table of properties.
from fnn.testing import calls, examples  # noqa: F401
from fnn.testing.comparing import PromiseError
from fnn.testing.promises import PROPERTIES, Property
from fnn.testing.subject import Subject, inputs_like, plain


def check_layer(
    layer: Layer,
    x: SpecTree,
    *,
    causal: bool = False,
    without: Iterable[str] = (),
    key: Array | None = None,
) -> None:
    """Checks everything that a layer must guarantee, on inputs like `x`.

    `x` is an array of at least two examples, or a tuple of such arrays. An array of equal values
    (`jnp.ones((4, 5))`) or a `jax.ShapeDtypeStruct` is filled with random values, since equal
    examples hide mistakes; integers are used as they are. If the layer passes or uses masks, a
    sequence gets a mask, unless `x` is `Masked`.
    It checks equality and hash, the config, shapes by abstract evaluation, inference without a key,
    purity, jit, the structure of the state, bfloat16, gradients, vmap over weights, independence of
    the examples (alone, in another order, in a padded batch), masked steps, and with `causal=True`
    that a later step never changes an earlier one of the (first) output. `without` skips checks by
    name. Values are compared with a tolerance of 1e-5.

    Raises AssertionError for the first check that fails: what was expected and received, in which
    layer, at which line, and the usual cause. Raises ValueError for wrong arguments.

    >>> from fnn.layers import Dense
    >>> check_layer(Dense(3, "tanh"), jnp.ones((4, 5)))
    """
    arguments.layer("check_layer", layer, "to check")
    skipped = _checked_names(without)
    _require_batch(x)
    if key is None:
        key = jax.random.key(0)
    inputs = inputs_like(x, key)
    subject = Subject(layer, inputs, key, causal)
    # Reduced precision of matrix products on an accelerator is not an error.
    with jax.default_matmul_precision("highest"):
        for name in PROPERTIES:
            if name not in skipped:
                check(name, subject)


def _checked_names(without: Iterable[str]) -> tuple[str, ...]:
    """`without` as a tuple. Raises ValueError for unknown names."""
    if isinstance(without, str):
        without = (without,)
    names = tuple(without)
    unknown = tuple(name for name in names if name not in PROPERTIES)
    if unknown:
        expected = f"to be names out of {', '.join(PROPERTIES)}"
        raise arguments.wrong("check_layer", "without", expected, unknown)
    return names


def _require_batch(x: SpecTree) -> None:
    sizes = {a.shape[:1] for a in plain(x)}
    # One batch size, which is at least 2.
    if len(sizes) != 1 or min(sizes) < (2,):
        expected = "to be arrays of one batch, of at least 2 examples"
        advice = "pass e.g. jnp.ones((4, 5)), 4 examples"
        received = tree.describe(x)
        raise arguments.wrong("check_layer", "x", expected, received, advice)


def check(name: str, subject: Subject) -> None:
    """Raises AssertionError with a full explanation unless the property holds."""
    found = PROPERTIES[name]
    try:
        found.check(subject)
    except Exception as error:
        failure = _innermost(found, Failure(subject, error))
        message = _message(name, found, failure)
        raise AssertionError(message) from failure.error


class Failure(NamedTuple):
    """A subject that fails a check, and the error."""

    subject: Subject
    error: Exception


def _innermost(found: Property, failure: Failure) -> Failure:
    """The failure of the innermost layer that fails the check by itself."""
    try:
        parts = list(failure.subject.parts())
    except Exception:
        # The layer does not run at all: its traceback tells where.
        parts = []
    for part in parts:
        try:
            found.check(part)
        except Exception as error:
            return _innermost(found, Failure(part, error))
    return failure


def _message(
    name: str,
    found: Property,
    failure: Failure,
) -> str:
    subject, error = failure
    layer = subject.layer
    at = found.at
    cause = found.cause
    # The first line: errors of JAX have many.
    difference = str(error).partition("\n")[0]
    if isinstance(error, PromiseError):
        at = error.at or at
        cause = error.cause or cause
    else:
        kind = type(error).__name__
        difference = f"expected no error, received {kind}: {difference}"
    place = ""
    if subject.path:
        place = "/".join(subject.path) + ": "
    return (
        f"{type(layer).__name__} fails a check. {found.sentence}\n"
        f"  {difference}\n"
        f"  in layer {place}{layer!r} applied to {tree.describe(subject.x)}\n"
        f"  look at {_raised_at(layer, error) or line(_users_layer(layer), at)}\n"
        f"  usual cause: {cause}\n"
        f"  (to skip this check: without=({name!r},))"
    )


def _users_layer(layer: Layer) -> Layer:
    """The layer, or the first one inside it that is not defined by fnn, whose layers are tested."""
    for _, inner, _ in walk(layer):
        if not type(inner).__module__.startswith("fnn."):
            return inner
    return layer


def _raised_at(layer: Layer, error: Exception) -> str | None:
    """The deepest line of an error that is in the file of the layer."""
    cls = type(_users_layer(layer))
    apply = inspect.unwrap(cls.apply)
    file = apply.__code__.co_filename
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    if not own:
        return None
    deepest = own[-1]
    return f"{file}:{deepest.lineno}, {deepest.line}"


def line(layer: Layer, at: str) -> str:
    """Where a method of the layer, or `field <name>`, is defined: `file.py:12, Dense.apply`."""
    cls = type(layer)
    if at.startswith("field"):
        field = at.removeprefix("field").strip()
        return _field_line(cls, field)
    if isinstance(layer, Flow):
        # Its `init` and `apply` follow from `flow`.
        at = "flow"
    function = inspect.unwrap(getattr(cls, at))
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}, {function.__qualname__}"


def _field_line(cls: type, name: str) -> str:
    for base in cls.__mro__:
        try:
            lines, start = inspect.getsourcelines(base)
        except (OSError, TypeError):
            # Defined interactively: there is no file.
            continue
        file = inspect.getsourcefile(base)
        if not name:
            return f"{file}:{start}, class {base.__name__}"
        for number, code in enumerate(lines, start):
            if re.match(rf"\s+{name}\s*[:=]", code):
                return f"{file}:{number}, {code.strip()}"
    return f"the fields of {cls.__name__}"
