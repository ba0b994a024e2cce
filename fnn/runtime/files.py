"""Files: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # of Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]


def write_whole(
    path: Any, write: Callable[[Any], Any], *, overwrite: bool = True
) -> None:
    """Writes a file so that at any moment the path holds all of the old or all of the new one.

    To a temporary file in the same folder, synced, renamed over the path, the folder synced. It
    has the permissions of the file that it replaces, else what the umask leaves. Temporary files
    that killed processes left in the folder are removed. Raises FileExistsError with
    `overwrite=False`, FileNotFoundError where the folder is missing.
    """
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"expected a free path, received {target}; give overwrite=True"
        )
    if target.is_dir():
        raise IsADirectoryError(
            f"expected the path of a file, received the folder {target}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"expected an existing folder to save in, received {target.parent}; create it first"
        )
    _clean(target.parent)
    file = _temporary(target.parent)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                os.chmod(file.name, target.stat().st_mode & 0o777)
            os.replace(file.name, target)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _prefix() -> str:
    """How the temporary files of this machine begin; locks of another one may not be seen."""
    return f".fnn-{zlib.crc32(platform.node().encode()):08x}-"


def _temporary(folder: Path) -> Any:
    """A new file that is locked as long as it is open, so that nobody takes it for left over."""
    while True:
        file = open(folder / f"{_prefix()}{uuid.uuid4().hex}.tmp", "xb")  # noqa: SIM115 - stays open
        if not fcntl:
            return file
        with contextlib.suppress(
            OSError
        ):  # a file system without locks, where nothing is cleaned
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was cleaned away before it was locked


def _clean(folder: Path) -> None:
    """Removes the temporary files that killed processes left: those that are no longer locked."""
    for path in folder.glob(f"{_prefix()}*.tmp") if fcntl else ():
        with contextlib.suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
