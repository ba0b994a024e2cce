"""Resume: what a training state records so that a training can be continued bit for bit."""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import Array

from fnn.core.tree import Tree
from fnn.runtime.warning import warn
from fnn.training.checkpoint import Saver, Snapshot
from fnn.training.data import ArrayData, key_numbers
from fnn.training.hooks import AnyModel, CallbackList
from fnn.training.plan import Plan
from fnn.training.state import TrainState, with_counters, without_counters
from fnn.training.stream import StreamData

Record: TypeAlias = Mapping[str, np.ndarray | np.generic]

FIT = "fit"  # the key of the training's own counters, beside those of callbacks
HASHED_BYTES = 2**28  # larger data is hashed by evenly spaced examples

# The entries of a fingerprint, as named in a warning.
_DESCRIPTIONS = {
    "batch_size": "batch_size",
    "examples": "the number of examples",
    "steps": "steps_per_epoch",
    "shuffle": "shuffle",
    "hosts": "the number of processes with a stream each",
    "data": "the training data",
    "seed": "the seed",
    "goals": "the optimizer or loss",
    "network": "the network",
}
# The entries without which the position in an epoch means nothing.
_POSITION = ("batch_size", "examples", "steps", "shuffle", "hosts")
# The entries whose values are shown in a warning; others are checksums.
_SHOWN = ("batch_size", "examples", "steps", "hosts")


class Resume:
    """Determines where a training starts, saves it, and records the state after each epoch.

    A saved state comes from a saver (`fit(..., checkpoint=...)` and callbacks), or from a
    callback that sets it in `on_train_begin`. The training then starts where that one was,
    with the random key of that state, and stops at once if that one had been stopped.
    """

    def __init__(self, plan: Plan, callbacks: CallbackList) -> None:
        self.plan = plan
        self.callbacks = callbacks
        self.snapshot: Snapshot | None = None  # that this training resumes
        self._unfinished: Snapshot | None = None  # it, if it is inside an epoch
        self.savers: list[Saver] = []
        self._due: list[Saver] = []
        if plan.saver is not None:
            self.savers.append(plan.saver)
        for callback in callbacks.callbacks:
            saver = getattr(callback, "training_saver", None)
            if saver is not None:
                self.savers.append(saver)
        if isinstance(plan.data, StreamData):
            plan.data.places.wanted = bool(self.savers)
        now = plan.weights.now
        self.typed = isinstance(now, TrainState)
        self.own: Record = {}
        if self.typed:
            others = dict(now.callbacks)
            self.own = others.pop(FIT, {})
            plan.weights.now = with_counters(now, others)
            self.epochs_before = int(now.epoch)
            self.key_before = now.key
        self.fingerprint: Record = {}
        if self.savers or (self.typed and _any_resumes(callbacks.callbacks)):
            self.fingerprint = _fingerprint(plan)

    # -- the start -------------------------------------------------------------------------------

    def first_epoch(
        self, zeros: Callable[[], Tree], names: frozenset[str] | None
    ) -> int:
        """The epoch to start with; restores the counters of callbacks and `stop_training`.

        `zeros` makes empty sums of an epoch; `names` are those of the logs if they are known.
        """
        if self.typed or self.savers:
            # Raises now for counters that could not be recorded after an epoch.
            _ = self.callbacks.counters
        if self.savers:
            for saver in self.savers:
                saver.begin(self.plan.run, names)
            found = self._newest(zeros())
            if found is not None:
                self._take(*found)
                return found[0].epoch
        if not self.typed:
            return self.plan.initial_epoch
        return self._epoch_of_state()

    def _newest(self, sums: Tree) -> tuple[Snapshot, Saver] | None:
        """What the savers have that is furthest, and whose it is."""
        like = Snapshot(without_counters(self.plan.weights.now), sums=sums)
        best: tuple[Snapshot, Saver] | None = None
        for saver in self.savers:
            found = saver.newest(like)
            if found is None:
                continue
            if best is None or (found.epoch, found.batch) > (
                best[0].epoch,
                best[0].batch,
            ):
                best = found, saver
        return best

    def _take(self, snapshot: Snapshot, saver: Saver) -> None:
        """Continues from a snapshot."""
        plan = self.plan
        changes = self._changes(snapshot.record)
        if changes and not saver.allow_changes:
            raise ValueError(
                "expected to resume with the arguments and data of the interrupted training, "
                "received others:\n  "
                + "\n  ".join(changes.values())
                + "\npass the same ones, start over in another folder, or allow it with "
                "fnn.training.Checkpoint(..., allow_changes=True)"
            )
        plan.weights.now = snapshot.state
        if self.typed:
            self._follow_key(snapshot.state.key)
        self._warn_of(changes, snapshot.record)
        if changes.keys() & {*_POSITION} and snapshot.batch:
            snapshot = dataclasses.replace(snapshot, batch=0, sums=None, place=None)
        self.callbacks.counters = dict(snapshot.counters)
        plan.run.stop_training |= snapshot.stopped
        plan.data.move_to(snapshot.place, snapshot.epoch, snapshot.batch)
        if saver.keeps_history and snapshot.history:
            plan.run.history.restore(snapshot.history)
        self.snapshot = snapshot
        if snapshot.batch:
            self._unfinished = snapshot

    def take_up(self) -> Snapshot | None:
        """The snapshot that a resumed training was in, inside an epoch; once."""
        snapshot, self._unfinished = self._unfinished, None
        if snapshot is not None:
            self.callbacks.counters = dict(snapshot.counters)
        return snapshot

    @property
    def is_inside_epoch(self) -> bool:
        """Whether the epoch that comes next has begun before."""
        return self._unfinished is not None

    def _epoch_of_state(self) -> int:
        """The epoch to start with, without a saver."""
        plan = self.plan
        now = plan.weights.now
        first: int = plan.initial_epoch
        saved: Record = now.callbacks.get(FIT, {})
        if saved:
            first = int(saved["epoch"])
            self._follow_key(now.key)
            self._warn_of(self._changes(saved), saved)
        else:
            # A callback may have restored a state without a record, or the model itself
            # continues an interrupted training.
            first += max(int(now.epoch) - self.epochs_before, 0)
            if int(self.own.get("epoch", -1)) == first:
                saved = self.own
        if first:
            self.callbacks.counters = now.callbacks
            plan.run.stop_training |= bool(saved.get("stopped", False))
        return first

    # -- saving ----------------------------------------------------------------------------------

    def steps_left(self, step: int) -> int:
        """How many steps may follow in one dispatch before the next save."""
        left = [saver.steps_left(step) for saver in self.savers]
        return min(left, default=sys.maxsize)

    def is_due(self, step: int, ends: bool) -> bool:
        """Whether to save before the step with this number; `ends`: the epoch is over."""
        self._due = []
        for saver in self.savers:
            if saver.is_due(step) and not (ends and saver.is_due_after(1)):
                self._due.append(saver)
        return bool(self._due)

    @property
    def wants_logs(self) -> bool:
        """Whether what is due depends on the logs so far."""
        return any(saver.wants_logs for saver in self._due)

    def save(self, snapshot: Snapshot) -> None:
        """Saves inside an epoch, where `is_due` has said so."""
        self._save(self._due, snapshot)

    def save_after(self, snapshot: Snapshot) -> None:
        """Saves after an epoch: where it is due, and after the last one."""
        plan = self.plan
        ends = snapshot.epoch == plan.epochs or plan.run.stop_training
        due = []
        for saver in self.savers:
            if saver.is_due_after(snapshot.epoch) or (ends and saver.resumes):
                due.append(saver)
        self._save(due, snapshot)

    def save_last(self, snapshot: Snapshot) -> None:
        """Saves a training that is interrupted."""
        self._save([saver for saver in self.savers if saver.resumes], snapshot)

    def _save(self, savers: list[Saver], snapshot: Snapshot) -> None:
        if not savers:
            return
        snapshot = dataclasses.replace(
            snapshot,
            stopped=self.plan.run.stop_training,
            record=self.fingerprint,
            history=self.plan.run.history.as_dict(),
        )
        for saver in savers:
            saver.save(snapshot)

    def close(self) -> None:
        """Waits until what was saved is durable."""
        for saver in self.savers:
            saver.close()

    def record(self, epoch: int) -> None:
        """Saves the counters after this epoch in the state."""
        if not self.typed:
            return
        now = self.plan.weights.now
        own = {
            "epoch": np.int64(epoch + 1),
            "stopped": np.bool_(self.plan.run.stop_training),
            **self.fingerprint,
        }
        self.plan.weights.now = with_counters(
            now, {**self.callbacks.counters, FIT: own}
        )

    def _follow_key(self, key: Array) -> None:
        """Uses the key of the restored state, if the plan uses that of the state before.

        Without a seed every process has another key.
        """
        if self.plan.key is self.key_before:
            self.plan.key = key
            if hasattr(self.plan.data, "seed"):
                self.plan.data.seed = key_numbers(key)

    def _changes(self, saved: Record) -> dict[str, str]:
        """What differs from the interrupted training: data, batches, losses; a line each."""
        now = self.fingerprint
        lines = {}
        for name, description in _DESCRIPTIONS.items():
            if name not in now or name not in saved:
                continue
            if now[name] == saved[name]:
                continue
            lines[name] = f"{description} differs"
            if name in _SHOWN:
                # A number of steps that was not given is recorded as 0.
                lines[name] += f": {saved[name] or None} then, {now[name] or None} now"
        return lines

    def _warn_of(self, changes: dict[str, str], saved: Record) -> None:
        """Warns of changes, and of another learning rate than that of the restored state."""
        now = self.fingerprint
        lines = [*changes.values()]
        if "rate" in now and "rate" in saved:
            held = _rates(self.plan.run)
            accepted = (saved["rate"], held)
            if not any(np.array_equal(now["rate"], rate) for rate in accepted):
                lines.append(
                    f"learning_rate differs: {_shown(held)} holds, not {_shown(now['rate'])}"
                )
        if lines:
            warn(
                "this training resumes one that was set up differently, so it will not end "
                "with the same weights:\n  "
                + "\n  ".join(lines)
                + "\npass the same arguments and data "
                "as before, or remove the backup to start over"
            )


def _any_resumes(callbacks: Iterable[object]) -> bool:
    """Whether a callback asks to compare a resumed training with the interrupted one."""
    return any(getattr(callback, "resumes", False) for callback in callbacks)


def _fingerprint(plan: Plan) -> Record:
    """The values that must be equal for a resumed training to end like the interrupted one."""
    data = plan.data
    found: dict[str, np.ndarray | np.generic] = {
        "batch_size": np.int64(data.batch_size),
        "steps": np.int64(plan.steps or 0),
        "shuffle": _hash(str(data.shuffle)),
        "rate": _rates(plan.run),
    }
    if not isinstance(plan.weights.now, TrainState):
        found["seed"] = _hash(str(key_numbers(plan.key)))
    if isinstance(data, StreamData):
        found["hosts"] = np.int64(data.hosts)
    if isinstance(data, ArrayData):
        found["examples"] = np.int64(data.count)
        found["data"] = _hash_of_arrays(data.arrays)
    for name, text in plan.recipe.items():
        # The address of a function differs in every process.
        if " at 0x" not in text:
            found[name] = _hash(text)
    return found


def _rates(run: AnyModel) -> np.ndarray:
    """The current learning rates, if the optimizer has any."""
    rates = jax.tree.leaves(getattr(run, "learning_rate", None))
    return np.asarray([float(rate) for rate in rates], np.float64)


def _shown(rates: Any) -> str:
    return ", ".join(f"{rate:.6g}" for rate in rates) or "none"


def _hash(text: str) -> np.uint32:
    return np.uint32(zlib.crc32(text.encode()))


def _hash_of_arrays(arrays: Tree) -> np.uint32:
    """A checksum of names, shapes, dtypes and contents."""
    checksum = 0
    for path, array in jax.tree_util.tree_leaves_with_path(arrays):
        header = f"{path} {array.shape} {array.dtype}"
        checksum = zlib.crc32(header.encode(), checksum)
        stride = array.size * array.dtype.itemsize // HASHED_BYTES + 1
        contents = np.ascontiguousarray(array[::stride])
        checksum = zlib.crc32(contents.tobytes(), checksum)
    return np.uint32(checksum)
