"""Naming: registers activations by name and applies them to symbolic inputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jax import Array

from fnn.core.registry import register
from fnn.core.tree import Tree


def activation(
    *names: str,
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """A decorator that registers a function, which then also takes a node of a graph.

    `names` are further names in saved files. As in Keras, the function of a node is a node.

    >>> fnn.activations.relu(fnn.Input((3,))).shape
    (None, 3)
    """

    def decorate(function: Callable[..., Array]) -> Callable[..., Array]:
        @functools.wraps(function)
        def named_activation(x: Tree, *args: Any, **named: Any) -> Tree:
            if not getattr(x, "is_symbolic", False):
                return function(x, *args, **named)
            bound = inspect.signature(function).bind(x, *args, **named)
            # All arguments but x become fields of a layer, by name.
            _, *further = bound.arguments.items()
            return x.activated_by(named_activation, dict(further))

        register(named_activation, *names, kind="activation")
        return named_activation

    return decorate
