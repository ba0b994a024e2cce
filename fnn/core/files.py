"""Files: written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Any, write: Callable[[Any], Any], *, overwrite: bool = True) -> None:
    """Writes a file so that at any moment the path holds all of the old or all of the new one.

    To a temporary file in the same folder, synced, renamed over the path, the folder synced. It
    has the permissions of the file that it replaces, else what the umask leaves. Raises
    FileExistsError with `overwrite=False`, FileNotFoundError where the folder is missing.
    """
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.exists() and not overwrite:
        raise FileExistsError(f"expected a free path, received {target}; do give overwrite=True")
    if target.is_dir():
        raise IsADirectoryError(f"expected the path of a file, received the folder {target}")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"expected an existing folder to save in, received {target.parent}; do create it first"
        )
    temporary = target.with_name(f".fnn-{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
