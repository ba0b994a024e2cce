"""Zips: the members of a zip file, all checked before one is read, and read within bounds."""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import zipfile
from collections.abc import Callable
from typing import IO, TypeAlias

from fnn.saving.reading import BoundedReader
from fnn.saving.tensors import HEADER_LIMIT, PIECE, FilePath, damaged

# What a member holds, as bytes or by a function that writes it.
MemberWriter: TypeAlias = Callable[[IO[bytes]], object]
Members: TypeAlias = dict[str, bytes | MemberWriter]

# The most bytes that a compressed byte can stand for (DEFLATE).
_MOST_EXPANSION = 1032
# Text is compressed to a part of so many at best, but for repetitions; a little is always read.
_TEXT_EXPANSION, _ALWAYS_READ = 20, 2**20


class Zip:
    """An open zip file, of which nothing is ever written to disk.

    Raises FileError for names that lead elsewhere (absolute, `..`, links) or occur twice, and for
    encrypted members. Compressed members can be much larger than the file: `read` has a limit.
    """

    def __init__(self, file: BoundedReader, path: FilePath) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(file)
        infos = self._archive.infolist()
        self._infos = {info.filename: info for info in infos if not info.is_dir()}
        folders = sum(info.is_dir() for info in infos)
        if len(self._infos) + folders < len(infos):
            raise damaged(path, "a member occurs twice")
        self._held = held = sum(info.compress_size for info in infos)
        if held > file.size:
            raise damaged(path, f"its members take {held} of its {file.size} bytes")
        for info in infos:
            problem = _problem(info)
            if problem:
                raise damaged(path, problem)

    @property
    def names(self) -> tuple[str, ...]:
        """The members in the order of the file, without folders."""
        return tuple(self._infos)

    def check_stored(self) -> None:
        """Raises FileError for compressed members."""
        for name, info in self._infos.items():
            if info.compress_type != zipfile.ZIP_STORED:
                raise damaged(self.path, f"expected {name} to be stored uncompressed")

    def size(self, name: str) -> int:
        """The bytes of a member, not compressed."""
        return self._infos[name].file_size

    def open(self, name: str) -> IO[bytes]:
        """A member as a file. Its checksum (CRC) is verified when its last byte is read."""
        return self._archive.open(name)

    def read(self, name: str, most: int | None = None) -> bytes:
        """A member of at most so many bytes. Raises FileError for a larger one, or for none.

        The usual limit is what text in a file of this size can be.
        """
        if most is None:
            most = min(HEADER_LIMIT, _ALWAYS_READ + _TEXT_EXPANSION * self._held)
        if name not in self._infos:
            raise damaged(self.path, f"it has no {name}")
        size = self.size(name)
        if size > most:
            raise damaged(
                self.path, f"{name} has {size} bytes, where {most} are allowed"
            )
        # In pieces: read at once, more than a header takes is refused.
        whole = io.BytesIO()
        with self.open(name) as member:
            shutil.copyfileobj(member, whole, PIECE)
        return whole.getvalue()

    def digest(self, name: str) -> str:
        """The SHA-256 of a member."""
        total = hashlib.sha256()
        with self.open(name) as member:
            # In pieces: weights may not fit twice into memory.
            while piece := member.read(PIECE):
                total.update(piece)
        return total.hexdigest()


def is_plain(name: str) -> bool:
    """Whether the name of a member leads nowhere else: it is not absolute, and has no `..`."""
    parts = set(name.split("/"))
    return parts.isdisjoint(("", ".", "..")) and set(name).isdisjoint("\\:\0")


def _problem(info: zipfile.ZipInfo) -> str:
    """What is wrong with a member; nothing if it may be read."""
    name = info.orig_filename
    if not is_plain(name.rstrip("/")):
        return f"the name {name!r} of a member is not a plain path"
    if stat.S_ISLNK(info.external_attr >> 16):
        return f"{name} is a link"
    if info.flag_bits & 1:
        return f"{name} is encrypted"
    if info.compress_type == zipfile.ZIP_STORED:
        if info.file_size != info.compress_size:
            return f"{name} is stored in another size than its own"
        return ""
    if info.compress_type != zipfile.ZIP_DEFLATED:
        return f"{name} is compressed in an unknown way"
    if info.file_size > _MOST_EXPANSION * (info.compress_size + 1):
        return f"{name} cannot hold its {info.file_size} bytes"
    return ""


def write(file: IO[bytes], members: Members) -> None:
    """Writes a zip of members that are given as bytes, or by functions that write them."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            # How much a function writes is not known before.
            streams = callable(content)
            with archive.open(name, "w", force_zip64=streams) as member:
                if callable(content):
                    content(member)
                else:
                    member.write(content)
