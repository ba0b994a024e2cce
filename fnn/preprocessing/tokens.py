"""Tokens: texts as lists of tokens: standardized, split, and joined to n-grams."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

# A string of characters, or one of bytes in UTF-8.
Token: TypeAlias = Any
Split: TypeAlias = str | Callable[[np.ndarray], Any] | None

_LOWER = bytes.maketrans(
    string.ascii_uppercase.encode(), string.ascii_lowercase.encode()
)
_PUNCTUATION = string.punctuation.encode()
STANDARDIZATIONS: dict[str, tuple[bytes | None, bytes]] = {
    "lower_and_strip_punctuation": (_LOWER, _PUNCTUATION),
    "lower": (_LOWER, b""),
    "strip_punctuation": (None, _PUNCTUATION),
}
# Characters that may stand between texts; one is used that no text has.
BETWEEN = ("\0", "\1", "\2", "\3", "\4", "\5", "\6", "\7")


class Marked(NamedTuple):
    """The tokens of several texts in one list, with a mark between the texts."""

    items: list[Token]
    mark: Token

    def rows(self) -> Iterator[list[Token]]:
        """The tokens of each text."""
        row: list[Token] = []
        for item in self.items:
            if item == self.mark:
                yield row
                row = []
            else:
                row.append(item)
        yield row

    @classmethod
    def of(cls, rows: Iterable[Sequence[Token]]) -> Marked:
        """The tokens of texts that are given one by one."""
        items: list[Token] = []
        for row in rows:
            items.extend(row)
            items.append(None)
        return cls(items[:-1], None)


def standardized(texts: list[str], how: str | None) -> list[str]:
    """Texts in lower case, or without punctuation, both of ASCII only, as in TensorFlow."""
    if how is None:
        return texts
    joined, mark = joined_by_mark(texts)
    return translated(joined, how).decode().split(mark)


def joined_by_mark(texts: Sequence[str]) -> tuple[str, str]:
    """(the texts as one, the mark between them); the first mark is a zero byte."""
    for mark in BETWEEN:
        joined = mark.join(texts)
        if joined.count(mark) == len(texts) - 1:
            return joined, mark
    raise ValueError(
        "TextVectorization: expected texts without control characters, received all of "
        f"{BETWEEN}; remove them"
    )


def translated(joined: str, how: str | None) -> bytes:
    """Texts as bytes in UTF-8, standardized."""
    whole = joined.encode("utf-8", "replace")
    if how is None:
        return whole
    table, deleted = STANDARDIZATIONS[how]
    return whole.translate(table, deleted)


def words(texts: list[str], how: str | None) -> Marked:
    """The words of each text, between white space, as bytes.

    All texts are one string until the end: standardizing and splitting take one call each.
    """
    joined, mark = joined_by_mark(texts)
    between = mark.encode()
    whole = translated(joined, how)
    spaced = whole.replace(between, b" " + between + b" ")
    return Marked(spaced.split(), between)


def characters(texts: list[str], how: str | None) -> Marked:
    """The characters of each text."""
    joined, mark = joined_by_mark(texts)
    return Marked(list(translated(joined, how).decode()), mark)


def split_by(function: Callable[[np.ndarray], Any], texts: list[str]) -> Marked:
    """The tokens that a function of an array of texts returns for each of them."""
    rows = function(np.array(texts, str))
    if hasattr(rows, "to_list"):
        rows = rows.to_list()
    return Marked.of([list(map(_text, row)) for row in rows])


def _text(token: Any) -> str:
    if isinstance(token, bytes):
        return token.decode("utf-8", "replace")
    return str(token)


def ngrams(marked: Marked, widths: Sequence[int]) -> Marked:
    """The runs of so many tokens of each text, joined by spaces, width by width."""
    found: list[Token] = []
    mark = marked.mark
    space: Token = b" " if isinstance(mark, bytes) else " "
    for row in marked.rows():
        found += grams(row, widths, space)
        found.append(mark)
    return Marked(found[:-1], mark)


def grams(row: Sequence[Token], widths: Sequence[int], space: Token) -> list[Token]:
    """The runs of so many tokens of one text, joined, width by width."""
    found: list[Token] = []
    for width in widths:
        if width == 1:
            found += row
            continue
        shifted = [itertools.islice(row, start, None) for start in range(width)]
        found += map(space.join, zip(*shifted, strict=False))
    return found
