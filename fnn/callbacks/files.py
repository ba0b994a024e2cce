"""ModelCheckpoint: saves the model in files of its own."""

from __future__ import annotations

import os
from typing import ClassVar

from fnn.callbacks.checks import (
    batches_between_saves,
    check_log_name,
    check_writable,
    names_in,
)
from fnn.callbacks.monitoring import check_mode, direction, monitored
from fnn.runtime.processes import say, writes
from fnn.runtime.warning import warn
from fnn.saving.archive import check_model
from fnn.training.hooks import Callback, Logs
from fnn.training.monitor import improves


class ModelCheckpoint(Callback):
    """Saves the model (or its weights) after each epoch, or every `save_freq` batches.

    `filepath` may contain `{epoch}`, from 1, and names of logs:
    `"run-{epoch:02d}-{val_loss:.2f}.fnn"`. With a number as `save_freq` it may also
    contain `{batch}`, from 1; fit must then wait after each batch. Folders are created.
    `save_best_only` saves only if `monitor` is better than ever before, and than
    `initial_value_threshold`. A file is written completely or not at all. Batches are
    counted over several calls of `fit`, as in Keras; a warning is given if a call ends
    before anything was saved. Raises ValueError for a name that is not in the logs,
    listing those that are.

    >>> saver = ModelCheckpoint("epoch-{epoch}.fnn", monitor="loss", save_best_only=True)
    >>> history = model.fit(x, y, epochs=2, callbacks=[saver], verbose=0)
    >>> sorted(os.listdir()), saver.best
    (['epoch-1.fnn', 'epoch-2.fnn'], 0.25)
    """

    resumed: ClassVar[tuple[str, ...]] = ("best", "batches")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__()
        check_mode("ModelCheckpoint", mode)
        self.filepath = os.fspath(filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.mode = mode
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self.batches = 0
        self._epoch = 0
        self._every = batches_between_saves("ModelCheckpoint", save_freq)
        self.unused: tuple[str, ...] = ()
        if not self._every:
            # Then fit need not wait for each batch.
            self.unused = ("on_train_batch_end",)
        self._check_known_after_a_batch()

    def _check_known_after_a_batch(self) -> None:
        """Raises ValueError if saving after a batch needs the logs of validation."""
        if not self._every:
            return
        for name in self._needed_logs():
            if name.startswith("val_"):
                raise ValueError(
                    f"ModelCheckpoint: {name!r} is known after an epoch, not after a batch, so "
                    f"that save_freq={self.save_freq} would never save; pass "
                    "save_freq='epoch', or another monitor and filepath"
                )

    def _needed_logs(self) -> list[str]:
        """The names of the logs needed to save."""
        names = names_in(self.filepath)
        needed = [name for name in names if name not in ("epoch", "batch")]
        if self.save_best_only:
            needed.append(self.monitor)
        return needed

    def on_train_begin(self, logs: Logs | None = None) -> None:
        _require_model(self)
        for name in self._needed_logs():
            argument = "in filepath"
            if name == self.monitor:
                argument = "monitor"
            check_log_name(self, name, argument)
        if self.save_best_only:
            direction(self)
        check_writable(self, self._example_path())
        if not self.save_weights_only and hasattr(self.model, "layer"):
            # Raises an error for what a file cannot describe.
            check_model(self.model, self.filepath)

    def _example_path(self) -> str:
        """A path like those that will be written."""
        values: dict[str, float] = dict.fromkeys(self._needed_logs(), 0.5)
        values["epoch"] = 1
        if self._every:
            values["batch"] = 1
        try:
            return self.filepath.format(**values)
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in: {error!r}; "
                "write names of logs as {loss:.3f}, the epoch as {epoch:02d}"
            ) from error

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if not self._every:
            self._save({"epoch": epoch + 1}, logs or {})

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.batches += 1
        if self._every and self.batches % self._every == 0:
            numbers = {"epoch": self._epoch + 1, "batch": batch + 1}
            self._save(numbers, logs or {})

    def on_train_end(self, logs: Logs | None = None) -> None:
        if 0 < self.batches < self._every and not self.failed:
            warn(
                f"ModelCheckpoint: nothing was saved, since save_freq={self.save_freq} "
                f"batches and there were {self.batches} so far; pass a smaller number, "
                "save_freq='epoch', or this callback to fit again, which continues the count"
            )

    def _save(self, numbers: dict[str, int], logs: Logs) -> None:
        fields = {**numbers, **logs}
        try:
            path = os.path.expanduser(self.filepath.format(**fields))
        except KeyError as error:
            raise ValueError(
                f"ModelCheckpoint: expected names in filepath among {sorted(fields)}, "
                f"received {self.filepath!r} with {error}"
            ) from None
        message = f"\nEpoch {self._epoch + 1}: "
        if self.save_best_only:
            value = monitored(self, logs)
            if value is None:
                return
            before = "None"
            if self.best is not None:
                before = f"{self.best:.5f}"
            if not improves(value, self.best, direction(self)):
                self._print(f"{message}{self.monitor} did not improve from {before}")
                return
            self.best = value
            message += f"{self.monitor} improved from {before} to {value:.5f}, "
        self._print(f"{message}saving model to {path}")
        if writes():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _print(self, message: str) -> None:
        if self.verbose:
            say(message)


def _require_model(callback: Callback) -> None:
    """Raises TypeError in a training without a Model."""
    if not hasattr(callback.model, "save"):
        raise TypeError(
            f"{type(callback).__name__}: expected a Model in training, received "
            f"{type(callback.model).__name__}, which cannot be saved; save its train_state "
            "in a callback of your own"
        )
