"""Callbacks that save a whole training: a backup to resume from, and checkpoints of Orbax."""

from __future__ import annotations

import os
from typing import ClassVar

from fnn.callbacks.checks import (
    batches_between_saves,
    check_log_name,
    check_writable,
)
from fnn.callbacks.monitoring import check_mode
from fnn.saving.backups import NEWEST, FileStore
from fnn.saving.checkpoints import OrbaxStore
from fnn.saving.savers import Best, Saver
from fnn.training.hooks import Callback, Logs


class BackupAndRestore(Callback):
    """Saves the full state of a training after each epoch, and resumes from it.

    When `fit` is called again with an equal model and the same `backup_dir`, it continues
    where the file was written: after an epoch, or with a number as `save_freq` inside one,
    every `save_freq` steps. Ctrl-C and SIGTERM end the training after the current step and
    save it (`save_freq=False` saves only then). The file holds the weights, moving averages,
    optimizer state, random key, the sums of the metrics, the position in the data, whether the
    training had been stopped, and the counters of the other callbacks (patience, best value),
    in any order of callbacks. The result is bitwise equal to that of an uninterrupted
    training. The interrupted model itself may continue too. A warning is given if the data,
    batch size, shuffling, learning rate, optimizer or loss differ from before, and if the
    position in a stream cannot be known. After a training that ran to its end the file is
    removed (`delete_checkpoint`), and the folder if it is empty.

    The History has the epochs of this call of `fit`, as in Keras. The file is written
    completely or not at all; with `double_checkpoint` the one before it stays, for the case
    that the disk damages one. Only one process writes: for several, for large states and for
    writing in the background pass `fit(..., checkpoint=...)`. Raises ValueError (a FileError)
    for the file of another model, listing the differences; OSError before the first step if
    the folder cannot be written.

    >>> first = BackupAndRestore("backup", delete_checkpoint=False)  # as if it broke off here
    >>> history = model.fit(x, y, epochs=2, callbacks=[first], verbose=0)
    >>> again = fnn.Model(model.layer)  # an equal one, in a new process
    >>> again.compile(model.optimizer, "mse")
    >>> again.fit(x, y, epochs=3, callbacks=[BackupAndRestore("backup")], verbose=0).epoch
    [2]
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int | bool = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not str(backup_dir):
            raise ValueError(
                "BackupAndRestore: expected a folder, received an empty backup_dir"
            )
        every = 0
        if save_freq is not False:
            every = batches_between_saves("BackupAndRestore", save_freq)
        self.store = FileStore(backup_dir, double_checkpoint)
        self.delete_checkpoint = delete_checkpoint
        self.training_saver = Saver(
            self.store,
            every_epochs=1 if save_freq == "epoch" else None,
            every_steps=every or None,
            background=False,
            allow_changes=True,
            keeps_history=False,
        )

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_writable(self, self.store.folder / NEWEST)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint and not self.failed:
            self.store.clear()


class OrbaxCheckpoint(Callback):
    """Saves checkpoints of Orbax after each epoch, or every `save_freq` batches.

    A checkpoint is a folder `epoch-<epochs>-step-<steps>` in `directory`, written in the
    background (`save_on_background`) and as a whole; the `max_to_keep` newest of this training
    stay (None: all). It holds the whole state of the training, from which
    `fit(..., checkpoint=directory, resume=True)` continues and
    `fnn.training.Checkpoint(directory).load(model.train_state)` reads; with `save_weights_only`
    the `params` and `state` alone, for `load({"params": model.params, "state": model.state})`.
    `save_best_only` saves only if `monitor` is better than ever before, and than
    `initial_value_threshold`. To save and resume a training, `fit(..., checkpoint=...)` does
    more. Needs Orbax (`pip install ".[checkpoint]"`).

    >>> saver = OrbaxCheckpoint("run", monitor="loss", save_best_only=True)
    >>> history = model.fit(x, y, epochs=2, callbacks=[saver], verbose=0)
    >>> [found["epoch"] for found in fnn.training.Checkpoint("run").describe()], saver.best
    ([2], 0.25)
    """

    resumed: ClassVar[tuple[str, ...]] = ("best",)

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        max_to_keep: int | None = 1,
        save_on_background: bool = True,
        save_weights_only: bool = False,
    ) -> None:
        super().__init__()
        check_mode("OrbaxCheckpoint", mode)
        self.directory = os.fspath(directory)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        every = batches_between_saves("OrbaxCheckpoint", save_freq)
        if every and save_best_only and monitor.startswith("val_"):
            raise ValueError(
                f"OrbaxCheckpoint: {monitor!r} is known after an epoch, not after a batch; pass "
                "save_freq='epoch', or another monitor"
            )
        best = None
        if save_best_only:
            threshold = initial_value_threshold
            best = Best("OrbaxCheckpoint", monitor, mode, threshold, only=True)
        self.training_saver = Saver(
            OrbaxStore(self.directory),
            every_epochs=None if every else 1,
            every_steps=every or None,
            keep=max_to_keep,
            best=best,
            background=save_on_background,
            resume=None,
            weights_only=save_weights_only,
            says=bool(verbose),
        )

    @property
    def best(self) -> float | None:
        """The best value so far of what is monitored."""
        return self.training_saver.best_value

    @best.setter
    def best(self, value: float | None) -> None:
        self.training_saver.best_value = value

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_writable(self, os.path.join(self.directory, "checkpoint"))
        if self.save_best_only:
            check_log_name(self, self.monitor, "monitor")

    def wait_until_finished(self) -> None:
        """Waits until what was saved is durable."""
        self.training_saver.wait()
