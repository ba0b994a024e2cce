"""Signatures: which arguments `call` and `build` of a class take, and the form of one call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from fnn.core import arguments
from fnn.core.context import Masked
from fnn.core.tree import Tree
from fnn.core.value import Fields, Value
from fnn.variables import value_of

# The arguments of a call: positional ones, and those by name.
Positional: TypeAlias = tuple[Tree, ...]
Named: TypeAlias = dict[str, Tree]


class ArgumentPlace(Value):
    """Marks where an input stands among the arguments of a call."""

    index: int

    def __repr__(self) -> str:
        return f"inputs[{self.index}]"


class Form(Value):
    """The arguments of a call, with places for the inputs: `layer(x, y, scale=2, mode="sum")`."""

    given: tuple[Any, ...]
    named: Fields

    def fill(self, inputs: Sequence[Tree]) -> tuple[Positional, Named]:
        """(positional arguments, named ones) for these inputs."""
        given = tuple(_filled(item, inputs) for item in self.given)
        named = {name: _filled(item, inputs) for name, item in self.named.items}
        return given, named


def form_of(given: Positional, named: Named) -> tuple[Form, Positional]:
    """(the form of a call, its inputs: all arrays and nodes among the arguments)."""
    inputs: list[Tree] = []
    held = tuple(_held(item, inputs) for item in given)
    pairs = tuple((name, _held(item, inputs)) for name, item in named.items())
    return Form(held, Fields(pairs)), tuple(inputs)


def is_input(value: object) -> bool:
    """Whether an argument is an array, a node or `Masked`."""
    if isinstance(value, Masked) or getattr(value, "is_symbolic", False):
        return True
    return isinstance(value, (np.ndarray, jax.Array, jax.ShapeDtypeStruct))


def _held(value: Tree, inputs: list[Tree]) -> Tree:
    value = value_of(value)
    if is_input(value):
        inputs.append(value)
        return ArgumentPlace(len(inputs) - 1)
    if isinstance(value, (list, tuple)):
        return tuple(_held(item, inputs) for item in value)
    if isinstance(value, dict):
        items = tuple((key, _held(item, inputs)) for key, item in value.items())
        return Fields(items)
    return value


def _filled(value: Tree, inputs: Sequence[Tree]) -> Tree:
    if isinstance(value, ArgumentPlace):
        return inputs[value.index]
    if isinstance(value, tuple):
        return [_filled(item, inputs) for item in value]
    if isinstance(value, Fields):
        return {name: _filled(item, inputs) for name, item in value.items}
    return value


class Signature(NamedTuple):
    """The arguments of a method."""

    positional: tuple[str, ...]
    required: int
    names: frozenset[str]
    takes_any: bool

    def takes(self, name: str) -> bool:
        """Whether the method has an argument of this name."""
        return name in self.names


@functools.lru_cache(maxsize=1024)
def signature_of(method: Callable[..., Any]) -> Signature:
    """The signature of a method of a class, without `self`."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    positional = [p for p in positional if p.name not in ("training", "mask")]
    required = [p for p in positional if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = frozenset(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
    order = tuple(p.name for p in positional)
    return Signature(order, len(required), names, takes_any)


def as_arguments(signature: Signature, x: Tree) -> Positional:
    """The positional arguments of `call` for the inputs `x` of `apply`.

    A tuple is spread over the arguments if there are several; one argument gets a list.
    """
    several = len(signature.positional) > 1 or not signature.positional
    if isinstance(x, tuple) and several and len(x) >= signature.required:
        return x
    if isinstance(x, tuple):
        return (list(x),)
    return (x,)


def as_list(states: Tree) -> list[Tree]:
    """The states of a cell as a list; one state as a list of one."""
    if isinstance(states, (list, tuple)):
        return list(states)
    return [states]


def shape_of(x: Tree) -> Tree:
    """The shape that `build` gets: a tuple with None for the batch, a list or dict of them."""
    if isinstance(x, (list, tuple)):
        return [shape_of(item) for item in x]
    if isinstance(x, dict):
        return {name: shape_of(item) for name, item in x.items()}
    shape = getattr(x, "shape", None)
    if shape is None:
        return None
    if not shape:
        return ()
    return (None, *shape[1:])


def build_arguments(
    build: Callable[..., Any],
    names: Sequence[str],
    given: Positional,
) -> Named | Positional:
    """The shapes for `build`: of all arguments by name (`query_shape`), or of the first."""
    shapes = {
        f"{name}_shape": shape_of(item)
        for name, item in zip(names, given, strict=False)
    }
    signature = signature_of(build)
    wanted = {name for name in signature.positional if name.endswith("_shape")}
    if len(signature.positional) > 1 and wanted <= shapes.keys():
        return {name: shape for name, shape in shapes.items() if name in wanted}
    if not given:
        raise arguments.wrong("build", "inputs", "to have at least one array", given)
    return (shape_of(given[0]),)
