"""Checking: every property over one layer, and the message of the first that breaks."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable
from typing import Any

import jax
from jax import Array

from fnn.core import arguments, tree
from fnn.core.calling import walk
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.testing import calls, examples  # noqa: F401 - they fill the table of properties
from fnn.testing.comparing import PromiseError
from fnn.testing.promises import PROPERTIES, Property
from fnn.testing.subject import Subject, inputs_like, plain


def check_layer(
    layer: Layer,
    x: Any,
    *,
    causal: bool = False,
    without: Iterable[str] = (),
    key: Array | None = None,
) -> None:
    """Checks everything that a layer promises, on inputs like `x`; returns if all of it holds.

    `x` has at least two examples, or is a tuple of such inputs. In an array of equal numbers
    (`jnp.ones((4, 5))`) or a `jax.ShapeDtypeStruct` stand random ones, since equal examples hide
    mistakes; integers are taken as they are. A sequence whose layer passes or uses masks gets
    a mask, unless `x` is `Masked`.
    Checked are: equality and hash, configuration, shapes without numbers, inference without a key,
    purity, jit, the structure of the state, bfloat16, gradients, vmap over weights, independence of
    the examples (alone, in another order, beside padded rows), masked steps, and with `causal=True`
    that a later step never changes an earlier one of the (first) output. `without` leaves some out
    by name. Numbers are compared to 1e-5.

    Raises AssertionError at the first that breaks: what was expected and received, in which layer,
    at which line, and what is usually the cause. Raises ValueError for wrong arguments.

    >>> from fnn.layers import Dense
    >>> check_layer(Dense(3, "tanh"), jnp.ones((4, 5)))
    """
    arguments.layer("check_layer", layer, "to check")
    left_out = (without,) if isinstance(without, str) else tuple(without)
    unknown = [name for name in left_out if name not in PROPERTIES]
    if unknown:
        expected = f"to be names out of {', '.join(PROPERTIES)}"
        raise arguments.wrong("check_layer", "without", expected, tuple(unknown))
    sizes = [a.shape[:1] for a in plain(x)]
    if not sizes or len({*sizes}) > 1 or sizes[0] < (2,):
        advice = "give e.g. jnp.ones((4, 5)), 4 examples"
        raise arguments.wrong(
            "check_layer",
            "x",
            "to be arrays of one batch, of at least 2 examples",
            tree.describe(x),
            advice,
        )
    key = jax.random.key(0) if key is None else key
    subject = Subject(layer, inputs_like(x, key), key, causal)
    with jax.default_matmul_precision(
        "highest"
    ):  # what an accelerator rounds is no mistake
        for name in PROPERTIES:
            if name not in left_out:
                check(name, subject)


def check(name: str, subject: Subject) -> None:
    """Raises AssertionError unless the property holds, with all that there is to say."""
    found = PROPERTIES[name]
    try:
        found.check(subject)
    except Exception as error:
        inner, cause = _innermost(found, subject, error)
        raise AssertionError(_message(name, found, inner, cause)) from cause


def _innermost(
    found: Property, subject: Subject, error: Exception
) -> tuple[Subject, Exception]:
    """The layer inside which breaks the property by itself, however deep; and how."""
    try:
        parts = list(subject.parts())
    except Exception:
        parts = []  # it does not even run: its traceback says where
    for part in parts:
        try:
            found.check(part)
        except Exception as inner:
            return _innermost(found, part, inner)
    return subject, error


def _message(name: str, found: Property, subject: Subject, error: Exception) -> str:
    layer, broken = subject.layer, error if isinstance(error, PromiseError) else None
    said = str(error).partition("\n")[0]
    if broken is None:
        said = f"expected no error, received {type(error).__name__}: {said}"
    at = (broken and broken.at) or found.at
    place = "/".join(subject.path) + ": " if subject.path else ""
    return (
        f"{type(layer).__name__} breaks a promise. {found.sentence}\n"
        f"  {said}\n"
        f"  in layer {place}{layer!r} applied to {tree.describe(subject.x)}\n"
        f"  do look at {_raised_at(layer, error) or line(_written(layer), at)}\n"
        f"  usual cause: {(broken and broken.cause) or found.cause}\n"
        f"  (if it is meant to be so: without=({name!r},))"
    )


def _written(layer: Layer) -> Layer:
    """The layer, or the first inside that is not of fnn: what fnn promises, fnn has tested."""
    inside = (found for _, found, _ in walk(layer))
    theirs = (
        found for found in inside if not type(found).__module__.startswith("fnn.")
    )
    return next(theirs, layer)


def _raised_at(layer: Layer, error: Exception) -> str | None:
    """The deepest line of an error that is in the file of the layer."""
    own = inspect.unwrap(type(_written(layer)).apply).__code__.co_filename
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
    return f"{own}:{frames[-1].lineno}, {frames[-1].line}" if frames else None


def line(layer: Layer, at: str) -> str:
    """Where a method of the layer, or `field <name>`, is written: `file.py:12, Dense.apply`."""
    cls = type(layer)
    if at.startswith("field"):
        return _field_line(cls, at.removeprefix("field").strip())
    at = "flow" if isinstance(layer, Flow) else at
    function = inspect.unwrap(getattr(cls, at))
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}, {function.__qualname__}"


def _field_line(cls: type, name: str) -> str:
    for base in cls.__mro__:
        try:
            lines, start = inspect.getsourcelines(base)
        except (OSError, TypeError):  # typed in, no file has it
            continue
        for offset, text in enumerate(lines):
            if name and re.match(rf"\s+{name}\s*[:=]", text):
                return f"{inspect.getsourcefile(base)}:{start + offset}, {text.strip()}"
        if not name:
            return f"{inspect.getsourcefile(base)}:{start}, class {base.__name__}"
    return f"the fields of {cls.__name__}"
