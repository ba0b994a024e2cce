"""The workloads: their sizes and their data, the same for every peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

LEARNING_RATE = 1e-3


class Data(NamedTuple):
    """Examples `x`, targets `y`, and how many make one step; the rows are whole batches."""

    x: np.ndarray
    y: np.ndarray
    batch: int

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One epoch in random order."""
        order = np.random.permutation(len(self.x)).reshape(-1, self.batch)
        return ((self.x[rows], self.y[rows]) for rows in order)


class Workload(NamedTuple):
    """`make(rows)` gives x and y; a round is `steps` steps of `batch` rows."""

    title: str
    batch: int
    steps: int
    make: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]

    def data(self, steps: int | None = None) -> Data:
        x, y = self.make(np.random.default_rng(0), self.batch * (steps or self.steps))
        return Data(x, y, self.batch)


class SkipError(Exception):
    """This peer cannot run this workload; the message says why."""


def _mlp(rng, rows):
    x = rng.standard_normal((rows, 10), dtype="float32")
    return x, (x.sum(axis=1, keepdims=True) > 0).astype("float32")


def _cnn(rng, rows):
    y = rng.integers(0, 10, rows, dtype="int32")
    x = rng.random((rows, 28, 28, 1), dtype="float32")
    x[np.arange(rows), 2 * y + 3] += 1  # a bright line where the class says
    return x, y


GPT = {"vocabulary": 65, "width": 128, "heads": 4, "blocks": 4, "context": 128}


def _gpt(rng, rows):
    text = rng.integers(0, 4, (rows, GPT["context"] + 1)).cumsum(axis=1) % GPT["vocabulary"]
    text = text.astype("int32")
    return text[:, :-1], text[:, 1:]


LSTM = {"units": 128, "steps": 64, "features": 32, "classes": 10}


def _lstm(rng, rows):
    x = rng.standard_normal((rows, LSTM["steps"], LSTM["features"]), dtype="float32")
    return x, x.mean(axis=1)[:, : LSTM["classes"]].argmax(axis=1).astype("int32")


WORKLOADS = {
    "mlp": Workload("mlp: 10-16-1, batch 32", 32, 1000, _mlp),
    "cnn": Workload("cnn: 28x28, convolutions of 32 and 64, dense 128, batch 32", 32, 100, _cnn),
    "gpt": Workload("gpt: 4 blocks of width 128, 4 heads, context 128, batch 16", 16, 8, _gpt),
    "lstm": Workload("lstm: 128 units over 64 steps of 32 features, batch 64", 64, 40, _lstm),
}
