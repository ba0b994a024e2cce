"""Tracking: the layers and variables among the attributes of an object; what it is compared by."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.fields import typed
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.core.value import Value
from fnn.core.value import separate as apart
from fnn.core.weights import is_weight
from fnn.random import SeedGenerator
from fnn.subclassing.containers import (
    Attribute,
    TrackedDict,
    TrackedList,
    TrackedSet,
    copied,
)
from fnn.subclassing.objects import watched
from fnn.variables import Variable

# The lists of Keras's weights: which of params and state they hold.
LISTS = {
    **dict.fromkeys(("weights", "variables"), slice(None)),
    **dict.fromkeys(("trainable_weights", "trainable_variables"), slice(0, 1)),
    **dict.fromkeys(("non_trainable_weights", "non_trainable_variables"), slice(1, 2)),
}

T = TypeVar("T")
Memo: TypeAlias = dict[int, Any]

# Attributes that describe how an object was made or is used, not what it computes.
UNCOMPARED = {"_given", "built", "_sealed"}
# Arrays above this size are compared by their digest.
_PLAIN = (int, float, complex, bool, str, bytes, type(None))


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """The attributes that a user's class has set, without caches and parts of the library's."""
    parts = getattr(type(thing), "_parts", ())
    for name, value in list(vars(thing).items()):
        if not name.startswith("_fnn_") and name not in parts:
            yield name, value


def duplicate(thing: T) -> T:
    """An object of the same class and attributes, which may be assigned without a trace here."""
    new = object.__new__(type(thing))
    for name, value in attributes(thing):
        if name == "_added":
            value = list(value)
        elif name != "_given":
            value = copied(value, Attribute(new, name))  # type: ignore[arg-type]
        vars(new)[name] = value
    return new


def layer_of(value: Any) -> Layer | None:
    """The layer that a value is, or that a model stands for; None for anything else."""
    if isinstance(value, type):
        return None
    if isinstance(value, Layer):
        return value
    if hasattr(type(value), "as_layer"):
        layer: Layer = value.as_layer()
        return layer
    return None


def inside(name: str, value: object) -> Iterator[tuple[str, Any]]:
    """(name, thing) for each layer, model and variable in a value, also in lists and dicts."""
    if isinstance(value, Variable) or layer_of(value) is not None:
        yield name, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from inside(f"{name}_{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from inside(f"{name}_{key}".replace("/", "_"), item)


def tracked(thing: object) -> Iterator[tuple[str, Any]]:
    """(name, thing) for each layer, model and variable among the attributes, each once."""
    seen: set[int] = set()
    for attribute, value in attributes(thing):
        if attribute in UNCOMPARED or attribute == "_added":
            continue
        for name, item in inside(attribute, value):
            if id(item) not in seen:
                seen.add(id(item))
                yield name, item


def layers_in(thing: object) -> dict[str, Layer]:
    """The layers among the attributes, by name; models as their layers."""
    found: dict[str, Layer] = {}
    for name, item in tracked(thing):
        layer = layer_of(item)
        if layer is not None:
            found[name] = layer
    return found


def below(thing: object, wanted: Layer) -> tuple[str, Layer] | None:
    """("a/b", layer) of a layer inside the layers among the attributes; None if it is not there."""
    for name, layer in layers_in(thing).items():
        for path, inner, copies in walk(layer):
            if inner is wanted and path and not copies:
                return "/".join((name, *path)), inner
    return None


def joined(
    parts: tuple[Tree, Tree],
    name: str,
    inner: tuple[Tree, Tree],
) -> tuple[Tree, Tree]:
    """Params and state with those of a layer at the path "a/b", where they are missing."""
    path = tuple(name.split("/"))
    found = []
    for part, branch in zip(parts, inner, strict=True):
        if branch:
            part = tree.union(part, tree.put({}, path, branch))
        found.append(part)
    return found[0], found[1]


def variables_in(thing: object) -> dict[str, Variable]:
    """The variables of an object: those made by `add_weight` first, each under its own name.

    The name is the one that was given, else that of the attribute, else "variable".
    """
    added: list[Variable] = vars(thing).get("_added", [])
    by_attribute: dict[int, str] = {}
    variables = {id(variable): variable for variable in added}
    for name, item in tracked(thing):
        if isinstance(item, Variable):
            by_attribute[id(item)] = name
            variables[id(item)] = item
    taken = set(layers_in(thing))
    found: dict[str, Variable] = {}
    for variable in variables.values():
        name = variable.given_name or by_attribute.get(id(variable)) or "variable"
        name = name.replace("/", "_")
        found[free_name(name, taken)] = variable
    return found


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, ...: the first that is not taken; it is taken then."""
    number = 0
    free = name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


class _Same:
    """A thing that is equal to itself only."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def compared(value: Any) -> Any:
    """What an attribute is compared by, hashable: values as such, arrays by their contents."""
    if isinstance(value, _PLAIN):
        return typed(value)
    if isinstance(value, Variable):
        held: object = value.initializer
        if not value.is_fresh:
            held = value.own_value
        return ("variable", compared(held), *value.declaration())
    if isinstance(value, SeedGenerator):
        # Its numbers come from the key of the call.
        return ("seed",)
    if isinstance(value, list):
        return (list, *map(compared, value))
    if isinstance(value, tuple):
        return (type(value), *map(compared, value))
    if isinstance(value, dict):
        pairs = [(compared(key), compared(item)) for key, item in value.items()]
        return (dict, *pairs)
    if isinstance(value, (set, frozenset)):
        return (set, frozenset(map(compared, value)))
    arrays = (np.ndarray, np.generic, jax.Array)
    if isinstance(value, arrays) and not is_traced(value):
        array = np.asarray(value)
        if not array.dtype.hasobject:
            digest = hashlib.sha256(array.tobytes()).digest()
            return (type(value), str(array.dtype), array.shape, digest)
    layer = layer_of(value)
    if layer is not None:
        return layer
    # Not by its own `==`, which need not mean that it computes the same.
    return _Same(value), watched(value)


def is_traced(value: object) -> bool:
    """Whether this is an array of a trace, which has no values yet."""
    return isinstance(value, jax.core.Tracer)


def separate(value: Any, memo: Memo) -> Any:
    """A value with the layers in it replaced by copies, also in lists and dicts.

    A layer that is in several places is copied once.
    """
    if id(value) in memo:
        return memo[id(value)]
    new = value
    layer = layer_of(value)
    if layer is not None:
        new = apart(layer, memo)
    elif isinstance(value, Value):
        new = apart(value, memo)
    elif type(value) in (list, tuple, TrackedList):
        kind = tuple if isinstance(value, tuple) else list
        new = kind(separate(item, memo) for item in value)
    elif type(value) in (dict, TrackedDict):
        new = {key: separate(item, memo) for key, item in value.items()}
    elif isinstance(value, TrackedSet):
        new = set(value)
    elif isinstance(value, Variable):
        new = copy.copy(value)
    memo[id(value)] = new
    return new


def weights_in(part: Tree) -> list[jax.Array]:
    """The weights of params or state, without the results of a call."""
    return [leaf for path, leaf in tree.flatten(part) if path and is_weight(path[-1])]
