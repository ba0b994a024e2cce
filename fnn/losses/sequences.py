"""Losses of label sequences that are not aligned in time: CTC."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.tree import SpecTree
from fnn.losses.loss import Functions, Loss
from fnn.losses.targets import class_numbers
from fnn.runtime.arithmetic import floating


def ctc(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    valid: Array | None = None,
) -> Array:
    """-log of the probability of a label sequence, summed over all alignments in time.

    (batch, labels), (batch, time, classes) -> (batch,)   `y_pred` are logits. Class 0 is the blank;
    targets are padded with 0 at the end. `valid` (batch, time) is False for padded steps.
    Source: Graves et al. 2006, Connectionist Temporal Classification.

    Raises ValueError for other shapes.

    >>> loss = jax.jit(ctc)(np.array([[1]]), jnp.zeros((1, 2, 3)))
    >>> round(loss.item(), 4)  # 3 of 9 paths give 1: 11, 10, 01
    1.0986
    """
    logits = floating(y_pred)
    labels = class_numbers(y_true)
    if labels.ndim != 2 or logits.ndim != 3:
        raise ValueError(
            "expected labels (batch, labels) and logits (batch, time, classes) for ctc, "
            f"received shapes {labels.shape} and {logits.shape}; pad the labels with 0 to "
            "one length"
        )
    lengths = jnp.sum(labels != 0, -1, keepdims=True)  # (batch, 1)
    positions = jnp.arange(labels.shape[1])[None, :]  # (1, labels)
    label_padding = positions >= lengths  # (batch, labels)
    step_padding = jnp.zeros(logits.shape[:2])  # (batch, time)
    if valid is not None:
        step_padding = ~valid
    loss: Array = optax.ctc_loss(
        logits,
        step_padding.astype(logits.dtype),
        labels,
        label_padding.astype(logits.dtype),
        blank_id=0,
    )
    return loss


class CTC(Loss):
    """-log of the probability of a label sequence, for any alignment in time.   See `ctc`.

    (batch, labels), (batch, time, classes) -> (batch,)   Class 0 is the blank. Steps that a mask
    `(batch, time)` hides are left out.

    Two equal labels must be separated by a blank, so that [1, 1] takes at least 3 steps; with too
    few steps the loss is about 1e5, not an error.

    >>> loss = jax.jit(CTC())(np.array([[1, 1]]), jnp.zeros((1, 3, 3)))
    >>> round(loss.item(), 4)  # 1 path of 27: 1, blank, 1
    3.2958
    """

    gathers = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return ctc(y_true, y_pred)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        if valid is None or valid.ndim != 2:
            return ctc(y_true, y_pred)
        return ctc(y_true, y_pred, valid)

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        jax.eval_shape(self.call, y_true, y_pred)


FUNCTIONS: Functions = {
    ctc: CTC,
}
