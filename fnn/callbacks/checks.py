"""Checks before the first step: whether a log will exist, whether a file can be written."""

from __future__ import annotations

import os
import re
import string
import tempfile
from pathlib import Path

from fnn.runtime.processes import writes
from fnn.training.hooks import Callback


def check_log_name(
    callback: Callback,
    name: str,
    argument: str,
) -> None:
    """Raises ValueError if the logs of an epoch cannot contain this name.

    Accepts any name if another callback may add logs.
    """
    owner = type(callback).__name__
    logs = callback.details.get("logs")
    if logs is None or name in logs:
        return
    advice = ""
    if name.startswith("learning_rate"):
        advice = (
            "; put LearningRateScheduler or ReduceLROnPlateau, which log it, before "
            f"{owner}"
        )
    if name.startswith("val_"):
        advice = "; pass validation_data to fit, and validate after at least one of its epochs"
    raise ValueError(
        f"{owner}: {argument} {name!r} is not among the logs of this training, "
        f"{sorted(logs)}{advice}"
    )


def names_in(filepath: str) -> list[str]:
    """The names of the fields in a path: `"{epoch}-{loss:.2f}"` -> epoch, loss."""
    fields = [name for _, name, _, _ in string.Formatter().parse(filepath) if name]
    # The name ends at an index or an attribute: `loss[0]`, `loss.real`.
    return [re.split(r"[.\[]", field)[0] for field in fields]


def check_writable(callback: Callback, path: str | os.PathLike[str]) -> None:
    """Raises OSError unless a file can be written at this path.

    Nothing is left behind. Missing folders are not created; the check is then whether
    the closest existing folder accepts files. Only a process that writes files is checked.
    """
    if not writes():
        return
    target = Path(os.path.expanduser(os.fspath(path)))
    owner = type(callback).__name__
    if target.is_dir():
        raise IsADirectoryError(
            f"{owner}: {target} is a folder; pass the path of a file in it"
        )
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".fnn-"):
            pass
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{owner}: cannot write {target}, since {folder} takes no files "
            f"({error.strerror}); pass another path",
        ) from error


def batches_between_saves(owner: str, save_freq: object) -> int:
    """The number of batches for a `save_freq`; 0 for "epoch"."""
    if save_freq == "epoch":
        return 0
    if isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq <= 0:
        raise ValueError(
            f'{owner}: expected save_freq as "epoch" or a number of batches, '
            f"received {save_freq!r}"
        )
    return save_freq
