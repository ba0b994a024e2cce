"""Targets and predictions: how their shapes are brought together, and weights spread over them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.masking import leading
from fnn.runtime.placement import place_like

Shape = tuple[int, ...]


def aligned_shape(true: Shape, predicted: Shape, *, sparse: bool = False) -> Shape:
    """The shape that targets of shape `true` take beside predictions; see `align`."""
    wanted = predicted[:-1] if sparse else predicted
    ends_in_one = wanted[1:] != () and wanted[-1] == 1
    if true == wanted or (true == wanted[:-1] if ends_in_one else true == (*wanted, 1)):
        return wanted
    raise ValueError(
        f"expected targets of shape {wanted}"
        + (f" (class numbers) for predictions of shape {predicted}" if sparse else "")
        + ("" if sparse else " like the predictions")
        + f", received {true}; {_advice(true, predicted, sparse)}"
    )


def _advice(true: Shape, predicted: Shape, sparse: bool) -> str:
    if true[:1] != predicted[:1]:
        return "give as many targets as there are examples"
    if sparse and true == predicted:
        return (
            "these look one-hot: use the categorical form (categorical_crossentropy, "
            "CategoricalAccuracy), or argmax the labels"
        )
    if not sparse and true in (predicted[:-1], (*predicted[:-1], 1)):
        return (
            "these look like class numbers: use the sparse form (sparse_categorical_crossentropy"
            ", SparseCategoricalAccuracy), or one-hot the labels (or end the model in one unit)"
        )
    return "change the last layer or reshape the targets; nothing is broadcast here"


def align(y_true: Any, y_pred: Any, *, sparse: bool = False) -> Any:
    """The targets in the shape that fits the predictions: this is the one rule for it.

    Dense targets take the shape of the predictions, class numbers (`sparse`) that shape without its
    last axis. An axis of length 1 at the end is added or removed, so `(N,)` fits `(N, 1)`; nothing
    else changes. Raises ValueError naming both shapes for all that would broadcast.

    >>> align(jnp.ones(4), jnp.ones((4, 1))).shape
    (4, 1)
    """
    shape = aligned_shape(tuple(y_true.shape), tuple(y_pred.shape), sparse=sparse)
    return y_true.reshape(shape)


def align_where_possible(y_true: Any, y_pred: Any) -> Any:
    """`align` where the shapes allow it, else the targets as they are."""
    try:
        return align(y_true, y_pred)
    except ValueError:
        return y_true


def spread(weight: Any, shape: Shape) -> Array:
    """A weight or mask `(batch,)` or `(batch, time)` repeated over the further axes of `shape`.

    Axes of length 1 are repeated too, as in NumPy, but axes are matched from the first on: `(3,)`
    is a weight for each of 3 examples. An axis of length 1 too many at the end is dropped.
    Raises ValueError if the axes differ.

    >>> spread(jnp.array([1, 2]), (2, 3)).tolist()
    [[1, 1, 1], [2, 2, 2]]
    >>> spread(jnp.array([[1, 2, 3]]), (2, 3)).tolist()
    [[1, 2, 3], [1, 2, 3]]
    """
    weight = jnp.asarray(weight)
    if weight.ndim == len(shape) + 1 and weight.shape[-1] == 1:
        weight = weight.reshape(weight.shape[:-1])
    if weight.ndim > len(shape) or any(
        a not in (1, b) for a, b in zip(weight.shape, shape, strict=False)
    ):
        raise ValueError(
            f"expected weights (or a mask) of shape {shape[:1]} or {shape[:2]} for values of shape "
            f"{shape}, received {weight.shape}; give one for each example or for each step"
        )
    return jnp.broadcast_to(leading(weight, len(shape)), shape)


def for_each_example(weight: Any, y_pred: Any) -> Array:
    """A weight whose first axis has length 1, repeated for every example of the predictions.

    >>> for_each_example(jnp.array([[1, 2]]), jnp.ones((2, 2))).tolist()
    [[1, 2], [1, 2]]
    """
    weight, leaves = jnp.asarray(weight), jax.tree.leaves(y_pred)
    if weight.shape[:1] != (1,) or not leaves[0].ndim:
        return weight
    return jnp.broadcast_to(weight, (len(leaves[0]), *weight.shape[1:]))


def blank(x: Any, valid: Array, fill: float) -> Array:
    """`x` with `fill` where its entry is not valid: nothing of it, NaN included, gets through.

    `valid` has the first axes of predictions: (batch,), (batch, time) or more. Where `x` lacks the
    last of them (one target for a whole sequence, labels of a length of their own), an entry goes
    when none of its steps is valid.
    """
    x = jnp.asarray(x)
    while valid.ndim > 1 and valid.shape[1:] != x.shape[1 : valid.ndim]:
        valid = valid.any(-1)
    return jnp.where(spread(valid, x.shape), x, jnp.asarray(fill, x.dtype))


def entry_values(function: Any, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
    """What `function` returns for a batch of which `valid` says what is real.

    If that is one number for the batch, and not all of the batch is real, then the numbers that it
    returns for each entry alone: their mean is the same number for every mean over entries.
    """
    whole = jax.eval_shape(function, y_true, y_pred)
    if valid is None or whole.ndim:
        return function(y_true, y_pred)
    leaves = jax.tree.leaves((y_true, y_pred))
    if any(leaf.shape[: valid.ndim] != valid.shape for leaf in leaves):
        valid = valid.any(
            tuple(range(1, valid.ndim))
        )  # some have no such steps: by rows

    def alone(y_true: Any, y_pred: Any) -> Array:
        one = lambda a: a.reshape((1,) * valid.ndim + a.shape)
        return function(jax.tree.map(one, y_true), jax.tree.map(one, y_pred))

    each = alone
    for _ in range(valid.ndim):
        each = jax.vmap(each)
    together = lambda t, y: place_like(
        jnp.broadcast_to(function(t, y), valid.shape), valid
    )
    return jax.lax.cond(valid.all(), together, each, y_true, y_pred)


def one_value_per_entry(y_pred: Any, *weights: Any) -> Any:
    """`y_pred` with an axis of length 1 added where each of its entries has a weight of its own.

    So predictions `(batch,)`, or `(batch, time)` under a mask `(batch, time)`, are single numbers
    and not vectors over which a loss takes a mean.
    """
    own = any(w is not None and w.ndim > 1 and w.shape == y_pred.shape for w in weights)
    if y_pred.ndim == 1 or (own and y_pred.shape[-1] != 1):
        return y_pred.reshape(*y_pred.shape, 1)
    return y_pred


def arrays(x: Any) -> Any:
    """`x` with arrays at its leaves; nested lists of plain numbers are one array.

    >>> arrays([[1.0], [2.0]]).shape
    (2, 1)
    """
    if all(isinstance(leaf, (bool, int, float)) for leaf in jax.tree.leaves(x)):
        return x if isinstance(x, dict) else jnp.asarray(x)
    return jax.tree.map(jnp.asarray, x)


def as_float(x: Any, dtype: str | None = None) -> Array:
    """`x` in `dtype`, or in float32 unless it is float64 already."""
    x = jnp.asarray(x)
    return x.astype(dtype or (x.dtype if x.dtype == "float64" else "float32"))


def class_numbers(labels: Any) -> Array:
    """Labels as integers, wide enough to be compared with any number of classes.

    In JAX `uint8(1) < 256` is False: 256 has no place in uint8.
    """
    labels = jnp.asarray(labels)
    return labels.astype("int64" if labels.dtype == "int64" else "int32")
