"""Losses of embeddings that are compared in pairs within a batch: circle, triplet, InfoNCE."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.fields import not_negative, positive
from fnn.core.tree import SpecTree
from fnn.losses.loss import Functions, Loss, pair
from fnn.losses.targets import HasShape, class_numbers
from fnn.runtime.arithmetic import floating, unit_length

# Used in place of log(0): finite, so that gradients are finite too.
_LOG_ZERO = -1e9


def circle(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    ref_labels: ArrayLike | None = None,
    ref_embeddings: ArrayLike | None = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
    valid: Array | None = None,
) -> Array:
    """softplus(logsumexp of positive pairs + logsumexp of negative pairs), for each example.

    (batch,), (batch, features) -> (batch,)   The embeddings have length 1. Each is compared with
    all others, or with the given references: those with its label should be near, the others far.
    Source: Sun et al. 2020, Circle Loss, section 3.2.

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> values = [jax.jit(circle)(np.array(y), x) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
    >>> [[round(v, 1) for v in each.tolist()] for each in values]
    [[0.0, 0.0, 0.0, 0.0], [134.4, 134.4, 134.4, 134.4]]
    """
    embeddings = floating(y_pred)
    labels = class_numbers(y_true).reshape(-1)
    references = embeddings
    if ref_embeddings is not None:
        references = floating(ref_embeddings)
    reference_labels = labels
    if ref_labels is not None:
        reference_labels = class_numbers(ref_labels).reshape(-1)
    distance = jnp.maximum(1 - embeddings @ references.T, 0)  # (batch, references)
    same_label = labels[:, None] == reference_labels[None, :]  # (batch, references)
    pairs = _pairs(same_label, valid, remove_diagonal and ref_embeddings is None)
    # Pairs of one label are weighted by their distance, others by their nearness.
    pull_weight = jnp.maximum(margin + distance, 0)
    pull = -gamma * pull_weight * (margin - distance)
    push_weight = jnp.maximum(1 + margin - distance, 0)
    push = gamma * push_weight * (1 - margin - distance)
    pull = jnp.where(pairs.positive, pull, _LOG_ZERO)
    push = jnp.where(pairs.negative, push, _LOG_ZERO)
    pull = jax.nn.logsumexp(pull, axis=1)  # (batch,)
    push = jax.nn.logsumexp(push, axis=1)  # (batch,)
    return jax.nn.softplus(pull + push)


class _Pairs(NamedTuple):
    """Which pairs have the same label and which have different ones."""

    positive: Array  # (batch, references)
    negative: Array  # (batch, references)


def _pairs(
    same_label: Array,
    valid: Array | None,
    remove_diagonal: bool,
) -> _Pairs:
    positive = same_label
    negative = ~same_label
    if remove_diagonal:
        # No example is compared with itself.
        itself = jnp.eye(len(same_label), dtype=bool)
        positive = positive & ~itself
    if valid is not None:
        positive = positive & valid[None, :]
        negative = negative & valid[None, :]
    return _Pairs(positive, negative)


def triplet(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    margin: float = 1.0,
    valid: Array | None = None,
) -> Array:
    """max(margin + farthest - nearest, 0) for each example.

    (batch,), (batch, features) -> (batch,)   `farthest` is the largest distance to an example of
    the same label, `nearest` the smallest to an example of another label. The value is 0 if the
    batch lacks either.
    Source: Hermans et al. 2017, In Defense of the Triplet Loss, section 2 (batch hard).

    >>> y, x = np.array([0, 0, 1]), np.array([[0.0], [1.0], [3.0]])
    >>> values = jax.jit(lambda y, x: triplet(y, x, margin=2.0))(y, x)
    >>> [round(v, 4) for v in values.tolist()]  # 2 + 1 - 3, 2 + 1 - 2, no pair
    [0.0, 1.0, 0.0]
    """
    x = floating(y_pred)
    labels = class_numbers(y_true).reshape(-1)
    difference = x[:, None, :] - x[None, :, :]  # (batch, batch, features)
    squared = jnp.square(difference).sum(-1)  # (batch, batch)
    # The gradient of the root is infinite at 0.
    apart = squared > 0
    root = jnp.sqrt(jnp.where(apart, squared, 1))
    distance = jnp.where(apart, root, 0)
    same_label = labels[:, None] == labels[None, :]  # (batch, batch)
    pairs = _pairs(same_label, valid, remove_diagonal=True)
    same = jnp.where(pairs.positive, distance, 0)
    farthest = jnp.max(same, 1)  # (batch,)
    other = jnp.where(pairs.negative, distance, -_LOG_ZERO)
    nearest = jnp.min(other, 1)  # (batch,)
    has_both = pairs.positive.any(1) & pairs.negative.any(1)
    values = jnp.maximum(margin + farthest - nearest, 0)
    return jnp.where(has_both, values, 0)


def info_nce(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    temperature: float = 0.1,
    valid: Array | None = None,
) -> Array:
    """-log softmax(cos(y_i, t_j) / temperature over j) at j = i: each must find its target.

    (batch, features), (batch, features) -> (batch,)
    Source: van den Oord et al. 2018, Contrastive Predictive Coding, section 2.3.

    >>> values = jax.jit(info_nce)(jnp.eye(2), jnp.eye(2), temperature=1.0)
    >>> [round(v, 4) for v in values.tolist()]  # log(1 + exp(-1))
    [0.3133, 0.3133]
    """
    t, y = pair(y_true, y_pred)
    t = unit_length(t, -1)
    y = unit_length(y, -1)
    similarity = y @ t.T / temperature  # (batch, batch)
    if valid is not None:
        similarity = jnp.where(valid[None, :], similarity, _LOG_ZERO)
    own: Array = jnp.diagonal(similarity)  # (batch,)
    return jax.nn.logsumexp(similarity, axis=1) - own


class Circle(Loss):
    """Pulls embeddings of one label together and pushes others apart.   See `circle`.

    (batch,) labels, (batch, features) of length 1 -> (batch,)   Each pair has its own weight.
    Examples whose value is 0 do not count in the mean.

    The embeddings must come from a layer such as `UnitNormalization`; the loss does not normalize.
    Raises ValueError for other shapes.

    >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> loss = jax.jit(Circle())
    >>> [round(loss(np.array(y), x).item(), 1) for y in ([0, 0, 1, 1], [0, 1, 0, 1])]
    [0.0, 134.4]
    """

    gathers = True

    gamma: float = positive(default=80.0)
    margin: float = not_negative(default=0.4)
    remove_diagonal: bool = True

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return self.valid_values(y_true, y_pred, None)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        return circle(
            y_true,
            y_pred,
            remove_diagonal=self.remove_diagonal,
            gamma=self.gamma,
            margin=self.margin,
            valid=valid,
        )

    def kept(self, y_true: Array, values: Array) -> Array | None:
        return values > 0

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        one_label_each(self, y_true, y_pred)


class Triplet(Loss):
    """The farthest same-label pair should be `margin` nearer than any other.   See `triplet`.

    (batch,) labels, (batch, features) -> (batch,)   Triplets are formed within a batch, which must
    hold several examples of a label. The mean counts examples whose value is 0.

    >>> loss = jax.jit(Triplet(margin=2.0))
    >>> y, x = np.array([0, 0, 1]), np.array([[0.0], [1.0], [3.0]])
    >>> round(loss(y, x).item(), 4)  # (0 + 1 + 0) / 3
    0.3333
    """

    gathers = True

    margin: float = not_negative(default=1.0)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return triplet(y_true, y_pred, self.margin)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        return triplet(y_true, y_pred, self.margin, valid)

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        one_label_each(self, y_true, y_pred)


class InfoNCE(Loss):
    """Each embedding must find its target among all targets of the batch.   See `info_nce`.

    (batch, features), (batch, features) -> (batch,)   The targets are embeddings of another view.

    The other targets of the batch are the negatives, so the loss grows with the batch size.

    >>> x = jnp.ones((4, 3))
    >>> round(jax.jit(InfoNCE())(x, x).item(), 4)  # all equal: log(4)
    1.3863
    """

    gathers = True

    targets = "classes"

    temperature: float = positive(default=0.1)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        return info_nce(y_true, y_pred, self.temperature)

    def valid_values(
        self,
        y_true: Array,
        y_pred: Array,
        valid: Array | None,
    ) -> Array:
        return info_nce(y_true, y_pred, self.temperature, valid)


def one_label_each(
    loss: Loss,
    y_true: HasShape,
    y_pred: HasShape,
) -> None:
    """Checks that there is one label for each embedding."""
    labels = tuple(y_true.shape)
    embeddings = tuple(y_pred.shape)
    batch = embeddings[:1]
    if len(embeddings) != 2 or labels not in (batch, (*batch, 1)):
        raise ValueError(
            f"{type(loss).__name__}: expected labels (batch,) and embeddings "
            f"(batch, features), received shapes {labels} and {embeddings}; flatten the "
            "embeddings, and pass class numbers"
        )


FUNCTIONS: Functions = {
    circle: Circle,
    triplet: Triplet,
    info_nce: InfoNCE,
}
