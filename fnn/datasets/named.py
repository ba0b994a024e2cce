"""Named datasets: functions that are called as Keras's modules of datasets are, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias

import numpy as np

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
Split: TypeAlias = tuple[Pair, Pair]
P = ParamSpec("P")


class Dataset(Protocol[P]):
    """A function that returns `(x_train, y_train), (x_test, y_test)`."""

    load_data: Callable[P, Split]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Split: ...


class WordDataset(Dataset[P], Protocol[P]):
    """A dataset of sequences of words, with the number of each word."""

    get_word_index: Callable[..., dict[str, int]]
    get_label_names: Callable[[], tuple[str, ...]]


def as_in_keras(load: Callable[P, Split]) -> Dataset[P]:
    """Adds Keras's form of the call, `mnist.load_data()`: there `mnist` is a module."""
    dataset: Any = load
    dataset.load_data = load
    return dataset  # type: ignore[no-any-return]


def of_words(
    get_word_index: Callable[..., dict[str, int]],
    get_label_names: Callable[[], tuple[str, ...]],
) -> Callable[[Callable[P, Split]], WordDataset[P]]:
    """`as_in_keras` for a dataset of sequences of words."""

    def decorate(load: Callable[P, Split]) -> WordDataset[P]:
        dataset: Any = as_in_keras(load)
        dataset.get_word_index = get_word_index
        dataset.get_label_names = get_label_names
        return dataset  # type: ignore[no-any-return]

    return decorate


def train_count(count: int, test_split: float) -> int:
    """How many of the first examples are for training, as in Keras; the others are for testing.

    Raises ValueError for a fraction that is not from 0 up to 1.
    """
    if not 0 <= test_split < 1:
        raise ValueError(
            f"expected test_split from 0 up to 1, received {test_split=}; e.g. test_split=0.2"
        )
    return int(count * (1 - test_split))


def keras_order(count: int, seed: int) -> np.ndarray:
    """The order in which Keras shuffles examples for a seed."""
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order
