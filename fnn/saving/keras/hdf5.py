"""HDF5 files as Keras writes them, read in Python: groups, attributes, arrays; nothing else."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from fnn.saving.keras import hdf5_objects as objects
from fnn.saving.keras.hdf5_bytes import NOWHERE, Cursor, Source
from fnn.saving.keras.hdf5_types import Shape, Type, byte_count, read_shape, read_type

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Groups inside each other.
_DEEPEST = 64
# Deflated data are at most this many times larger.
_EXPANSION = 1032
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3


class Group:
    """A group: attributes, and groups and datasets by name."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes
        self.items: dict[str, Group | Dataset] = {}

    def find(self, path: str) -> Group | Dataset | None:
        """What is at a path of names, None if there is nothing."""
        here: Group | Dataset | None = self
        for name in path.split("/"):
            if not isinstance(here, Group):
                return None
            if name:
                here = here.items.get(name)
        return here

    def group(self, path: str) -> Group:
        """The group at a path; an empty one if there is none."""
        found = self.find(path)
        if isinstance(found, Group):
            return found
        return Group({})

    def datasets(self, path: str = "") -> Iterator[tuple[str, Dataset]]:
        """Every dataset inside, with its path."""
        for name, item in self.items.items():
            inner = f"{path}/{name}" if path else name
            if isinstance(item, Group):
                yield from item.datasets(inner)
            else:
                yield inner, item


Chunk: TypeAlias = tuple[Shape, int, int]  # (offsets, place, size)


class Layout(NamedTuple):
    """Where the data are: at `place`, or in the message itself, or in chunks."""

    data: bytes | None = None
    place: int = 0
    chunk: Shape | None = None
    chunks: tuple[Chunk, ...] = ()


class Dataset:
    """An array in a file: its shape and dtype are known, its values are read by `read`."""

    def __init__(
        self,
        source: Source,
        kind: Type,
        shape: Shape,
        layout: Layout,
        filters: tuple[int, ...],
        attributes: dict[str, Any],
    ) -> None:
        self.source = source
        self.shape = shape
        self.dtype = kind.dtype
        self.layout = layout
        self.filters = filters
        self.attributes = attributes

    def read(self) -> np.ndarray:
        """The values."""
        if self.layout.chunk is not None:
            return self._from_chunks(self.layout.chunk)
        if self.layout.data is not None:
            values = np.frombuffer(self.layout.data, self.dtype)
            return values.reshape(self.shape)
        size = math.prod(self.shape) * self.dtype.itemsize
        held = np.empty(size, np.uint8)
        self.source.fill(self.layout.place, held)
        return held.view(self.dtype).reshape(self.shape)

    def _from_chunks(self, chunk: Shape) -> np.ndarray:
        values = np.zeros(self.shape, self.dtype)
        count = math.prod(chunk)
        for offsets, place, size in self.layout.chunks:
            data = self._unfiltered(self.source.read(place, size), count)
            piece = np.frombuffer(data, self.dtype).reshape(chunk)
            ends = map(min, map(int.__add__, offsets, chunk), self.shape)
            where = tuple(map(slice, offsets, ends))
            target = values[where]
            target[...] = piece[tuple(map(slice, target.shape))]
        return values

    def _unfiltered(self, data: bytes, count: int) -> bytes:
        size = count * self.dtype.itemsize
        for code in reversed(self.filters):
            if code == _CHECKSUM:
                data = data[:-4]
            elif code == _DEFLATE:
                # A checksum beneath adds 4 bytes.
                data = zlib.decompressobj().decompress(data, size + 4)
            else:
                data = _unshuffled(data, self.dtype.itemsize)
        if len(data) != size:
            raise ValueError(f"a chunk has {len(data)} bytes instead of {size}")
        return data


def _unshuffled(data: bytes, width: int) -> bytes:
    whole = len(data) // width * width
    columns = np.frombuffer(data[:whole], np.uint8).reshape(width, -1)
    return columns.T.tobytes() + data[whole:]


def read(file: IO[bytes], size: int) -> Group:
    """The groups in a file of `size` bytes, with the shapes of all arrays.

    Raises ValueError for a file that is damaged, or has what Keras does not write: links to other
    places and files, virtual and external arrays, other filters than gzip, and structures that
    overlap.
    """
    source = Source(file, size)
    root = _read_object(source, _root_of(source), {0}, 0)
    if not isinstance(root, Group):
        raise ValueError("its root is no group")
    return root


def _root_of(source: Source) -> int:
    """The place of the root group."""
    head = Cursor(source.read(0, min(source.size, 96)))
    head.expect(SIGNATURE)
    version = head.number(1)
    if version > 3:
        raise ValueError(f"it has version {version} of HDF5's superblock")
    if version < 2:
        head.take(4)
    sizes = head.number(1), head.number(1)
    head.take(1)
    if version < 2:
        head.take(8 + 4 * version)
    base = head.number()
    head.take(8)
    end = head.number()
    if version < 2:
        head.take(16)
    root = head.number()
    if sizes != (8, 8) or base != 0:
        raise ValueError("it has addresses of another size or another start")
    if end > source.size:
        raise ValueError(f"it should have {end} bytes, and has {source.size}")
    return root


def _read_object(
    source: Source, place: int, known: set[int], depth: int
) -> Group | Dataset:
    if place in known:
        raise ValueError("two links lead to one object")
    if depth > _DEEPEST:
        raise ValueError("its groups are nested too deep")
    known.add(place)
    attributes: dict[str, Any] = {}
    links: list[tuple[str, int]] = []
    parts: dict[int, Cursor] = {}
    for kind, data in objects.messages(source, place):
        if kind == objects.ATTRIBUTE:
            name, value = objects.read_attribute(source, data)
            attributes[name] = value
        elif kind in (objects.LINKS, objects.ATTRIBUTES):
            objects.refuse_dense(kind, data)
        elif kind == objects.LINK:
            links.append(objects.read_link(data))
        elif kind == objects.TABLE:
            links += objects.read_table(source, data)
        elif kind == objects.EXTERNAL:
            raise ValueError("it has an array that lies in another file")
        else:
            parts[kind] = data
    if objects.LAYOUT in parts:
        return _dataset(source, parts, attributes)
    group = Group(attributes)
    for name, target in links:
        if not name or name in group.items or "/" in name:
            raise ValueError(f"it has the name {name!r} twice or with a slash")
        group.items[name] = _read_object(source, target, known, depth + 1)
    return group


def _dataset(
    source: Source, parts: dict[int, Cursor], attributes: dict[str, Any]
) -> Dataset:
    if objects.TYPE not in parts or objects.SHAPE not in parts:
        raise ValueError("it has an array without a type or a shape")
    kind = read_type(parts[objects.TYPE])
    shape = read_shape(parts[objects.SHAPE])
    if kind.any_length or shape is None:
        raise ValueError("it has an array of objects or an empty one")
    filters: tuple[int, ...] = ()
    if objects.FILTERS in parts:
        filters = _read_filters(parts[objects.FILTERS])
    layout = _read_layout(source, parts[objects.LAYOUT], kind, shape, filters)
    return Dataset(source, kind, shape, layout, filters, attributes)


def _read_layout(
    source: Source,
    data: Cursor,
    kind: Type,
    shape: Shape,
    filters: tuple[int, ...],
) -> Layout:
    version, form = data.number(1), data.number(1)
    needed = byte_count(kind, shape)
    if version not in (3, 4) or form > 2 or (version, form) == (4, 2):
        raise ValueError(
            f"it has an array of layout {form} of version {version} (3 is a virtual one), which "
            "Keras does not write"
        )
    if form == 2:
        return _read_chunks(source, data, kind, shape, filters)
    if filters:
        raise ValueError("it has filters on an array that is not in chunks")
    if form == 0:
        return Layout(data=data.take(data.number(2))[:needed])
    place, size = data.number(), data.number()
    if size < needed or (place == NOWHERE and needed):
        raise ValueError(f"an array of {needed} bytes has {size} in the file")
    if needed:
        source.claim(place, needed)
    return Layout(data=None if needed else b"", place=place)


def _read_chunks(
    source: Source,
    data: Cursor,
    kind: Type,
    shape: Shape,
    filters: tuple[int, ...],
) -> Layout:
    axes = data.number(1) - 1
    tree = data.number()
    chunk = tuple(data.number(4) for _ in range(axes))
    if axes != len(shape) or data.number(4) != kind.dtype.itemsize or not all(chunk):
        raise ValueError("the chunks of an array do not fit its shape")
    counts = [-(-size // part) for size, part in zip(shape, chunk, strict=True)]
    wanted = math.prod(counts)
    chunks = []
    most = 1
    if _DEFLATE in filters:
        most = _EXPANSION
    leaves: Iterable[tuple[Cursor, int]] = ()
    if tree != NOWHERE:
        leaves = objects.tree_leaves(source, tree, 1, key_size=16 + 8 * axes)
    for key, place in leaves:
        size, skipped = key.number(4), key.number(4)
        offsets = tuple(key.number() for _ in range(axes))
        per_axis = zip(offsets, shape, chunk, strict=True)
        inside = all(at < end and at % step == 0 for at, end, step in per_axis)
        if skipped or not inside:
            raise ValueError("a chunk of an array lies outside of it")
        if byte_count(kind, chunk) > most * (size + 64):
            raise ValueError("a chunk of an array is larger than its data can be")
        source.claim(place, size)
        chunks.append((offsets, place, size))
    places = {offsets for offsets, _, _ in chunks}
    if len(places) != wanted or len(chunks) != wanted:
        raise ValueError(f"an array has {len(chunks)} chunks instead of {wanted}")
    return Layout(chunk=chunk, chunks=tuple(chunks))


def _read_filters(data: Cursor) -> tuple[int, ...]:
    version, number = data.number(1), data.number(1)
    if version == 1:
        data.take(6)
    elif version != 2:
        raise ValueError(f"it has filters of version {version}")
    found = []
    for _ in range(number):
        code = data.number(2)
        named = data.number(2) if version == 1 else 0
        data.take(2)
        values = data.number(2)
        data.take(-(-named // 8) * 8 + 4 * values)
        if version == 1 and values % 2:
            data.take(4)
        if code not in (_DEFLATE, _SHUFFLE, _CHECKSUM):
            raise ValueError(
                f"it has a filter {code}; only gzip, shuffle and checksums are read"
            )
        found.append(code)
    return tuple(found)
