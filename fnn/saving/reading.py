"""Reading: an open file, read within its own bounds, and the errors for what is wrong in it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fnn.saving.tensors import HEADER_LIMIT, FileError, FilePath, damaged


class BoundedReader(io.BufferedReader):
    """A file whose `read` never allocates more than the file holds or a header may take."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self.size - self.tell(), 0)
        if size is None or size < 0:
            size = left
        size = min(size, left)
        if size > HEADER_LIMIT:
            raise ValueError(f"{size} bytes, where {HEADER_LIMIT} are allowed")
        return super().read(size)


def open_file(path: FilePath) -> BoundedReader:
    """The file at `path`. Raises FileNotFoundError or IsADirectoryError if it is not a file."""
    target = Path(os.path.expanduser(os.fspath(path)))
    if target.is_dir():
        raise IsADirectoryError(
            f"expected the path of a file, received the folder {target}"
        )
    if not target.is_file():
        raise FileNotFoundError(
            f"expected a file, received {target}, where there is none"
        )
    return BoundedReader(target)


def unmakeable(path: FilePath, problem: str) -> FileError:
    """The error for an undamaged file whose network cannot be created."""
    return FileError(
        f"expected a network that can be created, received {path}, which fails: {problem}"
    )


@contextlib.contextmanager
def refused(
    path: FilePath,
    error_for: Callable[[FilePath, str], FileError] = damaged,
) -> Iterator[None]:
    """Turns any exception caused by the content of a file into a FileError."""
    try:
        yield
    except FileError:
        raise
    except RecursionError as error:
        raise error_for(path, "it is nested too deep") from error
    except Exception as error:
        # Errors of the disk are passed on.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise error_for(path, _shown(error)) from error


def _shown(error: Exception) -> str:
    name = type(error).__name__
    if not str(error):
        return name
    if isinstance(error, ValueError):
        return str(error)
    return f"{name}: {error}"
