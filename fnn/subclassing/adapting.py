"""Adapting: a class that defines `call` or `build` gets `KerasLayer` among its bases."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fnn.core.layer import Layer
from fnn.core.registry import is_ours
from fnn.core.tree import Tree
from fnn.subclassing.frame import running_frame
from fnn.subclassing.layer import KerasLayer


def adapt(cls: Any) -> None:
    """Puts `KerasLayer` below a user's class in Keras's way; leaves all others as they are.

    Such a class defines `call` or `build`; or its `__init__`, as a base for classes with `call`,
    while no class before it defines `apply`.
    """
    own = vars(cls)
    if "build" in own and not is_ours(cls):
        cls.build = _building(own["build"])
    if is_ours(cls) or issubclass(cls, KerasLayer) or "apply" in own or "init" in own:
        return
    computes = cls.apply is not Layer.apply
    if not ("call" in own or "build" in own or ("__init__" in own and not computes)):
        return
    bases = list(cls.__bases__)
    place = [issubclass(base, Layer) for base in bases].index(True)
    if computes:
        cls._native = bases[place]
    bases.insert(place, KerasLayer)
    # Below the class and above the one that it extends, so that `super()` finds both.
    cls.__bases__ = tuple(bases)


def _building(method: Callable[..., None]) -> Callable[..., None]:
    """`build` of a user: it runs within the making of weights, also if a user calls it."""

    @functools.wraps(method)
    def build(self: Layer, *shapes: Tree, **named: Tree) -> None:
        frame = running_frame()
        is_inside = frame is not None and frame.host is self
        if is_inside or not isinstance(self, KerasLayer):
            method(self, *shapes, **named)
            return
        given = (*shapes, *named.values())
        make: Any = Layer.on_attribute(self, "build")
        shape = given[0] if len(given) == 1 else given
        make(shape)

    return build


Layer.on_subclass = staticmethod(adapt)
