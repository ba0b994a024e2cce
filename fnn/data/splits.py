"""Splits: the examples of a dataset in two parts, shuffled, stratified, grouped or by time."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fnn.core.tree import Tree
from fnn.data.batches import Batches

Parts: TypeAlias = tuple[np.ndarray, np.ndarray]  # the indices of the two parts


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A way to split examples in two, made by `fnn.data.split`."""

    fraction: float
    shuffle: bool = True
    stratify: bool | ArrayLike = False
    groups: ArrayLike | None = None
    time: ArrayLike | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(
                "split: expected the fraction of examples in the second part, between 0 and 1, "
                f"received {self.fraction!r}; e.g. 0.2"
            )
        given = {"stratify": self.stratify, "groups": self.groups, "time": self.time}
        chosen = [
            name
            for name, value in given.items()
            if value is not None and value is not False
        ]
        if len(chosen) > 1:
            raise ValueError(
                f"split: expected one of stratify, groups and time, received {', '.join(chosen)}"
            )

    def __call__(self, *data: Tree) -> tuple[Tree, Tree]:
        """The two parts of some data: arrays, lists, tuples or dicts of them, or `Batches`."""
        whole: Tree = data if len(data) > 1 else data[0]
        if isinstance(whole, Batches):
            first, last = self.indices(whole.count, whole.targets)
            return whole.subset(first, True), whole.subset(last, False)
        counts = {_length(leaf) for leaf in _leaves(whole)}
        if len(counts) != 1:
            raise ValueError(
                f"split: expected arrays of one length, received lengths {sorted(counts)}"
            )
        targets = data[1] if len(data) > 1 else None
        first, last = self.indices(counts.pop(), targets)
        return taken(whole, first), taken(whole, last)

    def indices(self, count: int, targets: ArrayLike | None = None) -> Parts:
        """The indices of the examples in each part; `targets` are what `stratify=True` reads.

        >>> first, last = split(0.4, shuffle=False).indices(5)
        >>> first.tolist(), last.tolist()
        ([0, 1, 2], [3, 4])
        """
        wanted = count - int(np.floor(count * (1 - self.fraction)))
        if not 0 < wanted < count:
            raise ValueError(
                f"split: expected examples on both sides, received {count} examples and the "
                f"fraction {self.fraction}; pass another fraction"
            )
        if self.time is not None:
            times = self._each("time", self.time, count)
            return self._by_group(times, wanted, in_order=True)
        if self.groups is not None:
            groups = self._each("groups", self.groups, count)
            return self._by_group(groups, wanted, in_order=not self.shuffle)
        order = np.arange(count)
        if self.shuffle:
            order = np.random.default_rng(self.seed).permutation(count)
        if self.stratify is False:
            cut = count - wanted
            return np.sort(order[:cut]), np.sort(order[cut:])
        labels = targets if self.stratify is True else self.stratify
        if labels is None:
            raise ValueError(
                "split: expected labels for stratify=True, received data without targets; pass "
                "stratify=labels"
            )
        classes = self._each("stratify", labels, count)
        return _by_class(classes, order, wanted)

    def _each(self, name: str, values: ArrayLike, count: int) -> np.ndarray:
        """The number of the distinct value of each example, in sorted order of the values."""
        array = np.asarray(values)
        if len(array) != count:
            raise ValueError(
                f"split: expected {name} for each of {count} examples, received {len(array)}"
            )
        axis = None if array.ndim == 1 else 0  # such as rows of one-hot vectors
        numbers: np.ndarray = np.unique(array, return_inverse=True, axis=axis)[1]
        return numbers.reshape(-1)

    def _by_group(self, numbers: np.ndarray, wanted: int, in_order: bool) -> Parts:
        """Whole groups in the second part, of about as many examples as wanted."""
        sizes = np.bincount(numbers)
        if len(sizes) < 2:
            name = "groups" if self.time is None else "time"
            raise ValueError(
                f"split: expected {name} with at least two different values, received one"
            )
        order = np.arange(len(sizes))
        if not in_order:
            order = np.random.default_rng(self.seed).permutation(len(sizes))
        # The number of examples in the last 1, 2, ... groups.
        sums = np.cumsum(sizes[order][::-1])[:-1]
        groups = int(np.argmin(np.abs(sums - wanted))) + 1
        is_last = np.isin(numbers, order[-groups:])
        if self.time is None:
            return np.flatnonzero(~is_last), np.flatnonzero(is_last)
        by_time = np.argsort(numbers, kind="stable")
        is_last = is_last[by_time]
        return by_time[~is_last], by_time[is_last]


def _by_class(numbers: np.ndarray, order: np.ndarray, wanted: int) -> Parts:
    """Of each class the same fraction in the second part, at least one example in each."""
    sizes = np.bincount(numbers)
    if sizes.min() < 2:
        raise ValueError(
            f"split: expected at least two examples of each class to stratify, received one of "
            f"{np.sum(sizes < 2)} of {len(sizes)} classes; leave stratify out, or pass bins of the "
            "targets as stratify=labels"
        )
    shares = sizes * wanted / len(numbers)
    quotas = np.floor(shares).astype(int)
    missing = wanted - quotas.sum()
    quotas[np.argsort(quotas - shares, kind="stable")[:missing]] += 1
    quotas = np.clip(quotas, 1, sizes - 1)
    is_last = np.zeros(len(numbers), bool)
    for number, quota in enumerate(quotas):
        members = order[numbers[order] == number]
        is_last[members[len(members) - quota :]] = True
    return np.flatnonzero(~is_last), np.flatnonzero(is_last)


def split(
    fraction: float = 0.2,
    *,
    shuffle: bool = True,
    stratify: bool | ArrayLike = False,
    groups: ArrayLike | None = None,
    time: ArrayLike | None = None,
    seed: int = 0,
) -> Split:
    """A way to split examples in two, `fraction` of them in the second part.

    Called on data it returns the two parts: `split(0.2)(x, y)` is `(x_1, y_1), (x_2, y_2)`, for
    arrays, frames, lists of examples, and tuples or dicts of these; of a stream that is made by
    index (`image_folder`, `windows`) two streams. `split(0.2).indices(count)` are the indices, and
    `fit(validation_split=split(0.2))` validates on the second part.

    By default examples are drawn by `seed`; `shuffle=False` takes the last ones. `stratify=True`
    takes the same fraction of each class of the targets (or of the labels given in its place), at
    least one example. `groups`, a value for each example, keeps examples of equal value together.
    `time`, a number for each example, puts the latest into the second part. Each part keeps the
    order of the data, or that of time. Windows of a series overlap: `shuffle=False` there.
    Raises ValueError for a fraction that leaves a part empty, and for classes of one example.

    >>> x, y = np.arange(10), np.array([0] * 8 + [1] * 2)
    >>> (x_train, y_train), (x_test, y_test) = split(0.5, stratify=True)(x, y)
    >>> np.bincount(y_test).tolist()
    [4, 1]
    >>> train, test = split(0.3, time=[3, 1, 2, 0])(["d", "b", "c", "a"])
    >>> train, test
    (['a', 'b'], ['c', 'd'])
    """
    return Split(fraction, shuffle, stratify, groups, time, seed)


def _leaves(data: Tree) -> list[Any]:
    """The arrays of data in tuples and dicts; a list is one sequence of examples."""
    if isinstance(data, dict):
        data = tuple(data.values())
    if isinstance(data, tuple):
        return [leaf for part in data for leaf in _leaves(part)]
    return [] if data is None else [data]


def _length(leaf: Any) -> int:
    shape = getattr(leaf, "shape", None)
    return len(leaf) if shape is None else int(shape[0])


def taken(data: Tree, indices: np.ndarray) -> Tree:
    """The examples with these indices, in the structure and the types of the data.

    >>> taken({"x": np.arange(3), "names": ["a", "b", "c"]}, np.array([0, 2]))
    {'x': array([0, 2]), 'names': ['a', 'c']}
    """
    if data is None:
        return None
    if isinstance(data, dict):
        return {name: taken(part, indices) for name, part in data.items()}
    if isinstance(data, tuple):
        return tuple(taken(part, indices) for part in data)
    if isinstance(data, list):
        return [data[i] for i in indices]
    rows: Any = getattr(data, "iloc", data)  # of a frame of pandas
    return rows[indices]
