"""Losses beyond single entries: overlap of regions, unaligned sequences, pairs in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core import arguments
from fnn.core.targets import class_numbers
from fnn.losses.loss import EPSILON, Loss, Targets, floating, pair

Axis = int | tuple[int, ...] | None

_FAR = -1e9  # stands for the logarithm of 0, with a slope


def dice(y_true: Any, y_pred: Any, axis: Axis = None) -> Array:
    """1 - 2 sum(t p) / (sum(t) + sum(p)) over `axis`; over the whole batch by default.

    Source: Milletari et al. 2016, V-Net, section 3.
    """
    t, p = pair(y_true, y_pred)
    return 1 - 2 * jnp.sum(t * p, axis) / (jnp.sum(t, axis) + jnp.sum(p, axis) + EPSILON)


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Axis = None
) -> Array:
    """1 - tp / (tp + alpha fp + beta fn) over `axis`; over the whole batch by default.

    `alpha` weighs false positives, sum((1 - t) p), and `beta` false negatives, sum(t (1 - p)), as
    in the paper and in Keras's documentation; Keras 3.15.1 computes them the other way round.
    Source: Salehi et al. 2017, Tversky loss function, section 2.
    """
    t, p = pair(y_true, y_pred)
    both = jnp.sum(t * p, axis)
    false_positives, false_negatives = jnp.sum((1 - t) * p, axis), jnp.sum(t * (1 - p), axis)
    return 1 - both / (both + alpha * false_positives + beta * false_negatives + EPSILON)


def ctc(y_true: Any, y_pred: Any, valid: Any = None) -> Array:
    """-log of the probability of a label sequence, however it lies in time.

    (batch, labels), (batch, time, classes) -> (batch,)   `y_pred` are logits. Class 0 is the blank,
    and in the targets 0 fills up the end. `valid` (batch, time) says which steps are real.
    Source: Graves et al. 2006, Connectionist Temporal Classification.
    """
    logits, labels = floating(y_pred), class_numbers(jnp.asarray(y_true))
    if labels.ndim != 2 or logits.ndim != 3:
        raise ValueError(
            "expected labels (batch, labels) and logits (batch, time, classes) for ctc, received "
            f"shapes {labels.shape} and {logits.shape}; do pad the labels with 0 to one length"
        )
    lengths = jnp.sum(labels != 0, -1, keepdims=True)
    padded = jnp.arange(labels.shape[1])[None, :] >= lengths
    missing = jnp.zeros(logits.shape[:2]) if valid is None else ~valid
    return optax.ctc_loss(
        logits, missing.astype(logits.dtype), labels, padded.astype(logits.dtype), blank_id=0
    )


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
    valid: Any = None,
) -> Array:
    """softplus(logsumexp of positive pairs + logsumexp of negative pairs), for each example.

    (batch,), (batch, features) -> (batch,)   The embeddings have length 1. Each is compared with
    all others, or with the given references; those of its label should be near, the others far.
    Source: Sun et al. 2020, Circle Loss, section 3.2.
    """
    embeddings, labels = floating(y_pred), class_numbers(jnp.asarray(y_true)).reshape(-1)
    others = embeddings if ref_embeddings is None else floating(ref_embeddings)
    other_labels = labels if ref_labels is None else class_numbers(ref_labels).reshape(-1)
    distance = jnp.maximum(1 - embeddings @ others.T, 0)  # (batch, references)
    same = labels[:, None] == other_labels[None, :]
    positive, negative = same, ~same
    if remove_diagonal and ref_embeddings is None:
        positive = positive & ~jnp.eye(len(labels), dtype=bool)
    if valid is not None:
        positive, negative = positive & valid[None, :], negative & valid[None, :]
    pull = -gamma * jnp.maximum(margin + distance, 0) * (margin - distance)
    push = gamma * jnp.maximum(1 + margin - distance, 0) * (1 - margin - distance)
    return jax.nn.softplus(
        jax.nn.logsumexp(jnp.where(positive, pull, _FAR), axis=1)
        + jax.nn.logsumexp(jnp.where(negative, push, _FAR), axis=1)
    )


def triplet(y_true: Any, y_pred: Any, margin: float = 1.0, valid: Any = None) -> Array:
    """max(margin + distance to the farthest of the label - to the nearest other, 0), each example.

    (batch,), (batch, features) -> (batch,)   An example without a partner or without a rival
    has 0. Source: Hermans et al. 2017, In Defense of the Triplet Loss, section 2 (batch hard).
    """
    x, labels = floating(y_pred), class_numbers(jnp.asarray(y_true)).reshape(-1)
    squared = jnp.square(x[:, None, :] - x[None, :, :]).sum(-1)
    apart = squared > 0  # the root has no slope at 0
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)
    same = labels[:, None] == labels[None, :]
    positive, negative = same & ~jnp.eye(len(labels), dtype=bool), ~same
    if valid is not None:
        positive, negative = positive & valid[None, :], negative & valid[None, :]
    farthest = jnp.max(jnp.where(positive, distance, 0), 1)
    nearest = jnp.min(jnp.where(negative, distance, -_FAR), 1)
    complete = positive.any(1) & negative.any(1)
    return jnp.where(complete, jnp.maximum(margin + farthest - nearest, 0), 0)


def info_nce(y_true: Any, y_pred: Any, temperature: float = 0.1, valid: Any = None) -> Array:
    """-log softmax(cos(y_i, t_j) / temperature over j) at j = i: each finds its own partner.

    (batch, features), (batch, features) -> (batch,)
    Source: van den Oord et al. 2018, Contrastive Predictive Coding, section 2.3.
    """
    t, y = pair(y_true, y_pred)
    t, y = (
        x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12)) for x in (t, y)
    )
    similarity = y @ t.T / temperature
    if valid is not None:
        similarity = jnp.where(valid[None, :], similarity, _FAR)
    return jax.nn.logsumexp(similarity, axis=1) - jnp.diagonal(similarity)


class Dice(Loss):
    """1 - 2 |both| / (|true| + |predicted|), of regions.   See `dice`.

    One number for the whole batch; `axis=(1, 2, 3)` gives one for each image.

    >>> round(Dice()(jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]])).item(), 4)
    0.3333
    """

    targets: ClassVar[Targets] = "classes"
    blank_prediction: ClassVar[float] = 0.0

    axis: Axis = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return dice(y_true, y_pred, self.axis)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return self.values(y_true, y_pred)  # what is blank adds nothing to the sums


class Tversky(Loss):
    """Dice, false positives weighing `alpha` and false negatives `beta`.   See `tversky`."""

    targets: ClassVar[Targets] = "classes"
    blank_prediction: ClassVar[float] = 0.0

    alpha: float = 0.5
    beta: float = 0.5
    axis: Axis = None

    def validate(self) -> None:
        arguments.not_negative(self, "alpha", "beta")

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return tversky(y_true, y_pred, self.alpha, self.beta, self.axis)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return self.values(y_true, y_pred)  # what is blank adds nothing to the sums


class CTC(Loss):
    """-log of the probability of a label sequence, however it lies in time.   See `ctc`.

    (batch, labels), (batch, time, classes) -> (batch,)   Class 0 is the blank. Under a mask
    `(batch, time)` the steps that are not real are left out.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return ctc(y_true, y_pred)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return ctc(y_true, y_pred, valid if valid is not None and valid.ndim == 2 else None)

    def check(self, y_true: Any, y_pred: Any) -> None:
        jax.eval_shape(self.call, y_true, y_pred)


class Circle(Loss):
    """Embeddings of one label together, of others apart, by a weight for each pair.  See `circle`.

    (batch,) labels, (batch, features) of length 1 -> (batch,)   Examples of which nothing is to be
    learnt any more do not count.
    """

    gamma: float = 80.0
    margin: float = 0.4
    remove_diagonal: bool = True

    def validate(self) -> None:
        arguments.positive(self, "gamma")
        arguments.not_negative(self, "margin")

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return self.valid_values(y_true, y_pred, None)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        rest = self.remove_diagonal, self.gamma, self.margin, valid
        return circle(y_true, y_pred, None, None, *rest)

    def kept(self, y_true: Any, values: Array) -> Array | None:
        return values > 0

    def check(self, y_true: Any, y_pred: Any) -> None:
        one_label_each(self, y_true, y_pred)


class Triplet(Loss):
    """The farthest of one label at least `margin` nearer than the nearest other.   See `triplet`.

    (batch,) labels, (batch, features) -> (batch,)
    """

    margin: float = 1.0

    def validate(self) -> None:
        arguments.not_negative(self, "margin")

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return triplet(y_true, y_pred, self.margin)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return triplet(y_true, y_pred, self.margin, valid)

    def check(self, y_true: Any, y_pred: Any) -> None:
        one_label_each(self, y_true, y_pred)


class InfoNCE(Loss):
    """Each embedding finds its partner among those of the batch.   See `info_nce`.

    (batch, features), (batch, features) -> (batch,)   The targets are the other view.
    """

    targets: ClassVar[Targets] = "classes"

    temperature: float = 0.1

    def validate(self) -> None:
        arguments.positive(self, "temperature")

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return info_nce(y_true, y_pred, self.temperature)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return info_nce(y_true, y_pred, self.temperature, valid)


def one_label_each(loss: Loss, y_true: Any, y_pred: Any) -> None:
    """Checks that there is one label for each row of embeddings."""
    labels, embeddings = tuple(y_true.shape), tuple(y_pred.shape)
    if len(embeddings) != 2 or labels not in (embeddings[:1], (embeddings[0], 1)):
        raise ValueError(
            f"{type(loss).__name__}: expected labels (batch,) and embeddings (batch, features), "
            f"received shapes {labels} and {embeddings}; do flatten the embeddings, and give class "
            "numbers"
        )


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    dice: Dice,
    tversky: Tversky,
    ctc: CTC,
    circle: Circle,
    triplet: Triplet,
    info_nce: InfoNCE,
}
