"""Resume: what a training state records so that a training can be continued bit for bit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import Array

from fnn.core.tree import Tree
from fnn.runtime.warning import warn
from fnn.training.data import key_numbers
from fnn.training.hooks import AnyModel, CallbackList
from fnn.training.state import TrainState, with_counters

Plan: TypeAlias = Any  # a `fnn.training.trainer.Plan`
Record: TypeAlias = Mapping[str, np.ndarray | np.generic]

FIT = "fit"  # the key of the training's own counters, beside those of callbacks
HASHED_BYTES = 2**28  # larger data is hashed by evenly spaced examples

# The entries of a fingerprint, as named in a warning.
_DESCRIPTIONS = {
    "batch_size": "batch_size",
    "examples": "the number of examples",
    "steps": "steps_per_epoch",
    "shuffle": "shuffle",
    "data": "the training data",
    "goals": "the optimizer or loss",
    "network": "the network",
}
# The entries whose values are shown in a warning; others are checksums.
_SHOWN = ("batch_size", "examples", "steps")


class Resume:
    """Determines where a training starts, and records the state after each epoch.

    A saved state is restored by a callback in `on_train_begin`. The training then starts
    with the epoch after the recorded one, with the random key of that state, and stops at
    once if the recorded training had been stopped.
    """

    def __init__(self, plan: Plan, callbacks: CallbackList) -> None:
        self.plan = plan
        self.callbacks = callbacks
        now = plan.now
        self.typed = isinstance(now, TrainState)
        self.own: Record = {}
        if self.typed:
            self.own = now.callbacks.get(FIT, {})
            others = {name: part for name, part in now.callbacks.items() if name != FIT}
            plan.now = with_counters(now, others)
            self.epochs_before = int(now.epoch)
            self.key_before = now.key
        self.fingerprint: Record = {}
        if self.typed and _any_resumes(callbacks.callbacks):
            self.fingerprint = _fingerprint(plan)

    def first_epoch(self) -> int:
        """The epoch to start with; restores the counters of callbacks and `stop_training`."""
        plan = self.plan
        now = plan.now
        first: int = plan.initial_epoch
        if not self.typed:
            return first
        # Raises now for counters that could not be recorded after an epoch.
        _ = self.callbacks.counters
        saved: Record = now.callbacks.get(FIT, {})
        if saved:
            first = int(saved["epoch"])
            self._follow_key(now.key)
            self._compare(saved)
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

    def record(self, epoch: int) -> None:
        """Saves the counters after this epoch in the state."""
        if not self.typed:
            return
        now = self.plan.now
        own = {
            "epoch": np.int64(epoch + 1),
            "stopped": np.bool_(self.plan.run.stop_training),
            **self.fingerprint,
        }
        self.plan.now = now.replace(callbacks={**self.callbacks.counters, FIT: own})

    def _follow_key(self, key: Array) -> None:
        """Uses the key of the restored state, if the plan uses that of the state before.

        Without a seed every process has another key.
        """
        if self.plan.key is self.key_before:
            self.plan.key = key
            if hasattr(self.plan.data, "seed"):
                self.plan.data.seed = key_numbers(key)

    def _compare(self, saved: Record) -> None:
        """Warns if the interrupted training had other data, batches, rate or losses."""
        now = self.fingerprint
        lines = []
        for name, description in _DESCRIPTIONS.items():
            if name in now and name in saved and now[name] != saved[name]:
                line = f"{description} differs"
                if name in _SHOWN:
                    # A number of steps that was not given is recorded as 0.
                    line += f": {saved[name] or None} then, {now[name] or None} now"
                lines.append(line)
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
    if hasattr(data, "arrays"):
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
