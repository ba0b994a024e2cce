"""TrainState: everything that training changes, as one pytree; Accumulator: sums of a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.tree import Tree
from fnn.metrics import Metric, exact
from fnn.runtime.processes import local
from fnn.runtime.program_cache import programs

Logs: TypeAlias = dict[str, Any]  # `Accumulator` or `Waiting` by name


def count(number: int) -> np.ndarray:
    """A counter of steps or epochs as an array on the host."""
    return np.asarray(number, np.int32)


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
    step: Array | np.ndarray = field(default_factory=lambda: count(0))
    epoch: Array | np.ndarray = field(default_factory=lambda: count(0))
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
    """`state` with the counters of callbacks, if it is a `TrainState`: arrays, no scalars."""
    if isinstance(state, TrainState) and (state.callbacks or counters):
        return state.replace(callbacks=jax.tree.map(_as_array, counters))
    return state


def _as_array(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf


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
            lost: Tree = ()
            if self.metric.adds:
                lost = exact.nothing_lost(self.sums)
            object.__setattr__(self, "lost", lost)

    @property
    def result(self) -> Array | dict[str, Array]:
        sums = self.sums
        if self.metric.adds:
            sums = jax.tree.map(jnp.add, sums, self.lost)
        return self.metric.result(sums)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Waiting:
    """A batch for a metric whose sums do not add up: it is updated where the batch is added.

    `batch` holds targets, predictions, weights or None, and the mask of the predictions or None.
    """

    metric: Metric = field(metadata={"static": True})
    batch: tuple[Tree, Tree, Array | None, Array | None] = (None, None, None, None)

    @property
    def start(self) -> Accumulator:
        """The accumulator before this batch, if it is the first one."""
        y_true, y_pred, *_ = self.batch
        return Accumulator(self.metric, self.metric.init(y_true, y_pred))

    def after(self, first: Accumulator) -> Accumulator:
        """The accumulator with this batch."""
        y_true, y_pred, weight, mask = self.batch
        update: Callable[..., Tree] = self.metric.update
        sums = update(first.sums, y_true, y_pred, weight=weight, mask=mask)
        return Accumulator(first.metric, sums)


def add(first: Tree, second: Tree) -> Tree:
    """The sum of two trees of accumulators; `Waiting` may stand in the second one."""
    return jax.tree.map(_add, first, second, is_leaf=is_accumulator)


def begun(logs: Tree) -> Tree:
    """Logs with an accumulator of one batch in place of each `Waiting`."""
    return jax.tree.map(_begun, logs, is_leaf=is_accumulator)


def is_accumulator(value: object) -> bool:
    """Whether this is the accumulator of a metric, or a batch that waits for it."""
    return isinstance(value, (Accumulator, Waiting))


def log_names(logs: Logs) -> list[str]:
    """The names of the results of the logs of a step, or of their shapes."""
    names: list[str] = []
    for name, part in logs.items():
        found: Tree = None
        if isinstance(part, Waiting):
            found = jax.eval_shape(lambda part=part: part.start.result)
        if isinstance(found, dict):
            names.extend(found)
        else:
            names.append(name)
    return names


def _begun(part: Accumulator | Waiting) -> Accumulator:
    if isinstance(part, Waiting):
        return part.after(part.start)
    return part


def _add(first: Accumulator, second: Accumulator | Waiting) -> Accumulator:
    if isinstance(second, Waiting):
        return second.after(first)
    sums, lost = exact.add(first.sums, first.lost, second.sums)
    lost = jax.tree.map(jnp.add, lost, second.lost)
    return Accumulator(first.metric, sums, lost)


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
        found: dict[str, Array] = {}
        for name, accumulator in accumulators.items():
            result = accumulator.result
            if isinstance(result, dict):
                # Of a metric of several numbers, as in Keras.
                found.update(result)
            else:
                found[name] = result
        return found

    return jax.jit(compute)


# What `make_train_step(norms=True)` logs for each weight: "gradient_norm/dense/kernel".
NORMS = ("gradient_norm", "update_norm", "weight_norm")


def shown(measured: dict[str, Tree]) -> dict[str, Tree]:
    """The entries for logs: all but the norms of single weights."""
    return {
        name: value
        for name, value in measured.items()
        if name.partition("/")[0] not in NORMS
    }


# The name in a step of a metric called "loss", which takes the place of the loss in logs.
LOSS_METRIC = "loss/metric"


def log_name(name: str) -> str:
    """The name in logs of an accumulator of a step."""
    return name.removesuffix("/metric")


def result_values(accumulators: Mapping[str, Accumulator]) -> dict[str, Any]:
    """The results by name in alphabetical order: Python floats, or arrays if not scalar.

    Waits for the device.
    """
    if jax.distributed.is_initialized():
        # Each process computes them, or none: one may print more often than others.
        accumulators = local(accumulators)
    values = jax.device_get(results(accumulators))
    found = {}
    for name in sorted(values):
        value = values[name]
        if not value.ndim:
            value = float(value)
        found[name] = value
    if LOSS_METRIC in found:
        found["loss"] = found.pop(LOSS_METRIC)
    return found


def in_order(logs: Mapping[str, Any], names: list[str]) -> Any:
    """The results of these names as a list, or the only one; then others, alphabetically.

    Others are of metrics of several numbers, which have names of their own.
    """
    known = [name for name in names if name in logs]
    others = sorted(logs.keys() - {*known})
    ordered = [logs[name] for name in (*known, *others)]
    if len(ordered) == 1:
        return ordered[0]
    return ordered
