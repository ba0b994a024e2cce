"""Checkpoint: where and when a training is saved; Snapshot: what a checkpoint holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

from fnn.core.tree import Tree
from fnn.training.hooks import AnyModel, Logs


@dataclass(frozen=True)
class Snapshot:
    """A training after a complete step, from which it continues bit for bit.

    `epoch` epochs are over, and `batch` batches of the next one; `step` is the number of the
    next step. `sums` are the accumulators of the epoch in progress, `counters` those of
    callbacks, `place` the position in a stream, `record` what must be equal when resumed.
    `logs` are those of the epoch that has just ended, if one has.
    """

    state: Tree
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: Tree = None
    counters: Mapping[str, Tree] = field(default_factory=dict)
    stopped: bool = False
    place: Any = None
    record: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Any] = field(default_factory=dict)
    logs: Logs | None = None


class Saver(Protocol):
    """Saves snapshots of a training, and finds the newest one."""

    allow_changes: bool  # a resumed training may have other data or arguments
    keeps_history: bool  # the History continues with the epochs before

    @property
    def resumes(self) -> bool:
        """Whether a training continues from here: it is saved when it ends, too."""

    @property
    def wants_logs(self) -> bool:
        """Whether it depends on the logs whether a snapshot inside an epoch is saved."""

    def begin(self, run: AnyModel, names: frozenset[str] | None) -> None:
        """Called before the first step, with the names of the logs if they are known."""

    def newest(self, like: Snapshot) -> Snapshot | None:
        """The newest complete snapshot, in the structures of `like`; None for a new training."""

    def steps_left(self, step: int) -> int:
        """How many steps may follow before the next save."""

    def is_due(self, step: int) -> bool:
        """Whether to save before the step with this number, inside an epoch."""

    def is_due_after(self, epoch: int) -> bool:
        """Whether to save after the epoch with this number, from 1."""

    def save(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None:
        """Waits until what was saved is durable."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder of checkpoints, and when a training is saved there: `fit(..., checkpoint=...)`.

    A training is saved after every `every_epochs` epochs, and inside an epoch every
    `every_steps` steps and `every_minutes` minutes; when it ends, and at Ctrl-C and SIGTERM,
    after the current step. The `keep` newest checkpoints stay (None: all), and the one whose
    log `keep_best` ("val_loss") was best; `mode` says whether less ("min") or more ("max") is
    better. With `background` the state is copied, and training continues while a thread writes
    the copy; a save waits for the one before it.

    A checkpoint is written completely or not at all. It has a checksum of each array, and JSON
    that is readable without an accelerator (`describe`). Needs Orbax (`pip install
    ".[checkpoint]"`).

    With `resume=True`, `fit` continues from the newest complete checkpoint, bit for bit; it
    passes over damaged ones with a warning and sets them aside. Raises ValueError if the batch
    size, data or network differ; with `allow_changes` it warns, and starts the epoch in
    progress over where its batches differ.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    >>> checkpoint = Checkpoint("run", every_steps=100, keep_best="loss")
    >>> history = model.fit(x, x, epochs=2, checkpoint=checkpoint, verbose=0)
    >>> [found["epoch"] for found in checkpoint.describe()]
    [1, 2]
    >>> again = model.fit(x, x, epochs=4, checkpoint=checkpoint, resume=True, verbose=0)
    >>> again.epoch
    [0, 1, 2, 3]
    >>> model.train_state = checkpoint.load(model.train_state, best=True)
    """

    directory: str | os.PathLike[str]
    every_epochs: int | None = 1
    every_steps: int | None = None
    every_minutes: float | None = None
    keep: int | None = 3
    keep_best: str | None = None
    mode: str = "auto"
    background: bool = True
    allow_changes: bool = False

    # Open the folder: (checkpoint, resume) -> Saver. Set by `fnn.saving`.
    on_opened: ClassVar[Callable[[Checkpoint, bool], Any]]

    def __post_init__(self) -> None:
        if not str(self.directory):
            raise ValueError(
                "Checkpoint: expected a folder, received an empty path; e.g. 'run'"
            )
        for name in ("every_epochs", "every_steps", "every_minutes", "keep"):
            value = getattr(self, name)
            whole = name == "every_minutes" or isinstance(value, int)
            if value is not None and (
                not whole or isinstance(value, bool) or value <= 0
            ):
                raise ValueError(
                    f"Checkpoint: {name} must be a positive number or None, got {value!r}"
                )
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(
                f'Checkpoint: expected mode "auto", "min" or "max", received {self.mode!r}'
            )

    def load(self, state: Tree, best: bool = False) -> Tree:
        """The state of the newest checkpoint, or of the best one, placed on devices as `state` is.

        `state` is one of equal structure, such as `model.train_state`. Raises FileError for
        another structure, listing the differences, and FileNotFoundError without a checkpoint.
        """
        return type(self).on_opened(self, True).load(state, best)

    def describe(self) -> list[dict[str, Any]]:
        """The JSON of each checkpoint, oldest first; no array is read, and no device used."""
        opened = type(self).on_opened(self, True)
        found: list[dict[str, Any]] = opened.describe()
        return found


# What `fit` takes as its `checkpoint`.
CheckpointLike: TypeAlias = str | os.PathLike[str] | Checkpoint | None


def saver_of(checkpoint: CheckpointLike, resume: bool) -> Saver | None:
    """What saves to the checkpoint that `fit` was given. Raises ValueError for none to resume."""
    if checkpoint is None:
        if resume:
            raise ValueError(
                "resume=True needs the folder to resume from; pass checkpoint='folder' too"
            )
        return None
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(os.fspath(checkpoint))
    saver: Saver = Checkpoint.on_opened(checkpoint, resume)
    return saver
