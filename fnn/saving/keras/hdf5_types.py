"""Types, shapes and values in HDF5 files: numbers and strings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fnn.saving.keras.hdf5_bytes import Cursor, Source

Shape: TypeAlias = tuple[int, ...]

# Arrays with more axes are refused.
_MOST_AXES = 32
_SIZES = (1, 2, 4, 8)
# By size: precision, place and size of the exponent, of the mantissa, and the bias.
_FLOATS = {
    2: (16, 10, 5, 0, 10, 15),
    4: (32, 23, 8, 0, 23, 127),
    8: (64, 52, 11, 0, 52, 1023),
}
# A string of any length: its length, and the place of its bytes.
_REFERENCE = np.dtype([("length", "<u4"), ("place", "<u8"), ("index", "<u4")])


class Type(NamedTuple):
    """The type of each element; `any_length`: strings that lie elsewhere."""

    dtype: np.dtype[Any]
    any_length: bool = False


def read_type(data: Cursor) -> Type:
    """The type in a message. Raises ValueError for types that Keras does not write."""
    first = data.number(1)
    flags = data.number(3)
    size = data.number(4)
    if not 0 < size < 2**31:
        raise ValueError(f"it has a type of {size} bytes")
    code = first & 15
    if code not in _READERS:
        raise ValueError(f"it has a type of class {code}, which Keras does not write")
    return _READERS[code](data, flags, size)


def _integer(data: Cursor, flags: int, size: int) -> Type:
    data.take(4)
    if size not in _SIZES:
        raise ValueError(f"it has integers of {size} bytes")
    sign = "i" if flags & 8 else "u"
    return Type(np.dtype(f"{_order(flags)}{sign}{size}"))


def _float(data: Cursor, flags: int, size: int) -> Type:
    offset = data.number(2)
    precision = data.number(2)
    places = [data.number(1) for _ in range(4)]
    layout = (precision, *places, data.number(4))
    if offset or flags & 64 or _FLOATS.get(size) != layout:
        raise ValueError(f"it has floating-point numbers of an unknown form {layout}")
    return Type(np.dtype(f"{_order(flags)}f{size}"))


def _string(data: Cursor, flags: int, size: int) -> Type:
    return Type(np.dtype(f"S{size}"))


def _opaque(data: Cursor, flags: int, size: int) -> Type:
    data.take(flags & 255)  # a tag
    return Type(np.dtype(f"V{size}"))


def _enumeration(data: Cursor, flags: int, size: int) -> Type:
    """As h5py writes bool."""
    base = read_type(data)
    if base.dtype.itemsize != 1 or flags & 0xFFFF != 2:
        raise ValueError("it has an enumeration, which Keras does not write")
    return Type(np.dtype(bool))


def _any_length(data: Cursor, flags: int, size: int) -> Type:
    if flags & 15 != 1 or size != _REFERENCE.itemsize:
        raise ValueError("it has sequences of any length, which Keras does not write")
    return Type(_REFERENCE, any_length=True)


def _order(flags: int) -> str:
    return ">" if flags & 1 else "<"


_READERS: dict[int, Callable[[Cursor, int, int], Type]] = {
    0: _integer,
    1: _float,
    3: _string,
    5: _opaque,
    8: _enumeration,
    9: _any_length,
}


def read_shape(data: Cursor) -> Shape | None:
    """The shape in a message, None if there are no elements at all."""
    version = data.number(1)
    axes = data.number(1)
    data.take(1)
    form = 1
    if version == 1:
        data.take(5)
    elif version == 2:
        form = data.number(1)
    else:
        raise ValueError(f"it has a shape of version {version}")
    if axes > _MOST_AXES:
        raise ValueError(f"it has an array of {axes} axes")
    if form == 2:
        return None
    return tuple(data.number() for _ in range(axes))


def byte_count(kind: Type, shape: Shape) -> int:
    """The number of bytes of an array in the file."""
    return math.prod(shape) * kind.dtype.itemsize


def read_value(source: Source, kind: Type, shape: Shape, data: bytes) -> Any:
    """The value of an attribute: a string, a number, or a list of them."""
    array = np.frombuffer(data, kind.dtype, count=math.prod(shape))
    items = array.tolist()
    if kind.any_length:
        items = [_text_of(source, item) for item in array]
    strings = [i.decode() if isinstance(i, bytes) else i for i in items]
    if shape == ():
        return strings[0]
    return strings


def _text_of(source: Source, reference: Any) -> bytes:
    length = int(reference["length"])
    if not length:
        return b""
    place, index = int(reference["place"]), int(reference["index"])
    data = source.shared_object(place, index)
    if length > len(data):
        raise ValueError(f"it has a string of {length} bytes, where {len(data)} are")
    source.spend(length)
    return data[:length]
