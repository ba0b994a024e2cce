"""Folds: which examples each of several trainings learns from, and which it is validated on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fnn.core.tree import Tree
from fnn.training import checks


class Fold(NamedTuple):
    """The indices of the examples to train on, and of those to validate on."""

    train: np.ndarray
    valid: np.ndarray


def folds_of(given: object, count: int, y: Tree = None) -> list[Fold]:
    """The folds that `folds` means for so many examples.

    An integer k cuts the examples into k consecutive parts, as scikit-learn's `KFold(k)` does; a
    splitter of scikit-learn is called with `split(x, y)`; else they are pairs of indices.

    >>> [fold.valid.tolist() for fold in folds_of(2, 5)]
    [[0, 1, 2], [3, 4]]
    """
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        return _consecutive(checks.as_integer("folds", given, 2), count)
    if hasattr(given, "split"):
        given = given.split(np.zeros(count), _targets(y))
    try:
        pairs = [(train, valid) for train, valid in given]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"folds must be an integer, a splitter of scikit-learn or pairs of indices "
            f"(train, validation), got {given!r}; pass folds=5"
        ) from error
    return [
        Fold(_indices(train, count, number), _indices(valid, count, number))
        for number, (train, valid) in enumerate(pairs)
    ]


def _consecutive(number: int, count: int) -> list[Fold]:
    if number > count:
        raise ValueError(
            f"folds must be at most the number of examples, {count}, got {number}"
        )
    every = np.arange(count)
    parts = np.array_split(every, number)
    return [Fold(np.setdiff1d(every, part), part) for part in parts]


def _targets(y: Tree) -> Tree:
    """What a splitter reads: the targets, if they are one array."""
    if isinstance(y, tuple) and len(y) == 1:
        (y,) = y
    if not hasattr(y, "shape"):
        return None
    targets = np.asarray(y)
    if targets.shape[1:] == (1,):
        return targets[:, 0]
    return targets


def _indices(given: object, count: int, number: int) -> np.ndarray:
    """The indices of one part of a fold. Raises ValueError for what is no such indices."""
    found = np.asarray(given)
    if found.dtype == bool and found.shape == (count,):
        return np.flatnonzero(found)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(
            f"fold {number} must hold a list of indices for training and one for validation, "
            f"got an array of shape {found.shape} and dtype {found.dtype}"
        )
    if found.min() < 0 or found.max() >= count:
        raise ValueError(
            f"fold {number} has indices from {found.min()} to {found.max()}, but there are "
            f"{count} examples; pass indices from 0 to {count - 1}"
        )
    return found
