"""Losses of embeddings, compared in pairs within a batch: circle, triplet, InfoNCE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arithmetic import floating, unit_length
from fnn.core.fields import not_negative, positive
from fnn.losses.loss import Loss, Targets, pair
from fnn.losses.targets import class_numbers

_FAR = -1e9  # stands for the logarithm of 0, with a slope


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

    >>> x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> [[round(v, 1) for v in circle(y, x).tolist()] for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
    [[0.0, 0.0, 0.0, 0.0], [134.4, 134.4, 134.4, 134.4]]
    """
    embeddings, labels = (
        floating(y_pred),
        class_numbers(jnp.asarray(y_true)).reshape(-1),
    )
    others = embeddings if ref_embeddings is None else floating(ref_embeddings)
    other_labels = (
        labels if ref_labels is None else class_numbers(ref_labels).reshape(-1)
    )
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

    >>> values = triplet([0, 0, 1], [[0.0], [1.0], [3.0]], margin=2.0)
    >>> [round(v, 4) for v in values.tolist()]  # 2 + 1 - 3, 2 + 1 - 2, no partner
    [0.0, 1.0, 0.0]
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


def info_nce(
    y_true: Any, y_pred: Any, temperature: float = 0.1, valid: Any = None
) -> Array:
    """-log softmax(cos(y_i, t_j) / temperature over j) at j = i: each finds its own partner.

    (batch, features), (batch, features) -> (batch,)
    Source: van den Oord et al. 2018, Contrastive Predictive Coding, section 2.3.

    >>> values = info_nce(jnp.eye(2), jnp.eye(2), temperature=1.0)
    >>> [round(v, 4) for v in values.tolist()]  # log(1 + exp(-1))
    [0.3133, 0.3133]
    """
    t, y = pair(y_true, y_pred)
    t, y = unit_length(t, -1), unit_length(y, -1)
    similarity = y @ t.T / temperature
    if valid is not None:
        similarity = jnp.where(valid[None, :], similarity, _FAR)
    return jax.nn.logsumexp(similarity, axis=1) - jnp.diagonal(similarity)


class Circle(Loss):
    """Embeddings of one label together, of others apart, by a weight for each pair.  See `circle`.

    (batch,) labels, (batch, features) of length 1 -> (batch,)   Examples of which nothing is to be
    learnt any more do not count.

    The embeddings must come from a layer such as `UnitNormalization`; nothing is normalized here.
    Raises ValueError for other shapes.

    >>> x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> [round(Circle()(y, x).item(), 1) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
    [0.0, 134.4]
    """

    gathers = True

    gamma: float = positive(default=80.0)
    margin: float = not_negative(default=0.4)
    remove_diagonal: bool = True

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

    (batch,) labels, (batch, features) -> (batch,)   Triplets are made within a batch, which must
    hold several examples of a label. The mean counts examples that have 0.

    >>> round(Triplet(margin=2.0)([0, 0, 1], [[0.0], [1.0], [3.0]]).item(), 4)  # (0 + 1 + 0) / 3
    0.3333
    """

    gathers = True

    margin: float = not_negative(default=1.0)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return triplet(y_true, y_pred, self.margin)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        return triplet(y_true, y_pred, self.margin, valid)

    def check(self, y_true: Any, y_pred: Any) -> None:
        one_label_each(self, y_true, y_pred)


class InfoNCE(Loss):
    """Each embedding finds its partner among those of the batch.   See `info_nce`.

    (batch, features), (batch, features) -> (batch,)   The targets are the other view.

    The batch gives the wrong partners, so that the loss grows with its size.

    >>> round(InfoNCE()(jnp.ones((4, 3)), jnp.ones((4, 3))).item(), 4)  # all alike: log(4)
    1.3863
    """

    gathers = True

    targets: ClassVar[Targets] = "classes"

    temperature: float = positive(default=0.1)

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
            f"received shapes {labels} and {embeddings}; flatten the embeddings, and give class "
            "numbers"
        )


FUNCTIONS: dict[Callable[..., Array], type[Loss]] = {
    circle: Circle,
    triplet: Triplet,
    info_nce: InfoNCE,
}
