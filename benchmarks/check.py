"""Check: every ratio that fnn promises, beside its bound; exit status 1 where one is exceeded.

    python -m benchmarks.check                                         everything, an hour
    python -m benchmarks.check --only 'cnn/predict*' gpt/fit --rounds 5
    python -m benchmarks.check --only cnn/predict256 --peers hand fnn  without other references

`WORKLOAD/fit` is training, `WORKLOAD/first` the first epoch with all that it builds and compiles,
each time in a new process; the others are those of `benchmarks.inference`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from benchmarks import inference, report, training
from benchmarks.workloads import WORKLOADS


class Bound(NamedTuple):
    """In `cases` fnn takes at most `limit` times as long as the fastest of `references`.

    `spare` milliseconds a call, by clock, are left out of its time.
    """

    cases: tuple[str, ...]
    limit: float
    references: tuple[str, ...]
    clocks: tuple[str, ...] = ("cpu", "wall")
    spare: Mapping[str, float] = MappingProxyType({"wall": 0.0, "cpu": 0.0})

    def ratios(self, result: dict[str, Any], reference: str, clock: str) -> list[float]:
        """Of fnn to a reference, round by round."""
        rounds = result["fnn"]["rounds"]
        mine = [{clock: each[clock] - self.spare[clock] / 1e3} for each in rounds]
        return report.ratios({"rounds": mine}, result[reference], clock)


# A method in Python that checks its input takes some microseconds; the jitted call of a batch of
# the smallest network takes 12. And a device that has slept through them takes longer to wake.
OVERHEAD = {"wall": 0.02, "cpu": 0.04}  # of the thread that waits too

BOUNDS = (
    Bound(("*/predict[0-9]*", "*/evaluate", "*/apply"), 1.03, ("hand",)),
    Bound(("*/predict_on_batch", "*/call"), 1.03, ("hand",), spare=OVERHEAD),
    Bound(("*/predict_one",), 2.0, ("hand",)),
    # Of larger networks the jitted call alone takes more than a tenth of Keras's time.
    Bound(("mlp/predict_one",), 0.1, ("keras",)),
    Bound(("cnn/fit",), 1.03, report.HAND, ("wall",)),
    Bound(("lstm/fit",), 1.0, report.HAND),
    Bound(("resnet/fit",), 1.03, ("hand",)),
    Bound(("gpt/fit", "gpt12/fit"), 1.0, ("hand_scan", "flax")),
    Bound(("*/first",), 1.2, ("hand",)),
    # Equal programs differ by as much.
    Bound(("*/predict*", "*/evaluate", "*/call", "*/apply", "*/fit"), 1.03, ("keras",)),
)
ROUNDS = {"inference": 15, "fit": 9, "first": 3}
NAMES = [
    *inference.NAMES,
    *(f"{workload}/{part}" for workload in WORKLOADS for part in ("fit", "first")),
]


def bounds_of(name: str) -> list[Bound]:
    return [b for b in BOUNDS if any(fnmatchcase(name, pattern) for pattern in b.cases)]


def peers_of(name: str) -> list[str]:
    """fnn and what its bounds in this case refer to."""
    wanted = {"fnn"}.union(*(bound.references for bound in bounds_of(name)))
    return [peer for peer in training.PEERS if peer in wanted]


def verdicts(name: str, result: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """For every bound whose references were asked for: whether it is met, and its line."""
    if "rounds" not in result.get("fnn", {}):
        yield (
            False,
            f"{name}: fnn was not measured: {result.get('fnn', {}).get('skip')}",
        )
        return
    for bound in bounds_of(name):
        asked = [reference for reference in bound.references if reference in result]
        for clock in bound.clocks if asked else ():
            reference = report.fastest(result, asked, clock)
            if reference is None:
                yield (
                    False,
                    f"    {clock:<4} to {' or '.join(asked)}: EXCEEDED, as none was measured",
                )
            else:
                ratios = bound.ratios(result, reference, clock)
                met = median(ratios) <= bound.limit
                low, high = np.quantile(ratios, [0.25, 0.75])
                end = f"(half of {low:.3f} .. {high:.3f}){'' if met else '  EXCEEDED'}"
                start = f"    {clock:<4} to {reference:<9} {median(ratios):6.3f}"
                if bound.spare[clock]:
                    end += f", {bound.spare[clock]} ms a call left out"
                yield met, f"{start} <= {bound.limit:<4} {end}"


def measure(
    workload: str, cases: list[str], options: argparse.Namespace
) -> Iterator[Any]:
    """(case, peer -> its rounds) for all cases of a workload."""
    peers = {case: options.peers or peers_of(f"{workload}/{case}") for case in cases}
    rounds, steps = (
        lambda part: options.rounds or ROUNDS[part],
        WORKLOADS[workload].steps,
    )
    inferred = {case: peers[case] for case in cases if case not in ("fit", "first")}
    if inferred:
        yield from inference.measure(
            workload,
            inferred,
            rounds("inference"),
            options.seconds,
            options.same_process,
        ).items()
    if "fit" in cases:
        yield (
            "fit",
            training.measure(workload, peers["fit"], rounds("fit"), steps)["peers"],
        )
    if "first" in cases:
        yield (
            "first",
            training.first_epochs(workload, peers["first"], rounds("first"), steps),
        )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.check", description=__doc__.split("\n")[0]
    )
    inference.add_options(parser)
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=training.PEERS,
        help="those that the bounds refer to",
    )
    options = parser.parse_args(arguments)
    try:
        names = inference.selected(options.only or NAMES, NAMES)
    except ValueError as error:
        parser.error(str(error))
    exceeded, checked = [], 0
    for workload, cases in inference.by_workload(names).items():
        for case, result in measure(workload, cases, options):
            name = f"{workload}/{case}"
            print(inference.line(name, result))
            for met, text in verdicts(name, result):
                print(text, flush=True)
                checked += 1
                exceeded += [] if met else [f"{name}: {text.strip()}"]
    print(f"{checked - len(exceeded)} of {checked} bounds met", *exceeded, sep="\n")
    return 1 if exceeded or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
