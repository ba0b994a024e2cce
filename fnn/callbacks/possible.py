"""Checks before the first step: whether a log can be there, whether a file can be written."""

from __future__ import annotations

import os
import re
import string
import tempfile
from pathlib import Path
from typing import Any


def check_log_name(callback: Any, name: str, argument: str) -> None:
    """Raises ValueError if the logs of an epoch cannot have this name.

    Passes what another callback may add.
    """
    owner, logs = type(callback).__name__, callback.params.get("logs")
    if logs is None or name in logs:
        return
    reason = ""
    if name.startswith("learning_rate"):
        reason = f"; put LearningRateScheduler or ReduceLROnPlateau before {owner}, which log it"
    if name.startswith("val_"):
        reason = "; pass validation_data to fit, and validate after at least one of its epochs"
    raise ValueError(
        f"{owner}: {argument} {name!r} is not among the logs of this training, "
        f"{sorted(logs)}{reason}"
    )


def names_in(filepath: str) -> list[str]:
    """The names in a path that are to be filled in: `"{epoch}-{loss:.2f}"` -> epoch, loss."""
    found = [name for _, name, _, _ in string.Formatter().parse(filepath) if name]
    return [re.split(r"[.\[]", name)[0] for name in found]


def check_writable(callback: Any, path: Any) -> None:
    """Raises OSError unless a file can be written at this path.

    Nothing is left behind; folders that are missing are not made, but where they would be made a
    file must be possible.
    """
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
