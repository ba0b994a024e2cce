"""Callbacks that write the numbers of each epoch into files: CSV, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fnn.callbacks.possible import check_writable
from fnn.callbacks.rates import learning_rates
from fnn.core import tree
from fnn.runtime.optional import optional
from fnn.runtime.warning import warn
from fnn.training.hooks import Callback, Logs


def append_line(path: Path, line: str) -> None:
    """Adds one whole line to a file, on the disk when this returns.

    What a crash left of a line at the end of the file is cut off first.
    """
    with open(path, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end and file.seek(end - 1) is not None and file.read() != b"\n":
            file.seek(0)
            kept = file.read().rfind(b"\n") + 1
            if kept < end:
                file.truncate(kept)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


class CSVLogger(Callback):
    """Writes a row of a CSV file after each epoch: `epoch` (from 0) and the logs by name.

    `append` goes on in a file that exists, under its header. Every row is on the disk before the
    training goes on, and a row that a crash broke off is cut away. A number that an epoch does not
    have (validation now and then) is NA. Folders are made. Raises ValueError before the first step
    for logs that have no column in the file; those of other callbacks are then left out.

    >>> history = model.fit(x, y, epochs=2, callbacks=[CSVLogger("log.csv")], verbose=0)
    >>> Path("log.csv").read_text().split()
    ['epoch,loss,val_loss', '0,1.0,NA', '1,0.25,NA']
    """

    def __init__(
        self, filename: Any, separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        self.path = Path(os.path.expanduser(os.fspath(filename)))
        self.separator, self.append = separator, append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.keys: list[str] = []
        check_writable(self, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.append or not self.path.exists():
            self.path.write_bytes(b"")
        columns, names = self._columns(), self.params.get("logs") or ()
        if columns and (missing := _without_column(names, columns)):
            raise ValueError(
                f"CSVLogger: {self.path} has the columns {columns}, but the logs of this training "
                f"have {missing} too; pass another filename, or append=False to start anew"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if not self.keys:
            self.keys = self._header(sorted(logs))
        values = (logs.get(key, "NA") for key in self.keys)
        cells = [
            f"[{', '.join(map(str, v.tolist()))}]" if np.ndim(v) else v for v in values
        ]
        append_line(self.path, self._row([epoch, *cells]))

    def _header(self, keys: list[str]) -> list[str]:
        """The names of the columns: those of the file, or new ones, written."""
        if keys and not any(key.startswith("val_") for key in keys):
            keys = [*keys, *(f"val_{key}" for key in keys)]
        columns = self._columns()
        if columns is None:
            append_line(self.path, self._row(["epoch", *keys]))
            return keys
        if missing := _without_column(
            keys, columns
        ):  # which another callback has added
            warn(
                f"CSVLogger: {self.path} has no columns for {missing}, which are left out; pass "
                "another filename to keep them"
            )
        return columns[1:]

    def _columns(self) -> list[str] | None:
        """The header of the file, None while there is none."""
        with open(self.path, newline="") as file:
            return next(csv.reader(file, delimiter=self.separator), None)

    def _row(self, values: list[Any]) -> str:
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self.separator).writerow(values)
        return line.getvalue()


def _without_column(names: Iterable[str], columns: list[str]) -> list[str]:
    """The names that an old file cannot take; validation may be new, or left out."""
    return sorted(n for n in set(names) - set(columns) if not n.startswith("val_"))


class JSONLogger(Callback):
    """Writes a line of JSON after each epoch: `{"epoch": 0, "loss": 0.31, ...}`.

    The lines are appended, each is on the disk before the training goes on; folders are made. A
    number that JSON does not have (NaN, infinity) is null. In place of Keras's RemoteMonitor, for
    any reader of a file.

    >>> history = model.fit(x, y, epochs=2, callbacks=[JSONLogger("log.jsonl")], verbose=0)
    >>> print(Path("log.jsonl").read_text(), end="")
    {"epoch": 0, "loss": 1.0}
    {"epoch": 1, "loss": 0.25}
    """

    def __init__(self, filename: Any) -> None:
        super().__init__()
        self.path = Path(os.path.expanduser(os.fspath(filename)))

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_writable(self, self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        row = {name: _plain(value) for name, value in (logs or {}).items()}
        append_line(self.path, json.dumps({"epoch": epoch, **row}) + "\n")


def _plain(value: Any) -> Any:
    """A log as JSON has it: a number or null, a list of these, else a string."""
    if np.ndim(value):
        return [_plain(item) for item in np.asarray(value).tolist()]
    if isinstance(value, str) or not np.isreal(value):
        return str(value)
    return float(value) if math.isfinite(value) else None


class TensorBoard(Callback):
    """Writes what TensorBoard shows: scalars of each epoch, histograms of weights, the network.

    In `log_dir/train` and `log_dir/validation`, as `epoch_<name>`, and `batch_<name>` every
    `update_freq` batches ("batch" for each). `histogram_freq=1` writes every weight by its path
    after each epoch; `write_graph` the network as text. Needs tensorboardX
    (`pip install tensorboardX`). Images, embeddings and profiles are not written: ValueError is
    raised (`Profile` traces steps), and ImportError without tensorboardX.

    >>> history = model.fit(x, y, callbacks=[TensorBoard("logs")], verbose=0)
    >>> sorted(os.listdir("logs"))
    ['train', 'validation']
    """

    resumed: ClassVar[tuple[str, ...]] = ("batches",)

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Any = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        refused = {
            "write_images": write_images,
            "write_steps_per_second": write_steps_per_second,
            "profile_batch": profile_batch,
            "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }
        given = [name for name, value in refused.items() if value]
        if given:
            raise ValueError(
                f"TensorBoard: expected none of {sorted(refused)}, which are not written here, "
                f"received {' and '.join(given)}; leave it out (callbacks.Profile traces steps)"
            )
        every = {"epoch": 0, "batch": 1}.get(update_freq, update_freq)
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise ValueError(
                'TensorBoard: expected update_freq as "epoch", "batch" or a number of batches, '
                f"received {update_freq!r}"
            )
        self.log_dir, self.histogram_freq = os.fspath(log_dir), histogram_freq
        self.write_graph, self.update_freq = write_graph, every
        # Without them fit need not wait for each batch.
        self.unused = () if every else ("on_train_batch_end",)
        self.batches = 0
        self.train: Any = None
        self.validation: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle takes over: all but the open files."""
        return {**vars(self), "train": None, "validation": None}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        with optional("tensorboardX", extra="tensorboard"):
            from tensorboardX import SummaryWriter

        for name in ("train", "validation"):
            check_writable(self, os.path.join(self.log_dir, name, "events"))
        open_writer = lambda name: SummaryWriter(os.path.join(self.log_dir, name))
        self.train, self.validation = open_writer("train"), open_writer("validation")
        self.batches = 0
        if self.write_graph and hasattr(self.model, "layer"):
            self.train.add_text("network", f"    {self.model.layer!r}", 0)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        numbers = dict(logs or {})
        with contextlib.suppress(
            ValueError
        ):  # an optimizer that does not tell its rate
            numbers.update(learning_rates(self))
        for name, value in numbers.items():
            writer = self.validation if name.startswith("val_") else self.train
            _write_scalars(writer, f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            now = self.model.train_state
            for part in (now.params, now.state):
                for path, leaf in tree.flatten(part):
                    values = np.asarray(leaf, "float32")
                    self.train.add_histogram(
                        "/".join((*path, "histogram")), values, epoch
                    )
        for writer in (self.train, self.validation):
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.train.close()
        self.validation.close()
        self.train = self.validation = None

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.batches += 1
        if self.update_freq and self.batches % self.update_freq == 0:
            for name, value in (logs or {}).items():
                _write_scalars(self.train, f"batch_{name}", value, self.batches)


def _write_scalars(writer: Any, name: str, value: Any, step: int) -> None:
    """One number, or each of an array under its place; TensorBoard shows no other."""
    if np.ndim(value):
        for place, item in np.ndenumerate(np.asarray(value)):
            _write_scalars(writer, "/".join((name, *map(str, place))), item, step)
    elif not isinstance(value, str):
        writer.add_scalar(name, value, step)
