"""TrainState: everything that training changes, as one pytree; Tally: sums that become a number."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.metrics import exact
from fnn.runtime.program_cache import programs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What is in it survives; what is not does not.

    `params` learn, `state` moves (running averages), `optimizer` is the optimizer's own state,
    `key` the source of all randomness, `step` and `epoch` count what has been trained, so that
    the same key gives the same shuffling and dropout wherever the training goes on. `callbacks`
    holds the counters of the callbacks of a training that has not come to its end, by callback
    and name; steps do not see it.

    >>> state = TrainState({"w": jnp.ones(2)}, {}, {}, jax.random.key(0))
    >>> int(state.replace(step=state.step + 1).step), int(state.step)  # a new one; this stays
    (1, 0)
    """

    params: Any
    state: Any
    optimizer: Any
    key: Array
    step: Any = field(default_factory=lambda: np.int32(0))
    epoch: Any = field(default_factory=lambda: np.int32(0))
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def replace(self, **changes: Any) -> TrainState:
        """This state with some fields changed."""
        return dataclasses.replace(self, **changes)


def bare(state: Any) -> Any:
    """`state` as steps see it: without the counters of callbacks, which would compile anew."""
    return state.replace(callbacks={}) if isinstance(state, TrainState) else state


def dressed(state: Any, counters: dict[str, dict[str, Any]]) -> Any:
    """`state` with the counters of callbacks, if it is one that holds them."""
    return state.replace(callbacks=counters) if isinstance(state, TrainState) else state


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tally:
    """The sums of one metric over some rows. Tallies add; `result` is the number they stand for.

    `lost` is what rounding has taken from `sums` in the additions so far (`metrics.exact.add`), so
    that the mean over millions of batches is as right as that over one.

    >>> mean = fnn.metrics.Mean()
    >>> tally = lambda values: Tally(mean, mean.update(mean.init(), jnp.array(values)))
    >>> add(tally([0.0, 0.0]), tally([3.0])).result.item()  # of three numbers, not of two means
    1.0
    """

    metric: Any = field(metadata={"static": True})
    sums: Any = None
    lost: Any = None

    def __post_init__(self) -> None:
        if self.lost is None:
            object.__setattr__(self, "lost", exact.nothing_lost(self.sums))

    @property
    def result(self) -> Array:
        return self.metric.result(jax.tree.map(jnp.add, self.sums, self.lost))


def add(first: Any, second: Any) -> Any:
    """The sum of two trees of tallies."""
    return jax.tree.map(_added, first, second, is_leaf=lambda a: isinstance(a, Tally))


def _added(first: Tally, second: Tally) -> Tally:
    sums, lost = exact.add(first.sums, first.lost, second.sums)
    return Tally(first.metric, sums, jax.tree.map(jnp.add, lost, second.lost))


def results(tallies: dict[str, Any]) -> dict[str, Array]:
    """The number that each tally stands for, in one dispatch."""
    leaves, treedef = jax.tree.flatten(tallies)
    return _results(treedef, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves))(
        tallies
    )


@programs.cached
def _results(treedef: Any, leaves: tuple[Any, ...]) -> Any:
    return jax.jit(
        lambda tallies: {name: tally.result for name, tally in tallies.items()}
    )


def numbers(tallies: dict[str, Any]) -> dict[str, Any]:
    """The results by name in alphabetical order: Python floats, arrays of metrics that give such.

    Waits for the device.
    """
    values = jax.device_get(results(tallies))
    return {
        name: values[name] if values[name].ndim else float(values[name])
        for name in sorted(values)
    }
