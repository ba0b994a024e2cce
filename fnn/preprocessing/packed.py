"""Packed: words of up to 8 bytes as integers, which NumPy finds in a vocabulary all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

WIDTH = 8  # bytes
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(WIDTH + 1)], np.uint64)
_FACTOR = 0x9E3779B97F4A7C15  # 2**64 by the golden ratio: spreads keys over the slots
_TAB, _SPACE = 9, 32


class Words(NamedTuple):
    """Where the words of several texts are in their bytes."""

    whole: bytes
    starts: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray  # of the words of each text

    @classmethod
    def of(cls, whole: bytes) -> Words:
        """The words, between white space, of texts with a zero byte between two of them."""
        array = np.frombuffer(whole, np.uint8)
        between = array == 0
        # Tab, new lines and returns are the bytes 9 to 13; smaller ones wrap around.
        lines_and_tabs = array - np.uint8(_TAB) < 5
        outside = lines_and_tabs | (array == _SPACE) | between
        inside = np.zeros(len(array) + 2, np.bool_)
        np.logical_not(outside, out=inside[1:-1])
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        starts = edges[::2]
        ends = np.append(np.flatnonzero(between), len(array))
        counts = np.diff(np.searchsorted(starts, ends), prepend=0)
        return cls(whole, starts, edges[1::2] - starts, counts)

    def keys(self) -> np.ndarray:
        """The first 8 bytes of each word as an integer."""
        padded = self.whole + bytes(WIDTH)
        at_each_byte = np.ndarray(len(self.whole) + 1, "<u8", padded, strides=(1,))
        masks = _MASKS[np.minimum(self.lengths, WIDTH)]
        keys: np.ndarray = at_each_byte[self.starts] & masks
        return keys

    def long(self) -> tuple[np.ndarray, list[bytes]]:
        """(the numbers of the words of more than 8 bytes, these words)."""
        numbers = np.flatnonzero(self.lengths > WIDTH)
        starts = self.starts[numbers]
        ends = starts + self.lengths[numbers]
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return numbers, [self.whole[start:end] for start, end in pairs]


class _Level(NamedTuple):
    """A hash table without collisions: a key and its place in each slot, key 0 in empty ones."""

    factor: np.uint64
    keys: np.ndarray
    places: np.ndarray

    def slots(self, keys: np.ndarray) -> np.ndarray:
        return _slots(keys, self.factor, len(self.keys))


def _slots(keys: np.ndarray, factor: np.uint64, size: int) -> np.ndarray:
    """The highest bits of the product."""
    shift = np.uint64(65 - size.bit_length())
    slots: np.ndarray = ((keys * factor) >> shift).view(np.int64)
    return slots


class PackedTable:
    """The words of up to 8 bytes of a vocabulary; those that collide are in the next level."""

    def __init__(self, places: Mapping[bytes, int]) -> None:
        short = [word for word in places if 0 < len(word) <= WIDTH and 0 not in word]
        keys = np.array([int.from_bytes(word, "little") for word in short], np.uint64)
        found = np.array([places[word] for word in short], np.int64)
        self.levels: list[_Level] = []
        factor = _FACTOR
        while len(keys):
            size = 1 << (8 * len(keys)).bit_length()
            level = _Level(
                factor=np.uint64(factor),
                keys=np.zeros(size, np.uint64),
                places=np.zeros(size, np.int64),
            )
            slots, first = np.unique(level.slots(keys), return_index=True)
            level.keys[slots] = keys[first]
            level.places[slots] = found[first]
            self.levels.append(level)
            keys = np.delete(keys, first)
            found = np.delete(found, first)
            factor = factor * _FACTOR % 2**64

    def find(self, keys: np.ndarray, unknown: int, level: int = 0) -> np.ndarray:
        """The place of each key, `unknown` for those that are not there."""
        if level == len(self.levels):
            return np.full(len(keys), unknown, np.int64)
        here = self.levels[level]
        slots = here.slots(keys)
        found: np.ndarray = here.places[slots]
        missed = np.flatnonzero(here.keys[slots] != keys)
        if len(missed):
            found[missed] = self.find(keys[missed], unknown, level + 1)
        return found
