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


def answerer() -> Callable[..., None]:
    """What writes an answer to standard output; everything else goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    return lambda **values: print(json.dumps(values), file=answers, flush=True)


def peak_memory() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(peer: str, workload: str, steps: int) -> None:
    answer = answerer()
    data = WORKLOADS[workload].data(steps)
    start = time.perf_counter()
    try:
        runners = importlib.import_module(f"benchmarks.peers.{peer}").RUNNERS
        imported = time.perf_counter() - start
        if workload not in runners:
            raise SkipError("not written")
        cpu, wall = time.process_time(), time.perf_counter()
        epoch = runners[workload](data)
        loss = epoch()
        first = {
            "first": time.perf_counter() - wall,
            "first_cpu": time.process_time() - cpu,
        }
        epoch()  # what settles in the second epoch is not part of a round
    except (ImportError, SkipError) as reason:
        answer(skip=str(reason))
        return
    answer(imported=imported, loss=loss, **first)
    for command in sys.stdin:
        if command.strip() == "quit":
            answer(memory=peak_memory())
            return
        answer(**timed(epoch))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
