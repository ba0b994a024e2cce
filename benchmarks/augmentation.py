"""Augmentation: a batch of images flipped, turned and cropped by fnn and by Keras on JAX.

    python -m benchmarks.augmentation                              256 images, into README.md
    python -m benchmarks.augmentation --quick --folder /tmp/quick  a trial: 16 images, two rounds

Both run in one process, on the same images and in turn, so that what else the machine does falls
on both alike. Each layer is called as users call it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

import fnn
from benchmarks import report

Call = Callable[[Any], Any]
STEPS = ("flip", "rotate", "crop", "all three")


def layers(module: Any) -> list[Any]:
    """The layers of fnn or of Keras, in the order in which they run."""
    return [
        module.RandomFlip("horizontal", seed=1),
        module.RandomRotation(0.1, seed=2),
        module.RandomCrop(192, 192, seed=3),
    ]


def calls(module: Any) -> dict[str, Call]:
    """What is measured: each layer alone, and one after the other."""

    def in_a_row(images: Any) -> Any:
        for layer in row:
            images = layer(images, training=True)
        return images

    def alone(layer: Any) -> Call:
        return lambda images: layer(images, training=True)

    row = layers(module)
    single = map(alone, layers(module))
    return dict(zip(STEPS, [*single, in_a_row], strict=True))


def seconds(call: Call, images: Any) -> tuple[float, float]:
    """(CPU, wall) time of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(call(images))
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(count: int, rounds: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """By step and library: the times of each round; the first call of each is left out."""
    rng = np.random.default_rng(0)
    images = jax.device_put(rng.uniform(0, 255, (count, 224, 224, 3)).astype("float32"))
    libraries = {"fnn": calls(fnn.layers), "Keras": calls(keras.layers)}
    times: dict[str, Any] = {step: {name: [] for name in libraries} for step in STEPS}
    for step in STEPS:
        for turn in range(rounds + 1):
            for name, row in libraries.items():
                found = seconds(row[step], images)
                if turn:
                    times[step][name].append(found)
    return times


def table(count: int, rounds: int) -> str:
    """A row for each step, with medians over the rounds."""
    lines = []
    for step, libraries in measure(count, rounds).items():
        cells = [step]
        for clock in (0, 1):
            both = [[turn[clock] for turn in turns] for turns in libraries.values()]
            cells += [f"{1000 * statistics.median(one):.3g}" for one in both]
            ratios = [ours / theirs for ours, theirs in zip(*both, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    where = report.machine(("fnn", "keras"))
    return "\n".join(
        [
            f"{count} images of 224x224x3, {rounds} rounds, {where['date']}, {where['cpu']}; "
            f"{where['versions']}.",
            "",
            "| | CPU ms, fnn | Keras | ratio | wall ms, fnn | Keras | ratio |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="16 images, two rounds")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    count, rounds = (16, 2) if given.quick else (256, given.rounds)
    given.folder.mkdir(parents=True, exist_ok=True)
    text = table(count, rounds)
    report.put(given.folder / "README.md", "augmentation", text)
    print(text)


if __name__ == "__main__":
    main()
