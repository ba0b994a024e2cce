"""Training: CPU and wall time a step of fnn and its peers, measured side by side.

    python -m benchmarks.training                              everything, into README.md
    python -m benchmarks.training --workload cnn --peers hand,fnn --rounds 9
    python -m benchmarks.training --quick --folder /tmp/quick  a trial: few steps, another folder

Each peer runs in a process of its own (`worker.py`). A round is one epoch of each peer in turn;
rounds repeat, so that a busy minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.workloads import WORKLOADS

PEERS = ("hand", "fnn", "keras", "flax", "equinox", "torch", "torch1")
ROOT = Path(__file__).parents[1]

# Import times are those of an installed package, whose bytecode is cached.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Worker:
    """A peer in its own process: its first answer, its rounds, and `skip`: why it has none."""

    def __init__(self, peer: str, workload: str, steps: int):
        self.peer, self.rounds = peer, list[dict[str, float]]()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, workload, str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        self.started = self.answer()
        self.skip = self.started.get("skip")

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"skip": "it failed"}

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer tells that it ended
            print(command, file=self.process.stdin, flush=True)
        return self.answer()

    def round(self) -> None:
        if not self.skip:
            measured = self.ask("round")
            self.skip = measured.get("skip")
            self.rounds.append(measured)

    def close(self) -> float | None:
        """Ends the process; returns its peak memory in MB."""
        memory = None if self.skip else self.ask("quit").get("memory")
        self.process.communicate()
        return memory


def measure(workload: str, peers: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """All peers on one workload: for each its start, its rounds and its memory, or why not."""
    workers = []
    try:
        for peer in peers:
            print(f"{workload}: {peer} starts", file=sys.stderr, flush=True)
            workers.append(Worker(peer, workload, steps))
        for number in range(rounds):
            print(f"{workload}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for worker in workers:
                worker.round()
    finally:
        memory = {worker.peer: worker.close() for worker in workers}
    results = {}
    for worker in workers:
        if worker.skip:
            results[worker.peer] = {"skip": worker.skip}
        else:
            measured = {"rounds": worker.rounds, "memory": memory[worker.peer]}
            results[worker.peer] = {**worker.started, **measured}
    return {"steps": steps, "peers": results}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__.split("\n")[0])
    parser.add_argument("--workload", default=",".join(WORKLOADS), help="some of %(default)s")
    parser.add_argument("--peers", default=",".join(PEERS), help="some of %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often each is timed: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="eight steps and two rounds")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="%(default)s")
    options = parser.parse_args(arguments)
    workloads, peers = options.workload.split(","), options.peers.split(",")
    for name in workloads:
        if name not in WORKLOADS:
            parser.error(f"expected a workload of {', '.join(WORKLOADS)}, received {name!r}")
    for name in peers:
        if name not in PEERS:
            parser.error(f"expected a peer of {', '.join(PEERS)}, received {name!r}")
    for workload in workloads:
        steps = 8 if options.quick else WORKLOADS[workload].steps
        result = measure(workload, peers, 2 if options.quick else options.rounds, steps)
        result["machine"] = report.machine(peers)
        print(report.table(workload, result))
        report.write(options.folder, workload, result)


if __name__ == "__main__":
    main()
