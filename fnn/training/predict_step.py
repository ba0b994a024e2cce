"""The step of prediction: outputs without masks, as a pure function."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import Array

from fnn.core.calling import call
from fnn.core.context import Context, strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.runtime.program_cache import programs


def predict_function(layer: Layer) -> Callable[..., Tree]:
    """The pure function `step(params, state, x) -> (outputs without masks, state)`.

    A network that draws random numbers in inference takes a key after `x`.
    """

    def predict_step(
        params: Tree, state: Tree, x: Tree, key: Array | None = None
    ) -> tuple[Tree, Tree]:
        outputs, state = call(layer, params, state, x, Context(key=key))
        return strip_masks(outputs), state

    return predict_step


@programs.cached
def make_predict_step(layer: Layer) -> Callable[..., Tree]:
    """`predict_function`, compiled.

    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="ones"), jnp.ones((2, 3))
    >>> make_predict_step(layer)(*layer.init(jax.random.key(0), x), x)[0].tolist()
    [[3.0], [3.0]]
    """
    return jax.jit(predict_function(layer))
