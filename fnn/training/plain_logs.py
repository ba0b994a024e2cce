"""Plain logs: the numbers that a step of the user's logs, as means over its batches."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree
from fnn.metrics import Mean
from fnn.runtime.program_cache import small_cache
from fnn.training.engine import Step
from fnn.training.state import Accumulator, Waiting

Logs: TypeAlias = dict[str, Any]


@small_cache(64)
def with_accumulators(step: Step) -> Step:
    """`step` with every plain number in its logs replaced by a mean over its batches."""

    def run(state: Tree, batch: Tree, key: Array) -> tuple[Tree, Logs]:
        returned = step(state, batch, key)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise _no_logs(returned)
        state, logs = returned
        if not isinstance(logs, dict):
            raise _no_logs(returned)
        return state, {
            name: _as_accumulator(name, value) for name, value in logs.items()
        }

    return run


def _no_logs(returned: object) -> TypeError:
    found = type(returned).__name__
    if isinstance(returned, tuple):
        found = f"({', '.join(type(part).__name__ for part in returned)})"
    return TypeError(
        f"step must return (state, logs), logs a dict of numbers, but returned {found}; "
        'return (state, {"loss": loss}), or (state, {}) if there is nothing to log'
    )


def _as_accumulator(name: str, value: Any) -> Accumulator | Waiting:
    if isinstance(value, (Accumulator, Waiting)):
        return value
    if jnp.ndim(value):
        raise ValueError(
            f"expected one number for {name!r} in the logs of a step, received an array of "
            f"shape {jnp.shape(value)}; log its mean"
        )
    total = jnp.asarray(value, jnp.float32)
    sums = {"total": total, "count": jnp.ones(())}
    return Accumulator(Mean(), sums)
