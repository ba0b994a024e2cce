"""Callbacks that keep the model in files: checkpoints, and a backup to go on from."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from fnn.callbacks.monitoring import check_mode, direction, improves, monitored
from fnn.callbacks.possible import check_log_name, check_writable, names_in
from fnn.core import tree
from fnn.core.config import to_config
from fnn.runtime.files import write_whole
from fnn.runtime.warning import warn
from fnn.saving import tensors
from fnn.saving.tensors import FileError
from fnn.training.hooks import Callback, Logs


class ModelCheckpoint(Callback):
    """Saves the model (or its weights) after each epoch, or every `save_freq` batches.

    `filepath` may hold `{epoch}`, from 1, and names of logs: `"run-{epoch:02d}-{val_loss:.2f}.fnn"`
    (and `{batch}`, from 1, with a number as `save_freq`, for which fit must wait after each batch).
    Folders are made. `save_best_only` saves where `monitor` is better than it ever was, or than
    `initial_value_threshold`. A file is written whole or not at all. Batches are counted over
    several calls of `fit`, as in Keras; one that ends before the first is saved is warned of.
    Raises ValueError for a name that is not in the logs, naming those that are.

    >>> saver = ModelCheckpoint("epoch-{epoch}.fnn", monitor="loss", save_best_only=True)
    >>> history = model.fit(x, y, epochs=2, callbacks=[saver], verbose=0)
    >>> sorted(os.listdir()), saver.best
    (['epoch-1.fnn', 'epoch-2.fnn'], 0.25)
    """

    resumed: ClassVar[tuple[str, ...]] = ("best", "batches")

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__()
        check_mode("ModelCheckpoint", mode)
        whole = (
            isinstance(save_freq, int)
            and not isinstance(save_freq, bool)
            and save_freq > 0
        )
        if save_freq != "epoch" and not whole:
            raise ValueError(
                'ModelCheckpoint: expected save_freq as "epoch" or a number of batches, received '
                f"{save_freq!r}"
            )
        self.filepath, self.monitor, self.verbose = (
            os.fspath(filepath),
            monitor,
            verbose,
        )
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.mode, self.save_freq, self.best = mode, save_freq, initial_value_threshold
        self._epoch, self.batches = 0, 0
        # Without them fit need not wait for each batch.
        self.unused = () if whole else ("on_train_batch_end",)
        late = [name for name in self._needed() if whole and name.startswith("val_")]
        if late:
            raise ValueError(
                f"ModelCheckpoint: {late[0]!r} is known after an epoch, not after a batch, so that "
                f"save_freq={save_freq} would never save; pass save_freq='epoch', or another "
                "monitor and filepath"
            )

    def _needed(self) -> list[str]:
        """The names of logs without which nothing can be saved."""
        named = [
            name for name in names_in(self.filepath) if name not in ("epoch", "batch")
        ]
        return [*named, *([self.monitor] if self.save_best_only else [])]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        _require_model(self)
        for name in self._needed():
            argument = "monitor" if name == self.monitor else "in filepath"
            check_log_name(self, name, argument)
        if self.save_best_only:
            direction(self)
        check_writable(self, self._path_like())
        if not self.save_weights_only and hasattr(self.model, "layer"):
            to_config(self.model.layer)  # raises for what a file cannot describe

    def _path_like(self) -> str:
        """A path like those that will be written."""
        numbers = (
            {"epoch": 1} if self.save_freq == "epoch" else {"epoch": 1, "batch": 1}
        )
        try:
            return self.filepath.format(
                **{**dict.fromkeys(self._needed(), 0.5), **numbers}
            )
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in: {error!r}; "
                "write names of logs as {loss:.3f}, the epoch as {epoch:02d}"
            ) from error

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save({"epoch": epoch + 1}, logs or {})

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.batches += 1
        if self.save_freq != "epoch" and self.batches % self.save_freq == 0:
            self._save({"epoch": self._epoch + 1, "batch": batch + 1}, logs or {})

    def on_train_end(self, logs: Logs | None = None) -> None:
        if (
            self.save_freq != "epoch"
            and 0 < self.batches < self.save_freq
            and not self.failed
        ):
            warn(
                f"ModelCheckpoint: nothing was saved, since save_freq={self.save_freq} batches and "
                f"there were {self.batches} so far; pass a smaller number, save_freq='epoch', or "
                "this callback to fit again, which goes on counting"
            )

    def _save(self, numbers: dict[str, int], logs: Logs) -> None:
        try:
            path = os.path.expanduser(self.filepath.format(**{**numbers, **logs}))
        except KeyError as error:
            raise ValueError(
                f"ModelCheckpoint: expected names in filepath among {sorted({**numbers, **logs})}, "
                f"received {self.filepath!r} with {error}"
            ) from None
        said = f"\nEpoch {self._epoch + 1}: "
        if self.save_best_only:
            value = monitored(self, logs)
            if value is None:
                return
            way = direction(self)
            before = "None" if self.best is None else f"{self.best:.5f}"
            if not improves(value, self.best, way):
                self._say(f"{said}{self.monitor} did not improve from {before}")
                return
            self.best = value
            said += f"{self.monitor} improved from {before} to {value:.5f}, "
        self._say(f"{said}saving model to {path}")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)


def _require_model(callback: Callback) -> None:
    """Raises TypeError in a training without a Model."""
    if not hasattr(callback.model, "save"):
        raise TypeError(
            f"{type(callback).__name__}: expected a Model in training, received "
            f"{type(callback.model).__name__}, which cannot be saved; keep its train_state in a "
            "callback of your own"
        )


class BackupAndRestore(Callback):
    """Writes all that training changes into a file after each epoch, and goes on from there.

    When `fit` is called again with an equal model and the same `backup_dir`, it starts after the
    last epoch that every callback was told of: weights, moving averages, the optimizer's state, the
    random key, the counters, whether the training had been stopped, and the counters of the other
    callbacks (patience, best value), in whatever order they stand. It ends with the bits of an
    undisturbed training. A model that was interrupted may go on itself, too. Data, batch size,
    shuffling, learning rate, optimizer or goals that are not those of before are warned of.
    After a training that came to its end the file is removed (`delete_checkpoint`), and the folder
    if nothing else is in it.

    Not in the file: an epoch that had begun, the History of earlier epochs, the place in a stream
    of data that does not start over each epoch. One process writes; several hosts and changing
    devices are for checkpoints of Orbax. The file is written whole or not at all, so
    `double_checkpoint` changes nothing. Raises ValueError (a FileError) for the file of another
    model, listing what differs, OSError before the first step for a folder that takes no files.

    >>> first = BackupAndRestore("backup", delete_checkpoint=False)  # as if it broke off here
    >>> history = model.fit(x, y, epochs=2, callbacks=[first], verbose=0)
    >>> again = fnn.Model(model.layer)  # an equal one, in a new process
    >>> again.compile(model.optimizer, "mse")
    >>> again.fit(x, y, epochs=3, callbacks=[BackupAndRestore("backup")], verbose=0).epoch
    [2]
    """

    resumes = (
        True  # asks `fit` to compare the setting with that of the interrupted training
    )

    def __init__(
        self,
        backup_dir: Any,
        save_freq: Any = "epoch",
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
                'BackupAndRestore: expected save_freq="epoch", since training goes on from whole '
                f"epochs, received {save_freq!r}"
            )
        self.path = (
            Path(os.path.expanduser(os.fspath(backup_dir))) / "training.safetensors"
        )
        self.delete_checkpoint = delete_checkpoint

    def on_train_begin(self, logs: Logs | None = None) -> None:
        _require_model(self)
        check_writable(self, self.path)
        if self.path.is_file():
            self.model.train_state = read_training(self.path, self.model.train_state)

    def on_epoch_recorded(self, epoch: int) -> None:
        """Writes the state, now that all callbacks have changed it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_training(self.path, self.model.train_state)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint and not self.failed:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds files of others
                self.path.parent.rmdir()


def _named(state: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _on_host(leaf: Any) -> np.ndarray:
    return np.asarray(random.key_data(leaf) if _is_key(leaf) else leaf, order="C")


def write_training(path: Path, state: Any) -> None:
    """Writes a state of training as one safetensors file, with a checksum."""
    data = tensors.encode(
        {name: _on_host(leaf) for name, leaf in _named(state).items()}
    )
    write_whole(path, lambda file: file.write(data))


def read_training(path: Path, now: Any) -> Any:
    """The state in a file by `write_training`; `now` says what must be in it."""
    found = tensors.load(path)
    kept = [
        name for name in found if name.startswith("callbacks/")
    ]  # of whatever callbacks
    counters = tree.unflatten(
        (name.split("/")[1:], found.pop(name)[()]) for name in kept
    )
    now = now.replace(callbacks={})
    wanted = {name: _on_host(leaf) for name, leaf in _named(now).items()}
    lines = [f"{name}: missing in the file" for name in wanted.keys() - found.keys()]
    lines += [f"{name}: not in this training" for name in found.keys() - wanted.keys()]
    lines += [
        f"{name}: expected {wanted[name].dtype}{list(wanted[name].shape)}, "
        f"found {found[name].dtype}{list(found[name].shape)}"
        for name in wanted.keys() & found.keys()
        if (wanted[name].shape, wanted[name].dtype)
        != (found[name].shape, found[name].dtype)
    ]
    if lines:
        raise FileError(
            f"expected the backup of an equal training in {path}, received differences:\n  "
            + "\n  ".join(sorted(lines))
            + "\ndo remove the folder to start anew"
        )

    def put(path: Any, leaf: Any) -> Any:
        value = found[jax.tree_util.keystr(path, simple=True, separator="/")]
        if _is_key(leaf):
            return random.wrap_key_data(jnp.asarray(value), impl=random.key_impl(leaf))
        return (
            value
            if isinstance(leaf, np.generic)
            else jnp.array(np.array(value, copy=True))
        )

    return jax.tree_util.tree_map_with_path(put, now).replace(callbacks=counters)
