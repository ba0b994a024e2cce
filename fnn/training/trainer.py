"""Trainer: dispatches chunks of batches and commits each complete step."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime.devices import divide
from fnn.training import engine
from fnn.training.checks import TrainingError
from fnn.training.data import ArrayData
from fnn.training.hooks import Callback, CallbackList
from fnn.training.interrupt import Interrupt
from fnn.training.progress import Progress
from fnn.training.state import (
    TrainState,
    result_values,
    with_counters,
    without_counters,
)
from fnn.training.step import NORMS
from fnn.training.stream import StreamData


class Holder(Protocol):
    """Holds the state of a training: the weights of a model, or a `Run`."""

    now: Tree


def always(epoch: int) -> bool:
    """True for every epoch."""
    return True


@dataclasses.dataclass
class Plan:
    """One training: its data, its step and what happens around it."""

    step: engine.Step
    data: ArrayData | StreamData
    run: Any  # what callbacks get as their model: a Model or a Run
    weights: Holder
    callbacks: list[Callback]
    key: jax.Array
    epochs: int
    initial_epoch: int
    steps: int | None  # per epoch; None: all of the data
    verbose: str | int
    guard: str
    validate: Callable[[int, CallbackList], dict[str, float]] | None
    validates: Callable[[int], bool] = always  # whether `validate` runs after an epoch
    # Names the layer in which NaN first appeared: (state, batch, key) -> name.
    diagnose: Callable[[TrainState, Tree, jax.Array], str] | None = None
    # Change the state at the end of an epoch, and at the end of the training.
    end_epoch: Callable[[TrainState], TrainState] | None = None
    end_training: Callable[[TrainState], TrainState] | None = None
    # Strings that tell whether a resumed training has the same optimizer, losses and network.
    recipe: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def now(self) -> Tree:
        """The state after the last complete step."""
        return self.weights.now

    @now.setter
    def now(self, state: Tree) -> None:
        self.weights.now = state


class Dispatch(NamedTuple):
    """Steps in flight: what they will return, and what they were given."""

    state: Tree
    accumulated: Tree
    healthy: Tree
    done: int  # batches of the epoch, these included
    chunk: Tree
    number: int  # of the first of these steps
    at: int  # index of its batch in the chunk


class Trainer:
    """The epochs of one training: dispatches chunks, commits complete steps, calls callbacks.

    A dispatch is committed to `plan.now` when its results have arrived, so that an error of the
    device, which is reported late, never reaches the model. A large state is donated to the step,
    which saves memory and time. During an epoch `plan.now` is then a copy on the host from the
    start of the epoch, to which the model returns if a step fails.
    """

    def __init__(
        self,
        plan: Plan,
        program: engine.Program,
        callbacks: CallbackList,
        interrupt: Interrupt,
    ) -> None:
        self.plan = plan
        self.program = program
        self.callbacks = callbacks
        self.interrupt = interrupt
        self.number = 0  # of the next step
        self.passes = 0  # over the data before this training
        # Whether a callback watches single batches.
        self.each = callbacks.watches(
            "on_batch_begin",
            "on_batch_end",
            "on_train_batch_begin",
            "on_train_batch_end",
        )
        # A donating program and one that does not donate may differ in the last bits, so a
        # callback that watches batches does not change the program: it gets a copy of the state.
        self.donate = program.is_large
        self.consumes = self.donate and not self.each

    def start(self, first: int) -> None:
        """Takes the number of the next step and of the next pass over the data from the state."""
        now = self.plan.now
        if isinstance(now, TrainState):
            self.number = int(now.step)
            self.passes = int(now.epoch) - first

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the data. Returns its logs."""
        plan = self.plan
        position = self.passes + epoch
        self._prepare()
        self.progress.begin(epoch, plan.epochs)
        self._run_all(plan.data.chunk_size(self.program.capacity), position)
        ended = without_counters(plan.now)
        if isinstance(ended, TrainState):
            ended = ended.replace(epoch=np.int32(position + 1))
        if plan.end_epoch is not None:
            ended = plan.end_epoch(ended)
        plan.now = with_counters(ended, self.counters)
        logs = self._logs(epoch)
        if plan.validate is not None and self.done:
            found = plan.validate(epoch, self.callbacks)
            logs.update({f"val_{name}": value for name, value in found.items()})
            # Keras's order.
            logs = dict(sorted(logs.items()))
        self.progress.end(self.done, logs)
        return logs

    def _logs(self, epoch: int) -> dict[str, float]:
        """The logs of the epoch; norms of gradients go to the callbacks that asked for them."""
        measured = result_values(self.settled) if self.done else {}
        logs = shown(measured)
        norms = {name: value for name, value in measured.items() if name not in logs}
        if norms:
            self.callbacks.call_optional("on_step_statistics", epoch, norms)
        if self.refused:
            logs["loss"] = math.nan
        return logs

    def _prepare(self) -> None:
        """Resets counters and queue; keeps a copy on the host of a state that will be donated."""
        plan = self.plan
        self.progress = Progress(plan.verbose, plan.steps or plan.data.steps)
        self.flight: deque[Dispatch] = deque()
        self.done = 0
        self.refused = False
        self.counters = self.callbacks.counters
        self.accumulated = self.program.zeros()
        self.settled = self.accumulated
        self.healthy: Tree = np.True_
        self.state = without_counters(plan.now)
        # The state after the last complete step; None if its memory is gone.
        self.last: Tree = self.state
        if self.consumes:
            kept = jax.tree.map(_on_host, self.state)
            plan.now = with_counters(kept, self.counters)
            self.state = self.last = _copied(self.state)

    def _run_all(self, size: int, position: int) -> None:
        """Trains on every batch of the pass with this number, in chunks of `size`."""
        plan = self.plan
        chunks = plan.data.chunks(position, size, plan.steps, self.interrupt.poll)
        try:
            for chunk, count in self._until_error(chunks):
                self._dispatch_all(divide(chunk, self.state, axis=1), count)
                if plan.run.stop_training:
                    break
            self._settle(0)
        except BaseException:
            self.progress.stop()
            self.flight.clear()
            raise
        finally:
            self._publish()
            chunks.close()

    def _until_error(
        self, chunks: Iterator[tuple[Tree, int]]
    ) -> Iterator[tuple[Tree, int]]:
        """The chunks; before an error of the data is raised, steps in flight are committed."""
        try:
            yield from chunks
        except Exception:
            self._settle(0)
            raise

    def _dispatch_all(self, chunk: Tree, count: int) -> None:
        """Runs the batches of one chunk: at once, or one by one if a callback watches batches."""
        program = self.program.of_size(chunk)
        at = 0
        while at < count and not self.plan.run.stop_training:
            if self.each:
                self._dispatch_watched(program, chunk, at)
                at += 1
            else:
                size = min(count - at, self.program.capacity)
                self._dispatch(program, chunk, at, size)
                at += size
                self._settle(0 if self.interrupt.requested else 1)
            self.interrupt.poll()

    def _dispatch_watched(self, program: engine.Program, chunk: Tree, at: int) -> None:
        """Runs one batch between the hooks of callbacks, which may change the state."""
        self.callbacks.call("on_train_batch_begin", self.done, {})
        self.state = without_counters(self.plan.now)
        if self.donate:
            self.state = _copied(self.state)
        self._dispatch(program, chunk, at, 1)
        self._settle(0)
        logs = shown(result_values(self.accumulated))
        self.callbacks.call("on_train_batch_end", self.done - 1, logs)
        self.last = without_counters(self.plan.now)

    def _dispatch(
        self, program: engine.Program, chunk: Tree, at: int, size: int
    ) -> None:
        number = self.number
        try:
            result = program(
                self.state,
                self.accumulated,
                chunk,
                self.plan.key,
                first=at,
                count=size,
                number=number,
                healthy=self.healthy,
                guard=self.plan.guard,
                donate=self.donate,
            )
        except Exception as error:
            self._add_note(error)
            raise
        self.state, self.accumulated, self.healthy = result
        self.done += size
        self.number += size
        self.flight.append(Dispatch(*result, self.done, chunk, number, at))
        if self.consumes:
            # The state before is gone, and this one contains only steps that may be taken.
            self.last = self.state

    def _settle(self, ahead: int) -> None:
        """Commits the oldest dispatches, whose results it waits for, until `ahead` are left."""
        while len(self.flight) > ahead:
            oldest = self.flight.popleft()
            healthy = self._wait_for(oldest)
            if healthy or self.program.chooses(self.plan.guard, self.donate):
                self.settled = oldest.accumulated
                if not self.consumes:
                    self.last = oldest.state
                    self._publish()
            if not healthy:
                self._refuse(self._not_finite(oldest))
                return
            if self.progress.reached(oldest.done):
                logs = shown(result_values(oldest.accumulated))
                self.progress.update(oldest.done, logs)

    def _wait_for(self, dispatch: Dispatch) -> bool:
        """Whether all its losses are finite. Errors of the device are raised here."""
        try:
            healthy = bool(dispatch.healthy)
            taken_by_next = self.consumes and self.flight
            if not taken_by_next:
                wait: Callable[[Tree], Tree] = jax.block_until_ready
                wait(dispatch.state)
        except Exception as error:
            if self.consumes:
                self.last = None
            self._add_note(error)
            raise
        return healthy

    def _refuse(self, message: str) -> None:
        """Ends the training: without an error if a callback handles it."""
        # A list, so that every callback is called.
        if not any(self.callbacks.call_optional("on_not_finite", message)):
            raise TrainingError(message)
        self.flight.clear()
        self.refused = True
        self.plan.run.stop_training = True

    def _add_note(self, error: Exception) -> None:
        when = "before this step"
        if self.lost:
            when = "at the start of this epoch"
        size = tree.nbytes(tree.spec(self.plan.now)) / 2**20
        error.add_note(
            f"in a training step with batches of {self.plan.data.batch_size} examples and "
            f"{size:.1f} MiB of weights and optimizer state; the model is as it was {when}"
        )

    @property
    def lost(self) -> bool:
        """Whether the last state was donated to a step that did not finish."""
        if self.last is None:
            return True
        if not self.donate:
            return False
        leaves = jax.tree.leaves(self.last)
        return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)

    def _publish(self) -> None:
        """Shows the state after the last complete step; if it is lost, the copy on the host."""
        plan = self.plan
        if self.lost:
            kept = jax.tree.map(jnp.asarray, without_counters(plan.now))
            plan.now = with_counters(kept, self.counters)
        else:
            plan.now = with_counters(self.last, self.counters)

    def _not_finite(self, bad: Dispatch) -> str:
        """The error message for a dispatch with a loss that is not finite."""
        where = f"one of the steps up to {bad.done}"
        if isinstance(self.last, TrainState):
            step = int(self.last.step)
            where = f"step {step}"
            if self.plan.diagnose is not None:
                index = bad.at + step - bad.number
                batch = jax.tree.map(lambda a: a[index], bad.chunk)
                key = jax.random.fold_in(self.plan.key, step)
                where += f", first in {self.plan.diagnose(self.last, batch, key)}"
        return (
            f"expected a finite loss and finite gradients, received NaN or infinity at {where}; "
            "the model is as it was before that step; lower the learning rate or scale the "
            'inputs (guard="skip" leaves such steps out)'
        )


def shown(measured: dict[str, Tree]) -> dict[str, Tree]:
    """The entries for logs: all but the norms of single weights."""
    return {
        name: value
        for name, value in measured.items()
        if name.partition("/")[0] not in NORMS
    }


def _copied(state: Tree) -> Tree:
    """A copy on the device; nothing is compiled for it on one device."""

    def copied(array: Tree, copy: Tree) -> Tree:
        # For a random key on several devices `device_put` returns another name for the memory
        # of the first one, which is gone after a donation.
        if _is_shared_key(array):
            return array.copy()
        return copy

    return jax.tree.map(copied, state, jax.device_put(state, may_alias=False))


def _is_key(leaf: Tree) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)


def _is_shared_key(leaf: Tree) -> bool:
    return _is_key(leaf) and len(leaf.sharding.device_set) > 1


def _on_host(leaf: Tree) -> Tree:
    """A copy on the host; a random key stays, since steps do not change it."""
    if _is_key(leaf):
        return leaf
    return np.array(leaf, copy=True)
