"""Files and folders: written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fnn.runtime import processes

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(
    path: str | os.PathLike[str],
    write: Callable[[BinaryIO], object],
    *,
    overwrite: bool = True,
    everywhere: bool = False,
) -> None:
    """Writes a file so that at any moment the path holds the complete old or new file.

    A temporary file in the same folder is written, synced and renamed to the path, then the
    folder is synced. It has the permissions of the file that it replaces, or the default ones.
    Temporary files of killed processes in the folder are removed. Where the path is a symbolic
    link, the file behind it is replaced. Of several processes of a computation the first one
    writes, unless `everywhere`. Raises FileExistsError with `overwrite=False`,
    FileNotFoundError if the folder is missing, and OSError, naming the path, for a full disk.
    """
    if not (everywhere or processes.writes()):
        return
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.is_symlink():
        target = target.resolve()
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
    except BaseException as error:
        Path(file.name).unlink(missing_ok=True)
        # With a number, as the system's errors have it; others are a message alone.
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(target)
        raise
    _sync(target.parent)


def write_folder(
    path: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    replaces: Callable[[Path], bool],
) -> None:
    """Writes a folder so that the path never holds a part of it.

    `write(folder)` fills a temporary folder beside it, which is synced and renamed to the path.
    A folder there is replaced if it is empty or `replaces(folder)` is true. Raises FileExistsError
    for another one and for a file, FileNotFoundError if the folder around it is missing. Of
    several processes of a computation the first one writes.
    """
    if not processes.writes():
        return
    target = Path(os.path.expanduser(path)).absolute()
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"expected an existing folder to save in, received {target.parent}; create it first"
        )
    if target.exists():
        is_free = target.is_dir() and (not any(target.iterdir()) or replaces(target))
        if not is_free:
            raise FileExistsError(
                f"expected a free path or a folder of the same kind to replace, received {target}, "
                "which holds something else; choose another path, or remove it first"
            )
    _clean(target.parent)
    made = target.parent / f"{_prefix()}{uuid.uuid4().hex}.tmp"
    made.mkdir()
    with _locked(made):
        try:
            write(made)
            for file in made.rglob("*"):
                _sync(file)
            _put_in_place(made, target)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    _sync(target.parent)


def _put_in_place(made: Path, target: Path) -> None:
    if not target.exists():
        return os.rename(made, target)
    old = target.parent / f"{_prefix()}{uuid.uuid4().hex}.tmp"
    os.rename(target, old)
    try:
        os.rename(made, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Inside, no other process takes the folder for that of a killed one."""
    if not fcntl:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _sync(path: Path) -> None:
    """Waits until a file or folder is on the disk. Windows cannot open folders."""
    if os.name == "nt" and path.is_dir():
        return
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


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
    """Removes temporary files and folders of killed processes, which are no longer locked."""
    if not fcntl:
        return
    for path in folder.glob(f"{_prefix()}*.tmp"):
        with contextlib.suppress(OSError):
            _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(held)
