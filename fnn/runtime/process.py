"""The process: an error in a process that was forked after JAX ran, which would hang."""

from __future__ import annotations

import os

_USED: dict[str, int] = {}


def check_process() -> None:
    """Raises RuntimeError in a process that was forked from one in which fnn had used JAX.

    A fork does not copy the threads of JAX, and a call that waits for them never returns. (A fork
    before the first use is fine: each process starts its own threads.) Takes 0.1 us.
    """
    pid = os.getpid()
    if _USED.setdefault("pid", pid) != pid:
        raise RuntimeError(
            "this process was forked from one in which JAX had run, and JAX does not work after a "
            "fork: it would wait forever; start processes with "
            'multiprocessing.get_context("spawn"), or fork before the first model is made'
        )
