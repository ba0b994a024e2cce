"""Depth: what a training step of many equal blocks costs to trace and to compile.

    python -m benchmarks.depth                              4 and 48 blocks, into README.md
    python -m benchmarks.depth --quick --folder /tmp/quick  a trial: 2 and 4 blocks, one round

Nothing runs: weights are shapes. Every measurement starts with empty caches of JAX.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import optax

from benchmarks import report
from fnn.core.calling import call, weight_spec
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.layers import Repeat, Sequential, TransformerEncoderBlock
from fnn.optimizers import Adam

BLOCK = TransformerEncoderBlock(64, 4, dropout=0.1)
X = jax.ShapeDtypeStruct((8, 32, 64), jnp.float32)
NETWORKS = {
    "Repeat": lambda depth: Repeat(BLOCK, depth),
    "Sequential": lambda depth: Sequential(depth * [BLOCK]),
}


def training_step(layer: Layer):
    """One step of Adam on the mean square of the outputs."""
    optimizer = Adam()

    def step(params, state, slots, x, key):
        def loss(params):
            y, after = call(layer, params, state, x, Context(train=True, key=key))
            return jnp.square(y).mean(), after

        (value, state_after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, slots = optimizer.update(grads, slots, params)
        return optax.apply_updates(params, updates), state_after, slots, value

    return optimizer, step


def measure(layer: Layer) -> dict[str, float]:
    """CPU seconds (all threads) to trace and to compile a step, wall seconds of both."""
    params, state = weight_spec(layer, X)
    optimizer, step = training_step(layer)
    slots, key = (
        jax.eval_shape(optimizer.init, params),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    jax.clear_caches()
    wall, start = time.perf_counter(), time.process_time()
    lowered = jax.jit(step).lower(params, state, slots, X, key)
    traced = time.process_time()
    lowered.compile()
    compiled = time.process_time()
    wall = time.perf_counter() - wall
    return {"trace": traced - start, "compile": compiled - traced, "wall": wall}


def table(depths: list[int], rounds: int) -> str:
    """All networks at all depths, in Markdown; the ratio is to the first depth, of CPU time."""
    measure(
        NETWORKS["Sequential"](1)
    )  # what the first program pays for all is not counted
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, make in NETWORKS.items():
            for depth in depths:
                found.setdefault((name, depth), []).append(measure(make(depth)))
    where = report.machine(("fnn",))
    lines = [
        f"Median of {rounds}, {where['date']}, {where['cpu']}; {where['versions']}.",
        "",
        f"| | blocks | trace CPU s | compile CPU s | wall s | to {depths[0]} blocks |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    totals: dict[tuple[str, int], float] = {}
    for (name, depth), rows in found.items():
        trace, compiled, wall = (
            median(row[k] for row in rows) for k in ("trace", "compile", "wall")
        )
        totals[name, depth] = median(row["trace"] + row["compile"] for row in rows)
        ratio = totals[name, depth] / totals[name, depths[0]]
        cells = [
            name,
            str(depth),
            *(f"{s:.2f}" for s in (trace, compiled, wall, ratio)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.depth", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--depths", type=int, nargs="+", default=[4, 48], help="%(default)s"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="2 and 4 blocks, one round"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    depths, rounds = ([2, 4], 1) if options.quick else (options.depths, options.rounds)
    text = table(depths, rounds)
    print(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    report.put(options.folder / "README.md", "depth", text)


if __name__ == "__main__":
    main()
