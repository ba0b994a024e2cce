"""Table: the vocabulary of a lookup with its special tokens, and how tokens are found in it."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from fnn.core.arguments import wrong
from fnn.preprocessing.packed import PackedTable, Words
from fnn.preprocessing.strings import as_text
from fnn.preprocessing.vocabulary import Vocabulary, repeated

_MOST_UNKNOWN = 1_000_000  # indices for unknown tokens, each of which is listed
MASKED = np.iinfo(np.int64).max  # out of the range of any encoding


class Lookup(Protocol):
    """A layer that looks tokens up, as far as its table depends on it."""

    @property
    def is_of_strings(self) -> bool: ...

    @property
    def max_tokens(self) -> int | None: ...

    @property
    def num_oov_indices(self) -> int: ...

    @property
    def mask_token(self) -> Any: ...

    @property
    def oov_token(self) -> Any: ...

    @property
    def output_mode(self) -> str: ...

    @property
    def invert(self) -> bool: ...


class Counts:
    """The tokens of the batches so far: how often, in how many documents, and of how many."""

    def __init__(self) -> None:
        self.tokens: collections.Counter[Any] = collections.Counter()
        self.documents: collections.Counter[Any] = collections.Counter()
        self.number = 0

    def add(self, tokens: Iterable[Any]) -> None:
        """Counts tokens."""
        self.tokens.update(tokens)

    def add_documents(self, documents: Iterable[Sequence[Any]]) -> None:
        """Counts in how many of these documents each token is."""
        for document in documents:
            self.documents.update(set(document))
            self.number += 1

    def as_text(self) -> None:
        """Joins the counts of strings of bytes and of characters."""
        for part in ("tokens", "documents"):
            joined: collections.Counter[Any] = collections.Counter()
            for token, count in getattr(self, part).items():
                joined[as_text(token)] += count
            setattr(self, part, joined)


class Table:
    """Tokens behind the special ones: the mask, in mode "int", and those for unknown tokens."""

    def __init__(
        self, layer: Lookup, tokens: Sequence[Any], weights: Any = None
    ) -> None:
        self.tokens = tokens
        # Of special tokens too; None in other modes than "tf_idf".
        self.weights = weights
        self.is_strings = layer.is_of_strings
        self.mask_token = layer.mask_token
        self.oov_token = layer.oov_token
        self.has_mask = layer.mask_token is not None and layer.output_mode == "int"
        self.first_unknown = int(self.has_mask)
        self.special = special_tokens(layer)
        self.unknown = -1
        if layer.num_oov_indices == 1:
            self.unknown = self.first_unknown

    @classmethod
    def of(cls, layer: Lookup, vocabulary: Vocabulary) -> Table:
        """The table of what a layer has learned."""
        return cls(layer, vocabulary.tokens, vocabulary.weights)

    def vocabulary(self) -> Vocabulary:
        """What a layer holds of the table."""
        return Vocabulary(self.tokens, weights=self.weights)

    def require(self, layer: Any) -> None:
        """Raises ValueError unless there are tokens."""
        if not self.tokens:
            raise ValueError(
                f"{type(layer).__name__}: expected a layer with a vocabulary, received one that "
                "has none yet; call layer.adapt(data) before, or pass vocabulary=[...]"
            )

    @functools.cached_property
    def places(self) -> dict[Any, int]:
        """The index of each token; the mask's is out of range in other modes than "int"."""
        start = len(self.special)
        found = dict(zip(self.tokens, itertools.count(start), strict=False))
        if self.mask_token is not None:
            found[self.mask_token] = 0 if self.has_mask else MASKED
        return found

    @functools.cached_property
    def places_of_bytes(self) -> dict[bytes, int]:
        """`places` of strings in UTF-8."""
        return {token.encode(): place for token, place in self.places.items()}

    @functools.cached_property
    def _packed(self) -> PackedTable:
        return PackedTable(self.places_of_bytes)

    def find_words(self, words: Words) -> np.ndarray:
        """`find` of words of texts."""
        found = self._packed.find(words.keys(), self.unknown)
        numbers, long = words.long()
        found[numbers] = self.find(long, self.places_of_bytes)
        return found

    def find(self, tokens: Sequence[Any], places: Any = None) -> np.ndarray:
        """The index of each token, -1 for unknown ones if there is not exactly one for them."""
        get = (places or self.places).get
        found = map(get, tokens, itertools.repeat(self.unknown))
        return np.fromiter(found, np.int64, len(tokens))

    @functools.cached_property
    def _row(self) -> np.ndarray:
        """The tokens by index, and the unknown token behind them."""
        first: list[Any] = [self.oov_token] * len(self.special)
        if self.has_mask:
            first[0] = self.mask_token
        dtype = str if self.is_strings else np.int64
        return np.array([*first, *self.tokens, self.oov_token], dtype)

    def tokens_at(self, indices: np.ndarray) -> np.ndarray:
        """The token at each index; the unknown token where there is none."""
        row = self._row
        places = indices.astype(np.int64)
        valid = (places >= 0) & (places < len(row))
        return row[np.where(valid, places, len(row) - 1)]

    def weights_for(self, depth: int) -> np.ndarray:
        """The weight of each index, zeros behind them."""
        weights = np.asarray(self.weights, np.float32)
        return np.pad(weights, (0, depth - len(weights)))


def special_tokens(layer: Lookup) -> list[Any]:
    """The tokens before those of the vocabulary."""
    number = layer.num_oov_indices
    if number > _MOST_UNKNOWN:
        raise wrong(layer, "num_oov_indices", f"to be at most {_MOST_UNKNOWN}", number)
    special: list[Any] = [layer.oov_token] * number
    if layer.mask_token is not None and layer.output_mode == "int":
        special.insert(0, layer.mask_token)
    return special


def checked_table(layer: Lookup, given: Vocabulary, weights: Any) -> Table:
    """The table of a vocabulary that a user gave, which may begin with the special tokens.

    Raises ValueError for repeated or reserved tokens, too many, and weights that do not match.
    """
    tokens = [_of_kind(layer, token) for token in given.tokens]
    special = special_tokens(layer)
    if not tokens:
        raise _wrong(layer, "received none", "leave it out and call layer.adapt(data)")
    has_special = tokens[: len(special)] == special
    if has_special:
        tokens = tokens[len(special) :]
    _check_tokens(layer, tokens, special)
    if layer.output_mode != "tf_idf":
        if weights is not None:
            raise ValueError(
                f"{type(layer).__name__}: expected idf_weights with "
                'output_mode="tf_idf" only; leave them out'
            )
        return Table(layer, tokens)
    return Table(layer, tokens, _all_weights(layer, given, weights, has_special))


def _of_kind(layer: Lookup, token: Any) -> str | int:
    """A token as the layer looks it up. Raises ValueError for one of another kind."""
    if isinstance(token, str) and layer.is_of_strings:
        return token
    if not layer.is_of_strings:
        with contextlib.suppress(ValueError, TypeError):
            return int(token)
    kind, other = "integers", "StringLookup"
    if layer.is_of_strings:
        kind, other = "strings", "IntegerLookup"
    raise ValueError(
        f"{type(layer).__name__}: expected vocabulary to hold {kind}, received {token!r} of type "
        f"{type(token).__name__}; convert the tokens, or use {other}"
    )


def _wrong(layer: object, received: str, advice: str) -> ValueError:
    name = type(layer).__name__
    return ValueError(
        f"{name}: expected vocabulary to hold different tokens, {received}; {advice}"
    )


def _check_tokens(layer: Lookup, tokens: list[Any], special: list[Any]) -> None:
    twice = repeated(tokens)
    if twice:
        shown = ", ".join(map(repr, twice[:5]))
        raise _wrong(
            layer,
            f"received {shown} more than once",
            "list(dict.fromkeys(vocabulary)) has each once",
        )
    reserved = [layer.mask_token]
    if layer.invert:
        reserved.append(layer.oov_token)
    for token in reserved:
        if token is not None and token in tokens:
            raise _wrong(
                layer,
                f"received the special token {token!r} at place {tokens.index(token)}",
                f"leave it out, or begin with {special}",
            )
    size = len(special) + len(tokens)
    if layer.max_tokens is not None and size > layer.max_tokens:
        raise ValueError(
            f"{type(layer).__name__}: expected at most max_tokens={layer.max_tokens} tokens, "
            f"received {size} with mask and unknown tokens; raise max_tokens, or shorten it"
        )


def _all_weights(
    layer: Lookup, given: Vocabulary, weights: Any, has_special: bool
) -> list[float]:
    """A weight for each index; those of unknown tokens are the mean, unless given."""
    name = type(layer).__name__
    if weights is None:
        raise ValueError(
            f'{name}: expected idf_weights with the vocabulary and output_mode="tf_idf", '
            "received None; pass one for each token, or call layer.adapt(data)"
        )
    array = np.asarray(weights, np.float64)
    if array.shape != (len(given),):
        raise ValueError(
            f"{name}: expected idf_weights to be a list of {len(given)} numbers, one for each "
            f"token, received shape {array.shape}; pass one for each"
        )
    front = []
    if not has_special:
        front = [float(np.average(array))] * len(special_tokens(layer))
    return [*front, *array.tolist()]


def learned_table(layer: Lookup, counts: Counts) -> Table:
    """The table of the most frequent tokens; equally frequent ones in reverse order."""
    tokens = counts.tokens
    for special in (layer.mask_token, layer.oov_token):
        tokens.pop(special, None)
    room = None
    special = special_tokens(layer)
    if layer.max_tokens is not None:
        room = max(layer.max_tokens - len(special), 0)
    order = sorted(tokens.items(), key=lambda item: (item[1], item[0]), reverse=True)
    kept = [token for token, _ in order[:room]]
    if layer.output_mode != "tf_idf":
        return Table(layer, kept)
    found = np.array([counts.documents[token] for token in kept], np.float64)
    weights = np.log(1 + counts.number / (1 + found)).astype(np.float32)
    mean = float(weights.mean()) if len(weights) else 0.0
    return Table(layer, kept, [mean] * len(special) + weights.tolist())
