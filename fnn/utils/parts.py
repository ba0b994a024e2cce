"""Keras's functions that cut arrays: windows of a series, and the two parts of a dataset."""

from __future__ import annotations

import random
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from fnn.core.tree import Tree
from fnn.data.batches import Batches, seed_of
from fnn.data.series import as_series, window_batches


def timeseries_dataset_from_array(
    data: ArrayLike,
    targets: ArrayLike | None,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Batches:
    """Windows of a series, with their targets.   (time, ...) -> (batch, sequence_length, ...)

    Window i has the steps s, s + r, s + 2 r, ... of `data` from `start_index` up to `end_index`,
    where s is i `sequence_stride` and r is `sampling_rate`; its target is `targets[s]`, from the
    same start. `targets=None` gives windows alone. `shuffle` gives each pass an order of its own,
    by `seed`. `format` has no effect: the batches are NumPy arrays. Raises ValueError for numbers
    out of range, and for a series too short for one window.

    >>> series = np.arange(8)
    >>> windows = timeseries_dataset_from_array(series, series[3:], 3, sequence_stride=2)
    >>> [(x.tolist(), y.tolist()) for x, y in windows]
    [([[0, 1, 2], [2, 3, 4], [4, 5, 6]], [3, 5, 7])]
    """
    series = as_series("data", data)
    start = start_index or 0
    end = end_index or len(series)
    _check_window(len(series), start, end, sequence_stride, sampling_rate)
    if end - start <= (sequence_length - 1) * sampling_rate:
        raise ValueError(
            f"timeseries_dataset_from_array: expected a series with room for "
            f"{sequence_length=} and {sampling_rate=}, received {end - start} steps; use shorter "
            "windows"
        )
    window = np.arange(sequence_length) * sampling_rate
    goals = None
    if targets is not None:
        goals = as_series("targets", targets)
    return window_batches(
        series,
        goals,
        window=window,
        ahead=-window[-1],  # the target is that of the first step
        stride=sequence_stride,
        parts=[(start, end)],
        batch_size=batch_size,
        seed=seed_of(shuffle, seed),
    )


def _check_window(
    length: int,
    start: int,
    end: int,
    stride: int,
    rate: int,
) -> None:
    for name, value, least, most in (
        ("start_index", start, 0, length - 1),
        ("end_index", end, start + 1, length),
        ("sequence_stride", stride, 1, length - 1),
        ("sampling_rate", rate, 1, length - 1),
    ):
        if not least <= value <= most:
            raise ValueError(
                f"timeseries_dataset_from_array: expected {name} from {least} to {most} for a "
                f"series of {length} steps, received {value}"
            )


def split_dataset(
    dataset: Tree,
    left_size: float | None = None,
    right_size: float | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Tree, Tree]:
    """The first and the last examples of a dataset, as arrays in its structure.

    `dataset` is an array, a tuple, list or dict of arrays, a stream of batches, or a dataset of
    TensorFlow or PyTorch, which is read once. A size is a number of examples or a fraction; one of
    the two is enough. `shuffle` mixes the examples first, as Keras does by `seed`. Keras returns
    datasets of its backend; these arrays go into `fit(*left)`. `preferred_backend` has no effect.
    Raises ValueError for sizes that do not fit.

    >>> left, right = split_dataset((np.arange(10), np.arange(10) ** 2), left_size=0.8)
    >>> right
    (array([8, 9]), array([64, 81]))
    """
    arrays = _as_arrays(dataset)
    counts = {len(array) for array in jax.tree.leaves(arrays)}
    if len(counts) != 1:
        raise ValueError(
            f"split_dataset: expected arrays of one length, received lengths {sorted(counts)}"
        )
    count = counts.pop()
    left, right = _sizes(left_size, right_size, count)
    order = list(range(count))
    if shuffle:
        if seed is None:
            seed = random.randint(0, 10**6)
        random.Random(seed).shuffle(order)
    first, last = order[:left], order[count - right :]
    return (
        jax.tree.map(lambda array: array[first], arrays),
        jax.tree.map(lambda array: array[last], arrays),
    )


def _as_arrays(dataset: Tree) -> Tree:
    if hasattr(dataset, "shape"):
        return np.asarray(dataset)
    if isinstance(dataset, (tuple, list, dict)):
        return jax.tree.map(np.asarray, dataset)
    if hasattr(dataset, "__iter__"):
        items = list(dataset)
    else:  # a dataset of PyTorch
        items = [dataset[i] for i in range(len(dataset))]
    if not items:
        raise ValueError("split_dataset: expected batches, received an empty stream")
    join: Any = np.concatenate
    if _gives_examples(dataset):
        join = np.stack

    def joined(*parts: Any) -> np.ndarray:
        array: np.ndarray = join([np.asarray(part) for part in parts])
        return array

    return jax.tree.map(joined, *items)


def _gives_examples(dataset: Tree) -> bool:
    """Whether a dataset of PyTorch or TensorFlow, as Keras tells them, is not in batches."""
    if not hasattr(dataset, "__iter__"):
        return True
    return hasattr(dataset, "element_spec") and not hasattr(dataset, "_batch_size")


def _sizes(
    left: float | None,
    right: float | None,
    count: int,
) -> tuple[int, int]:
    """The numbers of examples of both parts. Raises ValueError if they do not fit."""
    numbers: list[int | None] = []
    for size in (left, right):
        if isinstance(size, float):
            size = round(size * count) if 0 < size < 1 else 0
        numbers.append(None if size is None else int(size))
    first, last = numbers
    if first is None and last is not None:
        first = count - last
    elif last is None and first is not None:
        last = count - first
    if first is None or last is None or min(first, last) < 1 or first + last > count:
        raise ValueError(
            "split_dataset: expected left_size, right_size or both as numbers of examples or "
            f"fractions that leave examples on both sides of {count}, received {left} and {right}"
        )
    return first, last
