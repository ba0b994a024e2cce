"""Streaming: an epoch over batches that take as long to load as to compute, in each peer.

    python -m benchmarks.streaming                  into README.md
    python -m benchmarks.streaming --batches 20     a trial

Loading and computing sleep, so that they could go on at the same time on any machine. What is
measured is the epoch to the longer of the two: 1 is the best possible, 2 is one after the other.
"""

from __future__ import annotations

import argparse
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

import fnn
from benchmarks import report

SECONDS = 0.005  # to load a batch, and to compute one
SHAPE = 32, 64
Epoch = Callable[[Callable[[], Iterator]], None]


class Clock:
    """The time that loading and computing take."""

    def __init__(self) -> None:
        self.loading = 0.0
        self.computing = 0.0

    def batches(self, count: int) -> Callable[[], Iterator]:
        """A function that returns `count` batches."""
        x = np.ones(SHAPE, "float32")
        y = np.ones((SHAPE[0], 1), "float32")

        def load() -> Iterator:
            for _ in range(count):
                self.loading += slept()
                yield x, y

        return load

    def compute(self, x: jax.Array) -> jax.Array:
        """`x`, after some time."""
        zero = jax.pure_callback(
            self._computed,
            jax.ShapeDtypeStruct((), "float32"),
            jax.lax.stop_gradient(x),
        )
        return x + zero

    def _computed(self, x: np.ndarray) -> np.ndarray:
        self.computing += slept()
        return np.zeros((), "float32")


def slept() -> float:
    """Sleeps; returns how long it was in fact."""
    start = time.perf_counter()
    time.sleep(SECONDS)
    return time.perf_counter() - start


def ahead(batches: Iterator) -> Iterator:
    """The batches, loaded by a thread."""
    waiting: queue.Queue = queue.Queue(2)

    def load() -> None:
        for batch in batches:
            waiting.put(jax.device_put(batch))
        waiting.put(None)

    threading.Thread(target=load, daemon=True).start()
    return iter(waiting.get, None)


def by_hand(clock: Clock) -> Epoch:
    """A loop as careful users of JAX write it: a thread loads the next two batches."""

    def loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return ((clock.compute(x) @ w - y) ** 2).mean()

    @jax.jit
    def step(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return w - 0.01 * jax.grad(loss)(w, x, y)

    def epoch(batches: Callable[[], Iterator]) -> None:
        w = jnp.zeros((SHAPE[1], 1))
        for x, y in ahead(batches()):
            w = step(w, x, y)
        w.block_until_ready()

    return epoch


def in_fnn(clock: Clock) -> Epoch:
    layers = [
        fnn.Input(SHAPE[1:]),
        fnn.layers.Lambda(clock.compute),
        fnn.layers.Dense(1),
    ]
    model = fnn.Sequential(layers)
    model.compile("sgd", "mse")
    return lambda batches: model.fit(batches, verbose=0)


def in_keras(clock: Clock) -> Epoch:
    class Computes(keras.layers.Layer):
        def call(self, x: jax.Array) -> jax.Array:
            return clock.compute(x)

        def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return keras.KerasTensor(x.shape, x.dtype)

    layers = [keras.Input(SHAPE[1:]), Computes(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return lambda batches: model.fit(batches(), verbose=0)


PEERS = {"hand": by_hand, "fnn": in_fnn, "keras": in_keras}


def measure(rounds: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds of an epoch, its ratio to the longer part) of each round, by peer."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PEERS}
    clocks = {name: Clock() for name in PEERS}
    epochs = {name: PEERS[name](clock) for name, clock in clocks.items()}
    for name, epoch in epochs.items():
        epoch(clocks[name].batches(8))  # compiles
    for _ in range(rounds):
        for name, epoch in epochs.items():
            clock = clocks[name]
            clock.loading = clock.computing = 0.0
            start = time.perf_counter()
            epoch(clock.batches(count))
            spent = time.perf_counter() - start
            longer = max(clock.loading, clock.computing)
            found[name].append((spent, spent / longer))
    return found


def table(rounds: int, count: int) -> str:
    """The medians in Markdown."""
    where = report.machine(("fnn", "keras"))
    lines = [
        f"{rounds} rounds of {count} batches, {where['date']}, {where['cpu']}; "
        f"{where['versions']}.",
        "",
        "| | epoch s | to the longer part |",
        "|---|---:|---:|",
    ]
    for name, found in measure(rounds, count).items():
        seconds, ratio = (median(part) for part in zip(*found, strict=True))
        lines.append(f"| {report.TITLES[name]} | {seconds:.3f} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.streaming", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--batches", type=int, default=100, help="%(default)s")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    text = table(options.rounds, options.batches)
    print(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    report.put(options.folder / "README.md", "streaming", text)


if __name__ == "__main__":
    main()
