"""Vocabularied: the base class of layers with a vocabulary, and its fields."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn.core.config import serialize_keras_object
from fnn.preprocessing.adapting import Adapting
from fnn.preprocessing.host_layer import HostLayer
from fnn.preprocessing.tables import (
    Counts,
    Lookup,
    Table,
    checked_table,
    learned_table,
)
from fnn.preprocessing.vocabulary import Vocabulary, as_vocabulary
from fnn.runtime.keras_objects import is_left_out

_COUNTS = ("one_hot", "multi_hot", "count")


def vocabulary_field() -> Any:
    """A field for a vocabulary: a list, an array, or the path of a file."""
    return field(default=None, metadata={"convert": as_vocabulary})


def learned_field() -> Any:
    """The field for a vocabulary that was learned or set."""
    return field(default=None, kw_only=True, metadata={"convert": as_vocabulary})


class Vocabularied(Adapting, HostLayer, loadable=False):
    """A layer with a vocabulary: given, set or learned.

    Fields: `max_tokens`, `vocabulary`, `idf_weights`, `output_mode`, and `learned`, the
    vocabulary that was learned or set.
    """

    if TYPE_CHECKING:
        output_mode: str = "int"

    learned: Vocabulary | None = learned_field()

    def table(self) -> Table:
        """The vocabulary with its special tokens."""
        raise NotImplementedError

    def when_called(self, y: np.ndarray) -> np.ndarray:
        """As in Keras, counts are integers outside of a network, unless `dtype` says otherwise."""
        if self.dtype is None and self.output_mode in _COUNTS:
            return y.astype(np.int32)
        return y

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The tokens by their indices: mask and unknown tokens first, unless left out."""
        table = self.table()
        if include_special_tokens:
            return [*table.special, *table.tokens]
        return list(table.tokens)

    def vocabulary_size(self) -> int:
        """The number of tokens, mask and unknown tokens included."""
        table = self.table()
        return len(table.special) + len(table.tokens)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Replaces the vocabulary: a list, an array, or the path of a file; the weights with it.

        Raises ValueError for repeated tokens, and for more than `max_tokens`.
        """
        given = as_vocabulary(vocabulary)
        weights = idf_weights
        if idf_weights is not None:
            weights = np.asarray(idf_weights).tolist()
        assert given is not None
        table = checked_table(self.lookup(), given, weights)
        self._learn(learned=table.vocabulary())

    def lookup(self) -> Lookup:
        """The layer that looks tokens up."""
        raise NotImplementedError

    @property
    def _counts(self) -> Counts:
        counts: Counts = vars(self).setdefault("_fnn_counts", Counts())
        return counts

    def reset_state(self) -> None:
        vars(self).pop("_fnn_counts", None)

    def finalize_state(self) -> None:
        counts = self._counts
        if counts.tokens:
            table = learned_table(self.lookup(), counts)
            self._learn(learned=table.vocabulary())
        self.reset_state()

    def _refuse_adapting(self) -> None:
        if vars(self)["vocabulary"] is not None:
            raise ValueError(
                f"{type(self).__name__}: expected a layer without a given vocabulary to adapt, "
                "received one with vocabulary=...; leave that argument out, or do not adapt"
            )

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """The layer that `get_config` described, of fnn or of Keras."""
        given = dict(config)
        for name in ("vocabulary_size", "has_input_vocabulary"):
            given.pop(name, None)
        for name in ("oov_method", "vocabulary_dtype"):
            # Keras writes those of `IntegerLookup` for others too.
            if name not in cls.__dataclass_fields__:
                given.pop(name, None)
        return super().from_config(given)

    def get_config(self) -> dict[str, Any]:
        """The fields in Keras's form; the vocabulary is a list."""
        config = {}
        for name in self._configured():
            value = vars(self)[name]
            is_default = value == self._defaults().get(name)
            if is_left_out(type(self), name) and is_default:
                continue
            if isinstance(value, Vocabulary):
                value = value.as_dict()
                if name == "vocabulary":
                    value = value["tokens"]
            config[name] = serialize_keras_object(value)
        return config
