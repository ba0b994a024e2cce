"""Losses of sequences that are not aligned in time: CTC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.arithmetic import floating
from fnn.losses.loss import Loss
from fnn.losses.targets import class_numbers


def ctc(y_true: Any, y_pred: Any, valid: Any = None) -> Array:
    """-log of the probability of a label sequence, however it lies in time.

    (batch, labels), (batch, time, classes) -> (batch,)   `y_pred` are logits. Class 0 is the blank,
    and in the targets 0 fills up the end. `valid` (batch, time) says which steps are real.
    Source: Graves et al. 2006, Connectionist Temporal Classification.

    Raises ValueError for other shapes.

    >>> round(ctc([[1]], jnp.zeros((1, 2, 3))).item(), 4)  # 3 of 9 ways read 1: 11, 10 and 01
    1.0986
    """
    logits, labels = floating(y_pred), class_numbers(jnp.asarray(y_true))
    if labels.ndim != 2 or logits.ndim != 3:
        raise ValueError(
            "expected labels (batch, labels) and logits (batch, time, classes) for ctc, received "
            f"shapes {labels.shape} and {logits.shape}; pad the labels with 0 to one length"
        )
    lengths = jnp.sum(labels != 0, -1, keepdims=True)
    padded = jnp.arange(labels.shape[1])[None, :] >= lengths
    missing = jnp.zeros(logits.shape[:2]) if valid is None else ~valid
    return optax.ctc_loss(
        logits,
        missing.astype(logits.dtype),
        labels,
        padded.astype(logits.dtype),
        blank_id=0,
    )


class CTC(Loss):
    """-log of the probability of a label sequence, however it lies in time.   See `ctc`.

    (batch, labels), (batch, time, classes) -> (batch,)   Class 0 is the blank. Under a mask
    `(batch, time)` the steps that are not real are left out.

    Between two equal labels there must be a blank, so that [1, 1] takes 3 steps at least: too few
    steps give a loss of about 1e5, not an error.

    >>> round(CTC()([[1, 1]], jnp.zeros((1, 3, 3))).item(), 4)  # the one way of 27: 1, blank, 1
    3.2958
    """

    gathers = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return ctc(y_true, y_pred)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return ctc(
            y_true, y_pred, valid if valid is not None and valid.ndim == 2 else None
        )

    def check(self, y_true: Any, y_pred: Any) -> None:
        jax.eval_shape(self.call, y_true, y_pred)


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    ctc: CTC,
}
