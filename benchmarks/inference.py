"""Inference: predict, evaluate and the rest, of fnn and its peers, measured side by side.

    python -m benchmarks.inference                             everything, into README.md
    python -m benchmarks.inference --only 'cnn/predict*' gpt/evaluate --peers hand fnn --rounds 9
    python -m benchmarks.inference --only cnn/call --peers hand fnn --same-process
    python -m benchmarks.inference --quick --folder /tmp/quick a trial: short turns, another folder

Each peer has a process of its own, or all share one with `--same-process`. A turn is one verb of
one peer, called again until some time has passed; peers take turns, in the other direction every
other round, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.processes import Worker
from benchmarks.worker import answerer, peak_memory
from benchmarks.workloads import WORKLOADS

PEERS = ("hand", "fnn", "keras", "flax", "equinox", "torch", "torch1")
CLOCKS = ("cpu", "wall")
SECONDS, ROUNDS = 0.3, 9


class Case(NamedTuple):
    """What is called, on how many examples, and in batches of which size."""

    verb: str
    examples: int
    batch: int


def _cases(
    alone: int, many: int, evaluated: int, sizes: tuple[int, ...]
) -> dict[str, Case]:
    """`alone` examples are predicted in batches of 1, `many` in batches of larger sizes."""
    return {
        "predict_one": Case("predict", 1, 32),
        "predict1": Case("predict", alone, 1),
        **{f"predict{size}": Case("predict", many, size) for size in sizes},
        "predict32of1000": Case("predict", 1000, 32),
        "evaluate": Case("evaluate", evaluated, 32),
        "predict_on_batch": Case("predict_on_batch", 32, 32),
        "call": Case("call", 32, 32),
        "apply": Case("apply", 32, 32),
    }


CASES = {  # the last batches of 32 and 256 are smaller ones
    "mlp": _cases(1000, 10_000, 2000, (32, 256)),
    "cnn": _cases(1000, 10_000, 2000, (32, 256)),
    "gpt": _cases(50, 300, 200, (32, 256)),
    "gpt12": _cases(20, 100, 100, (32,)),
    "lstm": _cases(200, 2000, 2000, (32, 256)),
    "resnet": _cases(20, 70, 70, (32,)),
}
for _name in ("gpt", "gpt12", "resnet"):  # 1,000 examples take them many seconds
    del CASES[_name]["predict32of1000"]
NAMES = [f"{workload}/{case}" for workload, cases in CASES.items() for case in cases]


class Local:
    """A peer in this process; it makes and warms up a case when first asked for it."""

    def __init__(self, peer: str, workload: str) -> None:
        self.peer, self.workload = peer, workload
        self.skip: str | None = None
        self.calls: dict[str, tuple[Callable[[], Any], list[int]]] = {}
        try:
            self.module = importlib.import_module(f"benchmarks.inference_peers.{peer}")
            self.network = self.module.network(workload)
        except (ImportError, KeyError) as reason:
            self.skip = (
                f"not written: {reason}"
                if isinstance(reason, KeyError)
                else str(reason)
            )

    def ask(self, command: str) -> dict[str, Any]:
        """`case seconds` -> the mean times of a call and the shape of its result."""
        name, seconds = command.split()
        case = CASES[self.workload][name]
        if case.verb not in self.module.VERBS:
            return {"skip": f"no {case.verb}"}
        if name not in self.calls:
            x, y = WORKLOADS[self.workload].examples(case.examples)
            call = self.module.VERBS[case.verb](self.network, x, y, case.batch)
            self.calls[name] = call, list(np.shape(call()))  # compiles
        call, shape = self.calls[name]
        return {**repeated(call, float(seconds)), "shape": shape}

    def close(self) -> None:
        self.calls.clear()


def repeated(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Mean wall and CPU seconds (user and system, all threads) of calls that take `seconds`."""
    calls, cpu, wall = 0, time.process_time(), time.perf_counter()
    while not calls or time.perf_counter() - wall < seconds:
        call()
        calls += 1
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {clock: each / calls for clock, each in spent.items()}


def serve(peer: str, workload: str) -> None:
    """Answers every line `case seconds` until `quit`."""
    answer = answerer()
    local = Local(peer, workload)
    answer(**({"skip": local.skip} if local.skip else {"ready": True}))
    for command in sys.stdin:
        if command.strip() == "quit":
            answer(memory=peak_memory())
            return
        answer(**local.ask(command))


def start(peer: str, workload: str, same_process: bool) -> Worker | Local:
    if same_process:
        return Local(peer, workload)
    return Worker(peer, "benchmarks.inference", "--serve", f"{peer}/{workload}")


def measure(
    workload: str,
    cases: dict[str, list[str]],
    rounds: int,
    seconds: float = SECONDS,
    same_process: bool = False,
) -> dict[str, dict[str, Any]]:
    """Case -> peer -> its rounds; `cases` says which peers each case is measured for."""
    peers = [peer for peer in PEERS if any(peer in wanted for wanted in cases.values())]
    workers = [start(peer, workload, same_process) for peer in peers]
    try:
        return {
            case: _take_turns(
                f"{workload}/{case}",
                [worker for worker in workers if worker.peer in wanted],
                rounds,
                f"{case} {seconds}",
            )
            for case, wanted in cases.items()
        }
    finally:
        for worker in workers:
            worker.close()


def _take_turns(
    name: str, workers: list[Any], rounds: int, command: str
) -> dict[str, Any]:
    """Peer -> its rounds, or why it has none."""
    print(f"{name}: {rounds} rounds", file=sys.stderr, flush=True)
    results: dict[str, Any] = {}
    for worker in workers:  # twice, as some settle in the second call
        answer = (
            {"skip": worker.skip}
            if worker.skip
            else worker.ask(command.split()[0] + " 0")
        )
        results[worker.peer] = answer if "skip" in answer else {**answer, "rounds": []}
    shapes = {p: r["shape"] for p, r in results.items() if "shape" in r}
    if len({*map(tuple, shapes.values())}) > 1:
        raise SystemExit(f"{name}: expected results of one shape, received {shapes}")
    running = [worker for worker in workers if "rounds" in results[worker.peer]]
    for number in range(rounds):
        for worker in running[:: -1 if number % 2 else 1]:
            results[worker.peer]["rounds"].append(worker.ask(command))
    for worker in running:
        failed = [
            answer for answer in results[worker.peer]["rounds"] if "skip" in answer
        ]
        results[worker.peer] = failed[0] if failed else results[worker.peer]
    return results


def line(name: str, result: dict[str, Any]) -> str:
    """One case in one line: the times of all, and the ratios of fnn's to those of the others."""
    cells = []
    for peer, found in result.items():
        if "rounds" not in found:
            continue
        times = [report.milliseconds(found, clock, 1) for clock in CLOCKS]
        cell = f"{peer} {times[0]:.4g} / {times[1]:.4g}"
        if peer != "fnn" and "rounds" in result.get("fnn", {}):
            ratios = [
                median(report.ratios(result["fnn"], found, clock)) for clock in CLOCKS
            ]
            cell += f" (fnn {ratios[0]:.3g} / {ratios[1]:.3g} times)"
        cells.append(cell)
    return f"{name:<22} CPU / wall ms: {', '.join(cells)}"


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Of each peer in a case: milliseconds and the ratios to hand-written code, by clock."""
    hand, found = result["hand"], {}
    for peer, measured in result.items():
        if "rounds" in measured:
            found[peer] = {
                clock: [
                    float(f"{report.milliseconds(measured, clock, 1):.4g}"),
                    round(median(report.ratios(measured, hand, clock)), 3),
                ]
                for clock in CLOCKS
            }
    return found


def table(workload: str, result: dict[str, Any]) -> str:
    """One workload as a table in Markdown: of all other peers the ratios to the first, in turn."""
    peers, where = result["peers"], result["machine"]
    others = [peer for peer in peers if peer != "hand"]
    lines = [
        f"### Inference, {WORKLOADS[workload].title.rpartition(', batch')[0]}",
        "",
        f"{result['rounds']} rounds, {where['date']}, {where['cpu']}; {where['versions']}.",
        "",
        f"| | examples | batch | hand, ms | {' | '.join(report.TITLES[p] for p in others)} |",
        "|---|---:|---:|---:|" + "---:|" * len(others),
    ]
    for name, found in result["cases"].items():
        case = CASES[workload][name]
        (cpu, _), (wall, _) = found["hand"]["cpu"], found["hand"]["wall"]
        cells = [
            f"`{case.verb}`",
            str(case.examples),
            str(case.batch),
            f"{cpu:.3g} / {wall:.3g}",
        ]
        for peer in others:
            ratios = (
                [found[peer][clock][1] for clock in CLOCKS] if peer in found else []
            )
            cells.append(" / ".join(f"{ratio:.2f}" for ratio in ratios))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def selected(patterns: list[str], names: list[str]) -> list[str]:
    """The names that match any of the patterns. Raises ValueError for a pattern without any."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"expected WORKLOAD/VERB of {', '.join(names)}, received {pattern!r}"
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def by_workload(names: list[str]) -> dict[str, list[str]]:
    """`workload/verb` names as workload -> its verbs."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        workload, _, verb = name.partition("/")
        grouped.setdefault(workload, []).append(verb)
    return grouped


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `benchmarks.check` has too."""
    parser.add_argument(
        "--only", nargs="+", metavar="WORKLOAD/VERB", help="e.g. 'cnn/predict*'"
    )
    parser.add_argument("--rounds", type=int, help="how often each is timed")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of a turn: %(default)s"
    )
    parser.add_argument(
        "--same-process", action="store_true", help="no process for each peer"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.inference", description=__doc__.split("\n")[0]
    )
    add_options(parser)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of single calls"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(*options.serve.split("/"))
        return
    try:
        names = selected(options.only or NAMES, NAMES)
    except ValueError as error:
        parser.error(str(error))
    rounds, seconds = options.rounds or ROUNDS, options.seconds
    if options.quick:
        rounds, seconds = 2, 0.0
    for workload, cases in by_workload(names).items():
        wanted = {case: list(options.peers) for case in cases}
        measured = measure(workload, wanted, rounds, seconds, options.same_process)
        for case, result in measured.items():
            print(line(f"{workload}/{case}", result), flush=True)
        whole = set(cases) == set(CASES[workload])
        if "hand" in options.peers and whole and not options.same_process:
            found = {case: summary(result) for case, result in measured.items()}
            peers = [
                p for p in options.peers if any(p in case for case in found.values())
            ]
            machine = report.machine(peers)
            result = {
                "machine": machine,
                "rounds": rounds,
                "peers": peers,
                "cases": found,
            }
            report.write(options.folder, workload, result, "inference", table)


if __name__ == "__main__":
    main()
