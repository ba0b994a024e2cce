"""The bytes of an HDF5 file: read with bounds, each for one structure only."""

from __future__ import annotations

from typing import IO

import numpy as np

# An address that leads nowhere.
NOWHERE = 2**64 - 1
# Strings in a file, such as names, are shorter.
_LONGEST_NAME = 1024


class Cursor:
    """Reads numbers and bytes one after the other. Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    @property
    def left(self) -> int:
        """The number of bytes that are left."""
        return len(self.data) - self.place

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise ValueError(f"a structure ends after {len(self.data)} bytes")
        taken = self.data[self.place : self.place + size]
        self.place += size
        return taken

    def number(self, size: int = 8) -> int:
        """The next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def expect(self, expected: bytes) -> None:
        """Raises ValueError unless these bytes come next."""
        found = self.take(len(expected))
        if found != expected:
            raise ValueError(f"expected {expected!r} in its structure, found {found!r}")

    def align(self, start: int = 0) -> None:
        """Moves to the next multiple of 8 bytes from `start`."""
        self.take(-(self.place - start) % 8)


class Source:
    """A file of which each byte belongs to one structure.

    What is taken in all may not be more than the file has (with some room, since a few structures
    are read in two steps): so a file in which structures overlap cannot keep a reader busy.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file = file
        self.size = size
        self._left = 2 * size + 4096
        self._heaps: dict[int, dict[int, bytes]] = {}

    def claim(self, place: int, size: int) -> None:
        """Raises ValueError unless the bytes are in the file and belong to nothing else."""
        if size < 0 or place < 0 or place + size > self.size:
            raise ValueError(
                f"it names {size} bytes at {place}, where it has {self.size}"
            )
        self.spend(size)

    def spend(self, size: int) -> None:
        """Counts bytes. Raises ValueError if they are more than the file can have."""
        self._left -= size
        if self._left < 0:
            raise ValueError("its structures overlap")

    def read(self, place: int, size: int) -> bytes:
        """Bytes that were claimed."""
        self.file.seek(place)
        data = self.file.read(size)
        if len(data) != size:
            raise ValueError("it ends early")
        return data

    def fill(self, place: int, target: np.ndarray) -> None:
        """Reads bytes that were claimed into an array, however many."""
        self.file.seek(place)
        if self.file.readinto(target) != target.nbytes:  # type: ignore[attr-defined]
            raise ValueError("it ends early")

    def take(self, place: int, size: int) -> bytes:
        """Claims and reads bytes."""
        self.claim(place, size)
        return self.read(place, size)

    def cursor(self, place: int, size: int) -> Cursor:
        """A cursor over bytes."""
        return Cursor(self.take(place, size))

    def text_at(self, place: int, end: int) -> str:
        """The string at `place`, which ends with a zero byte before `end`."""
        most = min(end - place, _LONGEST_NAME)
        if most <= 0:
            raise ValueError("a name lies outside of its heap")
        data, zero, _ = self.read(place, most).partition(b"\0")
        if not zero:
            raise ValueError("a name does not end")
        self.claim(place, len(data))
        return data.decode()

    def shared_object(self, place: int, index: int) -> bytes:
        """An object of the collection of shared objects (a global heap) at `place`."""
        if place not in self._heaps:
            self._heaps[place] = dict(self._objects(place))
        if index not in self._heaps[place]:
            raise ValueError(f"it has no shared object {index} at {place}")
        return self._heaps[place][index]

    def _objects(self, place: int) -> list[tuple[int, bytes]]:
        head = self.cursor(place, 16)
        head.expect(b"GCOL\1\0\0\0")
        body = self.cursor(place + 16, head.number() - 16)
        found = []
        while body.left >= 16:
            index = body.number(2)
            body.take(6)
            size = body.number()
            if index == 0:  # free space, up to the end
                break
            found.append((index, body.take(size)))
            body.take(min(-size % 8, body.left))
        return found
