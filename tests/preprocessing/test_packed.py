"""Packed words: the places of a dict, for words of every length and all kinds of white space."""

import numpy as np
import pytest

from fnn import layers as L
from fnn.preprocessing.packed import PackedTable, Words

DRAW = np.random.default_rng(0)


def words(count, letters=4):
    """Words of 1 to 12 letters, of which some are equal."""
    drawn = (DRAW.integers(97, 97 + letters, n) for n in DRAW.integers(1, 13, count))
    return [bytes(word.astype(np.uint8)).decode() for word in drawn]


@pytest.mark.parametrize("size", [0, 1, 30, 4000])
def test_keys_have_the_places_of_a_dict(size):
    known = dict.fromkeys(word.encode() for word in words(size))
    places = {word: place for place, word in enumerate(known)}
    asked = [word for word in {*known, *(w.encode() for w in words(2000))} if len(word) <= 8]
    keys = Words.of(b" ".join(asked)).keys()
    expected = [places.get(word, -5) for word in asked]
    assert PackedTable(places).find(keys, -5).tolist() == expected


def test_words_of_texts_are_those_between_white_space():
    spaces = [" ", "\t", "\n", "\r", "\v", "\f", "  ", " \n\t "]
    texts = ["", " ", "é日本語x", *(DRAW.choice(spaces).join(words(n)) for n in range(40))]
    texts += [f"{space}a{space}b{space}" for space in spaces] + ["a\x01b\x1cc \x08"]
    found = Words.of("\0".join(texts).encode())
    rows = [text.encode().split() for text in texts]
    assert found.counts.tolist() == [len(row) for row in rows]
    assert found.lengths.tolist() == [len(word) for row in rows for word in row]
    long = [word for row in rows for word in row if len(word) > 8]
    assert found.long()[1] == long


def test_texts_have_the_indices_of_a_plain_loop():
    known = list(dict.fromkeys(words(60, letters=2)))
    layer = L.TextVectorization(vocabulary=known, standardize=None)
    texts = [" ".join(words(n, letters=2)) for n in range(30)]
    places = {word: place + 2 for place, word in enumerate(known)}
    for form in (texts, np.array(texts), np.array(texts, object), np.array(texts, "S")):
        found = np.asarray(layer(form))
        for row, text in zip(found, texts, strict=True):
            expected = [places.get(word, 1) for word in text.split()]
            assert row[: len(expected)].tolist() == expected
            assert not row[len(expected) :].any()
