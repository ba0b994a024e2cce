"""One peer on one workload in a process of its own, timed on command.

It reads lines: `round` trains one epoch and answers with its times, `quit` answers with the peak
memory and ends. Every answer is one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import WORKLOADS, SkipError


def timed(epoch: Callable[[], float]) -> dict[str, float]:
    """Wall seconds and CPU seconds (user and system, all threads of this process) of an epoch."""
    cpu, wall = time.process_time(), time.perf_counter()
    loss = epoch()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "loss": float(loss),
    }


def main(peer: str, workload: str, steps: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not mix with the answers

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    data = WORKLOADS[workload].data(steps)
    start = time.perf_counter()
    try:
        runners = importlib.import_module(f"benchmarks.peers.{peer}").RUNNERS
        imported = time.perf_counter() - start
        if workload not in runners:
            raise SkipError("not written")
        start = time.perf_counter()
        epoch = runners[workload](data)
        loss = epoch()
        first = time.perf_counter() - start
        epoch()  # what settles in the second epoch is not part of a round
    except (ImportError, SkipError) as reason:
        answer(skip=str(reason))
        return
    answer(imported=imported, first=first, loss=loss)
    for command in sys.stdin:
        if command.strip() == "quit":
            answer(memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        answer(**timed(epoch))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
