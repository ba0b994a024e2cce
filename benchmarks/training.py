"""Training: CPU and wall time a step of fnn and its peers, measured side by side.

    python -m benchmarks.training                              everything, into README.md
    python -m benchmarks.training --workload cnn --peers hand,fnn --rounds 9
    python -m benchmarks.training --quick --folder /tmp/quick  a trial: few steps, another folder

Each peer runs in a process of its own (`worker.py`). A round is one epoch of each peer in turn;
rounds repeat, so that a busy minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.processes import Worker
from benchmarks.workloads import WORKLOADS

PEERS = ("hand", "hand_scan", "fnn", "keras", "flax", "equinox", "torch", "torch1")


def worker(peer: str, workload: str, steps: int) -> Worker:
    """The process of a peer that has trained two epochs of a workload."""
    return Worker(peer, "benchmarks.worker", peer, workload, str(steps))


def measure(workload: str, peers: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """All peers on one workload: for each its start, its rounds and its memory, or why not."""
    workers, measured = [], {peer: [] for peer in peers}
    try:
        for peer in peers:
            print(f"{workload}: {peer} starts", file=sys.stderr, flush=True)
            workers.append(worker(peer, workload, steps))
        for number in range(rounds):
            print(
                f"{workload}: round {number + 1} of {rounds}",
                file=sys.stderr,
                flush=True,
            )
            for each in workers:
                if not each.skip:
                    measured[each.peer].append(each.ask("round"))
                    each.skip = measured[each.peer][-1].get("skip")
    finally:
        memory = {each.peer: each.close() for each in workers}
    results = {}
    for each in workers:
        found = {"rounds": measured[each.peer], "memory": memory[each.peer]}
        results[each.peer] = (
            {"skip": each.skip} if each.skip else {**each.started, **found}
        )
    return {"steps": steps, "peers": results}


def first_epochs(
    workload: str, peers: list[str], rounds: int, steps: int
) -> dict[str, Any]:
    """Peer -> its first epochs, each in a new process: building, compiling and a few steps."""
    measured: dict[str, Any] = {peer: {"rounds": []} for peer in peers}
    for number in range(rounds):
        print(
            f"{workload}: start {number + 1} of {rounds}", file=sys.stderr, flush=True
        )
        for peer in [peer for peer in peers if "skip" not in measured[peer]]:
            each = worker(peer, workload, steps)
            each.close()
            if each.skip:
                measured[peer] = {"skip": each.skip}
            else:
                times = {
                    "wall": each.started["first"],
                    "cpu": each.started["first_cpu"],
                }
                measured[peer]["rounds"].append(times)
    return measured


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.training", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--workload", default=",".join(WORKLOADS), help="some of %(default)s"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="some of %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often each is timed: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="eight steps and two rounds"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    workloads, peers = options.workload.split(","), options.peers.split(",")
    for name in workloads:
        if name not in WORKLOADS:
            parser.error(
                f"expected a workload of {', '.join(WORKLOADS)}, received {name!r}"
            )
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
