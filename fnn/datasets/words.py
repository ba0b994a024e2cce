"""Words: film reviews and newswires as sequences of word numbers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fnn.datasets.finding import Remote, file_of
from fnn.datasets.named import Split, keras_order, of_words, train_count
from fnn.datasets.stored import StoredObject

Sequences: TypeAlias = list[list[int]]  # of the numbers of words

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


def _remote(name: str, checksum: str) -> Remote:
    return Remote(name, f"{URL}{name}", checksum)


IMDB = _remote(
    "imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
)
REUTERS = _remote(
    "reuters.npz", "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
)
IMDB_WORDS = _remote("imdb_word_index.json", "bfafd718b763782e994055a2d397834f")
REUTERS_WORDS = _remote("reuters_word_index.json", "4d44cc38712099c9e383dc6e5f11a921")
TOPICS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves "
    "ship cotton carcass crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin "
    "strategic-metal livestock retail ipi iron-steel rubber heat jobs lei bop zinc orange pet-chem "
    "dlr gas silver wpi hog lead"
)


def imdb_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """The number of each word of `imdb`; in the sequences `index_from` is added to it."""
    return _words("imdb", IMDB_WORDS, path)


def reuters_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """The number of each word of `reuters`; in the sequences `index_from` is added to it."""
    return _words("reuters", REUTERS_WORDS, path)


def imdb_label_names() -> tuple[str, ...]:
    """The names of the labels of `imdb`."""
    return ("negative", "positive")


def reuters_label_names() -> tuple[str, ...]:
    """The topics of `reuters` by their numbers."""
    return tuple(TOPICS.split())


@of_words(imdb_word_index, imdb_label_names)
def imdb(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> Split:
    """50,000 film reviews as lists of word numbers: `(x_train, y_train), (x_test, y_test)`.

    x is an array of lists, y 1 for a positive review. Words are numbered by their frequency, from
    `index_from` + 1 on: 0 is left for padding, `start_char` begins each review, and `oov_char`
    stands for words from `num_words` on and those below `skip_top` (None leaves them out).
    `maxlen` leaves out reviews of `maxlen` numbers or more. `imdb.get_word_index()` is the number
    of each word. The examples are in Keras's order for the seed.

    `path` is the name of the file in `$FNN_DATA/imdb`, else in Keras's cache, else in the cache
    (`$FNN_CACHE/imdb` or `~/.cache/fnn/imdb`), into which it is downloaded; or the absolute path
    of another file. Nothing in the file is executed. Raises FileNotFoundError that says where to
    put it, ValueError for a damaged file and if no review is shorter than `maxlen`.
    Source: Maas et al., Learning word vectors for sentiment analysis (2011).

    >>> (x_train, y_train), _ = fnn.datasets.imdb(num_words=10_000)
    >>> x = fnn.utils.pad_sequences(x_train, maxlen=80)
    """
    arrays = _arrays(file_of("imdb", IMDB, path), "x_train y_train x_test y_test")
    # Keras draws both orders from one generator.
    generator = np.random.RandomState(seed)
    parts = []
    for x, y in (arrays[:2], arrays[2:]):
        order = np.arange(len(x))
        generator.shuffle(order)
        sequences = _started(x[order], start_char, index_from)
        parts.append(_short("imdb", sequences, y[order], maxlen))
    (x_train, y_train), (x_test, y_test) = parts
    sequences = _limited(x_train + x_test, num_words, skip_top, oov_char)
    labels = np.concatenate([y_train, y_test])
    return _cut(sequences, labels, len(x_train))


@of_words(reuters_word_index, reuters_label_names)
def reuters(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> Split:
    """11,228 newswires in 46 topics as lists of word numbers: `(x_train, y_train), ...`.

    y is the number of the topic, by `reuters.get_label_names()`; the arguments are those of
    `imdb`, with `test_split`, the fraction used for testing.
    Source: the Reuters-21578 collection.

    >>> (x_train, y_train), (x_test, y_test) = fnn.datasets.reuters(num_words=10_000)
    >>> fnn.datasets.reuters.get_label_names()[:2]
    ('cocoa', 'grain')
    """
    x, y = _arrays(file_of("reuters", REUTERS, path), "x y")
    order = keras_order(len(x), seed)
    sequences = _started(x[order], start_char, index_from)
    sequences, labels = _short("reuters", sequences, y[order], maxlen)
    sequences = _limited(sequences, num_words, skip_top, oov_char)
    return _cut(sequences, labels, train_count(len(labels), test_split))


def _cut(sequences: Sequences, labels: np.ndarray, count: int) -> Split:
    """The first `count` examples for training, the others for testing."""
    train = _objects(sequences[:count]), labels[:count]
    test = _objects(sequences[count:]), labels[count:]
    return train, test


def _words(dataset: str, remote: Remote, path: str) -> dict[str, int]:
    with open(file_of(dataset, remote, path), encoding="utf-8") as file:
        words: dict[str, int] = json.load(file)
    return words


def _arrays(path: Path, names: str) -> list[np.ndarray]:
    """Arrays of an .npz file, those of lists too. Raises ValueError that names the file."""
    arrays = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names.split():
                with archive.open(f"{name}.npy") as file:
                    arrays.append(_array(file))
    except (ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected the arrays {names}: {error}; the file is damaged, get it again"
        ) from error
    return arrays


def _array(file: Any) -> np.ndarray:
    """An array in NumPy's format. Objects behind its header are lists of numbers."""
    start = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if start[0] > 1:
        read = np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        found = StoredObject(file.read()).load()
    else:
        found = np.frombuffer(file.read(), dtype)
    array: np.ndarray = np.reshape(found, shape, order="F" if is_fortran else "C")
    return array


def _started(x: np.ndarray, start: int | None, index_from: int) -> Sequences:
    """The sequences with the numbers of words raised, and a start."""
    first = [] if start is None else [start]
    return [first + [word + index_from for word in sequence] for sequence in x]


def _short(
    name: str, x: Sequences, y: np.ndarray, maxlen: int | None
) -> tuple[Sequences, np.ndarray]:
    """The sequences shorter than `maxlen`, with their labels."""
    if not maxlen:
        return x, y
    kept = [i for i, sequence in enumerate(x) if len(sequence) < maxlen]
    if not kept:
        raise ValueError(
            f"{name}: expected a maxlen above the length of some sequence, received {maxlen}; the "
            f"shortest has {min(map(len, x))} numbers"
        )
    return [x[i] for i in kept], y[kept]


def _limited(
    xs: Sequences, num_words: int | None, skip_top: int, oov: int | None
) -> Sequences:
    """The sequences with the words within the limits; `oov` in the place of others."""
    # As in Keras, where without a limit the rarest word is left out too.
    limit = num_words or max(max(x) for x in xs)
    if oov is None:
        return [[word for word in x if skip_top <= word < limit] for x in xs]
    return [[word if skip_top <= word < limit else oov for word in x] for x in xs]


def _objects(sequences: Sequences) -> np.ndarray:
    # As in Keras: of two axes if all sequences are equally long.
    return np.array(sequences, dtype="object")
