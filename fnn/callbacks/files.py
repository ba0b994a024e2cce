"""Callbacks that save the model: checkpoints, and a backup to resume training from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.callbacks.checks import check_log_name, check_writable, names_in
from fnn.callbacks.monitoring import check_mode, direction, improves, monitored
from fnn.core import tree
from fnn.core.config import to_config
from fnn.runtime.files import write_atomically
from fnn.runtime.warning import warn
from fnn.saving import tensors
from fnn.saving.tensors import FileError
from fnn.training.hooks import Callback, Logs
from fnn.training.state import TrainState


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
        self._every = _batches_between_saves(save_freq)
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
            # Raises an error for layers that a file cannot describe.
            to_config(self.model.layer)

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
            self._save({"epoch": self._epoch + 1, "batch": batch + 1}, logs or {})

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
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _print(self, message: str) -> None:
        if self.verbose:
            print(message)


def _batches_between_saves(save_freq: object) -> int:
    """The number of batches for a `save_freq`; 0 for "epoch"."""
    if save_freq == "epoch":
        return 0
    if isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq <= 0:
        raise ValueError(
            'ModelCheckpoint: expected save_freq as "epoch" or a number of batches, '
            f"received {save_freq!r}"
        )
    return save_freq


def _require_model(callback: Callback) -> None:
    """Raises TypeError in a training without a Model."""
    if not hasattr(callback.model, "save"):
        raise TypeError(
            f"{type(callback).__name__}: expected a Model in training, received "
            f"{type(callback.model).__name__}, which cannot be saved; save its train_state "
            "in a callback of your own"
        )


class BackupAndRestore(Callback):
    """Saves the full state of a training after each epoch, and resumes from it.

    When `fit` is called again with an equal model and the same `backup_dir`, it starts
    after the last epoch that all callbacks have seen. The file holds the weights, moving
    averages, optimizer state, random key, step counters, whether the training had been
    stopped, and the counters of the other callbacks (patience, best value), in any
    order of callbacks. The result is bitwise equal to that of an uninterrupted training.
    The interrupted model itself may continue too. A warning is given if the data, batch
    size, shuffling, learning rate, optimizer or loss differ from before. After a
    training that ran to its end the file is removed (`delete_checkpoint`), and the
    folder if it is empty.

    The file does not hold an epoch in progress, the History of earlier epochs, or the
    position in a stream of data that does not restart each epoch. Only one process
    writes; for several hosts or changing devices use checkpoints of Orbax. The file is
    written completely or not at all, so `double_checkpoint` has no effect. Raises
    ValueError (a FileError) for the file of another model, listing the differences;
    OSError before the first step if the folder cannot be written.

    >>> first = BackupAndRestore("backup", delete_checkpoint=False)  # as if it broke off here
    >>> history = model.fit(x, y, epochs=2, callbacks=[first], verbose=0)
    >>> again = fnn.Model(model.layer)  # an equal one, in a new process
    >>> again.compile(model.optimizer, "mse")
    >>> again.fit(x, y, epochs=3, callbacks=[BackupAndRestore("backup")], verbose=0).epoch
    [2]
    """

    resumes = (
        True  # `fit` then compares its arguments with those of the interrupted run
    )

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not str(backup_dir):
            raise ValueError(
                "BackupAndRestore: expected a folder, received an empty backup_dir"
            )
        if save_freq != "epoch":
            raise ValueError(
                'BackupAndRestore: expected save_freq="epoch", since training resumes after '
                f"complete epochs, received {save_freq!r}"
            )
        folder = Path(os.path.expanduser(os.fspath(backup_dir)))
        self.path = folder / "training.safetensors"
        self.delete_checkpoint = delete_checkpoint

    def on_train_begin(self, logs: Logs | None = None) -> None:
        _require_model(self)
        check_writable(self, self.path)
        if self.path.is_file():
            self.model.train_state = read_training(self.path, self.model.train_state)

    def on_epoch_recorded(self, epoch: int) -> None:
        """Writes the state, now that it holds the counters of all callbacks."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_training(self.path, self.model.train_state)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint and not self.failed:
            self.path.unlink(missing_ok=True)
            # A folder with other files in it stays.
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()


def _leaves_by_path(state: TrainState) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {_path_string(path): leaf for path, leaf in leaves}


def _path_string(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _on_host(leaf: Array) -> np.ndarray:
    """A leaf as a NumPy array in C order; a random key as its data."""
    if _is_key(leaf):
        leaf = random.key_data(leaf)
    return np.asarray(leaf, order="C")


def write_training(path: Path, state: TrainState) -> None:
    """Writes the state of a training to a safetensors file, with a checksum."""
    arrays = {name: _on_host(leaf) for name, leaf in _leaves_by_path(state).items()}
    data = tensors.encode(arrays)
    write_atomically(path, lambda file: file.write(data))


def read_training(path: Path, now: TrainState) -> TrainState:
    """Reads the state that `write_training` wrote; `now` is a state of the same structure.

    Raises FileError listing every difference from `now`. The counters of callbacks may
    differ.
    """
    found = tensors.load(path)
    names = [name for name in found if name.startswith("callbacks/")]
    counters = tree.unflatten(
        (name.split("/")[1:], found.pop(name)[()]) for name in names
    )
    now = now.replace(callbacks={})
    _check_equal_structure(path, found, _leaves_by_path(now))

    def restore(place: object, leaf: Array) -> Array | np.generic:
        value = found[_path_string(place)]
        if _is_key(leaf):
            data = jnp.asarray(value)
            key: Array = random.wrap_key_data(data, impl=random.key_impl(leaf))
            return key
        if isinstance(leaf, np.generic):
            return value
        # A copy, since JAX may use the memory of the file's buffer as it is.
        return jnp.array(np.array(value, copy=True))

    restored: TrainState = jax.tree_util.tree_map_with_path(restore, now)
    return restored.replace(callbacks=counters)


def _check_equal_structure(
    path: Path, found: Mapping[str, np.ndarray], now: Mapping[str, Array]
) -> None:
    """Raises FileError unless both have the same names, shapes and dtypes."""
    wanted = {name: _on_host(leaf) for name, leaf in now.items()}
    lines = [f"{name}: missing in the file" for name in wanted.keys() - found.keys()]
    for name in found.keys() - wanted.keys():
        lines.append(f"{name}: not in this training")
    for name in wanted.keys() & found.keys():
        expected = _describe(wanted[name])
        received = _describe(found[name])
        if expected != received:
            lines.append(f"{name}: expected {expected}, found {received}")
    if lines:
        raise FileError(
            f"expected the backup of an equal training in {path}, received differences:\n  "
            + "\n  ".join(sorted(lines))
            + "\nremove the folder to start over"
        )


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
