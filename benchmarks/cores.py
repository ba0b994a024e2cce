"""Cores: fnn on one device and on one for each core (`fnn.use_cpu_cores`), beside PyTorch.

    python -m benchmarks.cores                              gpt, lstm and cnn, into README.md
    python -m benchmarks.cores --quick --folder /tmp/quick  a trial: eight steps, two rounds

Each has a process of its own, in which it trains an epoch in turn (`training.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.training import measure
from benchmarks.workloads import WORKLOADS

ONE = "fnn"  # the ratios are to it
PEERS = {ONE: "one device", "fnn_cores": "`use_cpu_cores()`", "torch": "PyTorch"}


def rows(workload: str, result: dict[str, Any]) -> list[str]:
    """A row of the table in Markdown for each peer on one workload."""
    peers, steps, lines = result["peers"], result["steps"], []
    for name, peer in peers.items():
        if "skip" in peer:
            lines.append(
                f"| {workload} | {PEERS[name]} | not measured: {peer['skip']} |||||"
            )
            continue
        cells = [workload, PEERS[name]]
        for clock in ("wall", "cpu"):
            cells.append(f"{report.milliseconds(peer, clock, steps):.3g}")
            cells.append(report.ratio(peer, peers[ONE], clock))
        cells.append(f"{peer['memory']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table(workloads: list[str], rounds: int, quick: bool) -> str:
    """All workloads, measured one after the other."""
    lines: list[str] = []
    for name in workloads:
        steps = 8 if quick else WORKLOADS[name].steps
        lines += rows(name, measure(name, list(PEERS), rounds, steps))
    where = report.machine(("fnn", "torch"))
    return "\n".join(
        [
            f"{rounds} rounds, {where['date']}, {where['cpu']}; {where['versions']}.",
            "",
            "| | | wall ms a step | to one device | CPU ms a step | to one device | peak MB |",
            "|---|---|---:|---:|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.cores", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--workloads", nargs="+", default=["gpt", "lstm", "cnn"], help="%(default)s"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often each: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="eight steps and two rounds"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    options = parser.parse_args(arguments)
    text = table(
        options.workloads, 2 if options.quick else options.rounds, options.quick
    )
    print(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    report.put(options.folder / "README.md", "cores", text)


if __name__ == "__main__":
    main()
