"""Hashes: FarmHash64 and SipHash-2-4 of many strings at once, as TensorFlow computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

Words: TypeAlias = np.ndarray  # uint64, one for each string

_K0 = np.uint64(0xC3A5C85C97CB3127)
_K1 = np.uint64(0xB492B66FBE98F273)
_K2 = np.uint64(0x9AE16A3B2F90404F)
_CROSS = np.uint64(0xC6A4A7935BD1E995)
_CROSS_START = np.uint64(0xDECAFCAFFE)


class Strings(NamedTuple):
    """Byte strings one after the other: `buffer[start : start + length]` is one of them."""

    buffer: np.ndarray  # uint8
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Strings:
        """The strings in one buffer, with room to read 8 bytes at the end of each."""
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        starts = np.cumsum(lengths) - lengths
        buffer = np.frombuffer(b"".join(strings) + bytes(64), np.uint8)
        return cls(buffer, starts, lengths)

    def where(self, chosen: np.ndarray) -> Strings:
        """Some of the strings."""
        return Strings(self.buffer, self.starts[chosen], self.lengths[chosen])

    def word(self, place: np.ndarray | int, size: int = 8) -> Words:
        """The `size` bytes at a place in each string as a little-endian integer."""
        windows = np.lib.stride_tricks.sliding_window_view(self.buffer, size)
        part = np.ascontiguousarray(windows[self.starts + place])
        return part.view(f"<u{size}")[:, 0].astype(np.uint64)


def farm_hash(strings: Sequence[bytes]) -> Words:
    """FarmHash's `Fingerprint64` of each string (Pike 2014), as `tf.strings` computes it.

    >>> farm_hash([b"hello"]).tolist()
    [13009744463427800296]
    """
    every = Strings.of(strings)
    found = np.zeros(len(strings), np.uint64)
    longest = np.array([0, 3, 7, 16, 32, 64, np.iinfo(np.int64).max])
    kinds = np.searchsorted(longest, every.lengths)
    with np.errstate(over="ignore"):
        for kind, function in enumerate(_BY_LENGTH):
            chosen = np.flatnonzero(kinds == kind)
            if len(chosen):
                found[chosen] = function(every.where(chosen))
    return found


def _unsigned(numbers: np.ndarray) -> Words:
    return numbers.astype(np.uint64)


def _rotated(words: Words, bits: int) -> Words:
    """The bits moved to the right, around the end."""
    rotated: Words = (words >> np.uint64(bits)) | (words << np.uint64(64 - bits))
    return rotated


def _shift_mix(words: Words) -> Words:
    mixed: Words = words ^ (words >> np.uint64(47))
    return mixed


def _mixed(u: Words, v: Words, factor: Words) -> Words:
    a = _shift_mix((u ^ v) * factor)
    b = _shift_mix((v ^ a) * factor)
    mixed: Words = b * factor
    return mixed


def _empty(strings: Strings) -> Words:
    return np.full(len(strings.lengths), _K2)


def _up_to_3(strings: Strings) -> Words:
    length = strings.lengths
    first = strings.word(0, 1)
    middle = strings.word(length >> 1, 1)
    last = strings.word(length - 1, 1)
    y = first + (middle << np.uint64(8))
    z = _unsigned(length) + (last << np.uint64(2))
    return _shift_mix(y * _K2 ^ z * _K0) * _K2


def _up_to_7(strings: Strings) -> Words:
    length = strings.lengths
    factor = _K2 + _unsigned(length * 2)
    first = strings.word(0, 4)
    u = _unsigned(length) + (first << np.uint64(3))
    return _mixed(u, strings.word(length - 4, 4), factor)


def _up_to_16(strings: Strings) -> Words:
    length = strings.lengths
    factor = _K2 + _unsigned(length * 2)
    a = strings.word(0) + _K2
    b = strings.word(length - 8)
    c = _rotated(b, 37) * factor + a
    d = (_rotated(a, 25) + b) * factor
    return _mixed(c, d, factor)


def _up_to_32(strings: Strings) -> Words:
    length = strings.lengths
    factor = _K2 + _unsigned(length * 2)
    a = strings.word(0) * _K1
    b = strings.word(8)
    c = strings.word(length - 8) * factor
    d = strings.word(length - 16) * _K2
    u = _rotated(a + b, 43) + _rotated(c, 30) + d
    v = a + _rotated(b + _K2, 18) + c
    return _mixed(u, v, factor)


def _up_to_64(strings: Strings) -> Words:
    length = strings.lengths
    factor = _K2 + _unsigned(length * 2)
    a = strings.word(0) * _K2
    b = strings.word(8)
    c = strings.word(length - 8) * factor
    d = strings.word(length - 16) * _K2
    y = _rotated(a + b, 43) + _rotated(c, 30) + d
    z = _mixed(y, a + _rotated(b + _K2, 18) + c, factor)
    e = strings.word(16) * factor
    f = strings.word(24)
    g = (y + strings.word(length - 32)) * factor
    h = (z + strings.word(length - 24)) * factor
    u = _rotated(e + f, 43) + _rotated(g, 30) + h
    v = e + _rotated(f + a, 18) + g
    return _mixed(u, v, factor)


class _State(NamedTuple):
    """The state of the hash of long strings: three words and two pairs."""

    x: Words
    y: Words
    z: Words
    v: tuple[Words, Words]
    w: tuple[Words, Words]


def _weak(
    strings: Strings, place: np.ndarray, a: Words, b: Words
) -> tuple[Words, Words]:
    """Mixes 32 bytes at a place into two words."""
    first, second, third, fourth = (strings.word(place + 8 * i) for i in range(4))
    a = a + first
    b = _rotated(b + a + fourth, 21)
    c = a
    a = a + second + third
    b = b + _rotated(a, 44)
    return a + fourth, b + c


def _over_64(strings: Strings) -> Words:
    count, length = len(strings.lengths), strings.lengths
    seed = np.uint64(81)
    zeros = np.zeros((4, count), np.uint64)
    y = np.full(count, seed * _K1 + np.uint64(113))
    z = _shift_mix(y * _K2 + np.uint64(113)) * _K2
    x = seed * _K2 + strings.word(0)
    state = _State(x, y, z, (zeros[0], zeros[1]), (zeros[2], zeros[3]))
    blocks = (length - 1) // 64
    for number in range(int(blocks.max())):
        chosen = np.flatnonzero(blocks > number)
        place = np.full(len(chosen), 64 * number)
        part = _map(state, lambda words: words[chosen])  # noqa: B023
        after = _block(strings.where(chosen), place, part)
        for whole, new in zip(_leaves(state), _leaves(after), strict=True):
            whole[chosen] = new
    return _last_block(strings, state)


def _leaves(state: _State) -> list[Words]:
    return [state.x, state.y, state.z, *state.v, *state.w]


def _map(state: _State, function: Callable[[Words], Words]) -> _State:
    x, y, z, a, b, c, d = map(function, _leaves(state))
    return _State(x, y, z, (a, b), (c, d))


def _block(strings: Strings, place: np.ndarray, state: _State) -> _State:
    """The state after 64 more bytes; x and z change places."""
    x, y, z, v, w = state
    x = _rotated(x + y + v[0] + strings.word(place + 8), 37) * _K1
    y = _rotated(y + v[1] + strings.word(place + 48), 42) * _K1
    x = x ^ w[1]
    y = y + v[0] + strings.word(place + 40)
    z = _rotated(z + w[0], 33) * _K1
    v = _weak(strings, place, v[1] * _K1, x + w[0])
    w = _weak(strings, place + 32, z + w[1], y + strings.word(place + 16))
    return _State(z, y, x, v, w)


def _last_block(strings: Strings, state: _State) -> Words:
    """The hash after the last 64 bytes, some of which may have been mixed in before."""
    x, y, z, v, w = state
    factor = _K1 + ((z & np.uint64(0xFF)) << np.uint64(1))
    place = strings.lengths - 64
    w = w[0] + _unsigned((strings.lengths - 1) & 63), w[1]
    v = v[0] + w[0], v[1]
    w = w[0] + v[0], w[1]
    x = _rotated(x + y + v[0] + strings.word(place + 8), 37) * factor
    y = _rotated(y + v[1] + strings.word(place + 48), 42) * factor
    x = x ^ (w[1] * np.uint64(9))
    y = y + v[0] * np.uint64(9) + strings.word(place + 40)
    z = _rotated(z + w[0], 33) * factor
    v = _weak(strings, place, v[1] * factor, x + w[0])
    w = _weak(strings, place + 32, z + w[1], y + strings.word(place + 16))
    z, x = x, z
    first = _mixed(v[0], w[0], factor) + _shift_mix(y) * _K0 + z
    return _mixed(first, _mixed(v[1], w[1], factor) + x, factor)


_BY_LENGTH = (_empty, _up_to_3, _up_to_7, _up_to_16, _up_to_32, _up_to_64, _over_64)


def sip_hash(strings: Sequence[bytes], key: tuple[int, int]) -> Words:
    """SipHash-2-4 of each string with a key of two integers (Aumasson and Bernstein 2012).

    >>> sip_hash([b"hello"], (1, 2)).tolist()
    [2957200328589801622]
    """
    every = Strings.of(strings)
    first, second = (np.uint64(part % 2**64) for part in key)
    starts = [0x736F6D6570736575, 0x646F72616E646F6D]
    starts += [0x6C7967656E657261, 0x7465646279746573]
    keys = (first, second, first, second)
    state = [
        np.full(len(strings), np.uint64(start) ^ part)
        for start, part in zip(starts, keys, strict=True)
    ]
    words = every.lengths // 8
    with np.errstate(over="ignore"):
        for number in range(int(words.max(initial=-1)) + 1):
            chosen = np.flatnonzero(words >= number)
            part = [word[chosen] for word in state]
            _absorb(part, _message(every.where(chosen), number))
            for whole, new in zip(state, part, strict=True):
                whole[chosen] = new
        state[2] ^= np.uint64(0xFF)
        for _ in range(4):
            _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _message(strings: Strings, number: int) -> Words:
    """The word of this number; the last holds the bytes that are left, and the length."""
    word = strings.word(8 * number)
    left = strings.lengths - 8 * number
    is_last = left < 8
    bits = _unsigned(8 * np.minimum(left, 7))
    kept = word & ((np.uint64(1) << bits) - np.uint64(1))
    size = _unsigned(strings.lengths & 0xFF) << np.uint64(56)
    return np.where(is_last, kept | size, word)


def _absorb(state: list[Words], message: Words) -> None:
    state[3] = state[3] ^ message
    _sip_round(state)
    _sip_round(state)
    state[0] = state[0] ^ message


def _sip_round(state: list[Words]) -> None:
    a, b, c, d = state
    a, c = a + b, c + d
    b, d = _rotated(b, 64 - 13) ^ a, _rotated(d, 64 - 16) ^ c
    a = _rotated(a, 32)
    c, a = c + b, a + d
    b, d = _rotated(b, 64 - 17) ^ c, _rotated(d, 64 - 21) ^ a
    state[:] = a, b, _rotated(c, 32), d


def cross_hash(features: Sequence[Words]) -> Words:
    """One hash of several features for each example, as `tf.sparse.cross_hashed` computes it."""
    found = np.full(len(features[0]), _CROSS_START)
    with np.errstate(over="ignore"):
        for feature in features:
            found = found ^ _CROSS
            found = found ^ (_shift_mix(feature * _CROSS) * _CROSS)
            found = found * _CROSS
            found = _shift_mix(_shift_mix(found) * _CROSS)
    return found
