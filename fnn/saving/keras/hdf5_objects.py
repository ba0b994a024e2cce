"""Objects in HDF5 files: their headers, the links of groups, the places of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fnn.saving.keras.hdf5_bytes import NOWHERE, Cursor, Source
from fnn.saving.keras.hdf5_types import byte_count, read_shape, read_type, read_value

# Kinds of messages in the header of an object.
SHAPE, LINKS, TYPE, LINK, EXTERNAL, LAYOUT, FILTERS = 1, 2, 3, 6, 7, 8, 11
ATTRIBUTE, CONTINUED, TABLE, ATTRIBUTES = 12, 16, 17, 21
# A header continues in fewer places.
_MOST_PARTS = 10_000
# Nodes of a tree are at most so deep.
_DEEPEST = 32


class Message(NamedTuple):
    """A part of the header of an object."""

    kind: int
    data: Cursor


def messages(source: Source, place: int) -> Iterator[Message]:
    """The messages of the object at `place`."""
    start = source.take(place, 16)
    parts: list[Cursor] = []
    if start[:4] == b"OHDR":
        read, tracked = _read_new, bool(start[5] & 4)
        parts.append(_first_new(source, place, start))
    else:
        read, tracked = _read_old, False
        if start[0] != 1:
            raise ValueError(f"it has an object of version {start[0]} at {place}")
        length = int.from_bytes(start[8:12], "little")
        parts.append(source.cursor(place + 16, length))
    for number, part in enumerate(parts):
        if number > _MOST_PARTS:
            raise ValueError("the header of an object has too many parts")
        for message in read(part, tracked):
            if message.kind == CONTINUED:
                where, size = message.data.number(), message.data.number()
                continued = source.cursor(where, size)
                if read is _read_new:
                    continued.expect(b"OCHK")
                parts.append(continued)
            else:
                yield message


def _first_new(source: Source, place: int, start: bytes) -> Cursor:
    """The messages of a header of the newer form, with the checksum after them."""
    if start[4] != 2:
        raise ValueError(f"it has an object of version {start[4]} at {place}")
    flags = start[5]
    before = 6
    if flags & 32:
        before += 16  # times
    if flags & 16:
        before += 4  # limits of attributes
    width = 1 << (flags & 3)
    size = int.from_bytes(source.take(place + before, width), "little")
    return source.cursor(place + before + width, size + 4)


def _read_old(part: Cursor, tracked: bool) -> Iterator[Message]:
    while part.left >= 8:
        kind, size = part.number(2), part.number(2)
        flags = part.number(4) & 255
        yield _message(kind, flags, part.take(size))


def _read_new(part: Cursor, tracked: bool) -> Iterator[Message]:
    head = 6 if tracked else 4
    while part.left >= head + 4:  # a checksum comes last
        kind, size, flags = part.number(1), part.number(2), part.number(1)
        part.take(head - 4)
        yield _message(kind, flags, part.take(size))


def _message(kind: int, flags: int, data: bytes) -> Message:
    if flags & 2 and kind in (SHAPE, TYPE, LAYOUT, FILTERS, ATTRIBUTE):
        raise ValueError("it has shared parts, which Keras does not write")
    return Message(kind, Cursor(data))


# -- attributes ------------------------------------------------------------------------------------


def read_attribute(source: Source, data: Cursor) -> tuple[str, Any]:
    """The name and the value of an attribute; None for a value of an unknown type."""
    version = data.number(1)
    flags = data.number(1)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise ValueError(f"it has an attribute of version {version}")
    sizes = [data.number(2) for _ in range(3)]
    if version == 3:
        data.take(1)
    name, kind, shape = (_part(data, size, version == 1) for size in sizes)
    text = name.rstrip(b"\0").decode()
    try:
        found = read_type(Cursor(kind))
    except ValueError:
        return text, None
    axes = read_shape(Cursor(shape))
    if axes is None:
        return text, None
    values = data.take(byte_count(found, axes))
    return text, read_value(source, found, axes, values)


def _part(data: Cursor, size: int, aligned: bool) -> bytes:
    part = data.take(size)
    if aligned:
        data.take(-size % 8)
    return part


# -- links of groups -------------------------------------------------------------------------------


def read_table(source: Source, data: Cursor) -> Iterator[tuple[str, int]]:
    """(name, place) of each object of a group, by the table of an older group."""
    tree, heap = data.number(), data.number()
    head = source.cursor(heap, 32)
    head.expect(b"HEAP\0\0\0\0")
    size = head.number()
    head.take(8)
    start = head.number()
    if start + size > source.size:
        raise ValueError("the names of a group lie outside of the file")
    for _, node in tree_leaves(source, tree, 0, 8):
        yield from _read_symbols(source, node, start, start + size)


def _read_symbols(
    source: Source, node: int, start: int, end: int
) -> Iterator[tuple[str, int]]:
    head = source.cursor(node, 8)
    head.expect(b"SNOD\1\0")
    number = head.number(2)
    body = source.cursor(node + 8, 40 * number)
    for _ in range(number):
        name, place = body.number(), body.number()
        cached = body.number(4)
        body.take(20)
        if cached == 2 or place == NOWHERE:
            raise ValueError("it has a soft link, which could lead anywhere")
        yield source.text_at(start + name, end), place


def tree_leaves(
    source: Source,
    place: int,
    kind: int,
    key_size: int,
    level: int | None = None,
) -> Iterator[tuple[Cursor, int]]:
    """(key, place) of each leaf of a tree of nodes (a version 1 B-tree) at `place`."""
    head = source.cursor(place, 24)
    head.expect(b"TREE")
    found_kind, found_level = head.number(1), head.number(1)
    number = head.number(2)
    if found_kind != kind or found_level > _DEEPEST:
        raise ValueError("it has a tree of another kind")
    if level is not None and found_level != level:
        raise ValueError("the levels of a tree do not follow each other")
    body = source.cursor(place + 24, number * (key_size + 8))
    for _ in range(number):
        key = Cursor(body.take(key_size))
        child = body.number()
        if found_level:
            yield from tree_leaves(source, child, kind, key_size, found_level - 1)
        else:
            yield key, child


def read_link(data: Cursor) -> tuple[str, int]:
    """(name, place) of an object of a newer group."""
    if data.number(1) != 1:
        raise ValueError("it has a link of an unknown version")
    flags = data.number(1)
    kind = data.number(1) if flags & 8 else 0
    if flags & 4:
        data.take(8)  # a number by creation
    if flags & 16:
        data.take(1)  # an encoding
    length = data.number(1 << (flags & 3))
    name = data.take(length).decode()
    if kind != 0:
        raise ValueError("it has a soft or external link, which could lead anywhere")
    return name, data.number()


def refuse_dense(kind: int, data: Cursor) -> None:
    """Raises ValueError if links or attributes are stored in a heap of their own."""
    data.take(1)
    flags = data.number(1)
    if flags & 1:
        data.take(8 if kind == LINKS else 2)
    if data.number() != NOWHERE:
        raise ValueError(
            "it has a group in a form of newer programs, which Keras does not write; load it "
            "with h5py and save it again"
        )
