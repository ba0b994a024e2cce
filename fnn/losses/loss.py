"""Loss: the base class of losses; a frozen value that reduces and weights what `call` returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.fields import as_declared, one_of
from fnn.core.named import Named, function_name
from fnn.core.tree import SpecTree, Tree
from fnn.losses import checks
from fnn.losses.logits import Form
from fnn.losses.targets import (
    Shape,
    add_feature_axis,
    align,
    align_where_possible,
    as_arrays,
    as_float,
    at_least_float32,
    call_on_valid,
    class_numbers,
    fill_invalid,
    repeat_for_batch,
    spread,
)
from fnn.runtime.arithmetic import floating
from fnn.runtime.placement import gathered

REDUCTIONS = (
    "sum_over_batch_size",
    "mean",
    "mean_with_sample_weight",
    "sum",
    "none",
    None,
)

# The targets that a loss takes for predictions of shape (batch, ..., n):
# "elementwise"  the same shape, every entry by itself (mse, binary crossentropy)
# "classes"      the same shape, the last axis belongs together (one-hot, vectors)
# "labels"       class numbers, that shape without its last axis
# "any"          anything; a trailing axis of length 1 is added or dropped where that fits
Targets: TypeAlias = Literal["elementwise", "classes", "labels", "any"]


class Loss(Named, loadable=False):
    """How far predictions are from targets.   (batch, ..., n), (batch, ..., n) -> ()

    Subclass it and write `call(y_true, y_pred)`, which returns one value for each example (and
    step), as in Keras; further arguments are fields. `targets` declares what the loss takes (see
    `Targets`).

    `reduction` "sum_over_batch_size" (or "mean") divides the sum of the weighted values by their
    number, "mean_with_sample_weight" divides it by the sum of the weights, "sum" does not divide.
    With "none" or None, `loss(y_true, y_pred)` returns the values; training uses their sum.
    `dtype` is the dtype to compute in, by default float32, whatever the layers compute in.

    >>> class Absolute(Loss):
    ...     power: float = 1.0
    ...     def call(self, y_true, y_pred):
    ...         return jnp.mean(jnp.abs(y_true - y_pred) ** self.power, axis=-1)
    >>> Absolute(2.0)(jnp.ones((2, 1)), jnp.zeros((2, 1))).item()
    1.0
    """

    kind: ClassVar[str] = "loss"
    targets: ClassVar[Targets] = "any"
    # Each entry of the targets names one of two classes.
    two_classes: ClassVar[bool] = False
    # Replaces predictions that are not valid; the loss must be finite there.
    blank_prediction: ClassVar[float] = 1.0
    # Needs the whole batch, even if it is spread over several devices.
    gathers: ClassVar[bool] = False

    reduction: str | None = one_of(
        REDUCTIONS,
        default="sum_over_batch_size",
        kw_only=True,
    )
    dtype: str | None = field(default=None, kw_only=True)

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        if "_positions" in vars(cls):
            # Keras's base class has another order than its losses.
            return ["name", "reduction", "dtype"]
        return as_declared(cls, ("reduction", "name", "dtype"), own)

    def call(self, y_true: Tree, y_pred: Tree) -> Array:
        """One value for each example (and step), from aligned floating-point arrays."""
        raise TypeError(
            f"expected {type(self).__name__} to define call(y_true, y_pred), received a "
            "class without it; return one value for each example from it"
        )

    @property
    def logits(self) -> Form | None:
        """The form of logits that `on_logits()` takes; None if it takes probabilities only."""
        return None

    def on_logits(self) -> Loss:
        """The same loss of logits: used to train a network that ends in softmax or sigmoid.

        Training through logits is not possible if the activation is followed by anything but a
        reshaping (`Dropout`), or is computed inside a user's layer or function.
        """
        if self.logits:
            return self.replace(from_logits=True)
        return self

    def as_other(self, cls: type[Loss]) -> Loss:
        """A loss of another class with the same fields."""
        fields = {name: v for name, v in vars(self).items() if name[0] != "_"}
        return cls(**fields)

    def values(self, y_true: Tree, y_pred: Tree) -> Array:
        """One value for each example (and each step).   (batch, ..., n) -> (batch, ...)

        Predictions `(batch,)` of an elementwise loss are taken as `(batch, 1)`.
        Raises ValueError for shapes that do not fit.
        """
        y_true = as_arrays(y_true)
        y_pred = as_arrays(y_pred)
        if self.targets == "any":
            return self._values_of_any(y_true, y_pred)
        y_pred = as_float(y_pred, self.dtype)
        if self.targets == "labels":
            labels = class_numbers(align(y_true, y_pred, sparse=True))
            return self.call(labels, y_pred)
        has_more_axes = jnp.ndim(y_true) > y_pred.ndim
        if self.targets == "elementwise" or has_more_axes:
            y_pred = add_feature_axis(y_pred)
        return self._call_aligned(y_true, y_pred)

    def _values_of_any(self, y_true: Tree, y_pred: Tree) -> Array:
        y_pred = self._as_float(y_pred)
        if hasattr(y_true, "shape") and hasattr(y_pred, "shape"):
            y_true = align_where_possible(y_true, y_pred)
        return jnp.asarray(self.call(y_true, y_pred))

    def _as_float(self, y_pred: Tree) -> Tree:
        return jax.tree.map(lambda p: as_float(p, self.dtype), y_pred)

    def _call_aligned(self, y_true: Array, y_pred: Array) -> Array:
        aligned = align(y_true, y_pred)
        return self.call(aligned.astype(y_pred.dtype), y_pred)

    def kept(self, y_true: Tree, values: Array) -> Array | None:
        """Which of the values count, in the shape of `values`; None if all of them do."""
        return None

    def __call__(
        self,
        y_true: Tree,
        y_pred: Tree,
        sample_weight: ArrayLike | None = None,
    ) -> Array:
        """The loss as one number, or one weighted value each if the reduction is none.

        Two vectors `(n,)` are one example, as in Keras; `(n,)` with `(n, 1)` are n examples.
        """
        y_true = as_arrays(y_true)
        y_pred = as_arrays(y_pred)
        unreduced = self.reduction in (None, "none")
        # (n,) and (n,): one example of n entries.
        vectors = (
            self.targets in ("elementwise", "classes")
            and y_true.ndim == y_pred.ndim == 1
        )
        if not unreduced and not vectors:
            total, count = self.totals(y_true, y_pred, sample_weight)
            return _mean(total, count)
        if vectors:
            values = self._call_aligned(y_true, as_float(y_pred, self.dtype))
        else:
            values = self.values(y_true, y_pred)
        if unreduced:
            return _weighted(values, sample_weight)
        weight = None
        if sample_weight is not None:
            weight = jnp.asarray(sample_weight)
        total, count = reduce(values, weight, None, None, self.reduction)
        return _mean(total, count)

    def totals(
        self,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
        valid: ArrayLike | None = None,
    ) -> tuple[Array, Array]:
        """(total, count) in float32: their ratio is the loss, and those of batches can be added.

        `weight` `(batch,)` or `(batch, time)` scales the values. `valid` has such a shape too:
        entries where it is False contribute nothing to the total, the count or the gradient,
        even if they hold NaN. If nothing is valid, total and count are 0. With the reductions
        "sum" and "none" the total is the sum and the count is 1.
        """
        y_true = as_arrays(y_true)
        y_pred = as_arrays(y_pred)
        weights: Array | None = None
        if weight is not None:
            weights = repeat_for_batch(weight, y_pred)
        mask: Array | None = None
        if valid is not None:
            mask = jnp.asarray(valid, bool)
        if self.gathers:
            # Pairs of examples may lie on different devices.
            batch = (y_true, y_pred, weights, mask)
            y_true, y_pred, weights, mask = gathered(batch)
        y_pred = self._as_float(y_pred)
        if self.targets == "elementwise":
            # Weights and masks may belong to single entries.
            y_pred = add_feature_axis(y_pred, weights, mask)
            y_true = align(y_true, y_pred)
        if mask is not None:
            fill = self.blank_prediction
            y_true = jax.tree.map(lambda a: fill_invalid(a, mask, 0), y_true)
            y_pred = jax.tree.map(lambda a: fill_invalid(a, mask, fill), y_pred)
        values = self.valid_values(y_true, y_pred, mask)
        kept = self.kept(y_true, values)
        return reduce(values, weights, mask, kept, self.reduction)

    def valid_values(
        self,
        y_true: Tree,
        y_pred: Tree,
        valid: Array | None,
    ) -> Array:
        """The values of a batch whose entries that are not `valid` were replaced already.

        Losses that compare the entries of a batch with each other override it.
        """
        return call_on_valid(self.values, y_true, y_pred, valid)

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        """Raises ValueError if the shapes of targets and predictions do not fit."""
        if self.targets == "any":
            return
        sparse = self.targets == "labels"
        checks.shapes(self, y_true.shape, y_pred.shape, sparse=sparse)

    def check_targets(self, y_true: np.ndarray, y_pred: SpecTree) -> None:
        """Raises ValueError for target values that this loss cannot take (NaN, range)."""
        checks.finite(self, np.asarray(y_true))


def _mean(total: Array, count: Array) -> Array:
    return total / jnp.where(count == 0, 1, count)


def reduce(
    values: Array,
    weight: Array | None,
    valid: Array | None,
    kept: Array | None,
    reduction: str | None,
) -> tuple[Array, Array]:
    """The total of the weighted values that count, and the number to divide it by."""
    values = values.astype(at_least_float32(values))
    summed = reduction in ("sum", "none", None)
    if values.ndim == 0:
        # One number for the whole batch is the value of each entry, as in Keras.
        shapes = [a.shape for a in (valid, weight) if a is not None]
        if weight is None and summed:
            shapes = []
            if valid is not None:
                valid = valid.any()
        shape = max(shapes, key=len, default=())
        values = jnp.broadcast_to(values, shape)
    counted = jnp.ones(values.shape, bool)
    if valid is not None:
        counted = spread_mask(valid, values.shape)
    if kept is not None:
        counted = counted & kept
    weights = jnp.ones(values.shape, values.dtype)
    if weight is not None:
        weights = spread(weight, values.shape).astype(values.dtype)
    weighted = jnp.where(counted, values * weights, 0)
    total = weighted.sum()
    if summed:
        return total, jnp.ones((), values.dtype)
    if reduction == "mean_with_sample_weight":
        count = jnp.where(counted, weights, 0).sum()
    else:
        count = counted.sum().astype(values.dtype)
    return total, count


def spread_mask(valid: Array, shape: Shape) -> Array:
    """`valid` for values of `shape`; a value over several steps is valid if any step is."""
    if valid.ndim > len(shape):
        extra_axes = range(len(shape), valid.ndim)
        valid = valid.any(tuple(extra_axes))
    return spread(valid, shape)


def _weighted(values: Array, weight: ArrayLike | None) -> Array:
    """Values times their weights; a single number for the whole batch times each weight."""
    if weight is None:
        return values
    shape = values.shape or np.shape(weight)
    return values * spread(weight, shape).astype(values.dtype)


def pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    """Targets and predictions as arrays of the shape and dtype of the predictions."""
    y = floating(y_pred)
    t = align(jnp.asarray(y_true), y)
    return t.astype(y.dtype), y


# The loss class of each loss function.
Functions: TypeAlias = dict[Callable[..., Array], type[Loss]]


class FunctionLoss(Loss):
    """A user's function `(y_true, y_pred) -> values` as a loss.

    Targets come first, as in Keras; for optax functions, which take predictions first, see
    `OptaxLoss`. The function should return one value for each example (and step). If it returns
    one number for the batch and the batch has padded or masked entries, the function is called
    for each valid entry alone, and the mean of the results is the loss. A mean over entries is the
    same that way, a comparison between entries is not.

    >>> FunctionLoss(lambda y_true, y_pred: abs(y_true - y_pred))(jnp.ones(2), jnp.zeros(2)).item()
    1.0
    """

    function: Callable[[Tree, Tree], Array]

    @property
    def default_name(self) -> str:
        return function_name(self.function)

    def call(self, y_true: Tree, y_pred: Tree) -> Array:
        return self.function(y_true, y_pred)
