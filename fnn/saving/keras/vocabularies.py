"""Vocabularies in Keras's files: learned tokens as assets, weights of tokens beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fnn.core.layer import Layer
from fnn.preprocessing.vocabularied import Vocabularied
from fnn.saving.keras.hdf5 import Dataset, Group
from fnn.saving.keras.layout import Holder
from fnn.saving.keras.weights import with_groups

_FILE = "vocabulary.txt"
_WEIGHTS = "idf_weights"
# The layer inside of one, by its attribute in Keras, has the vocabulary too.
_INSIDE = {"TextVectorization": "_lookup_layer"}


def _learned(layer: Layer) -> bool:
    """Whether a layer has a vocabulary that is not among its arguments."""
    return isinstance(layer, Vocabularied) and vars(layer)["vocabulary"] is None


def _places(holder: Holder) -> Iterator[str]:
    """The paths of the objects of Keras that have the vocabulary."""
    yield holder.place
    inside = _INSIDE.get(type(holder.layer).__name__)
    if inside is not None:
        yield f"{holder.place}/{inside}"


def assets(holders: Sequence[Holder]) -> dict[str, bytes]:
    """The files of learned vocabularies, by their paths."""
    found = {}
    for holder in holders:
        if _learned(holder.layer):
            tokens = [*map(str, holder.layer.get_vocabulary())]  # type: ignore[attr-defined]
            text = "\n".join(tokens)
            if _tokens_of(text) != tokens:
                raise ValueError(_not_lines(holder.layer, tokens))
            for place in _places(holder):
                found[f"{place}/{_FILE}"] = text.encode()
    return found


def _tokens_of(text: str) -> list[str]:
    """The tokens that Keras reads in a file: its lines, without empty ones at the end."""
    tokens = text.splitlines()
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def _not_lines(layer: Layer, tokens: Sequence[str]) -> str:
    """Which token of a vocabulary is no line of a file: one of several lines, or an empty last."""
    broken = (token for token in tokens if token.splitlines() not in ([token], []))
    token = next(broken, tokens[-1])
    return (
        f"{type(layer).__name__}: expected a vocabulary whose tokens are lines of a file, as "
        f"Keras has them, received the token {token!r}; leave it out of the data, or save the "
        "model as .fnn"
    )


def write_weights(file: Any, holder: Holder) -> None:
    """Writes the weights of the tokens of a layer, if it has some."""
    layer = holder.layer
    if isinstance(layer, Vocabularied) and layer.output_mode == "tf_idf":
        weights = np.asarray(layer.table().weights, "float32")
        for place in _places(holder):
            group = file.require_group(f"{place}/vars")
            group.create_dataset(_WEIGHTS, data=weights)


def load(
    holders: Sequence[Holder],
    root: Group,
    read: Callable[[str], bytes | None],
) -> None:
    """Gives layers the vocabularies of a file; `read` returns an asset by its path, or None."""
    for holder, group in with_groups(root, holders):
        if not _learned(holder.layer):
            continue
        data = read(f"{holder.place}/{_FILE}")
        if data is None:
            continue
        tokens: list[Any] = _tokens_of(data.decode())
        layer: Any = holder.layer
        if not getattr(layer.lookup(), "is_of_strings", True):
            tokens = [int(token) for token in tokens]
        weights = group.find(f"vars/{_WEIGHTS}")
        values = None
        if isinstance(weights, Dataset):
            values = weights.read()[: len(tokens)]  # filled up to `max_tokens`
        layer.set_vocabulary(tokens, values)
