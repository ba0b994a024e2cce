"""Many trainings in one program: their state, their batches, their steps of fit and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.sharding import AxisType, Mesh, NamedSharding

from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.metrics import Metric
from fnn.runtime.placement import partition
from fnn.runtime.program_cache import small_cache
from fnn.training.commit import committed
from fnn.training.data import ArrayData, Poll
from fnn.training.engine import Step, computed_once, is_finite
from fnn.training.state import Accumulator, Logs, TrainState, Waiting

Axes: TypeAlias = tuple[int | None, ...]  # that of the members in each argument

T = TypeVar("T")
MEMBERS = "members"  # the axis of the mesh


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ManyState:
    """The states of several trainings; every array has the members along its first axis.

    `number` is that of the next step of each, and `alive` is False for one that ended at a loss
    that was not finite.
    """

    train: TrainState
    number: Array
    alive: Array


class PerMember(Metric, loadable=False):
    """A metric of each member: its sums and results have the members along their first axis."""

    metric: Any = None

    @property
    def direction(self) -> str | None:  # type: ignore[override]
        direction: str | None = self.metric.direction
        return direction

    @property
    def adds(self) -> bool:  # type: ignore[override]
        adds: bool = self.metric.adds
        return adds

    def init(self, y_true: Tree = None, y_pred: Tree = None) -> Tree:
        count = jax.tree.leaves(y_pred)[0].shape[0]

        def of_one(array: Array) -> jax.ShapeDtypeStruct:
            return array_spec(array.shape[1:], array.dtype)

        def repeated(array: Array) -> Array:
            return jnp.broadcast_to(array, (count, *jnp.shape(array)))

        specs = jax.tree.map(of_one, (y_true, y_pred))
        return jax.tree.map(repeated, self.metric.init(*specs))

    def update(
        self,
        sums: Tree,
        y_true: Tree,
        y_pred: Tree,
        weight: Tree = None,
        **named: Tree,
    ) -> Tree:
        def updated(sums: Tree, y_true: Tree, y_pred: Tree, others: Tree) -> Tree:
            return self.metric.update(sums, y_true, y_pred, **others)

        others = {"weight": weight, **named}
        return jax.vmap(updated)(sums, y_true, y_pred, others)

    def result(self, sums: Tree) -> Tree:
        return jax.vmap(self.metric.result)(sums)


# -- data ----------------------------------------------------------------------------------------


class ManyData(ArrayData):
    """Batches for several trainings, each with its examples in its order.

    Arrays of a batch have the shape `(batch, members, ...)`, `valid` has `(batch, members)`. A
    member with fewer batches in an epoch gets padding at its end. `orders` are the indices of
    its examples as data; `steps` are those of an epoch if not all of the data. If padding changes
    what is computed (`mixes`), incomplete batches are separate.
    """

    def __init__(
        self,
        arrays: Tree,
        orders: Sequence[ArrayData],
        steps: int | None = None,
        first_pass: int = 0,
        mixes: bool = False,
    ) -> None:
        size = orders[0].batch_size
        super().__init__(arrays, size, remainder="pad", apart=lambda batch: mixes)
        self.orders = orders
        self.copies = len(orders)
        # If their last batches differ in size, all are padded.
        self.ends_alike = len({order.count for order in orders}) == 1
        self.count = max(order.count for order in orders)
        self.steps = max(order.steps for order in orders)
        self.first_pass = first_pass
        self.continues = steps is not None

    def batch_spec(self) -> SpecTree:
        spec, valid = super().batch_spec()
        count = len(self.orders)

        def with_members(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            size, *rest = leaf.shape
            return array_spec((size, count, *rest), leaf.dtype)

        return jax.tree.map(with_members, (spec, valid))

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
        start: int = 0,
    ) -> Generator[tuple[Tree, int]]:
        epoch += self.first_pass
        yield from super().chunks(epoch, capacity, steps, poll, start)

    def _indices(
        self, batch: int, count: int, capacity: int
    ) -> tuple[np.ndarray, np.ndarray]:
        indices, valids = [], []
        epoch, done = divmod(batch, self.steps)
        for order in self.orders:
            first, several = batch, count
            if not self.continues:
                first = epoch * order.steps + done
                several = min(count, max(order.steps - done, 0))
            index, valid = order._indices(first, several, capacity)
            indices.append(np.asarray(order.arrays)[index])
            valids.append(valid)
        return np.stack(indices, -1), np.stack(valids, -1)


# -- steps ---------------------------------------------------------------------------------------


def mesh_for(count: int, devices: Sequence[jax.Device]) -> Mesh | None:
    """A mesh over which the members are divided, as evenly as can be; None on one device."""
    each = -(-count // len(devices))
    used = -(-count // each)
    if used == 1:
        return None
    chosen = np.array(devices[:used])
    return Mesh(chosen, (MEMBERS,), axis_types=(AxisType.Auto,))


def filled(items: Sequence[T], mesh: Mesh | None) -> list[T]:
    """As many items as there are places on the mesh: the last one fills up those left over."""
    missing = 0 if mesh is None else -len(items) % mesh.size
    return [*items, *[items[-1]] * missing]


def stacked(trees: Sequence[Tree], mesh: Mesh | None) -> Tree:
    """Trees of arrays as one with the members along the first axis, divided over a mesh."""

    def stack(*leaves: Array) -> Array:
        return jnp.stack(leaves)

    if mesh is None:
        return jax.tree.map(stack, *trees)
    whole = jax.tree.map(stack, *filled(trees, mesh))
    return jax.device_put(whole, NamedSharding(mesh, partition(MEMBERS)))


def unstacked(whole: Tree, count: int) -> list[Tree]:
    """The trees of the first `count` members. Nothing is compiled for it."""
    whole = jax.tree.map(np.asarray, whole)

    def member(number: int) -> Tree:
        return jax.tree.map(lambda leaf: jnp.array(leaf[number]), whole)

    return list(map(member, range(count)))


def over_members(
    function: Callable[..., Tree], axes: Axes, mesh: Mesh | None
) -> Callable[..., Tree]:
    """`function` of one member for all of them; results have them along their first axis.

    Each device of a mesh computes its own members.
    """
    mapped: Callable[..., Tree] = jax.vmap(function, in_axes=axes)
    if mesh is None:
        return mapped
    specs = []
    for axis in axes:
        names: tuple[str | None, ...] = ()
        if axis is not None:
            names = (*(None,) * axis, MEMBERS)
        specs.append(partition(*names))
    divided: Callable[..., Tree] = jax.shard_map(
        mapped,
        mesh=mesh,
        in_specs=tuple(specs),
        out_specs=partition(MEMBERS),
        check_vma=False,
    )
    return divided


@small_cache(64)
def make_many_step(step: Step, guard: str, mesh: Mesh | None) -> Step:
    """The step of training of each member: `step(many_state, batch, key) -> (many_state, logs)`.

    The key is not used: each member has its own. A member without valid examples in the batch
    stays as it is. So does one whose loss is not finite, as in `fit`: with `guard="raise"` from
    then on.
    """

    def one(now: ManyState, batch: Tree) -> tuple[ManyState, Logs]:
        trains = jnp.any(batch[1])
        key = random.fold_in(now.train.key, now.number)
        inputs = now.train, batch, key

        def commits(logs: Logs) -> Array:
            taken = trains & now.alive
            if guard != "ignore":
                taken = taken & is_finite(logs)
            return computed_once(taken)

        program = jax.jit(step).trace(*inputs)
        train, logs, commit = committed(program, inputs, commits)
        alive = now.alive
        logs = _only_if(commit, logs)
        if guard == "raise":
            alive = alive & (commit | ~trains)
            logs = _ended(alive, logs)
        return ManyState(train, now.number + trains, alive), logs

    mapped = over_members(one, (0, 1), mesh)

    def many_step(now: ManyState, batch: Tree, key: Array) -> tuple[ManyState, Logs]:
        now, logs = mapped(now, batch)
        return now, _per_member(logs)

    return many_step


@small_cache(64)
def make_many_eval_step(step: Step, mesh: Mesh | None, shared: bool) -> Step:
    """The step of evaluation of each member; all get the same batch if `shared`."""

    def one(weighted: Tree, batch: Tree, key: Array) -> Logs:
        _, logs = step(weighted, batch, key)
        return _only_if(jnp.any(batch[1]), logs)

    batch_axis = None if shared else 1
    mapped = over_members(one, (0, batch_axis, 0), mesh)

    def many_step(weighted: Tree, batch: Tree, key: Array) -> tuple[Tree, Logs]:
        return weighted, _per_member(mapped(weighted, batch, key))

    return many_step


def _only_if(condition: Array, logs: Logs) -> Logs:
    """The logs of a step, empty unless `condition` holds."""

    def or_zero(array: Array) -> Array:
        return jnp.where(condition, array, jnp.zeros_like(array))

    kept: Logs = {}
    for name, part in logs.items():
        if isinstance(part, Waiting):
            kept[name] = part
            continue
        sums, lost = jax.tree.map(or_zero, (part.sums, part.lost))
        kept[name] = Accumulator(part.metric, sums, lost)
    return kept


def _ended(alive: Array, logs: Logs) -> Logs:
    """The logs with NaN as the loss of a training that has ended."""
    loss = logs["loss"]
    sums = jax.tree.map(lambda a: jnp.where(alive, a, jnp.nan), loss.sums)
    return {**logs, "loss": Accumulator(loss.metric, sums, loss.lost)}


def _per_member(logs: Logs) -> Logs:
    """Logs with the members along first axes, as accumulators of the members."""
    found: Logs = {}
    for name, part in logs.items():
        metric = PerMember(metric=part.metric)
        if isinstance(part, Waiting):
            found[name] = Waiting(metric, part.batch)
        else:
            found[name] = Accumulator(metric, part.sums, part.lost)
    return found


def change_alive(
    change: Callable[[TrainState], TrainState],
) -> Callable[[ManyState], ManyState]:
    """A change of the state of one training, for all that have not ended."""

    def one(now: ManyState) -> ManyState:
        after = jax.tree.map(
            lambda new, old: jnp.where(now.alive, new, old),
            change(now.train),
            now.train,
        )
        return ManyState(after, now.number, now.alive)

    changed: Callable[[ManyState], ManyState] = jax.jit(jax.vmap(one))
    return changed
