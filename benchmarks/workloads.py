"""The workloads: their sizes and their data, the same for every peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

LEARNING_RATE = 1e-3


class Data(NamedTuple):
    """Examples `x`, targets `y`, and how many make one step; the examples fill whole batches."""

    x: np.ndarray
    y: np.ndarray
    batch: int

    def order(self) -> np.ndarray:
        """The examples of each step of an epoch, in random order.   (steps, batch)"""
        return np.random.permutation(len(self.x)).reshape(-1, self.batch)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One epoch in random order."""
        return ((self.x[indices], self.y[indices]) for indices in self.order())


class Workload(NamedTuple):
    """`make(rng, examples)` gives x and y; a round is `steps` steps of `batch` examples."""

    title: str
    batch: int
    steps: int
    make: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]

    def examples(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `number` examples and their targets."""
        return self.make(np.random.default_rng(0), number)

    def data(self, steps: int | None = None) -> Data:
        return Data(*self.examples(self.batch * (steps or self.steps)), self.batch)


class SkipError(Exception):
    """This peer cannot run this workload; the message says why."""


def _mlp(rng, examples):
    x = rng.standard_normal((examples, 10), dtype="float32")
    return x, (x.sum(axis=1, keepdims=True) > 0).astype("float32")


def _cnn(rng, examples):
    y = rng.integers(0, 10, examples, dtype="int32")
    x = rng.random((examples, 28, 28, 1), dtype="float32")
    x[np.arange(examples), 2 * y + 3] += 1  # a bright line where the class says
    return x, y


GPT = {"vocabulary": 65, "width": 128, "heads": 4, "context": 128}
BLOCKS = {"gpt": 4, "gpt12": 12}


def _gpt(rng, examples):
    text = (
        rng.integers(0, 4, (examples, GPT["context"] + 1)).cumsum(axis=1)
        % GPT["vocabulary"]
    )
    text = text.astype("int32")
    return text[:, :-1], text[:, 1:]


LSTM = {"units": 128, "steps": 64, "features": 32, "classes": 10}


def _lstm(rng, examples):
    x = rng.standard_normal(
        (examples, LSTM["steps"], LSTM["features"]), dtype="float32"
    )
    return x, x.mean(axis=1)[:, : LSTM["classes"]].argmax(axis=1).astype("int32")


RESNET = {
    "size": 64,
    "classes": 1000,
    "stages": ((64, 3), (128, 4), (256, 6), (512, 3)),
}


def _resnet(rng, examples):
    y = rng.integers(0, RESNET["classes"], examples, dtype="int32")
    return rng.standard_normal(
        (examples, RESNET["size"], RESNET["size"], 3), dtype="float32"
    ), y


WORKLOADS = {
    "mlp": Workload("mlp: 10-16-1, batch 32", 32, 1000, _mlp),
    "cnn": Workload(
        "cnn: 28x28, convolutions of 32 and 64, dense 128, batch 32", 32, 100, _cnn
    ),
    "gpt": Workload(
        "gpt: 4 blocks of width 128, 4 heads, context 128, batch 16", 16, 8, _gpt
    ),
    "gpt12": Workload(
        "gpt12: 12 blocks of width 128, 4 heads, context 128, batch 16", 16, 4, _gpt
    ),
    "lstm": Workload(
        "lstm: 128 units over 64 steps of 32 features, batch 64", 64, 40, _lstm
    ),
    "resnet": Workload("resnet: ResNet-50 on images of 64x64, batch 8", 8, 2, _resnet),
}
