"""Activations: functions of an array, with Keras's names."""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from fnn.activations.axes import glu, log_softmax, softmax, sparsemax
from fnn.activations.rectifiers import (
    celu,
    elu,
    exponential,
    gelu,
    hard_silu,
    leaky_relu,
    linear,
    mish,
    relu,
    relu6,
    selu,
    silu,
    softplus,
    sparse_plus,
    squareplus,
)
from fnn.activations.squashing import (
    hard_shrink,
    hard_sigmoid,
    hard_tanh,
    log_sigmoid,
    sigmoid,
    soft_shrink,
    softsign,
    sparse_sigmoid,
    tanh,
    tanh_shrink,
    threshold,
)
from fnn.core.config import serializers
from fnn.core.value import resolve

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]

swish = silu
hard_swish = hard_silu


serialize, deserialize = serializers("activation", __name__, "relu")


def get(identifier: object) -> Callable[..., Array]:
    """The activation of a name; a function is returned as it is and None is `linear`.

    Raises ValueError for an unknown name and TypeError for anything but a name or a function.

    >>> get("relu")(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    if identifier is None:
        return linear
    found: Callable[..., Array] = resolve("activation", identifier)
    return found
