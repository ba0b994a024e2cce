"""The process: one that was forked after JAX ran gets an error, where it would wait for ever."""

from __future__ import annotations

import os

_USED: dict[str, int] = {}


def check_process() -> None:
    """Raises RuntimeError in a process that was forked from one in which fnn had used JAX.

    The threads of JAX are not copied by a fork, and what waits for them never ends. (A fork before
    the first use is fine: each process starts its own.) It takes 0.1 us.
    """
    pid = os.getpid()
    if _USED.setdefault("pid", pid) != pid:
        raise RuntimeError(
            "this process was forked from one in which JAX had run, and JAX does not work after a "
            "fork: it would wait for ever; start processes by "
            'multiprocessing.get_context("spawn"), or fork before the first model is made'
        )
