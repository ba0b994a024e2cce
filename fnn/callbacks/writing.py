"""Callbacks that write the logs of each epoch to files: CSV, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeAlias

import numpy as np

from fnn.callbacks.checks import check_writable
from fnn.callbacks.rates import learning_rates
from fnn.core import tree
from fnn.runtime.optional import optional
from fnn.runtime.warning import warn
from fnn.training.hooks import Callback, Logs

Json: TypeAlias = "float | str | list[Json] | None"
Writer: TypeAlias = Any  # a `tensorboardX.SummaryWriter`; None outside of a training


def append_line(path: Path, line: str) -> None:
    """Appends one line to a file and syncs it to disk.

    If a crash left an incomplete line at the end of the file, it is removed first.
    """
    with open(path, "ab+") as file:
        _remove_incomplete_line(file)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _remove_incomplete_line(file: BinaryIO) -> None:
    """Truncates a file after its last newline."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read() != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class CSVLogger(Callback):
    """Writes a row of a CSV file after each epoch: `epoch` (from 0) and the logs by name.

    With `append` an existing file is continued under its header. Every row is synced to
    disk before the training continues; an incomplete row left by a crash is removed. A
    value that an epoch does not have (`validation_freq`) is NA. Folders are created.
    Raises ValueError before the first step for logs that have no column in the file;
    logs that other callbacks add later are left out with a warning.

    >>> history = model.fit(x, y, epochs=2, callbacks=[CSVLogger("log.csv")], verbose=0)
    >>> Path("log.csv").read_text().split()
    ['epoch,loss,val_loss', '0,1.0,NA', '1,0.25,NA']
    """

    first_process_only: ClassVar[bool] = True

    def __init__(
        self,
        filename: str | os.PathLike[str],
        separator: str = ",",
        append: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path(os.path.expanduser(os.fspath(filename)))
        self.separator = separator
        self.append = append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.keys: list[str] = []
        check_writable(self, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.append or not self.path.exists():
            self.path.write_bytes(b"")
        columns = self._columns()
        if not columns:
            return
        missing = _without_column(self.details.get("logs") or (), columns)
        if missing:
            raise ValueError(
                f"CSVLogger: {self.path} has the columns {columns}, but the logs of this "
                f"training have {missing} too; pass another filename, or append=False to "
                "overwrite it"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if not self.keys:
            self.keys = self._header(sorted(logs))
        row = [epoch]
        for key in self.keys:
            value = logs.get(key, "NA")
            if np.ndim(value):
                value = f"[{', '.join(map(str, value.tolist()))}]"
            row.append(value)
        append_line(self.path, self._line(row))

    def _header(self, keys: list[str]) -> list[str]:
        """The names of the columns: those of the file, or new ones, which are written."""
        # Later epochs may have validation.
        if keys and not any(key.startswith("val_") for key in keys):
            keys = [*keys, *(f"val_{key}" for key in keys)]
        columns = self._columns()
        if columns is None:
            append_line(self.path, self._line(["epoch", *keys]))
            return keys
        missing = _without_column(keys, columns)
        if missing:
            # Another callback has added these logs.
            warn(
                f"CSVLogger: {self.path} has no columns for {missing}, which are left out; "
                "pass another filename to keep them"
            )
        return columns[1:]

    def _columns(self) -> list[str] | None:
        """The header of the file; None if it is empty."""
        with open(self.path, newline="") as file:
            return next(csv.reader(file, delimiter=self.separator), None)

    def _line(self, values: Iterable[object]) -> str:
        """A row of the file, with its newline."""
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self.separator).writerow(values)
        return line.getvalue()


def _without_column(names: Iterable[str], columns: list[str]) -> list[str]:
    """The names without a column, except those of validation, which are optional."""
    missing = set(names) - set(columns)
    return sorted(name for name in missing if not name.startswith("val_"))


class JSONLogger(Callback):
    """Writes a line of JSON after each epoch: `{"epoch": 0, "loss": 0.31, ...}`.

    Lines are appended and synced to disk before the training continues; folders are
    created. NaN and infinity, which JSON does not have, are written as null. It replaces
    Keras's RemoteMonitor: any program can read the file.

    >>> history = model.fit(x, y, epochs=2, callbacks=[JSONLogger("log.jsonl")], verbose=0)
    >>> print(Path("log.jsonl").read_text(), end="")
    {"epoch": 0, "loss": 1.0}
    {"epoch": 1, "loss": 0.25}
    """

    first_process_only: ClassVar[bool] = True

    def __init__(self, filename: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(os.path.expanduser(os.fspath(filename)))

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_writable(self, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        line: dict[str, Json] = {"epoch": epoch}
        for name, value in (logs or {}).items():
            line[name] = _to_json(value)
        append_line(self.path, json.dumps(line) + "\n")


def _to_json(value: Any) -> Json:
    """A log as a number or null, a list of these, or else a string."""
    if np.ndim(value):
        return [_to_json(item) for item in np.asarray(value).tolist()]
    if isinstance(value, str) or not np.isreal(value):
        return str(value)
    if not math.isfinite(value):
        return None
    return float(value)


class TensorBoard(Callback):
    """Writes files for TensorBoard: logs of each epoch, histograms of weights, the network.

    The files are in `log_dir/train` and `log_dir/validation`. Logs are named
    `epoch_<name>`, and `batch_<name>` every `update_freq` batches ("batch" for each).
    `histogram_freq=1` writes a histogram of every weight after each epoch; `write_graph`
    writes the network as text. Needs tensorboardX (`pip install tensorboardX`), else
    raises ImportError. Raises ValueError for images, embeddings and profiles, which are
    not written (`Profile` traces steps).

    >>> history = model.fit(x, y, callbacks=[TensorBoard("logs")], verbose=0)
    >>> sorted(os.listdir("logs"))
    ['train', 'validation']
    """

    resumed: ClassVar[tuple[str, ...]] = ("batches",)

    first_process_only: ClassVar[bool] = True

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: object = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: object = None,
    ) -> None:
        super().__init__()
        unsupported = {
            "write_images": write_images,
            "write_steps_per_second": write_steps_per_second,
            "profile_batch": profile_batch,
            "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }
        given = [name for name, value in unsupported.items() if value]
        if given:
            raise ValueError(
                f"TensorBoard: expected none of {sorted(unsupported)}, which are not supported, "
                f"received {' and '.join(given)}; leave it out (callbacks.Profile traces steps)"
            )
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.update_freq = _batches_between_writes(update_freq)
        self.unused: tuple[str, ...] = ()
        if not self.update_freq:
            # Then fit need not wait for each batch.
            self.unused = ("on_train_batch_end",)
        self.batches = 0
        self.train: Writer = None
        self.validation: Writer = None

    def __getstate__(self) -> dict[str, object]:
        """The state of a copy or a pickle: without the open files."""
        return {**vars(self), "train": None, "validation": None}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        with optional("tensorboardX", extra="tensorboard"):
            from tensorboardX import SummaryWriter

        train = os.path.join(self.log_dir, "train")
        validation = os.path.join(self.log_dir, "validation")
        for folder in (train, validation):
            check_writable(self, os.path.join(folder, "events"))
        self.train = SummaryWriter(train)
        self.validation = SummaryWriter(validation)
        self.batches = 0
        if self.write_graph and hasattr(self.model, "layer"):
            self.train.add_text("network", f"    {self.model.layer!r}", 0)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        values = dict(logs or {})
        # Some optimizers have no readable learning rate.
        with contextlib.suppress(ValueError):
            values.update(learning_rates(self))
        for name, value in values.items():
            writer = self.train
            if name.startswith("val_"):
                writer = self.validation
            _write_scalars(writer, f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_histograms(epoch)
        self.train.flush()
        self.validation.flush()

    def _write_histograms(self, epoch: int) -> None:
        now = self.model.train_state
        for part in (now.params, now.state):
            for path, leaf in tree.flatten(part):
                name = "/".join((*path, "histogram"))
                self.train.add_histogram(name, np.asarray(leaf, "float32"), epoch)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.train.close()
        self.validation.close()
        self.train = None
        self.validation = None

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.batches += 1
        if self.update_freq and self.batches % self.update_freq == 0:
            for name, value in (logs or {}).items():
                _write_scalars(self.train, f"batch_{name}", value, self.batches)


def _batches_between_writes(update_freq: object) -> int:
    """The number of batches for an `update_freq`; 0 for "epoch"."""
    if update_freq == "epoch":
        return 0
    if update_freq == "batch":
        return 1
    is_bool = isinstance(update_freq, bool)
    if is_bool or not isinstance(update_freq, int) or update_freq < 0:
        raise ValueError(
            'TensorBoard: expected update_freq as "epoch", "batch" or a number of batches, '
            f"received {update_freq!r}"
        )
    return update_freq


def _write_scalars(
    writer: Writer,
    name: str,
    value: object,
    step: int,
) -> None:
    """Writes a number, or each element of an array under its index; skips strings."""
    if np.ndim(value):  # type: ignore[arg-type]
        for index, element in np.ndenumerate(np.asarray(value)):
            element_name = "/".join((name, *map(str, index)))
            _write_scalars(writer, element_name, element, step)
    elif not isinstance(value, str):
        writer.add_scalar(name, value, step)
