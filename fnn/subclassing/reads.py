"""Reads: the names of attributes that the methods of a class may read while they are traced."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import jax
import numpy as np

from fnn.core.registry import is_ours

# The methods whose results depend on attributes, and which are compiled.
_TRACED = (
    *("build", "call", "compute_mask", "compute_output_shape", "compute_output_spec"),
    *("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"),
    "metrics",
)
# Ways to read attributes whose names are not in the code.
_ANY = {"getattr", "vars", "__dict__", "__getattribute__", "eval", "exec", "dir"}


# What an attribute may be without referring to the object that has it.
_PLAIN = (
    *(int, float, complex, str, bytes),
    *(type(None), type, ModuleType),
    *(np.generic, np.ndarray, jax.Array),
)
_CONTAINERS = (list, tuple, set, frozenset, dict)


def may_refer(value: object) -> bool:
    """Whether an attribute may refer to the object that has it: a function, or a user's object."""
    if isinstance(value, _CONTAINERS):
        items = value.values() if isinstance(value, dict) else value
        return any(map(may_refer, items))
    if isinstance(value, _PLAIN):
        return False
    return not any(map(is_ours, type(value).__mro__[:-1]))


@functools.lru_cache(maxsize=1024)
def names_read(cls: type) -> frozenset[str] | None:
    """The names that may be read, of attributes and others; None if it may be any.

    Those in the code of `build`, `call` and steps, and of methods and functions that these name.
    It may be any where a method hands `self` on, to code that is not followed.
    """
    found: set[str] = set()
    waiting = [*_TRACED]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for base in cls.__mro__:
            if is_ours(base) or base is object:
                continue
            for function in _functions(vars(base).get(name)):
                code = function.__code__
                if code.co_argcount and _hands_on(code, code.co_varnames[0]):
                    return None
                waiting += _names(code)
    if not _ANY.isdisjoint(found):
        return None
    return frozenset(found)


def _functions(thing: Any) -> Iterator[FunctionType]:
    """The functions behind a method, property or decorated function."""
    parts = [thing]
    for part in ("fget", "fset", "func", "__func__", "__wrapped__"):
        parts.append(getattr(thing, part, None))
    for part in parts:
        if callable(part):
            part = inspect.unwrap(part)
        if isinstance(part, FunctionType):
            yield part


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):  # setattr, operator.attrgetter
            yield constant


def _hands_on(code: CodeType, own: str) -> bool:
    """Whether code uses the variable `own` in another way than for an attribute of it."""
    steps = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
    for step, after in itertools.pairwise(steps):
        if not step.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
            continue
        # One instruction may load two variables; what follows is done with the last one.
        loaded = step.argval
        if not isinstance(loaded, tuple):
            loaded = (loaded,)
        for_attribute = after.opname.endswith(("_ATTR", "_METHOD"))
        if own in loaded[:-1] or (own == loaded[-1] and not for_attribute):
            return True
    inside = (one for one in code.co_consts if isinstance(one, CodeType))
    return any(_hands_on(one, own) for one in inside if own in one.co_freevars)
