"""Copies: layers with other objects inside, also in the attributes of classes in Keras's way."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fnn.core import tying
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.core.tying import Children, Ties
from fnn.core.value import Fields
from fnn.runtime.program_cache import shallow
from fnn.subclassing.containers import Attribute, tracked
from fnn.subclassing.methods import Methods
from fnn.subclassing.tracking import UNCOMPARED, attributes, layers_in, variables_in
from fnn.variables import Variable

T = TypeVar("T", bound=Layer)
# Makes the layer or variable that takes the place of another.
Change = Callable[[Any], Any]


def with_inner(layer: T, change: Change) -> T:
    """`layer` with `change` made to each layer and variable that it holds; itself if none is."""
    changes = _changes(layer, change)
    if not changes:
        return layer
    if not isinstance(layer, Methods):
        return layer.replace(**changes)
    new = shallow(layer)
    _assign(new, changes)
    return new


def _changes(thing: Any, change: Change) -> dict[str, Any]:
    """The attributes with a layer or variable that changes."""
    found: dict[str, Any] = {}
    if getattr(thing, "_own", thing) is not thing:
        # The network of a model, whose attributes are the model's.
        return found
    for name, value in attributes(thing):
        changed = _changed(value, change)
        if changed is not value:
            found[name] = changed
    return found


def _assign(thing: Any, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name not in UNCOMPARED and name != "_added":
            value = tracked(value, Attribute(thing, name))
        vars(thing)[name] = value
    for variable in variables_in(thing).values():
        thing._adopt(variable)


def _changed(value: Tree, change: Change) -> Tree:
    if isinstance(value, (Layer, Variable)):
        return change(value)
    if isinstance(value, Fields):
        items = _changed(value.items, change)
        return value if items is value.items else Fields(items)
    if isinstance(value, dict):
        new = [_changed(item, change) for item in value.values()]
        if not all(map(operator.is_, new, value.values())):
            return dict(zip(value, new, strict=True))
    elif isinstance(value, list) or type(value) is tuple:
        new = [_changed(item, change) for item in value]
        if not all(map(operator.is_, new, value)):
            return new if isinstance(value, list) else tuple(new)
    return value


def swapped(layer: Any, swaps: dict[int, Layer]) -> Any:
    """`layer` with some of the layers inside replaced, by the id of the object."""
    if not swaps or isinstance(layer, Variable):
        return layer
    if id(layer) in swaps:
        return swaps[id(layer)]
    return with_inner(layer, lambda inner: swapped(inner, swaps))


def united(layer: Layer) -> Layer:
    """A network from a file with one object at the places that share weights."""
    found: Layer = swapped(layer, _swaps(layer.children(), layer.inner_ties))
    return found


def ties_in(thing: object) -> Ties:
    """The places among and below the attributes where one layer object stands."""
    return tying.find(layers_in(thing).items())


def unite(thing: Any, places: Iterable[Iterable[Iterable[str]]]) -> None:
    """Puts one object at the places in a new object that share weights, as `ties_in` has them."""
    ties = tuple((tuple(place), tuple(before)) for place, before in places)
    swaps = _swaps(layers_in(thing).items(), ties)
    _assign(thing, _changes(thing, lambda inner: swapped(inner, swaps)))


def _swaps(children: Children, ties: Ties) -> dict[int, Layer]:
    """The first layer in place of each one that is tied to it, by the id of the latter."""
    at: dict[Path, list[Layer]] = {}
    for name, child in children:
        prefix = () if name is None else (name,)
        for path, layer, _ in walk(child, prefix):
            at.setdefault(path, []).append(layer)
    swaps: dict[int, Layer] = {}
    for place, before in ties:
        layers, originals = at.get(place, []), at.get(before, [])
        for layer, first in zip(layers, originals, strict=False):
            if first is not layer:
                swaps[id(layer)] = swaps.get(id(first), first)
    return swaps
