"""Vocabulary: tokens in order, and their weights, as one small value."""

from __future__ import annotations

import collections
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Self

import numpy as np

from fnn.core.value import Fields, Known, Value
from fnn.preprocessing.strings import as_text


class Vocabulary(Value):
    """Tokens, strings or integers, in order, and the weight of each if there are any.

    It is compared by a digest, computed once: layers with long vocabularies are compared and
    hashed often.

    >>> Vocabulary(["a", "b"]), Vocabulary(["a"]) == Vocabulary(("a",))
    (['a', 'b'], True)
    """

    kind = "vocabulary"

    tokens: Sequence[Any] = ()
    weights: Sequence[float] | None = field(default=None, kw_only=True)

    @functools.cached_property
    def _fnn_digest(self) -> str:
        total = hashlib.blake2b(repr(self.tokens).encode(), digest_size=16)
        total.update(repr(self.weights).encode())
        return total.hexdigest()

    def _key(self) -> tuple[object, ...]:
        return type(self), self._fnn_digest

    def _apart(self, known: Known) -> Self:
        return self

    def __len__(self) -> int:
        return len(self.tokens)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        weights = self.weights
        if weights is not None:
            weights = list(weights)
        return {"tokens": list(self.tokens), "weights": weights}

    def __repr__(self) -> str:
        if len(self) <= 10:
            return repr(list(self.tokens))
        return f"<{len(self)} tokens, {self._fnn_digest[:8]}>"


def as_vocabulary(given: Any) -> Vocabulary | None:
    """A list, tuple, array or tensor of tokens, or the path of a file with one a line."""
    if given is None or isinstance(given, Vocabulary):
        return given
    if isinstance(given, Fields):
        given = dict(given.items)
    if isinstance(given, dict):  # as `get_config` has it
        return Vocabulary(**given)
    if isinstance(given, (str, os.PathLike)):
        return Vocabulary(read_vocabulary(given))
    array = given
    if not isinstance(given, (list, tuple)):
        array = np.asarray(given).tolist()
    if any(isinstance(token, (list, tuple, np.ndarray)) for token in array):
        raise ValueError(
            "expected vocabulary to be a list of tokens, received nested lists; flatten it"
        )
    return Vocabulary([_plain(token) for token in array])


def _plain(token: Any) -> Any:
    if isinstance(token, np.generic):
        token = token.item()
    return as_text(token)


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file, without empty ones at its end. Raises ValueError if it is missing."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(
            f"expected vocabulary to be a list of tokens or the path of a file, received {path!r}, "
            "where there is no file"
        )
    lines = file.read_text("utf-8").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def repeated(tokens: Sequence[Any]) -> list[Any]:
    """The tokens that occur more than once."""
    if len(set(tokens)) == len(tokens):
        return []
    counted = collections.Counter(tokens).items()
    return [token for token, count in counted if count > 1]
