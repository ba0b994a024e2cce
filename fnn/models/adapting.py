"""Adapting: a class of models with `call` or steps of its own gets `KerasModel` among its bases."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fnn.core.registry import is_ours
from fnn.core.tree import Tree
from fnn.models.model import Model
from fnn.models.own_steps import BOTH, OVERRIDES
from fnn.models.steps import Steps
from fnn.models.subclassed import KerasModel
from fnn.subclassing import running_frame

# A class that defines one of these is a model in Keras's way.
MARKS = ("__init__", "call", "build", *OVERRIDES, *BOTH)


def adapt(cls: Any) -> None:
    """Puts `KerasModel` below a user's class in Keras's way; leaves all others as they are."""
    own = vars(cls)
    if is_ours(cls):
        return
    if "build" in own:
        cls.build = _building(own["build"])
    if issubclass(cls, KerasModel) or not any(name in own for name in MARKS):
        return
    bases = list(cls.__bases__)
    place = [issubclass(base, Model) for base in bases].index(True)
    if bases[place] is Model:
        bases[place] = KerasModel
    else:
        bases.insert(place, KerasModel)
    # Below the class and above the one that it extends, so that `super()` finds both.
    cls.__bases__ = tuple(bases)


def _building(method: Callable[..., None]) -> Callable[..., None]:
    """`build` of a user: it runs within the making of weights."""

    @functools.wraps(method)
    def build(self: KerasModel, *shapes: Tree, **named: Tree) -> None:
        frame = running_frame()
        if frame is not None and frame.host is self:
            method(self, *shapes, **named)
        else:
            KerasModel.build(self, *shapes, **named)

    return build


Steps.on_subclass = staticmethod(adapt)
