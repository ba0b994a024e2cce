"""Many: `fnn.fit_many` of small networks beside a loop over `fit`, in CPU time, taking turns.

    python -m benchmarks.many                              8 members, into README.md
    python -m benchmarks.many --quick --folder /tmp/quick  a trial: two rounds, few examples

Everything runs in one process on one device. A round is one call of each, after a first call
that compiles; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import numpy as np

import fnn
from benchmarks import report
from fnn import layers

NETWORKS = {
    "mlp, 64 units": lambda: [layers.Dense(64, "relu"), layers.Dense(1)],
    "mlp, 2 x 512 units": lambda: [
        layers.Dense(512, "relu"),
        layers.Dense(512, "relu"),
        layers.Dense(1),
    ],
    "lstm, 32 units": lambda: [
        layers.Reshape((10, 1)),
        layers.LSTM(32),
        layers.Dense(1),
    ],
    "convolutions": lambda: [
        layers.Reshape((10, 1)),
        layers.Conv1D(16, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(1),
    ],
}


def cpu(run: Callable[[], object]) -> float:
    """CPU seconds of a call, all threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


def calls(name: str, members: int, examples: int) -> tuple[Callable[[], object], ...]:
    """The loop over `fit`, and `fit_many`."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, 10), dtype="float32")
    y = x.sum(axis=1, keepdims=True)

    def model(seed: int) -> fnn.Sequential:
        made = fnn.Sequential([fnn.Input((10,)), *NETWORKS[name]()], seed=seed)
        made.compile("adam", "mse")
        return made

    def loop() -> None:
        for seed in range(members):
            model(seed).fit(x, y, epochs=5, verbose=0)

    def many() -> None:
        devices = jax.devices()[:1]
        seeds = range(members)
        fnn.fit_many(model(0), x, y, seeds=seeds, epochs=5, verbose=0, devices=devices)

    return loop, many


def row(name: str, members: int, examples: int, rounds: int) -> str:
    """One network, in Markdown."""
    both = calls(name, members, examples)
    first = [cpu(run) for run in both]
    times = [[cpu(run) for run in both] for _ in range(rounds)]
    cells = [name, str(members)]
    for index in range(2):
        cells += [f"{first[index]:.2f}", f"{median(t[index] for t in times):.3f}"]
    cells.append(f"{median(many / loop for loop, many in times):.2f}")
    return f"| {' | '.join(cells)} |"


def table(members: int, examples: int, rounds: int) -> str:
    """All networks, in Markdown."""
    where = report.machine(("fnn",))
    lines = [
        f"{rounds} rounds of 5 epochs over {examples} examples in batches of 32, {where['date']}, "
        f"{where['cpu']}; {where['versions']}.",
        "",
        "| | members | loop: first s | s | fit_many: first s | s | to the loop |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [row(name, members, examples, rounds) for name in NETWORKS]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.many", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--members", type=int, default=8, help="%(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--quick", action="store_true", help="two rounds, 64 examples")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    examples, rounds = (64, 2) if options.quick else (1024, options.rounds)
    text = table(options.members, examples, rounds)
    print(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    report.put(options.folder / "README.md", "many", text)


if __name__ == "__main__":
    main()
