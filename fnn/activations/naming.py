"""Naming: what makes a function an activation: a name in files, and nodes of nodes in graphs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fnn.core.registry import register


def activation(*names: str) -> Callable[[Any], Any]:
    """Registers a function, and lets it make a node of a node, as Keras's functions do.

    >>> fnn.activations.relu(fnn.Input((3,))).shape
    (None, 3)
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def named_activation(x: Any, *args: Any, **named: Any) -> Any:
            if not getattr(x, "is_symbolic", False):
                return function(x, *args, **named)
            _, *further = (
                inspect.signature(function).bind(x, *args, **named).arguments.items()
            )
            return x.activated_by(named_activation, dict(further))

        return register(named_activation, *names, kind="activation")

    return decorate
