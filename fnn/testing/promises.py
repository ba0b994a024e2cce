"""Promises: the table of properties, filled by the files that check them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fnn.testing.subject import Subject

Check = Callable[[Subject], None]


@dataclasses.dataclass(frozen=True)
class Property:
    """A property of layers: a sentence, the check, where to look on failure, the usual cause."""

    sentence: str
    cause: str
    at: str
    check: Check


PROPERTIES: dict[str, Property] = {}


def promise(cause: str, at: str = "apply") -> Callable[[Check], Check]:
    """A decorator: adds a check to the table by its name; its docstring is the sentence."""

    def add(check: Check) -> Check:
        sentence = (check.__doc__ or "").strip()
        PROPERTIES[check.__name__] = Property(sentence, cause, at, check)
        return check

    return add
