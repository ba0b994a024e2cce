"""What the loss functions start with: targets and predictions of one shape and one dtype."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core.targets import align

EPSILON = 1e-7  # Keras's `epsilon()`: the bound that keeps logarithms and quotients finite


def floating(x: Any) -> Array:
    """`x` as an array of floating-point numbers, of its own dtype if it has such."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype("float32")


def pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Both in the shape and dtype of the predictions (see `core.targets.align`)."""
    y_pred = floating(y_pred)
    return align(jnp.asarray(y_true), y_pred).astype(y_pred.dtype), y_pred
