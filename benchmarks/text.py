"""Text: what TextVectorization costs for 100,000 short texts, beside tf.strings and Keras on JAX.

    python -m benchmarks.text                                into README.md
    python -m benchmarks.text --quick --folder /tmp/quick    a trial: 1,000 texts, one round

All have the same vocabulary and return the same indices, of 16 words for each text. The texts
come as a list, and as arrays of NumPy.
"""

from __future__ import annotations

import argparse
import os
import string
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks import report
from fnn.layers import TextVectorization

Texts: TypeAlias = list[str] | np.ndarray
WORDS, LENGTH, TOKENS = 20_000, 16, 10_000


def texts(count: int) -> list[str]:
    """Sentences of 5 to 15 words, a few of which are frequent."""
    draw = np.random.default_rng(0)
    letters = np.array(list(string.ascii_lowercase))
    words = np.array(
        ["".join(draw.choice(letters, n)) for n in draw.integers(2, 10, WORDS)]
    )
    made = []
    for length in draw.integers(5, 16, count):
        places = np.minimum(draw.pareto(0.8, length).astype(int), WORDS - 1)
        made.append(f"{' '.join(words[places])}.".capitalize())
    return made


def by_tensorflow(vocabulary: list[str]) -> Callable[[Texts], np.ndarray]:
    """What a user of TensorFlow writes by hand, from a list of strings to indices."""
    pairs = tf.lookup.KeyValueTensorInitializer(
        vocabulary, np.arange(len(vocabulary), dtype=np.int64)
    )
    table = tf.lookup.StaticHashTable(pairs, 1)
    pattern = r"[!-/:-@\[-`{-~]"

    def vectorize(given: Texts) -> np.ndarray:
        lower = tf.strings.lower(tf.constant(given))
        words = tf.strings.split(tf.strings.regex_replace(lower, pattern, ""))
        found = tf.ragged.map_flat_values(table.lookup, words)
        padded: np.ndarray = found.to_tensor(0, shape=(None, LENGTH)).numpy()
        return padded

    return vectorize


def measure(count: int, rounds: int) -> list[dict[str, float | str]]:
    """Seconds of each, and the ratios to tf.strings; they take turns."""
    data = texts(count)
    forms = {
        "list": data,
        "str array": np.array(data),
        "object": np.array(data, object),
    }
    ours = TextVectorization(TOKENS, output_sequence_length=LENGTH)
    ours.adapt(data)
    theirs = keras.layers.TextVectorization(
        TOKENS, vocabulary=ours.get_vocabulary(), output_sequence_length=LENGTH
    )
    peers = {
        "tf.strings": by_tensorflow(ours.get_vocabulary()),
        "**fnn**": ours,
        "Keras on JAX": theirs,
    }
    expected = np.asarray(ours(data))
    rows = []
    for form, given in forms.items():
        for function in peers.values():
            assert (np.asarray(function(given)) == expected).all()
        times = timed(peers, given, rounds)
        for name, measured in times.items():
            pairs = zip(measured, times["tf.strings"], strict=True)
            ratios = [own[1] / base[1] for own, base in pairs]
            wall, cpu = (median(clock) for clock in zip(*measured, strict=True))
            row = {"name": f"{name}, {form}", "wall": wall, "cpu": cpu}
            rows.append({**row, "ratio": median(ratios)})
    return rows


def timed(
    peers: dict[str, Callable[[Texts], np.ndarray]], given: Texts, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each round of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, function in peers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            np.asarray(function(given))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append((wall, cpu))
    return times


def table(rows: list[dict[str, float | str]], count: int, rounds: int) -> str:
    """The table in Markdown."""
    where = report.machine(["keras"])
    lines = [
        f"{count:,} texts, median of {rounds}, {where['date']}, {where['cpu']}; "
        f"{where['versions']}, tensorflow {tf.__version__}.",
        "",
        "| | wall s | CPU s | CPU, to tf.strings |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        shown = f"{row['wall']:.3f} | {row['cpu']:.3f} | {row['ratio']:.2f}"
        lines.append(f"| {row['name']} | {shown} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.text", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="1,000 texts, one round")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    count, rounds = (1_000, 1) if options.quick else (100_000, 9)
    shown = table(measure(count, rounds), count, rounds)
    print(shown)
    options.folder.mkdir(parents=True, exist_ok=True)
    report.put(options.folder / "README.md", "text", shown)


if __name__ == "__main__":
    main()
