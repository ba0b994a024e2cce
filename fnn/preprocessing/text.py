"""TextVectorization: texts to the indices of their words, or to vectors that count them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.core.tree import SpecTree, array_spec
from fnn.preprocessing import tokens
from fnn.preprocessing.adapting import Data
from fnn.preprocessing.encoding import count_tokens, mode
from fnn.preprocessing.lookups import MODES, StringLookup
from fnn.preprocessing.packed import Words
from fnn.preprocessing.strings import as_host, items_of
from fnn.preprocessing.tables import Table
from fnn.preprocessing.tokens import Marked
from fnn.preprocessing.vocabularied import (
    Vocabularied,
    learned_field,
    vocabulary_field,
)
from fnn.preprocessing.vocabulary import Vocabulary

_MARK = -2  # in place of the index of a token
_SPLITS = ("whitespace", "character")
_MOST_WORDS = 1000  # in an n-gram


class Rows(NamedTuple):
    """The indices of the tokens of several texts, one after the other."""

    indices: np.ndarray
    lengths: np.ndarray

    def dense(self, length: int | None, dtype: np.dtype) -> np.ndarray:
        """(texts, length), cut or padded with zeros; the longest text decides if None."""
        if length is None:
            length = int(self.lengths.max(initial=0))
        valid = np.arange(length) < self.lengths[:, None]
        padded: np.ndarray = np.zeros(valid.shape, dtype)
        kept = self.indices
        if self.lengths.max(initial=0) > length:
            kept = kept[self.columns() < length]
        padded[valid] = kept
        return padded

    def columns(self) -> np.ndarray:
        """The place of each token in its text."""
        starts = np.cumsum(self.lengths) - self.lengths
        places: np.ndarray = np.arange(len(self.indices))
        places -= np.repeat(starts, self.lengths)
        return places


class TextVectorization(Vocabularied):
    """Texts to the indices of their words in a vocabulary, which is given or learned by `adapt`.

    (batch,) or (batch, 1) -> (batch, words), padded with 0 to the longest text of the batch, or
    to `output_sequence_length`; 1 is the index of unknown words. "multi_hot", "count" and "tf_idf"
    give vectors instead, (batch, tokens).
    `standardize` and `split` are names or functions: of an array of strings, and of such an array
    to a list of tokens for each. Lower case and punctuation are those of ASCII, as in Keras.
    `ngrams` adds runs of up to that many words, or of those numbers of words.
    In a model it runs in NumPy, ahead of the compiled part. Without `output_sequence_length`,
    batches of a stream are padded to a power of two, at least 8: one program for each length.
    Raises ValueError for arguments that do not go together, and without a vocabulary.

    >>> layer = TextVectorization(output_sequence_length=4)
    >>> layer.adapt(["foo bar", "bar baz", "baz bada boom"])
    >>> layer(["Foo, qux bar!", "qux baz"]).tolist()
    [[4, 1, 3, 0], [1, 2, 0, 0]]
    """

    max_tokens: int | None = positive(default=None)
    standardize: str | Callable[..., Any] | None = "lower_and_strip_punctuation"
    split: str | Callable[..., Any] | None = "whitespace"
    ngrams: int | tuple[int, ...] | None = None
    output_mode: str = mode(*MODES, default="int")
    output_sequence_length: int | None = positive(default=None)
    pad_to_max_tokens: bool = False
    vocabulary: Any = vocabulary_field()
    idf_weights: Any = None
    sparse: bool = False
    ragged: bool = False
    encoding: str = "utf-8"
    learned: Vocabulary | None = learned_field()

    def validate(self) -> None:
        super().validate()
        if isinstance(self.standardize, str):
            known: Sequence[str] = tuple(tokens.STANDARDIZATIONS)
            self._check("standardize", self.standardize, known)
        if isinstance(self.split, str):
            self._check("split", self.split, _SPLITS)
        if self.output_mode != "int" and self.output_sequence_length is not None:
            raise ValueError(
                'TextVectorization: expected output_sequence_length with output_mode="int" only, '
                f"received it with {self.output_mode!r}; leave it out"
            )
        ngrams = self.ngrams
        widths = (ngrams,) if isinstance(ngrams, int) else ngrams or (1,)
        if any(not 1 <= width <= _MOST_WORDS for width in widths):
            raise wrong(
                self, "ngrams", f"to be integers above 0, {_MOST_WORDS} at most", ngrams
            )
        try:
            self.lookup()
        except ValueError as error:  # what is wrong in the arguments that it has too
            message = str(error).replace("StringLookup", type(self).__name__, 1)
            raise ValueError(message) from None

    def _check(self, name: str, given: str, known: Sequence[str]) -> None:
        if given not in known:
            expected = f"to be one of {', '.join(known)}, a function or None"
            raise wrong(self, name, expected, given)

    @property
    def _widths(self) -> tuple[int, ...] | None:
        if isinstance(self.ngrams, int):
            return tuple(range(1, self.ngrams + 1))
        return self.ngrams

    def lookup(self) -> StringLookup:
        known: StringLookup | None = vars(self).get("_fnn_lookup")
        if known is None:
            known = StringLookup(
                max_tokens=self.max_tokens,
                mask_token="",
                vocabulary=self.vocabulary,
                idf_weights=self.idf_weights,
                output_mode=self.output_mode,
                pad_to_max_tokens=self.pad_to_max_tokens,
                encoding=self.encoding,
                learned=self.learned,
                dtype=self.dtype,
            )
            vars(self)["_fnn_lookup"] = known
        return known

    def table(self) -> Table:
        return self.lookup().table()

    # -- tokens ----------------------------------------------------------------------------------

    def _tokens(self, x: np.ndarray) -> Marked:
        """The tokens of each text of an array (batch,) or (batch, 1)."""
        _check_column(x)
        texts, how = self._standardized(x)
        if self.split == "whitespace":
            marked = tokens.words(texts, how)
        elif self.split == "character":
            marked = tokens.characters(texts, how)
        else:
            assert callable(self.split)
            marked = tokens.split_by(self.split, tokens.standardized(texts, how))
        if self._widths is not None:
            return tokens.ngrams(marked, self._widths)
        return marked

    def _standardized(self, x: np.ndarray) -> tuple[list[str], str | None]:
        """(the texts, the standardization that is left to do)."""
        how = self.standardize
        texts = items_of(self, x, self.encoding)
        if not callable(how):
            return texts, how
        made = how(np.array(texts, str).reshape(x.shape))
        return items_of(self, as_host(self, made), self.encoding), None

    def _unsplit(self, x: np.ndarray) -> np.ndarray:
        """The standardized strings of an array, each a token, in n-grams along the last axis."""
        texts, how = self._standardized(x)
        strings = tokens.standardized(texts, how)
        array = np.array(strings, object).reshape(x.shape)
        widths = self._widths
        if widths is None:
            return array
        rows = array.reshape(-1, x.shape[-1]).tolist()
        grams = [tokens.grams(row, widths, " ") for row in rows]
        return np.array(grams, object).reshape(*x.shape[:-1], -1)

    # -- outputs ---------------------------------------------------------------------------------

    @property
    def has_free_length(self) -> bool:
        is_padded = self.split is not None and self.output_mode == "int"
        return is_padded and self.output_sequence_length is None

    def host_spec(self, x: SpecTree) -> SpecTree:
        lookup = self.lookup()
        if self.split is not None:
            if self.output_mode != "int":
                return lookup.spec_of((*x.shape[:1], x.free))
            length = self.output_sequence_length or x.free
            return array_spec((*x.shape[:1], length), lookup.output_dtype)
        shape = x.shape
        if self._widths is not None:
            count = sum(max(shape[-1] - width + 1, 0) for width in self._widths)
            shape = (*shape[:-1], count)
        if self.output_mode != "int" and len(shape) == 1:
            shape = (*shape, 1)
        if self.output_sequence_length is not None:
            shape = (*shape[:-1], self.output_sequence_length)
        return lookup.spec_of(shape)

    def compute(self, x: np.ndarray) -> np.ndarray:
        self.table().require(self)
        if self.split is None:
            return self._encode_unsplit(x)
        if x.ndim == 0:
            one: np.ndarray = self.compute(x[None])[0]
            return one
        rows = self._rows(x)
        lookup = self.lookup()
        if self.output_mode == "int":
            return rows.dense(self.output_sequence_length, lookup.output_dtype)
        if self.output_mode == "one_hot":
            raise ValueError(
                'TextVectorization: expected output_mode="one_hot" with split=None only; use '
                '"multi_hot", or CategoryEncoding after it'
            )
        size = len(rows.lengths)
        owners = np.repeat(np.arange(size), rows.lengths)
        counted = count_tokens(
            owners, rows.indices, size, lookup.depth, lookup.output_dtype
        )
        if self.output_mode == "multi_hot":
            counted = np.minimum(counted, 1)
        return lookup.weighted(counted)

    def _rows(self, x: np.ndarray) -> Rows:
        """The indices of the tokens of each text."""
        if not len(x):
            none = np.zeros(0, np.int64)
            return Rows(none, none)
        words = self._words(x)
        if words is not None:
            return Rows(self.table().find_words(words), words.counts)
        marked = self._tokens(x)
        table = self.table()
        is_bytes = isinstance(marked.mark, bytes)
        places = table.places_of_bytes if is_bytes else table.places
        found = table.find(marked.items, {**places, marked.mark: _MARK})
        is_mark = found == _MARK
        marks = np.flatnonzero(is_mark)
        bounds = np.concatenate([[-1], marks, [len(found)]])
        return Rows(found[~is_mark], np.diff(bounds) - 1)

    def _words(self, x: np.ndarray) -> Words | None:
        """The words of each text, which are found quickly; None for other tokens."""
        if self.split != "whitespace" or self._widths is not None:
            return None
        _check_column(x)
        texts, how = self._standardized(x)
        joined, mark = tokens.joined_by_mark(texts)
        if mark != "\0":
            return None
        return Words.of(tokens.translated(joined, how))

    def _encode_unsplit(self, x: np.ndarray) -> np.ndarray:
        array = self._unsplit(x)
        if self.output_mode != "int" and array.ndim == 1:
            array = array[:, None]
        found = self.lookup().compute(array)
        length = self.output_sequence_length
        if length is None:
            return found
        found = found[..., :length]
        ends = [(0, 0)] * found.ndim
        ends[-1] = (0, length - found.shape[-1])
        return np.pad(found, ends)

    # -- learning --------------------------------------------------------------------------------

    def adapt(  # type: ignore[override]  # as in Keras
        self, data: Data, batch_size: int | None = None, steps: int | None = None
    ) -> None:
        """Learns the vocabulary from texts: an array, a list, or batches of a stream.

        The most frequent words come first, equally frequent ones in reverse order; `max_tokens`
        limits their number. `steps` is the number of batches to read of a stream.
        """
        super().adapt(data, steps=steps)

    def batches(self, data: Data) -> Iterator[Any]:
        for batch in super().batches(data):
            array = as_host(self, batch)
            if array.ndim == 1 and batch is data:
                array = array[:, None]
            yield array

    def update_state(self, data: Data) -> None:
        """Counts the words of one more batch of texts."""
        self._refuse_adapting()
        array = np.atleast_1d(as_host(self, data))
        if self.split is None:
            rows = np.atleast_2d(self._unsplit(array))
            rows = rows.reshape(-1, rows.shape[-1])
            marked = Marked.of(rows.tolist())
        else:
            marked = self._tokens(array)
        counts = self._counts
        counts.add(marked.items)
        if self.output_mode == "tf_idf":
            counts.add_documents(marked.rows())
        counts.tokens.pop(marked.mark, None)

    def finalize_state(self) -> None:
        self._counts.as_text()
        super().finalize_state()


def _check_column(x: np.ndarray) -> None:
    """Raises ValueError unless `x` is one text for each example."""
    if x.ndim > 2 or (x.ndim == 2 and x.shape[1] != 1):
        raise ValueError(
            "TextVectorization: expected texts of shape (batch,) or (batch, 1), received "
            f"{x.shape}; take one column, or split=None for tokens"
        )
