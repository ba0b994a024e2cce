"""Agreement: a training of several processes begins alike in all, or an error says what differs."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import numpy as np
from jax import random

from fnn.core.tree import Tree
from fnn.runtime.processes import (
    any_of,
    are_several,
    exchanged,
    is_global,
    warn_if_alone,
)
from fnn.training.data import ArrayData, take
from fnn.training.plan import Plan

_ADVICE = {
    "weights": "make the models in the same order in each, with the same seed",
    "data": "pass the same arrays in each, of which a process reads its part, or a stream of its "
    "own examples",
    "arguments": "call fit in each with the same arguments",
}


def check_agreement(plan: Plan) -> None:
    """Raises ValueError if weights, arrays or numbers of steps differ between the processes.

    Warns, once, of processes that were started together but not connected.
    """
    if not are_several():
        warn_if_alone()
        return
    found = exchanged(_described(plan), "the start of a training")
    for process, others in enumerate(found):
        for name, advice in _ADVICE.items():
            if others[name] != found[0][name]:
                raise ValueError(
                    f"expected the same {name} in all processes of the training, received others "
                    f"in process {process} than in process 0; {advice}"
                )


def agree_to_stop(run: Any, what: str) -> None:
    """Ends the training of all processes, which are at `what`, if a callback has that of one."""
    run.stop_training = any_of(run.stop_training, what)


def _described(plan: Plan) -> dict[str, Any]:
    data = plan.data
    arguments = [plan.epochs, plan.initial_epoch, plan.steps, plan.guard]
    described = {
        "weights": _checksum(plan.weights.now),
        "data": 0,
        "arguments": [*arguments, data.batch_size, plan.saver is None],
    }
    if isinstance(data, ArrayData):
        # The first, the middle and the last example stand for all.
        index = np.array([0, data.count // 2, data.count - 1])
        examples = take(data.arrays, index)
        described["data"] = [data.count, _checksum(examples)]
    return described


def _checksum(arrays: Tree) -> int:
    """A checksum of the arrays that only this process has."""
    checksum = 0
    for leaf in jax.tree.leaves(arrays):
        if is_global(leaf):
            continue
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        ):
            leaf = random.key_data(leaf)
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return checksum
