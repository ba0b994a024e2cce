"""Loss: a frozen value that says how far predictions are from targets; weighting and reduction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arithmetic import floating
from fnn.core.fields import as_declared, one_of
from fnn.core.named import Named, function_name
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.targets import (
    align,
    align_where_possible,
    arrays,
    as_float,
    blank,
    class_numbers,
    entry_values,
    for_each_example,
    one_value_per_entry,
    spread,
)
from fnn.runtime.placement import gathered

EPSILON = (
    1e-7  # Keras's `epsilon()`: the bound that keeps logarithms and quotients finite
)

REDUCTIONS = (
    "sum_over_batch_size",
    "mean",
    "mean_with_sample_weight",
    "sum",
    "none",
    None,
)

# What the targets of a loss are beside predictions (batch, ..., n):
# "elementwise"  the same shape, each entry for itself (mse, binary crossentropy)
# "classes"      the same shape, the last axis belongs together (one-hot, vectors)
# "labels"       class numbers, that shape without its last axis
# "any"          what the loss makes of them; a trailing axis of 1 is evened out where that fits
Targets: TypeAlias = Literal["elementwise", "classes", "labels", "any"]


class Loss(Named, loadable=False):
    """How far predictions are from targets.   (batch, ..., n), (batch, ..., n) -> ()

    Subclass it and write `call(y_true, y_pred)`, one value for each example (and step), as in
    Keras; further arguments are fields. `targets` says what fits (see `Targets`).

    `reduction` "sum_over_batch_size" (also "mean") divides the sum of the weighted values by how
    many there are, "mean_with_sample_weight" by the sum of the weights, "sum" by nothing;
    "none" and None leave the values apart in `loss(y_true, y_pred)` and sum them in training.
    `dtype` is the one to compute in, float32 if None, whatever the layers compute in.

    >>> class Absolute(Loss):
    ...     power: float = 1.0
    ...     def call(self, y_true, y_pred):
    ...         return jnp.mean(jnp.abs(y_true - y_pred) ** self.power, axis=-1)
    >>> Absolute(2.0)(jnp.ones((2, 1)), jnp.zeros((2, 1))).item()
    1.0
    """

    kind: ClassVar[str] = "loss"
    targets: ClassVar[Targets] = "any"
    two_classes: ClassVar[bool] = (
        False  # each entry of the targets names one of two classes
    )
    blank_prediction: ClassVar[float] = (
        1.0  # stands where an entry is not valid: finite in all
    )
    gathers: ClassVar[bool] = (
        False  # it takes a batch that lies on several devices as a whole
    )

    reduction: str | None = one_of(
        REDUCTIONS, default="sum_over_batch_size", kw_only=True
    )
    dtype: str | None = field(default=None, kw_only=True)

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        return as_declared(cls, ("reduction", "name", "dtype"), own)

    def call(self, y_true: Any, y_pred: Any) -> Array:
        """One value for each example (and step); y_true and y_pred fit and are floating point."""
        raise TypeError(
            f"expected {type(self).__name__} to define call(y_true, y_pred), received a class "
            "without it; return one value for each example from it"
        )

    @property
    def logits(self) -> Form | None:
        """What `on_logits()` takes in place of probabilities; None if that is no other loss."""
        return None

    def on_logits(self) -> Loss:
        """The same loss of `logits`: where a network ends in softmax or sigmoid, it trains so.

        A gradient cannot be saved where something else than a reshaping follows the activation
        (`Dropout`), or where it is computed inside a layer or function of yours.
        """
        return self.replace(from_logits=True) if self.logits else self

    def as_other(self, cls: type[Loss]) -> Loss:
        """A loss of another class with the same fields."""
        return cls(
            **{name: value for name, value in vars(self).items() if name[0] != "_"}
        )

    def values(self, y_true: Any, y_pred: Any) -> Array:
        """One value for each example (and each step).   (batch, ..., n) -> (batch, ...)

        Where each entry counts for itself, predictions `(batch,)` are `(batch, 1)`.
        Raises ValueError for shapes that do not fit.
        """
        y_true, y_pred = arrays(y_true), arrays(y_pred)
        if self.targets == "any":
            y_pred = jax.tree.map(lambda p: as_float(p, self.dtype), y_pred)
            one = hasattr(y_true, "shape") and hasattr(y_pred, "shape")
            return jnp.asarray(
                self.call(
                    align_where_possible(y_true, y_pred) if one else y_true, y_pred
                )
            )
        y_pred = as_float(y_pred, self.dtype)
        if self.targets == "labels":
            return self.call(class_numbers(align(y_true, y_pred, sparse=True)), y_pred)
        if self.targets == "elementwise" or jnp.ndim(y_true) > y_pred.ndim:
            y_pred = one_value_per_entry(y_pred)
        return self.call(align(y_true, y_pred).astype(y_pred.dtype), y_pred)

    def kept(self, y_true: Any, values: Array) -> Array | None:
        """Which of the values count at all, in the shape of `values`; None for all of them."""
        return None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Array:
        """The loss as one number (the values, weighted, if the reduction is none).

        Two vectors `(n,)` are one example, as in Keras; `(n,)` beside `(n, 1)` are n of them.
        """
        y_true, y_pred = arrays(y_true), arrays(y_pred)
        vectors = (
            self.targets in ("elementwise", "classes")
            and y_true.ndim == y_pred.ndim == 1
        )
        if self.reduction in (None, "none") or vectors:
            values = (
                self._of_vectors(y_true, y_pred)
                if vectors
                else self.values(y_true, y_pred)
            )
            if self.reduction in (None, "none"):
                return (
                    values
                    if sample_weight is None
                    else _weighted(values, sample_weight)
                )
            weight = None if sample_weight is None else jnp.asarray(sample_weight)
            total, count = reduce(values, weight, None, None, self.reduction)
        else:
            total, count = self.totals(y_true, y_pred, sample_weight)
        return total / jnp.where(count == 0, 1, count)

    def _of_vectors(self, y_true: Array, y_pred: Array) -> Array:
        y_pred = as_float(y_pred, self.dtype)
        return self.call(align(y_true, y_pred).astype(y_pred.dtype), y_pred)

    def totals(
        self, y_true: Any, y_pred: Any, weight: Any = None, valid: Any = None
    ) -> tuple[Array, Array]:
        """(total, count) in float32, whose ratio is the loss; those of several batches add.

        `weight` `(batch,)` or `(batch, time)` scales values. `valid` of such a shape, True where an
        entry is real, takes the others out of sum and count, whatever they hold, NaN included, and
        out of the gradient. With nothing valid total and count are 0. For the reductions "sum" and
        "none" the total is the sum and the count 1.
        """
        y_true, y_pred = arrays(y_true), arrays(y_pred)
        weight = None if weight is None else for_each_example(weight, y_pred)
        valid = None if valid is None else jnp.asarray(valid, bool)
        if self.gathers:
            y_true, y_pred, weight, valid = gathered((y_true, y_pred, weight, valid))
        y_pred = jax.tree.map(lambda p: as_float(p, self.dtype), y_pred)
        if self.targets == "elementwise":
            y_pred = one_value_per_entry(y_pred, weight, valid)
            y_true = align(y_true, y_pred)
        if valid is not None:
            y_true = jax.tree.map(lambda a: blank(a, valid, 0), y_true)
            y_pred = jax.tree.map(
                lambda a: blank(a, valid, self.blank_prediction), y_pred
            )
        values = self.valid_values(y_true, y_pred, valid)
        kept = self.kept(y_true, values)
        return reduce(values, weight, valid, kept, self.reduction)

    def valid_values(self, y_true: Any, y_pred: Any, valid: Array | None) -> Array:
        """The values of a batch of which `valid` says what is real; the rest is blank by now.

        Losses in which the entries of a batch see each other write it.
        """
        return entry_values(self.values, y_true, y_pred, valid)

    def check(self, y_true: Any, y_pred: Any) -> None:
        """Raises ValueError if targets and predictions of such shapes do not fit."""
        if self.targets == "any":
            return
        checks.shapes(self, y_true.shape, y_pred.shape, sparse=self.targets == "labels")

    def check_targets(self, y_true: np.ndarray, y_pred: Any) -> None:
        """Raises ValueError for targets on the host that this loss cannot take (NaN, range)."""
        checks.finite(self, np.asarray(y_true))


def reduce(
    values: Array,
    weight: Array | None,
    valid: Array | None,
    kept: Array | None,
    reduction: Any,
) -> tuple[Array, Array]:
    """The total of the weighted values that count, and what to divide it by."""
    values = values.astype(values.dtype if values.dtype == "float64" else "float32")
    if (
        values.ndim == 0
    ):  # one number for the whole batch: that of each entry, as in Keras
        shapes = [a.shape for a in (valid, weight) if a is not None]
        if weight is None and reduction in ("sum", "none", None):
            shapes, valid = [], None if valid is None else valid.any()
        values = jnp.broadcast_to(values, max(shapes, key=len, default=()))
    counted = (
        jnp.ones(values.shape, bool)
        if valid is None
        else spread_mask(valid, values.shape)
    )
    counted = counted if kept is None else counted & kept
    weights = jnp.ones(values.shape, values.dtype)
    if weight is not None:
        weights = spread(weight, values.shape).astype(values.dtype)
    total = jnp.where(counted, values * weights, 0).sum()
    if reduction in ("sum", "none", None):
        return total, jnp.ones((), values.dtype)
    if reduction == "mean_with_sample_weight":
        count = jnp.where(counted, weights, 0).sum()
    else:
        count = counted.sum().astype(values.dtype)
    return total, count


def spread_mask(valid: Array, shape: tuple[int, ...]) -> Array:
    """`valid` for values of `shape`; a value over several steps counts if any of them is valid."""
    if valid.ndim > len(shape):
        valid = valid.any(tuple(range(len(shape), valid.ndim)))
    return spread(valid, shape)


def _weighted(values: Array, weight: Any) -> Array:
    """Values times their weights; one number for the whole batch times each."""
    shape = values.shape or jnp.shape(weight)
    return values * spread(weight, shape).astype(values.dtype)


def pair(y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Both in the shape and dtype of the predictions (see `losses.targets.align`)."""
    y_pred = floating(y_pred)
    return align(jnp.asarray(y_true), y_pred).astype(y_pred.dtype), y_pred


class FunctionLoss(Loss):
    """A function `(y_true, y_pred) -> values` of yours as a loss.

    Targets come first, as in Keras; functions of optax, which take predictions first, have
    `OptaxLoss`. The function should return one value for each example (and step). Where it returns
    one number for the batch, a batch with padded or masked entries gets the mean of what it returns
    for each real entry alone: the same for a mean over entries, not for a comparison between them.

    >>> FunctionLoss(lambda y_true, y_pred: abs(y_true - y_pred))(jnp.ones(2), jnp.zeros(2)).item()
    1.0
    """

    function: Callable[[Any, Any], Any]

    @property
    def default_name(self) -> str:
        return function_name(self.function)

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return self.function(y_true, y_pred)
