"""What the loss functions start with: targets and predictions of one shape and one dtype."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core.arithmetic import floating
from fnn.core.targets import align

EPSILON = 1e-7  # Keras's `epsilon()`: the bound that keeps logarithms and quotients finite


def pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Both in the shape and dtype of the predictions (see `core.targets.align`)."""
    y_pred = floating(y_pred)
    return align(jnp.asarray(y_true), y_pred).astype(y_pred.dtype), y_pred
