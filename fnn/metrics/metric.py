"""Metric: the base class of metrics; a frozen value that adds up batches and computes a number."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

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
from fnn.metrics.accumulator import Accumulator, accumulator_of, masked_weight
from fnn.runtime.placement import gathered
from fnn.variables import Variable, value_of

Sums: TypeAlias = dict[str, Array]
# The same as for losses.
Targets: TypeAlias = Literal["elementwise", "classes", "labels", "any"]


class Batch(NamedTuple):
    """A batch after `Metric.prepare`."""

    y_true: Tree
    y_pred: Tree
    weight: Array | None


def _sums_optional(result: Callable[..., Array]) -> Callable[..., Array]:
    """`result(self, sums)` that by default takes the sums kept by `update_state`."""

    @functools.wraps(result)
    def with_default(metric: Metric, sums: Sums | None = None) -> Array:
        if sums is None:
            sums = metric._accumulator.sums
        return result(metric, sums)

    return with_default


def _needs_sums(result: Callable[..., Array]) -> bool:
    """Whether this is a function of (self, sums) that cannot be called without sums."""
    parameters = [*inspect.signature(result).parameters.values()]
    return len(parameters) > 1 and parameters[1].default is parameters[1].empty


def _as_it_is(cls: type[Metric]) -> None:
    """The default of `Metric.on_subclass`: the class has pure functions already."""


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
    saved, and `fit` does not use them. Inside `jit`, `stateless_update_state`,
    `stateless_result` and `stateless_reset_state` take and return the values of `variables`.

    >>> bias.update_state(jnp.zeros(2), jnp.array([3.0, 4.0]))
    >>> bias.result().item(), bias([0.0], [5.0]).item(), bias == Bias()
    (3.5, 4.0, True)

    A class may also be written in Keras's way, with `add_weight`, `update_state(y_true, y_pred,
    sample_weight=None)`, `result()` and `reset_state()`; the pure functions are made from these.
    """

    kind: ClassVar[str] = "metric"
    targets: ClassVar[Targets] = "any"
    direction: ClassVar[str | None] = None
    # Needs the whole batch, even if it is spread over several devices.
    gathers: ClassVar[bool] = False
    # The sums of two batches add up to those of both.
    adds: ClassVar[bool] = True
    # The hook that adapts classes in Keras's way; set by `fnn.metrics.subclassed`.
    on_subclass: ClassVar[Callable[[type[Metric]], None]] = staticmethod(_as_it_is)

    dtype: str | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        Metric.on_subclass(cls)
        super().__init_subclass__(**kwargs)
        # Every `result` may be called without an argument, as in Keras.
        if "result" in vars(cls) and _needs_sums(vars(cls)["result"]):
            cls.result = _sums_optional(vars(cls)["result"])  # type: ignore[method-assign]

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        if "_positions" in vars(cls):
            # Keras's base class has another order than its metrics.
            return ["dtype", "name"]
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

    @property
    def _accumulator(self) -> Accumulator:
        """The sums that `update_state` keeps for this object."""
        return accumulator_of(self, self.init)

    def update_state(
        self,
        *batch: Tree,
        sample_weight: ArrayLike | None = None,
        **named: Tree,
    ) -> None:
        """Adds a batch, `(y_true, y_pred)` as for `update`, to the sums kept for this object."""
        # The rounding error of each batch is kept beside the sums.
        more = call_update(self.update, self.init(), batch, sample_weight, named)
        self._accumulator.add(more)

    def __call__(
        self,
        *batch: Tree,
        sample_weight: ArrayLike | None = None,
        **named: Tree,
    ) -> Array:
        """`update_state`, then `result()`: the metric over all batches so far."""
        if sample_weight is not None:
            named["sample_weight"] = sample_weight
        self.update_state(*batch, **named)
        return self.result()

    @property
    def variables(self) -> list[Variable]:
        """The sums that `update_state` keeps."""
        return [*self._accumulator.variables]

    def reset_state(self) -> None:
        """Resets the sums that `update_state` keeps."""
        self._accumulator.reset()

    def stateless_update_state(
        self,
        metric_variables: Sequence[Tree],
        *batch: Tree,
        **named: Tree,
    ) -> list[Array]:
        """The values of the variables after `update_state`, from those before; nothing is kept.

        Raises ValueError unless there is one value for each of `variables`.
        """
        sums = self._sums(metric_variables)
        weight = named.pop("sample_weight", None)
        updated = call_update(self.update, sums, batch, weight, named)
        return jax.tree.leaves(updated)

    def stateless_result(self, metric_variables: Sequence[Tree]) -> Array:
        """`result` for these values of the variables."""
        return self.result(self._sums(metric_variables))

    def stateless_reset_state(self) -> list[Array]:
        """The values of the variables before the first batch."""
        return jax.tree.leaves(self.init())

    def _sums(self, metric_variables: Sequence[Tree]) -> Tree:
        """The sums from a list of their values."""
        given = [jnp.asarray(value_of(value)) for value in metric_variables]
        zeros, structure = jax.tree.flatten(self.init())
        if len(given) != len(zeros):
            raise ValueError(
                f"{type(self).__name__}: expected the values of its {len(zeros)} variables, "
                f"received {len(given)}; start with stateless_reset_state()"
            )
        return jax.tree.unflatten(structure, given)

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


def call_update(
    update: Callable[..., Tree],
    sums: Tree,
    batch: tuple[Tree, ...],
    weight: Tree,
    named: dict[str, Tree],
) -> Tree:
    """`update` with the arguments of Keras's `update_state`."""
    if len(batch) > 2:
        weight = batch[2]
        batch = batch[:2]
    y_pred = named.get("y_pred")
    if len(batch) > 1:
        y_pred = batch[1]
    weight = masked_weight(y_pred, weight)
    if named:
        return update(sums, *batch, **named, weight=weight)
    if weight is not None:
        batch = (*batch, weight)
    return update(sums, *batch)


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
