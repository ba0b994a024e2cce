"""Aligning the shapes of targets with predictions, and broadcasting weights and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.context import leading
from fnn.core.tree import Tree
from fnn.runtime.placement import place_like

Shape = tuple[int, ...]


class HasShape(Protocol):
    """An array, or a description of one (`jax.ShapeDtypeStruct`)."""

    @property
    def shape(self) -> Shape: ...


def aligned_shape(
    true: Shape,
    predicted: Shape,
    *,
    sparse: bool = False,
) -> Shape:
    """The shape to which `align` brings targets of shape `true`."""
    wanted = predicted
    if sparse:
        wanted = predicted[:-1]
    allowed = (*wanted, 1)
    if len(wanted) > 1 and wanted[-1] == 1:
        allowed = wanted[:-1]
    if true in (wanted, allowed):
        return wanted
    described = f"{wanted} like the predictions"
    if sparse:
        described = f"{wanted} (class numbers) for predictions of shape {predicted}"
    raise ValueError(
        f"expected targets of shape {described}, received {true}; "
        f"{_advice(true, predicted, sparse)}"
    )


def _advice(
    true: Shape,
    predicted: Shape,
    sparse: bool,
) -> str:
    if true[:1] != predicted[:1]:
        return "pass one target for each example"
    if sparse and true == predicted:
        return (
            "these look one-hot: use the categorical form (categorical_crossentropy, "
            "CategoricalAccuracy), or argmax the labels"
        )
    labels = predicted[:-1]
    if not sparse and true in (labels, (*labels, 1)):
        return (
            "these look like class numbers: use the sparse form "
            "(sparse_categorical_crossentropy, SparseCategoricalAccuracy), or one-hot "
            "the labels (or end the model in one unit)"
        )
    return "change the last layer or reshape the targets; nothing is broadcast here"


def align(
    y_true: Any,
    y_pred: HasShape,
    *,
    sparse: bool = False,
) -> Any:
    """The targets, reshaped to fit the predictions. Every loss and metric uses this rule.

    Targets get the shape of the predictions; class numbers (`sparse`) get that shape without the
    last axis. Only a trailing axis of length 1 is added or removed, so `(N,)` fits `(N, 1)`.
    Nothing is broadcast: raises ValueError naming both shapes if they differ otherwise.

    >>> align(jnp.ones(4), jnp.ones((4, 1))).shape
    (4, 1)
    """
    true = tuple(y_true.shape)
    predicted = tuple(y_pred.shape)
    return y_true.reshape(aligned_shape(true, predicted, sparse=sparse))


def align_where_possible(y_true: Any, y_pred: HasShape) -> Any:
    """`align`, but targets whose shape does not fit are returned unchanged."""
    try:
        return align(y_true, y_pred)
    except ValueError:
        return y_true


def spread(weight: ArrayLike, shape: Shape) -> Array:
    """A weight or mask `(batch,)` or `(batch, time)`, broadcast to `shape`.

    Axes of length 1 are repeated as in NumPy, but axes are matched from the first one: `(3,)` is
    one weight for each of 3 examples. An extra trailing axis of length 1 is dropped.
    Raises ValueError if the axes differ.

    >>> spread(jnp.array([1, 2]), (2, 3)).tolist()
    [[1, 1, 1], [2, 2, 2]]
    >>> spread(jnp.array([[1, 2, 3]]), (2, 3)).tolist()
    [[1, 2, 3], [1, 2, 3]]
    """
    weight = jnp.asarray(weight)
    # (batch, 1) for values (batch,), as targets often come.
    one_too_many = weight.ndim == len(shape) + 1
    if one_too_many and weight.shape[-1] == 1:
        weight = weight.reshape(weight.shape[:-1])
    sizes = zip(weight.shape, shape, strict=False)
    fits = all(a in (1, b) for a, b in sizes)
    if weight.ndim > len(shape) or not fits:
        raise ValueError(
            f"expected weights (or a mask) of shape {shape[:1]} or {shape[:2]} for values "
            f"of shape {shape}, received {weight.shape}; pass one for each example or "
            "for each step"
        )
    return jnp.broadcast_to(leading(weight, len(shape)), shape)


def repeat_for_batch(weight: ArrayLike, y_pred: Tree) -> Array:
    """`weight`; if its first axis has length 1, it is repeated for every example.

    >>> repeat_for_batch(jnp.array([[1, 2]]), jnp.ones((2, 2))).tolist()
    [[1, 2], [1, 2]]
    """
    weight = jnp.asarray(weight)
    first = jax.tree.leaves(y_pred)[0]
    if weight.shape[:1] != (1,) or not first.ndim:
        return weight
    shape = (len(first), *weight.shape[1:])  # (batch, ...)
    return jnp.broadcast_to(weight, shape)


def fill_invalid(
    x: ArrayLike,
    valid: Array,
    fill: float,
) -> Array:
    """`x` with `fill` in place of entries that are not valid, so that even NaN is removed.

    `valid` has the first axes of the predictions: (batch,), (batch, time) or more. If `x` lacks
    the last of these axes (one target per sequence, or labels of another length), an entry is
    replaced if none of its steps is valid.
    """
    x = jnp.asarray(x)
    while valid.ndim > 1 and valid.shape[1:] != x.shape[1 : valid.ndim]:
        valid = valid.any(-1)
    keep = spread(valid, x.shape)
    filling = jnp.asarray(fill, x.dtype)
    return jnp.where(keep, x, filling)


def call_on_valid(
    function: Callable[[Tree, Tree], Array],
    y_true: Tree,
    y_pred: Tree,
    valid: Array | None,
) -> Array:
    """`function` of a batch in which some entries are padded or masked.

    If it returns one number for the whole batch and some entries are not valid, it is called
    once for each entry instead. Any mean over entries comes out the same that way.
    """
    result = jax.eval_shape(function, y_true, y_pred)
    if valid is None or result.ndim:
        return function(y_true, y_pred)
    leaves = jax.tree.leaves((y_true, y_pred))
    entries = valid
    if any(leaf.shape[: valid.ndim] != valid.shape for leaf in leaves):
        # Some arrays have no time axis: an example is valid if any of its steps is.
        further_axes = range(1, valid.ndim)
        entries = valid.any(tuple(further_axes))

    def as_batch_of_one(a: Array) -> Array:
        ones = (1,) * entries.ndim
        return a.reshape(ones + a.shape)

    def one_entry(y_true: Tree, y_pred: Tree) -> Array:
        y_true = jax.tree.map(as_batch_of_one, y_true)
        return function(y_true, jax.tree.map(as_batch_of_one, y_pred))

    def whole_batch(y_true: Tree, y_pred: Tree) -> Array:
        value = jnp.broadcast_to(function(y_true, y_pred), entries.shape)
        return place_like(value, entries)

    each_entry = one_entry
    # Over examples, and over steps if there are any.
    for _ in range(entries.ndim):
        each_entry = jax.vmap(each_entry)
    all_valid = entries.all()
    values: Array
    values = jax.lax.cond(all_valid, whole_batch, each_entry, y_true, y_pred)
    return values


def add_feature_axis(y_pred: Array, *weights: Array | None) -> Array:
    """`y_pred` with a trailing axis of length 1, if each of its entries has its own weight.

    Predictions `(batch,)`, or `(batch, time)` under a mask `(batch, time)`, are single numbers
    and not vectors, over which a loss would take the mean.
    """
    given = [w for w in weights if w is not None and w.ndim > 1]
    weighted_by_entry = any(w.shape == y_pred.shape for w in given)
    if y_pred.ndim == 1 or (weighted_by_entry and y_pred.shape[-1] != 1):
        return y_pred.reshape(*y_pred.shape, 1)
    return y_pred


def as_arrays(x: Tree) -> Tree:
    """`x` with arrays as leaves; nested lists of plain numbers become one array.

    >>> as_arrays([[1.0], [2.0]]).shape
    (2, 1)
    """
    plain_numbers = (bool, int, float)
    leaves = jax.tree.leaves(x)
    if not all(isinstance(leaf, plain_numbers) for leaf in leaves):
        return jax.tree.map(jnp.asarray, x)
    if isinstance(x, dict):
        return x
    return jnp.asarray(x)


def as_float(x: ArrayLike, dtype: str | None = None) -> Array:
    """`x` in `dtype`; by default in float32, or float64 if it is that already."""
    x = jnp.asarray(x)
    if dtype:
        return x.astype(dtype)
    return x.astype(at_least_float32(x))


def at_least_float32(x: Array) -> str:
    """The dtype to compute a loss in: float64 for float64 values, else float32."""
    if x.dtype == "float64":
        return "float64"
    return "float32"


def class_numbers(labels: ArrayLike) -> Array:
    """Labels as integers that can be compared with any number of classes.

    In JAX `uint8(1) < 256` is False, because 256 does not fit in uint8.
    """
    labels = jnp.asarray(labels)
    dtype = "int32"
    if labels.dtype == "int64":
        dtype = "int64"
    return labels.astype(dtype)
