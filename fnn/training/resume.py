"""Resume: what a training state records so that another training can go on from it bit for bit."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import numpy as np

from fnn.runtime.warning import warn
from fnn.training.data import key_numbers
from fnn.training.state import TrainState, dressed

FIT = "fit"  # where a state keeps, beside the counters of callbacks, those of the training itself
HASHED_BYTES = 2**28  # larger data is hashed by evenly spaced examples

# What the entries of a fingerprint are called in a warning.
_WORDS = {
    "batch_size": "batch_size",
    "examples": "the number of examples",
    "steps": "steps_per_epoch",
    "shuffle": "shuffle",
    "data": "the training data",
    "goals": "the optimizer or loss",
    "network": "the network",
}
_SHOWN = ("batch_size", "examples", "steps")


class Resume:
    """Where a training starts, and what its state says after each epoch.

    A state is put back if it arrives in `on_train_begin` of a callback. The training then begins
    with the epoch after the recorded one, with the random key of that state, and stops at once if
    the recorded training had been stopped.
    """

    def __init__(self, plan: Any, callbacks: Any) -> None:
        self.plan, self.callbacks = plan, callbacks
        now = plan.now
        self.typed = isinstance(now, TrainState)
        self.own: dict[str, Any] = {}
        if self.typed:
            self.own = now.callbacks.get(FIT, {})
            others = {name: part for name, part in now.callbacks.items() if name != FIT}
            plan.now = dressed(now, others)
            self.epochs_before, self.key_before = int(now.epoch), now.key
        compares = any(
            getattr(callback, "resumes", False) for callback in callbacks.callbacks
        )
        self.fingerprint = _fingerprint(plan) if self.typed and compares else {}

    def first_epoch(self) -> int:
        """The epoch to begin with; restores the counters of callbacks and `stop_training`."""
        plan, now = self.plan, self.plan.now
        first: int = plan.initial_epoch
        if not self.typed:
            return first
        _ = self.callbacks.counters  # raises for what cannot be recorded after an epoch
        saved = now.callbacks.get(FIT, {})
        if saved:
            first = int(saved["epoch"])
            self._follow_key(now.key)
            self._compare(saved)
        else:
            first += max(int(now.epoch) - self.epochs_before, 0)
            saved = self.own if int(self.own.get("epoch", -1)) == first else {}
        if first:
            self.callbacks.counters = now.callbacks
            plan.run.stop_training |= bool(saved.get("stopped", False))
        return first

    def record(self, epoch: int) -> None:
        """Puts the counters after this epoch into the state."""
        now = self.plan.now
        if self.typed:
            stopped = np.bool_(self.plan.run.stop_training)
            own = {"epoch": np.int64(epoch + 1), "stopped": stopped, **self.fingerprint}
            self.plan.now = now.replace(callbacks={**self.callbacks.counters, FIT: own})

    def _follow_key(self, key: Any) -> None:
        """Shuffles and draws by the key of the state that was put back, if by the old one so far.

        Without a seed every process has another key.
        """
        if self.plan.key is self.key_before:
            self.plan.key = key
            if hasattr(self.plan.data, "seed"):
                self.plan.data.seed = key_numbers(key)

    def _compare(self, saved: dict[str, Any]) -> None:
        """Warns if the interrupted training had other data, batches, rate or goals."""
        now = self.fingerprint
        lines = []
        for name, words in _WORDS.items():
            if name in now and name in saved and now[name] != saved[name]:
                lines.append(f"{words} differs")
                if name in _SHOWN:  # a number of steps that was not given is 0
                    lines[-1] += (
                        f": {saved[name] or None} then, {now[name] or None} now"
                    )
        if "rate" in now and "rate" in saved:
            held = _rates(self.plan.run)
            if not any(
                np.array_equal(now["rate"], rate) for rate in (saved["rate"], held)
            ):
                lines.append(
                    f"learning_rate differs: {_text(held)} holds, not {_text(now['rate'])}"
                )
        if lines:
            warn(
                "this training resumes one that was set up differently, so it will not end with "
                "the same weights:\n  "
                + "\n  ".join(lines)
                + "\npass the same arguments and data "
                "as before, or remove the backup to start anew"
            )


def _fingerprint(plan: Any) -> dict[str, Any]:
    """What must be equal for a resumed training to end as the interrupted one would have."""
    data = plan.data
    found = {
        "batch_size": np.int64(data.batch_size),
        "steps": np.int64(plan.steps or 0),
        "shuffle": _hash(str(data.shuffle)),
        "rate": _rates(plan.run),
    }
    if hasattr(data, "arrays"):
        found |= {
            "examples": np.int64(data.count),
            "data": _hash_of_arrays(data.arrays),
        }
    for name, text in plan.recipe.items():
        if (
            " at 0x" not in text
        ):  # the address of a function, which no other process has
            found[name] = _hash(text)
    return found


def _rates(run: Any) -> np.ndarray:
    """The learning rates now, as far as the optimizer has any."""
    rates = jax.tree.leaves(getattr(run, "learning_rate", None))
    return np.asarray([float(rate) for rate in rates], np.float64)


def _text(rates: np.ndarray) -> str:
    return ", ".join(f"{rate:.6g}" for rate in rates) or "none"


def _hash(text: str) -> np.uint32:
    return np.uint32(zlib.crc32(text.encode()))


def _hash_of_arrays(arrays: Any) -> np.uint32:
    """A checksum of names, shapes, dtypes and contents."""
    found = 0
    for path, array in jax.tree_util.tree_leaves_with_path(arrays):
        found = zlib.crc32(f"{path} {array.shape} {array.dtype}".encode(), found)
        stride = array.size * array.dtype.itemsize // HASHED_BYTES + 1
        found = zlib.crc32(np.ascontiguousarray(array[::stride]).tobytes(), found)
    return np.uint32(found)
