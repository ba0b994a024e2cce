"""Metric: a frozen value that keeps sums over batches and makes one number of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.fields import as_declared
from fnn.core.named import Named
from fnn.losses.targets import (
    align,
    align_where_possible,
    aligned_shape,
    arrays,
    as_float,
    blank,
    class_numbers,
    for_each_example,
    one_value_per_entry,
    spread,
)
from fnn.metrics.accumulator import accumulator_of
from fnn.runtime.placement import gathered

Sums: TypeAlias = dict[str, Array]
Targets: TypeAlias = Literal["elementwise", "classes", "labels", "any"]  # as of losses


def _own_sums(metric: Any) -> Sums:
    """The sums that `update_state` keeps for this object, zeros before the first batch."""
    found = accumulator_of(metric).sums
    return metric.init() if found is None else found


def _of_own_sums(result: Callable[..., Any]) -> Callable[..., Any]:
    """`result(self, sums)` that takes the sums which `update_state` keeps where none are given."""

    @functools.wraps(result)
    def of(self: Any, sums: Sums | None = None) -> Any:
        return result(self, _own_sums(self) if sums is None else sums)

    return of


class Metric(Named, loadable=False):
    """A number that tells how good predictions are, from sums over all batches.

    `init() -> sums`, `update(sums, y_true, y_pred, weight=None) -> sums`, `result(sums) -> number`:
    pure functions, and the sums only ever add, so that the size of the batches, their order and the
    number of devices make no difference. `weight` is `(batch,)` or `(batch, time)`; an entry of
    weight 0 is left out wholly, even if it holds NaN. The sums are float32. `fit`, `evaluate` and
    `update_state` keep what rounding takes from them; a loop of your own over `update` does not,
    and loses a batch that weighs less than 2**-24 of all before it.

    A metric that is a mean over examples only writes `values(y_true, y_pred)`; any other writes the
    three. `targets` says what fits the predictions: "elementwise" and "classes" the same shape,
    "labels" that shape without its last axis, "any" what the metric makes of it.
    `direction` is "max" or "min" for the better end, None where there is none.

    >>> class Bias(Metric):
    ...     def values(self, y_true, y_pred):
    ...         return y_pred - y_true
    >>> bias = Bias()
    >>> bias.result(bias.update(bias.init(), jnp.zeros(2), jnp.array([1.0, 2.0]))).item()
    1.5

    A hand-written loop may use Keras's stateful interface: `update_state(y_true, y_pred)`,
    `result()`, both at once `metric(y_true, y_pred)`, `reset_state()`. Its sums, `variables`, are
    held beside this object and are no part of the value: not compared, printed, copied or saved,
    and `fit` does not see them. It is not for use inside `jit`.

    >>> bias.update_state(jnp.zeros(2), jnp.array([3.0, 4.0]))
    >>> bias.result().item(), bias([0.0], [5.0]).item(), bias == Bias()
    (3.5, 4.0, True)
    """

    kind: ClassVar[str] = "metric"
    targets: ClassVar[Targets] = "any"
    direction: ClassVar[str | None] = None
    gathers: ClassVar[bool] = (
        False  # it takes a batch that lies on several devices as a whole
    )

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
            "return the sums of no batch from init() (in place of add_weight), the sums after "
            "one more from update(sums, y_true, y_pred, weight), and the number from result(sums)",
        )
        if "result" in vars(cls):
            cls.result = _of_own_sums(vars(cls)["result"])  # type: ignore[method-assign]

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        return as_declared(cls, ("name", "dtype"), own)

    def values(self, y_true: Any, y_pred: Any) -> Array:
        """One value for each example (and step), of which the result is the mean."""
        raise TypeError(
            f"expected {type(self).__name__} to define values(y_true, y_pred), or init, update and "
            "result, received a class without them; return one value for each example"
        )

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        """The sums before the first batch: zeros.

        A metric with a sum for each class takes their number from the shapes of `y_true` and
        `y_pred`; without these its zeros are scalars, that take on their shape in the first update.
        """
        return {"total": jnp.zeros(()), "count": jnp.zeros(())}

    def update(self, sums: Sums, y_true: Any, y_pred: Any, weight: Any = None) -> Sums:
        """The sums after one more batch."""
        y_true, y_pred, weight = self.prepare(y_true, y_pred, weight)
        return add_mean(sums, self.values(y_true, y_pred), weight)

    @_of_own_sums
    def result(self, sums: Sums) -> Array:
        """The number that the sums stand for; 0 before the first entry.

        Without an argument that of the sums which `update_state` keeps.
        """
        return divide(sums["total"], sums["count"])

    def update_state(self, *batch: Any, sample_weight: Any = None) -> None:
        """Adds a batch, `(y_true, y_pred)` as `update` takes it, to the sums that this keeps."""
        given = batch if sample_weight is None else (*batch, sample_weight)
        zeros = self.init()
        accumulator_of(self).add(self.update(zeros, *given), zeros)

    def __call__(self, *batch: Any, sample_weight: Any = None) -> Any:
        """`update_state` and then `result()`: the number of all batches so far."""
        self.update_state(*batch, sample_weight=sample_weight)
        return self.result()

    @property
    def variables(self) -> list[Array]:
        """The sums that `update_state` keeps, as they are now."""
        return jax.tree.leaves(_own_sums(self))

    def reset_state(self) -> None:
        """Forgets what `update_state` has added."""
        accumulator_of(self).reset()

    def prepare(self, y_true: Any, y_pred: Any, weight: Any) -> tuple[Any, Any, Any]:
        """Targets in shape, predictions in floating point, nothing left of weightless entries."""
        y_true, y_pred = arrays(y_true), arrays(y_pred)
        weight = None if weight is None else as_float(for_each_example(weight, y_pred))
        if self.gathers:
            y_true, y_pred, weight = gathered((y_true, y_pred, weight))
        if self.targets == "any":
            if hasattr(y_true, "shape") and hasattr(y_pred, "shape"):
                y_true = align_where_possible(y_true, y_pred)
        else:
            y_pred = as_float(y_pred, self.dtype)
            if self.targets == "elementwise":
                y_pred = one_value_per_entry(y_pred, weight)
            y_true = align(y_true, y_pred, sparse=self.targets == "labels")
            y_true = (
                class_numbers(y_true) if self.targets == "labels" else as_float(y_true)
            )
        if weight is not None:
            counts = weight != 0
            y_true = jax.tree.map(lambda a: blank(a, counts, 0), y_true)
            y_pred = jax.tree.map(lambda a: blank(a, counts, 1), y_pred)
        return y_true, y_pred, weight

    def check(self, y_true: Any, y_pred: Any) -> None:
        """Raises ValueError if targets and predictions of such shapes do not fit."""
        if self.targets == "any":
            return
        try:
            aligned_shape(
                tuple(y_true.shape),
                tuple(y_pred.shape),
                sparse=self.targets == "labels",
            )
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None


def add_mean(sums: Sums, values: Any, weight: Any) -> Sums:
    """Sums of a mean with more values in it."""
    values = as_float(values)
    if weight is None:
        weight = jnp.ones(())
    elif values.ndim < weight.ndim and not (
        values.ndim + 1 == weight.ndim and weight.shape[-1] == 1
    ):
        weight = weight.mean(
            tuple(range(values.ndim, weight.ndim))
        )  # one value for several steps
    weights = spread(weight, values.shape)
    return {
        "total": sums["total"] + jnp.where(weights != 0, values * weights, 0).sum(),
        "count": sums["count"] + weights.sum(),
    }


def divide(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


class Mean(Metric):
    """The mean of values: `update(sums, values, weight)`, without targets.

    >>> mean = Mean()
    >>> mean.result(mean.update(mean.init(), jnp.array([1.0, 3.0]))).item()
    2.0
    """

    def update(self, sums: Sums, values: Any, weight: Any = None) -> Sums:  # type: ignore[override]
        return add_mean(sums, values, None if weight is None else as_float(weight))


class Sum(Metric):
    """The sum of values: `update(sums, values, weight)`, without targets.

    >>> total = Sum()
    >>> total.result(total.update(total.init(), jnp.array([1.0, 3.0]))).item()
    4.0
    """

    def init(self, y_true: Any = None, y_pred: Any = None) -> Sums:
        return {"total": jnp.zeros(())}

    def update(self, sums: Sums, values: Any, weight: Any = None) -> Sums:  # type: ignore[override]
        more = add_mean(
            Mean().init(), values, None if weight is None else as_float(weight)
        )
        return {"total": sums["total"] + more["total"]}

    def result(self, sums: Sums) -> Array:
        return sums["total"]
