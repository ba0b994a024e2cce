"""Trainer: dispatches chunks of batches and commits each complete step."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime import processes
from fnn.runtime.devices import divide
from fnn.training import engine
from fnn.training.agreement import agree_to_stop
from fnn.training.checkpoint import Snapshot
from fnn.training.checks import TrainingError
from fnn.training.copies import copied, on_host
from fnn.training.diagnosis import not_finite
from fnn.training.hooks import BATCH_HOOKS, CallbackList, Logs
from fnn.training.interrupt import Interrupt
from fnn.training.plan import Dispatch, Plan
from fnn.training.progress import INTERVAL, Progress
from fnn.training.resume import Resume
from fnn.training.state import (
    TrainState,
    count,
    result_values,
    shown,
    with_counters,
    without_counters,
)


class Trainer:
    """The epochs of one training: dispatches chunks, commits complete steps, calls callbacks.

    A dispatch is committed to `plan.weights.now` when its results have arrived, so that an error
    of the device, which is reported late, never reaches the model. A large state is donated to the
    step, which saves memory and time. During an epoch `plan.weights.now` is then the state at its
    start, to which the model returns if a step fails.
    """

    def __init__(
        self,
        plan: Plan,
        program: engine.Program,
        callbacks: CallbackList,
        interrupt: Interrupt,
        resume: Resume,
    ) -> None:
        self.plan = plan
        self.program = program
        self.callbacks = callbacks
        self.interrupt = interrupt
        self.resume = resume
        self.saves = bool(resume.savers)
        self.epoch_number = 0
        # The training at the last boundary of an epoch; None while steps run.
        self.boundary: Snapshot | None = None
        # After the last complete step; None if its memory is gone.
        self.last: Tree = None
        self.number = 0  # of the next step
        self.passes = 0  # over the data before this training
        self.each = callbacks.watches(*BATCH_HOOKS)
        if jax.distributed.is_initialized():  # all go step by step, to meet after each
            self.each = processes.any_of(self.each, "the first step of a training")
        # A donating program and one that does not donate may differ in the last bits, so a
        # callback that watches batches does not change the program: it gets a copy of the state.
        self.donate = program.is_large
        self.consumes = self.donate and not self.each
        self.progress = Progress(0, None)

    def start(self, first: int) -> None:
        """Takes the number of the next step and of the next pass over the data from the state."""
        now = self.plan.weights.now
        if isinstance(now, TrainState):
            self.number = int(now.step)
            self.passes = int(now.epoch) - first
        snapshot = self.resume.snapshot
        if snapshot is not None:
            # Steps that were left out (guard="skip") have numbers too.
            self.number = snapshot.step
        if self.saves:
            self.end_epoch(first)

    def watched_epoch(self, epoch: int) -> tuple[Logs, Logs]:
        """Its logs before and after the hooks of callbacks, which may add the learning rate."""
        self.callbacks.call("on_epoch_begin", epoch, {})
        if jax.distributed.is_initialized():
            agree_to_stop(self.plan.run, "the beginning of an epoch")
        logs = self.epoch(epoch)
        before = dict(logs)
        self.callbacks.call("on_epoch_end", epoch, logs)
        if jax.distributed.is_initialized():
            agree_to_stop(self.plan.run, "the end of an epoch")
        self.progress.end(self.done, logs)
        return before, logs

    def epoch(self, epoch: int) -> Logs:
        """One pass over the data. Returns its logs, which `progress` does not show yet."""
        plan = self.plan
        self.epoch_number = epoch
        position = self.passes + epoch
        if plan.begin_epoch is not None:
            plan.begin_epoch()
        self._prepare()
        self.progress.begin(epoch, plan.epochs)
        self._run_all(plan.data.chunk_size(self.program.capacity), position)
        if self.saves:
            self.boundary = self.snapshot()
        ended = without_counters(plan.weights.now)
        if isinstance(ended, TrainState):
            ended = ended.replace(epoch=count(position + 1))
        if plan.end_epoch is not None:
            ended = plan.end_epoch(ended)
        plan.weights.now = with_counters(ended, self.counters)
        logs = self._logs(epoch)
        if plan.validate is not None and self.done:
            found = plan.validate(epoch, self.callbacks)
            logs.update({f"val_{name}": value for name, value in found.items()})
            # Keras's order.
            logs = dict(sorted(logs.items()))
        return logs

    def _logs(self, epoch: int) -> Logs:
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
        """Resets counters and queue; keeps on the host a state whose copy will be donated."""
        plan = self.plan
        self.progress = plan.progress or Progress(plan.verbose, None, self.progress)
        self.progress.total = plan.steps or plan.data.steps
        plan.progress = None
        self.flight: deque[Dispatch] = deque()
        self.unread: list[Dispatch] = []  # committed, their losses not looked at yet
        self.read = time.perf_counter()  # when the last was looked at
        self.done = 0
        self.refused = False
        self.accumulated = self.program.zeros()
        if self.saves:
            self._continue_epoch()
        self.counters = self.callbacks.counters
        self.settled = self.accumulated
        self.healthy: Tree = np.True_
        self.state = without_counters(plan.weights.now)
        self.last = self.state
        if self.consumes:
            kept = jax.tree.map(on_host, self.state)
            plan.weights.now = with_counters(kept, self.counters)
            self.state = self.last = copied(self.state)

    def _continue_epoch(self) -> None:
        """Takes up the epoch that a resumed training was in; its hooks have begun it again."""
        snapshot = self.resume.take_up()
        if snapshot is not None:
            self.plan.weights.now = snapshot.state
            self.done = snapshot.batch
            self.accumulated = snapshot.sums

    def _run_all(self, size: int, position: int) -> None:
        """Trains on every batch of the pass with this number, in chunks of `size`."""
        plan = self.plan
        self.boundary = None
        chunks = plan.data.chunks(position, size, plan.steps, self._poll, self.done)
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
                if self.saves:
                    size = min(size, self.resume.steps_left(self.number))
                self._dispatch(program, chunk, at, size)
                at += size
                self._settle(1)
            if self.saves:
                self._save_if_due()
            if jax.distributed.is_initialized() and processes.are_terminated():
                self.interrupt.terminated = True
            self._poll()

    def _poll(self) -> None:
        """Ends the training if that was requested, after the steps in flight."""
        interrupt = self.interrupt
        if interrupt.requested or interrupt.terminated:
            self._settle(0)
            interrupt.poll()

    def _save_if_due(self) -> None:
        ends = self.done == (self.plan.steps or self.plan.data.steps)
        if not self.resume.is_due(self.number, ends):
            return
        self._settle(0)
        if self.refused:
            return
        snapshot = self.snapshot()
        if self.resume.wants_logs:
            logs = shown(result_values(self.settled))
            snapshot = dataclasses.replace(snapshot, logs=logs)
        self.resume.save(snapshot)

    def snapshot(self) -> Snapshot:
        """The training after the last complete step."""
        if self.boundary is not None:
            return self.boundary
        return Snapshot(
            self.last,
            self.epoch_number,
            self.done,
            self.number,
            sums=self.settled,
            counters=self.callbacks.counters,
            place=self.plan.data.place(self.done),
        )

    def end_epoch(self, epoch: int, logs: Logs | None = None) -> Snapshot:
        """The training after the epoch before this one, with its logs."""
        state = without_counters(self.plan.weights.now)
        counters = self.callbacks.counters
        place = self.plan.data.place(None)
        self.boundary = Snapshot(
            state, epoch, 0, self.number, counters=counters, place=place, logs=logs
        )
        return self.boundary

    def _dispatch_watched(self, program: engine.Program, chunk: Tree, at: int) -> None:
        """Runs one batch between the hooks of callbacks, which may change the state."""
        self.callbacks.call("on_train_batch_begin", self.done, {})
        self.state = without_counters(self.plan.weights.now)
        if self.donate:
            self.state = copied(self.state)
        self._dispatch(program, chunk, at, 1)
        self._settle(0)
        logs = shown(result_values(self.accumulated))
        self.callbacks.call("on_train_batch_end", self.done - 1, logs)
        if jax.distributed.is_initialized():
            agree_to_stop(self.plan.run, "the end of a step")
        self.last = without_counters(self.plan.weights.now)

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
        self.progress.steps_run()
        self.state, self.accumulated, self.healthy = result
        self.done += size
        self.number += size
        self.flight.append(Dispatch(*result, self.done, chunk, number, at))
        if self.consumes:
            # The state before is gone, and this one contains only steps that may be taken.
            self.last = self.state

    def _settle(self, ahead: int) -> None:
        """Commits the oldest dispatches, for which it waits, until `ahead` are left.

        Losses are checked now and then, since a read costs time, unless the state may be bad.
        """
        while len(self.flight) > ahead:
            oldest = self.flight.popleft()
            self._wait_for(oldest)
            self.unread.append(oldest._replace(state=None, accumulated=None))
            shows = self.progress.reached(oldest.done)
            later = ahead and not shows and self._may_read_later()
            healthy = later or bool(oldest.healthy)
            if healthy or self.program.chooses(self.plan.guard, self.donate):
                self.settled = oldest.accumulated
                if not self.consumes:
                    self.last = oldest.state
                    self._publish()
            if not healthy:
                self._refuse(not_finite(self.plan, self.last, self.unread))
                return
            if later:
                continue
            self.unread.clear()
            self.read = time.perf_counter()
            if shows:
                logs = shown(result_values(oldest.accumulated))
                self.progress.update(oldest.done, logs)

    def _may_read_later(self) -> bool:
        if jax.distributed.is_initialized():
            return False  # all processes notice after the same step
        is_safe = self.program.chooses(self.plan.guard, self.donate)
        return is_safe and time.perf_counter() - self.read < INTERVAL

    def _wait_for(self, dispatch: Dispatch) -> None:
        """Waits for its results. Errors of the device are raised here."""
        try:
            wait: Callable[[Tree], Tree] = jax.block_until_ready
            wait(dispatch.healthy)
            if not (self.consumes and self.flight):  # else the next has taken it
                wait(dispatch.state)
        except Exception as error:
            if self.consumes:
                self.last = None
            self._add_note(error)
            raise

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
        if self.is_lost:
            when = "at the start of this epoch"
        size = tree.nbytes(tree.spec(self.plan.weights.now)) / 2**20
        error.add_note(
            f"in a training step with batches of {self.plan.data.batch_size} examples and "
            f"{size:.1f} MiB of weights and optimizer state; the model is as it was {when}"
        )

    @property
    def is_lost(self) -> bool:
        """Whether the last state was donated to a step that did not finish."""
        if self.last is None:
            return True
        if not self.donate:
            return False
        leaves = jax.tree.leaves(self.last)
        return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)

    @property
    def is_whole(self) -> bool:
        """Whether there is a `snapshot`."""
        return self.boundary is not None or not self.is_lost

    def _publish(self) -> None:
        """Shows the state after the last complete step; if it is lost, the copy on the host."""
        plan = self.plan
        if self.donate and self.is_lost:
            kept = jax.tree.map(jnp.asarray, without_counters(plan.weights.now))
            plan.weights.now = with_counters(kept, self.counters)
        else:
            plan.weights.now = with_counters(self.last, self.counters)
