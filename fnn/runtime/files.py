"""Files: written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(
    path: str | os.PathLike[str],
    write: Callable[[BinaryIO], object],
    *,
    overwrite: bool = True,
) -> None:
    """Writes a file so that at any moment the path holds the complete old or new file.

    A temporary file in the same folder is written, synced and renamed to the path, then the
    folder is synced. It has the permissions of the file that it replaces, or the default ones.
    Temporary files of killed processes in the folder are removed. Raises FileExistsError with
    `overwrite=False`, and FileNotFoundError if the folder is missing.
    """
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"expected a free path, received {target}; pass overwrite=True"
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
    """The prefix of temporary files of this machine; locks of another may not be visible."""
    return f".fnn-{zlib.crc32(platform.node().encode()):08x}-"


def _temporary(folder: Path) -> BinaryIO:
    """A new file, locked while it is open, so that no other process removes it."""
    while True:
        file = open(folder / f"{_prefix()}{uuid.uuid4().hex}.tmp", "xb")  # noqa: SIM115 - stays open
        if not fcntl:
            return file
        # Some file systems have no locks; nothing is removed there.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another process removed it before it was locked


def _clean(folder: Path) -> None:
    """Removes the temporary files of killed processes, which are no longer locked."""
    if not fcntl:
        return
    for path in folder.glob(f"{_prefix()}*.tmp"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
