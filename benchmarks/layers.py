"""Layers: CPU time of forward and backward of single layers, fnn beside its peers.

    python -m benchmarks.layers                            everything, into README.md
    python -m benchmarks.layers --layers LSTM,GRU          some, printed alone
    python -m benchmarks.layers --quick                    a trial: two short rounds, printed alone

Each peer has a process of its own. A round is some steps of each peer in turn; rounds repeat, so
that a busy minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.processes import Worker
from benchmarks.worker import answerer, peak_memory, timed

PEERS = ("fnn", "hand", "keras", "flax", "torch")
SHAPES = {  # of the inputs, and how many steps make a round
    "Dense": ((128, 256), 200),
    "Conv2D": ((16, 28, 28, 16), 20),
    "DepthwiseConv2D": ((16, 28, 28, 32), 20),
    "MaxPooling2D": ((32, 28, 28, 32), 50),
    "UpSampling2D": ((16, 14, 14, 32), 100),
    "BatchNormalization": ((32, 14, 14, 64), 100),
    "LayerNormalization": ((32, 64, 128), 100),
    "Dropout": ((256, 1024), 50),
    "Embedding": ((64, 64), 200),
    "LSTM": ((32, 32, 32), 30),
    "GRU": ((32, 32, 32), 30),
    "MultiHeadAttention": ((8, 64, 128), 30),
}
TITLES = {**report.TITLES, "torch": report.TITLES["torch1"]}


def inputs(layer: str) -> np.ndarray:
    """The same for every peer: ids for `Embedding`, else normal numbers."""
    rng, shape = np.random.default_rng(0), SHAPES[layer][0]
    if layer == "Embedding":
        return rng.integers(0, 1000, shape, dtype="int32")
    return rng.standard_normal(shape, dtype="float32")


def serve(peer: str) -> None:
    """One peer: reads `layer steps`, answers with the times of these steps, until `quit`."""
    answer, steps = answerer(), {}
    try:
        runners = importlib.import_module(f"benchmarks.layer_peers.{peer}").RUNNERS
    except ImportError as reason:
        answer(skip=str(reason))
        return
    answer(layers=list(runners))
    for command in sys.stdin:
        if command.strip() == "quit":
            answer(memory=peak_memory())
            return
        layer, number = command.split()
        if layer not in steps:
            steps[layer] = runners[layer](inputs(layer))
            for _ in range(3):  # compiles and settles
                steps[layer]()
        step = steps[layer]
        answer(
            **timed(
                lambda step=step, number=number: [step() for _ in range(int(number))][
                    -1
                ]
            )
        )


class LayerWorker(Worker):
    """A peer that is asked for any layer."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer, "benchmarks.layers", "--serve", peer)
        self.layers = self.started.get("layers", ())


def measure(
    workers: list[LayerWorker], layer: str, rounds: int, steps: int
) -> dict[str, Any]:
    """Peer -> its rounds, for those that run and have this layer."""
    workers = [worker for worker in workers if layer in worker.layers]
    results: dict[str, Any] = {worker.peer: {"rounds": []} for worker in workers}
    for number in range(rounds):
        print(f"{layer}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for worker in workers:
            measured = worker.ask(f"{layer} {steps}")
            if "skip" in measured:
                raise SystemExit(f"{worker.peer} failed at {layer}")
            results[worker.peer]["rounds"].append(measured)
    return results


def table(results: dict[str, Any], steps: dict[str, int], rounds: int) -> str:
    """CPU time of fnn, and that of the others as multiples of it."""
    peers = [
        peer for peer in PEERS if any(peer in result for result in results.values())
    ]
    where = report.machine(peers)
    others = peers[1:]
    head = (
        f"| layer | inputs | fnn, ms a step | {' | '.join(TITLES[p] for p in others)} |"
    )
    lines = [
        f"{rounds} rounds, {where['date']}, {where['cpu']}; {where['versions']}.",
        "",
        head,
        "|---|---|---:|" + "---:|" * len(others),
    ]
    for layer, result in results.items():
        mine = report.milliseconds(result["fnn"], "cpu", steps[layer])
        ratio = lambda peer, result=result: report.ratio(
            result[peer], result["fnn"], "cpu"
        )
        ratios = [ratio(peer) if peer in result else "" for peer in others]
        shape = " x ".join(map(str, SHAPES[layer][0]))
        lines.append(f"| {layer} | {shape} | {mine:.3g} | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.layers", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--layers", default=",".join(SHAPES), help="some of %(default)s"
    )
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="fnn and some of %(default)s"
    )
    parser.add_argument(
        "--rounds", type=int, default=9, help="how often each is timed: 9"
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of five steps")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return
    layers, peers = options.layers.split(","), options.peers.split(",")
    for name in layers:
        if name not in SHAPES:
            parser.error(f"expected a layer of {', '.join(SHAPES)}, received {name!r}")
    if peers[0] != "fnn" or not set(peers) <= set(PEERS):
        parser.error(
            f"expected fnn first and then peers of {', '.join(PEERS)}, received {peers}"
        )
    rounds = 2 if options.quick else options.rounds
    steps = {name: 5 if options.quick else SHAPES[name][1] for name in layers}
    workers = [LayerWorker(peer) for peer in peers]
    try:
        results = {name: measure(workers, name, rounds, steps[name]) for name in layers}
    finally:
        for worker in workers:
            worker.close()
    text = table(results, steps, rounds)
    print(text)
    if not options.quick and layers == list(SHAPES) and tuple(peers) == PEERS:
        report.put(Path(__file__).with_name("README.md"), "layers", text)


if __name__ == "__main__":
    main()
