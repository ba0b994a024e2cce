"""Saver: snapshots of a training in a store: when they are saved, which stay, which is newest."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from fnn.core.tree import Tree
from fnn.runtime.processes import (
    are_several,
    by_first,
    exchanged,
    is_global,
    local,
    say,
    writes,
)
from fnn.runtime.warning import warn
from fnn.saving import snapshots
from fnn.saving.snapshots import Arrays, Json, Leaf, Specs
from fnn.saving.tensors import FileError
from fnn.training.checkpoint import Snapshot
from fnn.training.hooks import AnyModel
from fnn.training.monitor import direction_of, improves
from fnn.training.plain import from_plain

NEVER = 2**62


class Store(Protocol):
    """A place for snapshots, each written as a whole or not at all."""

    folder: Any  # for messages

    def begin(self) -> None:
        """Makes the place ready. Raises OSError if nothing can be written there."""

    def names(self) -> list[str]:
        """The complete snapshots, oldest first; foreign files are passed over."""

    def describe(self, name: str) -> tuple[Json, Specs]:
        """The JSON, and shapes and dtypes of the arrays. Raises FileError if damaged."""

    def read(self, name: str, like: Mapping[str, Leaf]) -> Arrays:
        """The arrays of these names, verified. Raises FileError if damaged or incomplete."""

    def write(self, name: str, arrays: Arrays, described: Json) -> None:
        """Writes a snapshot; durable when it returns."""

    def remove(self, name: str) -> None:
        """Removes a snapshot."""

    def set_aside(self, name: str) -> str:
        """Renames a damaged snapshot, so that it is not found again. Returns the new name."""

    def end(self) -> None:
        """Called after the training."""


@dataclasses.dataclass(frozen=True)
class Best:
    """The log whose best value is kept; `owner` is named in messages."""

    owner: str
    monitor: str
    mode: str = "auto"
    threshold: float | None = None
    only: bool = False  # what is not better is not saved at all


class Saver:
    """Saves snapshots to a store, in a thread if `background`, and finds the newest whole one.

    The `keep` newest snapshots and the best one stay. If one cannot be written, that is a
    warning, training continues, and what was saved before stays. `resume`: True continues from
    the newest one, False refuses a store with snapshots, None does neither.
    """

    def __init__(
        self,
        store: Store,
        *,
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int | None = None,
        best: Best | None = None,
        background: bool = True,
        resume: bool | None = True,
        allow_changes: bool = False,
        keeps_history: bool = True,
        weights_only: bool = False,
        says: bool = False,
    ) -> None:
        self.store = store
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keep = keep
        self.best = best
        self.background = background
        self.resume = resume
        self.allow_changes = allow_changes
        self.keeps_history = keeps_history
        self.weights_only = weights_only
        self.says = says
        self.best_value = best.threshold if best else None
        self._best_name: str | None = None
        self._direction = "min"
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._saved: str | None = None  # the last one, in this training
        self._written: set[str] = set()  # those of this saver
        self._since = time.monotonic()

    @property
    def wants_logs(self) -> bool:
        """Whether it depends on the logs whether a snapshot inside an epoch is saved."""
        return self.best is not None and self.best.only

    @property
    def resumes(self) -> bool:
        """Whether a training continues from here: it is saved when it ends, too."""
        return self.resume is not None

    # -- when ------------------------------------------------------------------------------------

    def steps_left(self, step: int) -> int:
        """How many steps may follow before the next save."""
        if self.every_steps is None:
            return NEVER
        return self.every_steps - step % self.every_steps

    def is_due(self, step: int) -> bool:
        """Whether to save before the step with this number, inside an epoch."""
        if self.every_steps is not None and step % self.every_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        return time.monotonic() - self._since >= 60 * self.every_minutes

    def is_due_after(self, epoch: int) -> bool:
        """Whether to save after the epoch with this number, from 1."""
        return self.every_epochs is not None and epoch % self.every_epochs == 0

    # -- the start -------------------------------------------------------------------------------

    def begin(self, run: AnyModel, names: frozenset[str] | None) -> None:
        """Checks the place, and the log that is monitored, before the first step."""
        by_first("the folder of checkpoints", self.store.begin)
        if are_several():
            # Processes that save together meet in the calls of Orbax, in one order.
            self.background = False
            if self.every_minutes is not None:
                raise ValueError(
                    "expected every_steps or every_epochs with several processes, whose "
                    f"clocks differ, received every_minutes={self.every_minutes}; leave it out"
                )
        self._since = time.monotonic()
        self._saved = None
        found = self._names()
        if found and self.resume is False:
            raise FileExistsError(
                f"expected a folder without checkpoints, received {self.store.folder} with "
                f"{found[-1]}; pass resume=True to continue that training, or another folder"
            )
        best = self.best
        if best is None:
            return
        if names is not None and best.monitor not in names:
            raise ValueError(
                f"{best.owner}: {best.monitor!r} is not among the logs of this training, "
                f"{sorted(names)}; pass one of them, or validation_data for names that start "
                "with val_"
            )
        self._direction = direction_of(best.owner, best.monitor, best.mode, run)
        if self.resume:
            for name in found:
                self._compare(name, self._value_in(name))

    def _value_in(self, name: str) -> float | None:
        """The monitored value of a snapshot that an earlier training saved."""
        try:
            return self._value(from_plain(self.store.describe(name)[0]["logs"]))
        except FileError:
            return None

    def _value(self, logs: Mapping[str, Any] | None) -> float | None:
        """The monitored value; None where it is not known, as after an epoch without validation."""
        if self.best is None or self.best.monitor not in (logs or {}):
            return None
        return float(logs[self.best.monitor])  # type: ignore[index]

    def _compare(self, name: str, value: float | None) -> bool:
        """Takes a snapshot as the best one if it is better. Returns whether it is."""
        if value is None or not improves(value, self.best_value, self._direction):
            return False
        self.best_value, self._best_name = value, name
        return True

    # -- reading ---------------------------------------------------------------------------------

    def newest(self, like: Snapshot) -> Snapshot | None:
        """The newest whole snapshot in the structures of `like`; damaged ones are set aside."""
        if not self.resume:
            return None
        damaged: dict[str, FileError] = {}
        found = self._newest_whole(like, damaged)
        _check_agreement(found, self.store.folder)
        if found is None:
            if damaged:
                raise self._none_is_whole(damaged)
            return None
        for name, error in damaged.items():
            set_aside = functools.partial(self.store.set_aside, name)
            aside = by_first("a damaged checkpoint", set_aside)
            warn(
                f"the checkpoint {name} in {self.store.folder} is damaged and was set aside as "
                f"{aside}; training continues from {snapshots.at(found)}: {error}"
            )
        return found

    def _newest_whole(
        self, like: Snapshot, damaged: dict[str, FileError]
    ) -> Snapshot | None:
        """The newest snapshot that can be read; the errors of others are put into `damaged`."""
        for name in reversed(self._names()):
            try:
                described, specs = self.store.describe(name)
            except FileError as error:
                damaged[name] = error
                continue
            path = f"{self.store.folder} ({name})"
            wanted = snapshots.wanted(described, specs, like, path)
            try:
                arrays = self.store.read(name, wanted)
            except FileError as error:
                damaged[name] = error
                continue
            return snapshots.restored(described, arrays, like, path)
        return None

    def _names(self) -> list[str]:
        """The snapshots that the first process sees."""
        return list(by_first("the names of checkpoints", self.store.names))

    def _none_is_whole(self, damaged: dict[str, FileError]) -> FileError:
        if len(damaged) == 1:
            return next(iter(damaged.values()))
        lines = [f"{name}: {error}" for name, error in damaged.items()]
        return FileError(
            f"expected a whole checkpoint in {self.store.folder}, received damaged ones:\n  "
            + "\n  ".join(lines)
            + "\nremove the folder to start over"
        )

    def load(self, state: Tree, best: bool = False) -> Tree:
        """The state of the newest snapshot, or of the best one."""
        names = self.store.names()
        if best:
            names = [name for name in names if name == self._name_of_best(names)]
        if not names:
            raise FileNotFoundError(
                f"expected a checkpoint in {self.store.folder}, received none; check the path"
            )
        name = names[-1]
        like = Snapshot(state)
        described, specs = self.store.describe(name)
        wanted = snapshots.wanted(described, specs, like, self.store.folder)
        needed = {n: leaf for n, leaf in wanted.items() if leaf is not None}
        described = {**described, "counters": {}}
        arrays = self.store.read(name, needed)
        return snapshots.restored(described, arrays, like, self.store.folder).state

    def _name_of_best(self, names: list[str]) -> str | None:
        if self.best is None:
            raise ValueError(
                "best=True needs to know which log was monitored; pass keep_best='val_loss', as "
                "in the training"
            )
        self._direction = direction_of(
            self.best.owner, self.best.monitor, self.best.mode, None
        )
        for name in names:
            self._compare(name, self._value_in(name))
        return self._best_name

    def describe(self) -> list[Json]:
        """The JSON of each snapshot, oldest first, and shapes and dtypes of its arrays."""
        found = []
        for name in self.store.names():
            described, specs = self.store.describe(name)
            arrays = {n: f"{s.dtype}{list(s.shape)}" for n, s in specs.items()}
            found.append({"name": name, **described, "arrays": arrays})
        return found

    # -- writing ---------------------------------------------------------------------------------

    def save(self, snapshot: Snapshot) -> None:
        """Saves a snapshot, after the one before it; with `background` in a thread."""
        name = snapshots.at(snapshot)
        if name == self._saved:
            return
        self.wait()
        better = self._compare(name, self._value(snapshot.logs))
        if self.best is not None and self.best.only and not better:
            return
        if self.says:
            say(f"\nsaving {name} in {self.store.folder}")
        leaves, described = snapshots.stored(snapshot, self.weights_only)
        arrays = {n: _on_host(leaf, self.background) for n, leaf in leaves.items()}
        if are_several():
            # Each process may read a stream of its own.
            described["places"] = exchanged(described["place"], f"checkpoint {name}")
        self._saved, self._since = name, time.monotonic()
        if not self.background:
            self._write(name, arrays, described)
            self._report()
            return
        self._thread = threading.Thread(
            target=self._write, args=(name, arrays, described)
        )
        self._thread.start()

    def _write(self, name: str, arrays: Arrays, described: Json) -> None:
        try:
            self.store.write(name, arrays, described)
            self._written.add(name)
            self._remove_others(name)
        except Exception as error:
            # Of the thread, or of a full disk: training goes on.
            self._failure = error

    def _remove_others(self, newest: str) -> None:
        """Removes what neither is among the newest nor the best; what was written is durable."""
        if self.keep is None or not writes():
            return
        names = [name for name in self.store.names() if name != newest]
        if not self.resumes:
            # Those of another training are not its own.
            names = [name for name in names if name in self._written]
        stays = {*names[len(names) - self.keep + 1 :], self._best_name}
        for name in names:
            if name not in stays:
                self.store.remove(name)

    def wait(self) -> None:
        """Waits until what was saved is durable."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._report()

    def _report(self) -> None:
        """Warns of what could not be written."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        warn(
            f"a checkpoint could not be saved in {self.store.folder}: {failure!r}; training "
            "continues, and what was saved before stays: make room, or pass another folder"
        )

    def close(self) -> None:
        """Waits until what was saved is durable."""
        try:
            self.wait()
        finally:
            self.store.end()


def _check_agreement(found: Snapshot | None, folder: Any) -> None:
    """Raises FileError if the processes have not found the same snapshot."""
    at = exchanged(found and snapshots.at(found), "the checkpoint to resume")
    for process, other in enumerate(at):
        if other != at[0]:
            raise FileError(
                f"expected the same checkpoints for all processes in {folder}, received {at[0]} in "
                f"process 0 and {other} in process {process}; pass a folder that all hosts share"
            )


def _on_host(leaf: Leaf, copy: bool) -> Leaf:
    """An array on the host, as a copy if the state may change before it is written.

    An array of which this process has only a part stays on the devices.
    """
    if is_global(leaf):
        if not leaf.is_fully_replicated:
            return leaf
        leaf = local(leaf)
    if copy:
        return np.array(leaf, copy=True)
    return np.asarray(leaf)
