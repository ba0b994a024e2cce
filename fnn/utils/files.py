"""Files: downloads into a cache, checked and whole, and archives extracted into a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import urlsplit

from fnn.runtime.files import write_atomically
from fnn.utils.progress_bar import Progbar

Filename: TypeAlias = str | os.PathLike[str]

LOCAL = ("localhost", "127.0.0.1", "::1")
CHUNK = 2**16  # bytes read at once
SECONDS = 60  # without an answer of the server


def get_file(
    fname: Filename | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | list[str] | None = "auto",
    cache_dir: Filename | None = None,
    force_download: bool = False,
) -> str:
    """Downloads a file unless it is in the cache, and returns its path.

    `origin` begins with `https://`; plain `http` is taken from this machine alone, `file://` too.
    `fname` is the name in the cache, by default the last part of the address. The cache is
    `cache_dir`, else the environment variable `FNN_CACHE`, else `~/.cache/fnn`, and in it
    `cache_subdir`. `file_hash` is the SHA-256 (or the MD5) of the file as 64 (or 32) hexadecimal
    digits: a file in the cache that differs is downloaded again, and a download that differs is
    never kept. A file is there whole or not at all, also if the program is killed.

    `extract` unpacks a tar or zip archive and returns its folder, as Keras names it: `fname`, or
    `data_extracted` for `data.zip`. Raises ValueError for an address of another kind, a wrong
    checksum and an archive with a member that would lie outside of the folder; OSError if the
    server does not answer.

    >>> with open("notes.txt", "w") as file:
    ...     _ = file.write("hello")
    >>> path = get_file(origin=f"file://{os.path.abspath('notes.txt')}", cache_dir=".")
    Downloading data from file:///...notes.txt
    ...
    >>> with open(path) as file:
    ...     file.read()
    'hello'
    """
    if origin is None:
        raise ValueError(
            'get_file: expected origin, the address of the file, received None; e.g. origin="https:'
            '//example.org/data.zip"'
        )
    _check_address(origin)
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    checksum = _Checksum(file_hash, hash_algorithm)
    folder = Path(cache_dir or os.environ.get("FNN_CACHE") or "~/.cache/fnn")
    folder = folder.expanduser() / cache_subdir
    name = _name_in_cache(fname, origin)
    if not extract and not untar:
        return str(_fetched(folder / name, origin, checksum, force_download)[0])
    archive, unpacked = f"{name}_archive", name
    if fname and "." in name:
        archive, unpacked = name, f"{name.partition('.')[0]}_extracted"
    path, is_new = _fetched(folder / archive, origin, checksum, force_download)
    if untar:
        archive_format = "tar"
    if is_new or not (folder / unpacked).exists():
        extract_archive(path, folder / unpacked, archive_format)
    return str(folder / unpacked)


def _check_address(origin: str) -> None:
    """Raises ValueError unless an address is one from which files are downloaded."""
    parts = urlsplit(origin)
    is_local = parts.scheme == "file" or (
        parts.scheme == "http" and parts.hostname in LOCAL
    )
    if parts.scheme != "https" and not is_local:
        raise ValueError(
            f"get_file: expected an address that begins with https://, received {origin!r}; "
            "plain http can be changed on its way, so it is taken from localhost alone"
        )


def _name_in_cache(fname: Filename | None, origin: str) -> str:
    name_in_address = os.path.basename(urlsplit(origin).path)
    name = os.fspath(fname or name_in_address)
    if name in ("", ".", "..") or os.path.basename(name) != name:
        raise ValueError(
            f"get_file: expected fname to be the name of a file without a folder, received "
            f"{name!r}; the folder is cache_dir and cache_subdir"
        )
    return name


class _Checksum:
    """The expected checksum of a file; without one, every file is accepted."""

    def __init__(self, expected: str | None, algorithm: str) -> None:
        if algorithm not in ("auto", "sha256", "md5"):
            raise ValueError(
                'get_file: expected hash_algorithm as "auto", "sha256" or "md5", received '
                f"{algorithm!r}"
            )
        self.expected = expected
        self.algorithm = algorithm
        if algorithm == "auto":
            self.algorithm = "md5"
            if expected is not None and len(expected) == 64:
                self.algorithm = "sha256"

    def new(self) -> Any:
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def accepts(self, digest: Any) -> bool:
        return self.expected in (None, digest.hexdigest())

    def accepts_file(self, path: Path) -> bool:
        digest = self.new()
        if self.expected is not None:
            with open(path, "rb") as file:
                for chunk in _chunks(file):
                    digest.update(chunk)
        return self.accepts(digest)


def has_checksum(path: Path, expected: str | None) -> bool:
    """Whether a file has this SHA-256 or MD5; with None every file has.

    >>> with open("empty", "w"):
    ...     has_checksum(Path("empty"), "d41d8cd98f00b204e9800998ecf8427e")
    True
    """
    return _Checksum(expected, "auto").accepts_file(path)


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _fetched(
    path: Path,
    origin: str,
    checksum: _Checksum,
    anew: bool,
) -> tuple[Path, bool]:
    """The path of a file in the cache, and whether it was downloaded just now."""
    if path.exists() and not anew:
        if checksum.accepts_file(path):
            return path, False
        print(f"{path} has another checksum than expected: it is downloaded again")
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"Downloading data from {origin}")
    write_atomically(
        path,
        lambda file: _download(file, path, origin, checksum),
        everywhere=True,
    )
    return path, True


def _download(
    file: BinaryIO,
    path: Path,
    origin: str,
    checksum: _Checksum,
) -> None:
    """Writes what an address serves. Raises ValueError for a part of it, or something else."""
    digest = checksum.new()
    with _opened(origin) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        bar = Progbar(total, unit_name="byte")
        done = 0
        for chunk in _chunks(response):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            bar.update(done)
    if total not in (None, done):
        raise ValueError(
            f"get_file: expected {total} bytes of {origin}, received {done}; it was not kept, try "
            "again"
        )
    if not checksum.accepts(digest):
        raise ValueError(
            f"get_file: expected {path.name} with {checksum.algorithm} {checksum.expected}, "
            f"received {digest.hexdigest()} in {done} bytes; it was not kept, look for the right "
            "checksum and address"
        )


def _opened(origin: str) -> Any:
    """The response of a server, which may redirect to addresses of the same kinds alone."""
    # Imported here, since it takes time and is rarely needed.
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> urllib.request.Request | None:
            _check_address(given[-1])
            return super().redirect_request(*given)

    try:
        return urllib.request.build_opener(Redirects).open(origin, timeout=SECONDS)
    except urllib.error.URLError as error:
        raise OSError(
            f"get_file: {origin} cannot be read: {error}; check the address and the connection"
        ) from error


def extract_archive(
    path: Path,
    folder: Path,
    archive_format: str | list[str] | None = "auto",
) -> None:
    """Unpacks a tar or zip archive into a folder, whole or not at all.

    Raises ValueError for a file that is no archive of these formats, and for an archive with a
    member that would lie outside of the folder, before anything of it is there.
    """
    formats: Any = archive_format
    if archive_format == "auto":
        formats = ["tar", "zip"]
    elif isinstance(archive_format, str):
        formats = [archive_format]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary) / "unpacked"
        unpacked.mkdir()
        if "tar" in (formats or ()) and tarfile.is_tarfile(path):
            _unpack_tar(path, unpacked)
        elif "zip" in (formats or ()) and zipfile.is_zipfile(path):
            _unpack_zip(path, unpacked)
        else:
            raise ValueError(
                f"get_file: expected an archive of the format {archive_format!r} at {path}, "
                "received a file of another kind; leave out extract"
            )
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        unpacked.rename(folder)


def _unpack_tar(path: Path, folder: Path) -> None:
    # Python 3.11.4 and later refuse by themselves what `_check_inside` refuses, and more.
    safely: dict[str, Any] = {}
    if hasattr(tarfile, "data_filter"):
        safely = {"filter": "data"}
    with tarfile.open(path) as archive:
        for member in archive:
            _check_inside(folder, member.name)
            if member.issym():
                beside = os.path.join(os.path.dirname(member.name), member.linkname)
                _check_inside(folder, beside)
            elif member.islnk():
                _check_inside(folder, member.linkname)
            elif not member.isfile() and not member.isdir():
                raise ValueError(
                    f"get_file: expected files, folders and links in the archive, received "
                    f"{member.name!r}, a device or pipe; it was not extracted"
                )
            archive.extract(member, folder, **safely)


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            _check_inside(folder, member.filename)
            archive.extract(member, folder)


def _check_inside(folder: Path, name: str) -> None:
    """Raises ValueError for a name that leaves a folder, also by links that are in it."""
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, name))
    if place != root and not place.startswith(root + os.sep):
        raise ValueError(
            f"get_file: expected an archive whose members stay in its folder, received {name!r}, "
            "which would lie outside; nothing was extracted, do not trust this archive"
        )
