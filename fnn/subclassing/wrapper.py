"""Wrapper: Keras's base class of layers that hold one layer."""

from __future__ import annotations

from typing import Any

from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.subclassing.layer import KerasLayer


class Wrapper(KerasLayer):
    """A layer around `layer`, which it has as an attribute; define `call` in a subclass.

    Raises TypeError for anything but a layer.

    >>> from fnn.layers import Dense
    >>> class Doubled(Wrapper):
    ...     def call(self, inputs):
    ...         return self.layer(inputs) * 2
    >>> init, apply = Doubled(Dense(1, kernel_initializer="ones"))
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 3))), jnp.ones((1, 3)))[0].item()
    6.0
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        arguments.layer(self, layer, "as layer")
        self.layer: Any = layer

    def build(self, input_shape: Tree) -> None:
        """Builds the inner layer for inputs of this shape."""
        self.layer.build(input_shape)

    def call(
        self,
        inputs: Tree,
        *others: Tree,
        **named: Tree,
    ) -> Tree:
        return self.layer(inputs, *others, **named)
