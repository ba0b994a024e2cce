"""Copies: the weights of many equal layers, stacked along a leading axis."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array, random

from fnn.core import tree
from fnn.core.calling import initialize, weight_spec
from fnn.core.layer import Layer, Params, State


def init_copies(layer: Layer, key: Array, number: int, x: Any) -> tuple[Params, State]:
    """Fresh weights of `number` copies of `layer`, each from a key of its own."""
    keys = random.split(key, number)
    stacked = jax.vmap(lambda key: initialize(layer, key, x))(keys)
    return tuple(map(tree.same_order, stacked, weight_spec(layer, x)))
