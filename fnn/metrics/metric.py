"""Metric: the base class of metrics; a frozen value that adds up batches and computes a number."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core import arguments
from fnn.core.fields import as_declared
from fnn.core.named import Named
from fnn.core.tree import SpecTree, Tree
from fnn.losses import checks
from fnn.losses.targets import (
    add_feature_axis,
    align,
    align_where_possible,
    as_arrays,
    as_float,
    class_numbers,
    fill_invalid,
    repeat_for_batch,
    spread,
)
from fnn.metrics.accumulator import accumulator_of
from fnn.runtime.placement import gathered

Sums: TypeAlias = dict[str, Array]
# The same as for losses.
Targets: TypeAlias = Literal["elementwise", "classes", "labels", "any"]


class Batch(NamedTuple):
    """A batch after `Metric.prepare`."""

    y_true: Tree
    y_pred: Tree
    weight: Array | None


def _accumulated(metric: Metric) -> Sums:
    """The sums that `update_state` keeps for this object; zeros before the first batch."""
    sums: Sums | None = accumulator_of(metric).sums
    if sums is None:
        return metric.init()
    return sums


def _sums_optional(result: Callable[..., Array]) -> Callable[..., Array]:
    """`result(self, sums)` that by default takes the sums kept by `update_state`."""

    @functools.wraps(result)
    def with_default(metric: Metric, sums: Sums | None = None) -> Array:
        if sums is None:
            sums = _accumulated(metric)
        return result(metric, sums)

    return with_default


class Metric(Named, loadable=False):
    """How good predictions are: a number computed from sums over all batches.

    It has three pure functions: `init() -> sums`, `result(sums) -> number` and
    `update(sums, y_true, y_pred, weight=None) -> sums`. Batches are only added up, so that their
    size and order and the number of devices make no difference. `weight` is `(batch,)` or
    `(batch, time)`; entries of weight 0 are ignored, even if they hold NaN. The sums are float32.
    `fit`, `evaluate` and `update_state` compensate rounding errors; a hand-written loop over
    `update` does not, and loses a batch that weighs less than 2**-24 of all before it.

    A metric that is a mean over examples defines `values(y_true, y_pred)`; any other defines the
    three functions. `targets` declares the shape of the targets: "elementwise" and "classes" that
    of the predictions, "labels" that shape without its last axis, "any" anything.
    `direction` is "max" or "min", whichever is better, or None.

    >>> class Bias(Metric):
    ...     def values(self, y_true, y_pred):
    ...         return y_pred - y_true
    >>> bias = Bias()
    >>> bias.result(bias.update(bias.init(), jnp.zeros(2), jnp.array([1.0, 2.0]))).item()
    1.5

    A hand-written loop may use Keras's stateful interface: `update_state(y_true, y_pred)`,
    `result()`, both at once `metric(y_true, y_pred)`, and `reset_state()`. Its sums (`variables`)
    are stored outside the metric, which stays a value: they are not compared, printed, copied or
    saved, and `fit` does not use them. This interface does not work inside `jit`.

    >>> bias.update_state(jnp.zeros(2), jnp.array([3.0, 4.0]))
    >>> bias.result().item(), bias([0.0], [5.0]).item(), bias == Bias()
    (3.5, 4.0, True)
    """

    kind: ClassVar[str] = "metric"
    targets: ClassVar[Targets] = "any"
    direction: ClassVar[str | None] = None
    # Needs the whole batch, even if it is spread over several devices.
    gathers: ClassVar[bool] = False

    dtype: str | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        arguments.refuse_methods(
            cls,
            (
                "update_state",
                "reset_state",
                "reset_states",
                "add_weight",
                "add_variable",
            ),
            "values(y_true, y_pred), or init, update and result",
            "return zeros from init() (instead of calling add_weight), the new sums from "
            "update(sums, y_true, y_pred, weight), and the number from result(sums)",
        )
        # Every `result` may be called without an argument, as in Keras.
        if "result" in vars(cls):
            cls.result = _sums_optional(vars(cls)["result"])  # type: ignore[method-assign]

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        return as_declared(cls, ("name", "dtype"), own)

    def values(self, y_true: Tree, y_pred: Tree) -> Array:
        """One value for each example (and step); the metric is their mean."""
        raise TypeError(
            f"expected {type(self).__name__} to define values(y_true, y_pred), or init, "
            "update and result, received a class without them; return one value for each "
            "example"
        )

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        """The sums before the first batch: zeros.

        Metrics with one sum per class take the number of classes from the shapes of `y_true` and
        `y_pred`. Without them the zeros are scalars, which the first update broadcasts.
        """
        return {"total": jnp.zeros(()), "count": jnp.zeros(())}

    def update(
        self,
        sums: Sums,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
    ) -> Sums:
        """The sums after one more batch."""
        batch = self.prepare(y_true, y_pred, weight)
        values = self.values(batch.y_true, batch.y_pred)
        return add_mean(sums, values, batch.weight)

    @_sums_optional
    def result(self, sums: Sums) -> Array:
        """The metric, computed from the sums; 0 if they are empty.

        Without an argument, computed from the sums that `update_state` keeps.
        """
        return divide(sums["total"], sums["count"])

    def update_state(
        self,
        *batch: Tree,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        """Adds a batch, `(y_true, y_pred)` as for `update`, to the sums kept for this object."""
        if sample_weight is not None:
            batch = (*batch, sample_weight)
        # The rounding error of each batch is kept beside the sums.
        zeros = self.init()
        more = self.update(zeros, *batch)
        accumulator_of(self).add(more, zeros)

    def __call__(self, *batch: Tree, sample_weight: ArrayLike | None = None) -> Array:
        """`update_state`, then `result()`: the metric over all batches so far."""
        self.update_state(*batch, sample_weight=sample_weight)
        return self.result()

    @property
    def variables(self) -> list[Array]:
        """The current sums that `update_state` keeps."""
        return jax.tree.leaves(_accumulated(self))

    def reset_state(self) -> None:
        """Resets the sums that `update_state` keeps."""
        accumulator_of(self).reset()

    def prepare(
        self,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None,
    ) -> Batch:
        """Aligned targets and floating-point predictions, with entries of weight 0 replaced."""
        y_true = as_arrays(y_true)
        y_pred = as_arrays(y_pred)
        weights: Array | None = None
        if weight is not None:
            weights = as_float(repeat_for_batch(weight, y_pred))
        if self.gathers:
            y_true, y_pred, weights = gathered((y_true, y_pred, weights))
        if self.targets == "any":
            if hasattr(y_true, "shape") and hasattr(y_pred, "shape"):
                y_true = align_where_possible(y_true, y_pred)
        else:
            y_pred = as_float(y_pred, self.dtype)
            if self.targets == "elementwise":
                y_pred = add_feature_axis(y_pred, weights)
            y_true = self._aligned(y_true, y_pred)
        if weights is not None:
            counted = weights != 0
            y_true = jax.tree.map(lambda a: fill_invalid(a, counted, 0), y_true)
            y_pred = jax.tree.map(lambda a: fill_invalid(a, counted, 1), y_pred)
        return Batch(y_true, y_pred, weights)

    def _aligned(self, y_true: Array, y_pred: Array) -> Array:
        if self.targets == "labels":
            return class_numbers(align(y_true, y_pred, sparse=True))
        return as_float(align(y_true, y_pred))

    def check(self, y_true: SpecTree, y_pred: SpecTree) -> None:
        """Raises ValueError if the shapes of targets and predictions do not fit."""
        if self.targets == "any":
            return
        sparse = self.targets == "labels"
        checks.shapes(self, y_true.shape, y_pred.shape, sparse=sparse)


def add_mean(
    sums: Sums,
    values: ArrayLike,
    weight: Array | None,
) -> Sums:
    """The sums of a mean, after adding weighted values."""
    values = as_float(values)
    if weight is None:
        weight = jnp.ones(())
    extra_axes = tuple(range(values.ndim, weight.ndim))
    one_too_many = len(extra_axes) == 1 and weight.shape[-1] == 1
    if extra_axes and not one_too_many:
        # Each value stands for several steps.
        weight = weight.mean(extra_axes)
    weights = spread(weight, values.shape)
    weighted = jnp.where(weights != 0, values * weights, 0)
    return {
        "total": sums["total"] + weighted.sum(),
        "count": sums["count"] + weights.sum(),
    }


def weights_like(y: Array, weight: Array | None) -> Array:
    """The weight of each entry of `y`; ones if there are no weights."""
    if weight is None:
        return jnp.ones(y.shape)
    return spread(weight, y.shape)


def add(sums: Sums, more: Sums) -> Sums:
    """Sums of the same names, added."""
    return {name: total + more[name] for name, total in sums.items()}


def divide(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    quotient = a / jnp.where(b == 0, 1, b)
    return jnp.where(b == 0, 0, quotient)


class Mean(Metric):
    """The mean of values: `update(sums, values, weight)`, without targets.

    >>> mean = Mean()
    >>> mean.result(mean.update(mean.init(), jnp.array([1.0, 3.0]))).item()
    2.0
    """

    def update(  # type: ignore[override]
        self,
        sums: Sums,
        values: ArrayLike,
        weight: ArrayLike | None = None,
    ) -> Sums:
        if weight is None:
            return add_mean(sums, values, None)
        return add_mean(sums, values, as_float(weight))


class Sum(Metric):
    """The sum of values: `update(sums, values, weight)`, without targets.

    >>> total = Sum()
    >>> total.result(total.update(total.init(), jnp.array([1.0, 3.0]))).item()
    4.0
    """

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Sums:
        return {"total": jnp.zeros(())}

    def update(  # type: ignore[override]
        self,
        sums: Sums,
        values: ArrayLike,
        weight: ArrayLike | None = None,
    ) -> Sums:
        mean = Mean()
        more = mean.update(mean.init(), values, weight)
        return add(sums, more)

    def result(self, sums: Sums) -> Array:
        return sums["total"]
