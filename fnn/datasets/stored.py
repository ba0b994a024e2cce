"""Stored arrays: NumPy arrays in files of Python objects, read without executing anything."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

# The functions that make an array; every other name in a file is refused.
MAKE = "_reconstruct"
NAMES = {"numpy ndarray": "ndarray", "numpy dtype": "dtype"} | dict.fromkeys(
    ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"), MAKE
)
DTYPES = re.compile("[biuf][1248]|O8?")
CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
EMPTY: dict[bytes, type] = {b"]": list, b"}": dict, b")": tuple}
LENGTHS = {b"U": "<B", b"C": "<B", b"T": "<I", b"B": "<I", b"X": "<I", b"\x8c": "<B"}
STRINGS = (b"X", b"\x8c")  # the others are bytes
SKIPPED = {b"\x80": 1, b"\x95": 8}  # the version, the size of a frame
# Lists of words are runs of integers of one, two or four bytes.
RUN = re.compile(rb"(?:K.|M..|J....)+", re.DOTALL)
INTEGER = re.compile(rb"K.|M..|J....", re.DOTALL)


class _Integers(dict[bytes, int]):
    """The integers by their bytes; each is converted once."""

    def __missing__(self, code: bytes) -> int:
        is_signed = code[:1] == b"J"
        value = int.from_bytes(code[1:], "little", signed=is_signed)
        self[code] = value
        return value


class _Unfinished:
    """An array, or a dtype by its name, whose state follows in the file."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def finished(self, state: Any) -> Any:
        if self.name:
            byte_order = state[1].replace("|", "=")
            return np.dtype(self.name).newbyteorder(byte_order)
        _, shape, dtype, is_fortran, content = state
        array = np.empty(len(content), object)
        if isinstance(content, list):
            array[:] = content
        else:
            array = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
        return array.reshape(shape, order="F" if is_fortran else "C")


class StoredObject:
    """One object of lists, dicts, numbers, strings and arrays, in the form of Python's pickles.

    A small machine with a stack: it imports nothing and calls no function that a file names.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # where the items of a list, dict or tuple begin
        self.memo: dict[int, Any] = {}
        self.integers = _Integers()

    def load(self) -> Any:
        """The object. Raises ValueError for any other object, and for a damaged file."""
        try:
            while (code := self._take(1)) != b".":
                self._leaf(code)
            return self.stack.pop()
        except (LookupError, AttributeError, TypeError, struct.error) as error:
            raise ValueError(f"it is damaged: {error!r}") from error

    def _leaf(self, code: bytes) -> None:
        """Objects that are not made of others on the stack."""
        if code in b"KMJ" and (run := RUN.match(self.data, self.at - 1)):
            self.at = run.end()
            codes = INTEGER.findall(run.group())
            self.stack.extend(map(self.integers.__getitem__, codes))
        elif code in LENGTHS:
            found = self._take(self._number(LENGTHS[code]))
            self.stack.append(found.decode() if code in STRINGS else found)
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code])
        elif code in EMPTY:
            self.stack.append(EMPTY[code]())
        elif code in SKIPPED:
            self._take(SKIPPED[code])
        elif code in (b"q", b"r", b"\x94"):
            count = len(self.memo)
            place = count if code == b"\x94" else self._place(code)
            self.memo[place] = self.stack[-1]
        elif code in (b"h", b"j"):
            self.stack.append(self.memo[self._place(code)])
        else:
            self._composite(code)

    def _composite(self, code: bytes) -> None:
        """Objects that are made of others, and what arrays are made by."""
        stack = self.stack
        if code == b"(":
            self.marks.append(len(stack))
        elif code in (b"\x85", b"\x86", b"\x87"):  # tuples of one to three objects
            count = code[0] - 0x84
            stack[-count:] = [tuple(stack[-count:])]
        elif code == b"t":
            stack.append(tuple(self._marked()))
        elif code in (b"a", b"e"):
            items = [stack.pop()] if code == b"a" else self._marked()
            stack[-1].extend(items)
        elif code in (b"s", b"u"):
            items = [stack.pop(-2), stack.pop()] if code == b"s" else self._marked()
            keys, values = items[::2], items[1::2]
            stack[-1].update(zip(keys, values, strict=True))
        elif code == b"c":
            stack.append(self._known(self._two_lines().split()))
        elif code == b"\x93":
            stack.append(self._known([stack.pop(-2), stack.pop()]))
        elif code == b"R":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._made(function, arguments))
        elif code == b"b":
            state, before = stack.pop(), stack.pop()
            stack.append(before.finished(state))
            places = [p for p, stored in self.memo.items() if stored is before]
            self.memo.update(dict.fromkeys(places, stack[-1]))
        else:
            raise ValueError(f"the code {code!r} is unknown")

    def _known(self, words: list[str]) -> str:
        name = " ".join(words)
        if name not in NAMES:
            raise ValueError(f"it names {name!r}, which is no part of an array")
        return NAMES[name]

    def _made(self, function: str, arguments: Any) -> _Unfinished:
        if function == MAKE:
            return _Unfinished()
        name = arguments[0]
        name = name.decode() if isinstance(name, bytes) else name
        if function != "dtype" or not DTYPES.fullmatch(name):
            raise ValueError(f"it calls {function!r} of {arguments!r}")
        return _Unfinished(name)

    def _marked(self) -> list[Any]:
        """The objects above the last mark, which are taken from the stack."""
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items

    def _two_lines(self) -> str:
        """The module and the name of a function, a line each."""
        first_end = self.data.index(b"\n", self.at)
        second_end = self.data.index(b"\n", first_end + 1)
        return self._take(second_end + 1 - self.at).decode()

    def _place(self, code: bytes) -> int:
        place: int = self._number("<B" if code in b"qh" else "<I")
        return place

    def _number(self, form: str) -> Any:
        size = struct.calcsize(form)
        return struct.unpack(form, self._take(size))[0]

    def _take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("it ends too early")
        self.at += count
        return found
