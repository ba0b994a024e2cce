"""Accumulator: the sums of `metric.update_state`, stored outside the metric."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.context import leading
from fnn.core.tree import Tree
from fnn.metrics import exact
from fnn.runtime.scope import scopes
from fnn.variables import Operand, StatelessScope, Variable, value_of


class Total(Variable):
    """A variable for a sum; the first batch may give it another shape (one sum per class)."""

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def is_scoped(self) -> bool:
        """Whether a scope holds its value."""
        return any(scope.read(self) is not None for scope in scopes())

    def assign(self, value: Operand) -> Array:
        self._shape = jnp.shape(value_of(value))
        try:
            return super().assign(value)
        except ValueError as error:
            if isinstance(value_of(value), jax.core.Tracer):
                raise ValueError(_IN_CALL) from error
            raise


_IN_CALL = (
    "expected a metric to be updated where its variables are known, received update_state inside "
    "the call of a layer or model, which is compiled (Keras on JAX cannot do it either); give the "
    "metric to compile, update it in compute_loss or compute_metrics of the model, or keep sums "
    "in a weight of the layer, add_weight(..., trainable=False)"
)


class Accumulator:
    """Sums over batches and their rounding errors. The only mutable part of a metric.

    >>> accumulator = Accumulator(lambda: {"total": jnp.float32(0)})
    >>> accumulator.add({"total": jnp.float32(2)})
    >>> accumulator.sums["total"].item()
    2.0
    """

    def __init__(self, zeros: Callable[[], Tree]) -> None:
        with jax.ensure_compile_time_eval():
            leaves, self._structure = jax.tree.flatten(zeros())
        self.variables = [Total(leaf, trainable=False) for leaf in leaves]
        self._lost = exact.nothing_lost(leaves)

    def add(self, more: Tree) -> None:
        """Adds the sums of one batch."""
        terms = jax.tree.leaves(more)
        if scopes():
            # Inside a pure function: what it returns are the sums alone.
            totals = [v.value + term for v, term in self._with(terms)]
        else:
            values = [v.value for v in self.variables]
            totals, self._lost = exact.add(values, self._lost, terms)
        for variable, total in self._with(totals):
            variable.assign(total)

    def _with(self, values: list[Array]) -> list[tuple[Total, Array]]:
        return list(zip(self.variables, values, strict=True))

    @property
    def sums(self) -> Tree:
        """The sums so far."""
        leaves = []
        for variable, lost in self._with(self._lost):
            total = variable.value
            if not variable.is_scoped:
                total = total + lost
            leaves.append(total)
        return jax.tree.unflatten(self._structure, leaves)

    def reset(self) -> None:
        """Resets the sums."""
        for variable in self.variables:
            variable.assign(jnp.zeros_like(variable.value))
        if not scopes():
            self._lost = exact.nothing_lost(self._lost)


# By identity, not by value: two equal metrics count separately, and a copy starts from zero.
_BY_ID: dict[int, Accumulator] = {}


def accumulator_of(metric: object, zeros: Callable[[], Tree]) -> Accumulator:
    """The accumulator of this metric object; it is deleted together with the object.

    >>> from fnn.metrics import Mean
    >>> mean, other = Mean(), Mean()
    >>> kept = accumulator_of(mean, mean.init)
    >>> kept is accumulator_of(mean, mean.init), kept is accumulator_of(other, other.init)
    (True, False)
    """
    key = id(metric)
    if key not in _BY_ID:
        _BY_ID[key] = Accumulator(zeros)
        weakref.finalize(metric, _BY_ID.pop, key).atexit = False
    return _BY_ID[key]


class Run(StatelessScope):
    """The scope in which methods of a metric run as a pure function.

    `mask` is that of the predictions `y_pred`: a metric that gets these very predictions in
    `update_state` leaves its entries out.
    """

    y_pred: Tree = None
    mask: Array | None = None

    def read(self, variable: object) -> Array | None:
        found = super().read(variable)
        if found is None and isinstance(variable, Variable) and variable.is_fresh:
            return fresh_value(variable)
        return found

    @property
    def values(self) -> dict[int, Array]:
        """The values that variables have here, by the ids of the variables."""
        return {key: value for key, (_, value) in self._values.items()}


def fresh_value(variable: Variable) -> Array:
    """The first value of a variable: its initializer's, with a fixed key."""
    with jax.ensure_compile_time_eval():
        key, dtype = jax.random.key(0), jnp.dtype(variable.dtype)
        return jnp.asarray(variable.initializer(key, variable.shape, dtype), dtype)


def masked_weight(y_pred: Tree, weight: Tree) -> Tree:
    """The weight of these predictions, 0 where the scope that runs now has a mask for them."""
    for scope in scopes():
        if not isinstance(scope, Run) or scope.mask is None:
            continue
        if scope.y_pred is y_pred:
            counts = scope.mask.astype("float32")
            if weight is None:
                return counts
            weights = jnp.asarray(weight)
            axes = max(weights.ndim, counts.ndim)
            return leading(weights, axes) * leading(counts, axes)
    return weight
