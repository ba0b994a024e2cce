"""The trainer: dispatches chunks of batches and commits each complete step."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.runtime.devices import divide
from fnn.training import engine
from fnn.training.checks import TrainingError
from fnn.training.interrupt import Interrupt
from fnn.training.progress import Progress
from fnn.training.state import TrainState, bare, dressed, numbers
from fnn.training.step import NORMS


@dataclasses.dataclass
class Plan:
    """What one training does; `fit` has the words for its fields."""

    step: Any
    data: Any
    run: Any  # what callbacks know as their model
    weights: Any  # holds the state: `.now`
    callbacks: Any
    key: Any
    epochs: int
    initial_epoch: int
    steps: int | None
    verbose: Any
    guard: str
    validate: Callable[[int, Any], dict[str, float]] | None
    validates: Callable[[int], bool] = lambda epoch: (
        True
    )  # whether `validate` will, after an epoch
    diagnose: Callable[[Any, Any, Any], str] | None = None
    end_epoch: Callable[[Any], Any] | None = (
        None  # what is left to do to the state then
    )
    end_training: Callable[[Any], Any] | None = None
    # The optimizer with the losses ("goals") and the network, to tell whether a resumed training
    # has others.
    recipe: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def now(self) -> Any:
        """The state after the last complete step."""
        return self.weights.now

    @now.setter
    def now(self, state: Any) -> None:
        self.weights.now = state


@dataclasses.dataclass
class Dispatch:
    """Steps under way: what they will return, and what they were given."""

    state: Any
    tallies: Any
    healthy: Any
    done: int
    chunk: Any
    number: int
    at: int


class Trainer:
    """Epochs of one training: dispatches chunks, commits each complete step, tells callbacks.

    A dispatch is committed to `run.train_state` when its results are there, so that an error of
    the device, which surfaces late, never reaches the model. A state that is not small is donated
    to the step, which saves memory and time. What others see in `run.train_state` during an epoch
    is then a copy on the host from its start, and there the model goes back to if a step fails.
    """

    def __init__(self, plan: Plan, callbacks: Any, interrupt: Interrupt) -> None:
        self.plan, self.callbacks, self.interrupt = plan, callbacks, interrupt
        now = plan.now
        self.program = engine.program(
            plan.step, bare(now), plan.data.batch_spec(), plan.key
        )
        self.number = self.passes = 0
        self.each = callbacks.watches(
            "on_batch_begin",
            "on_batch_end",
            "on_train_batch_begin",
            "on_train_batch_end",
        )
        # A donated and an undonated step are two programs, which may differ in the last bits. So a
        # callback that looks at batches changes nothing in the program: it gets a copy.
        self.donate = self.program.is_large
        self.spends = (
            self.donate and not self.each
        )  # the state before a step is gone after it

    def start(self, first: int) -> None:
        """Takes the number of the next step and pass over the data from the state."""
        now = self.plan.now
        if isinstance(now, TrainState):
            self.number, self.passes = int(now.step), int(now.epoch) - first

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the data. Returns its logs."""
        plan = self.plan
        position = self.passes + epoch
        self._prepare()
        self.progress.begin(epoch, plan.epochs)
        self._run_all(plan.data.chunk_size(self.program.capacity), position)
        ended = bare(plan.now)
        if isinstance(ended, TrainState):
            ended = ended.replace(epoch=np.int32(position + 1))
        if plan.end_epoch is not None:
            ended = plan.end_epoch(ended)
        plan.now = dressed(ended, self.counters)
        measured = numbers(self.settled) if self.done else {}
        logs = shown(measured)
        norms = {name: value for name, value in measured.items() if name not in logs}
        if norms:
            self.callbacks.call_optional("on_step_statistics", epoch, norms)
        if self.refused:
            logs["loss"] = math.nan
        if plan.validate is not None and self.done:
            found = plan.validate(epoch, self.callbacks)
            logs.update({f"val_{name}": value for name, value in found.items()})
            logs = dict(sorted(logs.items()))  # as in Keras
        self.progress.end(self.done, logs)
        return logs

    def _prepare(self) -> None:
        """Resets counters and queue; keeps a copy on the host of a state that will be donated."""
        self.progress = Progress(
            self.plan.verbose, self.plan.steps or self.plan.data.steps
        )
        self.flight: deque[Dispatch] = deque()
        self.done, self.tallies, self.healthy = 0, self.program.zeros(), np.True_
        self.refused = False
        self.counters = self.callbacks.counters
        self.settled, self.state = self.tallies, bare(self.plan.now)
        self.last: Any = (
            self.state
        )  # after the last complete step; None if it is no more
        if self.spends:
            kept = jax.tree.map(_on_host, self.state)
            self.plan.now = dressed(kept, self.counters)
            self.state = self.last = _copied(self.state)

    def _run_all(self, size: int, position: int) -> None:
        """Every batch of the pass of this number, in chunks of `size`."""
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

    def _until_error(self, chunks: Any) -> Iterator[tuple[Any, int]]:
        """The chunks; before an error of the data the steps under way are committed."""
        try:
            yield from chunks
        except Exception:
            self._settle(0)
            raise

    def _dispatch_all(self, chunk: Any, count: int) -> None:
        """Runs the batches of one chunk: at once, or one by one if a callback watches batches."""
        at, program = 0, self.program.of_size(chunk)
        while at < count and not self.plan.run.stop_training:
            size = 1 if self.each else min(count - at, self.program.capacity)
            if self.each:
                self.callbacks.call("on_train_batch_begin", self.done, {})
                self.state = bare(self.plan.now)  # a hook may change it
                if self.donate:
                    self.state = _copied(self.state)
            self._dispatch(program, chunk, at, size)
            at += size
            self._settle(0 if self.each or self.interrupt.requested else 1)
            if self.each:
                logs = shown(numbers(self.tallies))
                self.callbacks.call("on_train_batch_end", self.done - 1, logs)
                self.last = bare(self.plan.now)
            self.interrupt.poll()

    def _dispatch(
        self, program: engine.Program, chunk: Any, at: int, size: int
    ) -> None:
        plan = self.plan
        try:
            self.state, self.tallies, self.healthy = program(
                self.state, self.tallies, chunk, plan.key,
                first=at, count=size, number=self.number,
                healthy=self.healthy, guard=plan.guard, donate=self.donate,
            )  # fmt: skip
        except Exception as error:
            self._failed(error)
            raise
        self.done += size
        self.flight.append(
            Dispatch(
                self.state,
                self.tallies,
                self.healthy,
                self.done,
                chunk,
                self.number,
                at,
            )
        )
        self.number += size
        if (
            self.spends
        ):  # what it was made of is gone, and it has only steps that may be taken
            self.last = self.state

    def _settle(self, ahead: int) -> None:
        """Commits the oldest dispatches until `ahead` are under way: their results are there."""
        while len(self.flight) > ahead:
            oldest = self.flight.popleft()
            try:
                healthy = bool(
                    oldest.healthy
                )  # waits; an error of the device surfaces here
                if not (
                    self.spends and self.flight
                ):  # else the next one has taken its state
                    jax.block_until_ready(oldest.state)
            except Exception as error:
                if self.spends:
                    self.last = None
                self._failed(error)
                raise
            if healthy or self.program.chooses(self.plan.guard, self.donate):
                self.settled = oldest.tallies
                if not self.spends:
                    self.last = oldest.state
                    self._publish()
            if not healthy:
                self._refuse(self._not_finite(oldest))
                return
            if self.progress.reached(oldest.done):
                self.progress.update(oldest.done, shown(numbers(oldest.tallies)))

    def _refuse(self, message: str) -> None:
        """Ends the training: quietly if a callback wants it so, else by an error."""
        if not any(
            self.callbacks.call_optional("on_not_finite", message)
        ):  # all of them are told
            raise TrainingError(message)
        self.flight.clear()
        self.refused = self.plan.run.stop_training = True

    def _failed(self, error: Exception) -> None:
        kept = f"it was {'at the start of this epoch' if self.lost else 'before this step'}"
        size = tree.nbytes(tree.spec(self.plan.now)) / 2**20
        error.add_note(
            f"in a training step with batches of {self.plan.data.batch_size} rows and "
            f"{size:.1f} MiB of weights and optimizer state; the model is as {kept}"
        )

    @property
    def lost(self) -> bool:
        """Whether the last state was given to a step that did not end."""
        if self.last is None or not self.donate:
            return self.last is None
        return any(
            leaf.is_deleted() for leaf in jax.tree.leaves(self.last) if _on_device(leaf)
        )

    def _publish(self) -> None:
        """Shows the state after the last complete step; if it is lost, the copy on the host."""
        plan = self.plan
        if self.lost:
            kept = jax.tree.map(jnp.asarray, bare(plan.now))
            plan.now = dressed(kept, self.counters)
        else:
            plan.now = dressed(self.last, self.counters)

    def _not_finite(self, bad: Dispatch) -> str:
        where, before = f"one of the steps up to {bad.done}", self.last
        if isinstance(before, TrainState):
            step = int(before.step)
            where = f"step {step}"
            if self.plan.diagnose is not None:
                index = bad.at + step - bad.number
                batch = jax.tree.map(lambda a: a[index], bad.chunk)
                key = jax.random.fold_in(self.plan.key, step)
                where += f", first in {self.plan.diagnose(before, batch, key)}"
        return (
            f"expected a finite loss and finite gradients, received NaN or infinity at {where}; "
            "the model is as it was before that step; lower the learning rate or scale the "
            'inputs (guard="skip" leaves such steps out)'
        )


def shown(measured: dict[str, Any]) -> dict[str, Any]:
    """What stands in logs: all but the norms of single weights."""
    return {
        name: value
        for name, value in measured.items()
        if name.partition("/")[0] not in NORMS
    }


def _copied(state: Any) -> Any:
    """A copy on the device; nothing is compiled for it on one device.

    Of a random key on several devices JAX makes here another name for the memory of the first one,
    which is gone after a donation.
    """
    copies = jax.device_put(state, may_alias=False)
    return jax.tree.map(
        lambda a, copy: a.copy() if _is_shared_key(a) else copy, state, copies
    )


def _is_shared_key(leaf: Any) -> bool:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
    return is_key and len(leaf.sharding.device_set) > 1


def _on_device(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _on_host(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf  # a random key stays: steps do not change it
    return np.array(leaf, copy=True)
