"""TrainState: everything that training changes, as one pytree; Accumulator: sums of a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.tree import Tree
from fnn.metrics import Metric, exact
from fnn.runtime.program_cache import programs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that training changes.

    `params` are the weights, `state` holds running averages and the like, `optimizer` is
    the state of the optimizer, `key` the source of all randomness. `step` and `epoch`
    count what has been trained, so that the same key gives the same shuffling and dropout
    when a training is continued elsewhere. `callbacks` holds the counters of the
    callbacks of an unfinished training, by callback and name; steps do not receive it.

    >>> state = TrainState({"w": jnp.ones(2)}, {}, {}, jax.random.key(0))
    >>> int(state.replace(step=state.step + 1).step), int(state.step)  # a new one; this stays
    (1, 0)
    """

    params: Tree
    state: Tree
    optimizer: Tree
    key: Array
    step: Array | np.int32 = field(default_factory=lambda: np.int32(0))
    epoch: Array | np.int32 = field(default_factory=lambda: np.int32(0))
    callbacks: dict[str, dict[str, Tree]] = field(default_factory=dict)

    def replace(self, **changes: Any) -> TrainState:
        """This state with some fields changed."""
        return dataclasses.replace(self, **changes)


def without_counters(state: Tree) -> Tree:
    """`state` as steps see it: counters of callbacks would compile the step again."""
    if isinstance(state, TrainState) and state.callbacks:
        return state.replace(callbacks={})
    return state


def with_counters(state: Tree, counters: dict[str, dict[str, Any]]) -> Tree:
    """`state` with the counters of callbacks, if it is a `TrainState`."""
    if isinstance(state, TrainState) and (state.callbacks or counters):
        return state.replace(callbacks=counters)
    return state


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Accumulator:
    """The accumulated sums of one metric over some examples; `result` is its value.

    `lost` is the rounding error of `sums` so far (`metrics.exact.add`), so that the mean
    over millions of batches is as accurate as that over one.

    >>> mean = fnn.metrics.Mean()
    >>> sums = lambda values: Accumulator(mean, mean.update(mean.init(), jnp.array(values)))
    >>> add(sums([0.0, 0.0]), sums([3.0])).result.item()  # of three numbers, not of two means
    1.0
    """

    metric: Metric = field(metadata={"static": True})
    sums: Tree = None
    lost: Tree = None

    def __post_init__(self) -> None:
        if self.lost is None:
            object.__setattr__(self, "lost", exact.nothing_lost(self.sums))

    @property
    def result(self) -> Array:
        return self.metric.result(jax.tree.map(jnp.add, self.sums, self.lost))


def add(first: Tree, second: Tree) -> Tree:
    """The sum of two trees of accumulators."""
    return jax.tree.map(_add, first, second, is_leaf=_is_accumulator)


def _is_accumulator(value: object) -> bool:
    return isinstance(value, Accumulator)


def _add(first: Accumulator, second: Accumulator) -> Accumulator:
    sums, lost = exact.add(first.sums, first.lost, second.sums)
    return Accumulator(first.metric, sums, jax.tree.map(jnp.add, lost, second.lost))


def results(accumulators: Mapping[str, Accumulator]) -> dict[str, Array]:
    """The value of each accumulator, in one dispatch."""
    leaves, treedef = jax.tree.flatten(accumulators)
    specs = [(leaf.shape, leaf.dtype) for leaf in leaves]
    return _results(treedef, tuple(specs))(accumulators)


@programs.cached
def _results(
    treedef: Any, specs: tuple[Any, ...]
) -> Callable[[Mapping[str, Accumulator]], dict[str, Array]]:
    """The compiled function for accumulators of this structure, shapes and dtypes."""

    def compute(accumulators: Mapping[str, Accumulator]) -> dict[str, Array]:
        return {name: accumulator.result for name, accumulator in accumulators.items()}

    return jax.jit(compute)


def result_values(accumulators: Mapping[str, Accumulator]) -> dict[str, Any]:
    """The results by name in alphabetical order: Python floats, or arrays if not scalar.

    Waits for the device.
    """
    values = jax.device_get(results(accumulators))
    found = {}
    for name in sorted(values):
        value = values[name]
        if not value.ndim:
            value = float(value)
        found[name] = value
    return found
