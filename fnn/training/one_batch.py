"""One batch: a step over a single batch, for loops that a user writes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.runtime.devices import divide
from fnn.training import engine
from fnn.training.checks import TrainingError, example_count
from fnn.training.state import TrainState, result_values


def run_one_batch(
    step: Callable[..., Tree],
    state: Tree,
    arrays: dict[str, Tree],
    now: TrainState,
    guard: str,
) -> tuple[Tree, dict[str, Tree]]:
    """(state, logs) after one step from `state`; key and step number are those of `now`.

    Raises TrainingError for a loss that is not finite, with guard="raise".
    """
    count = example_count(arrays)
    if count == 0:
        raise ValueError("expected samples, received an empty batch; check the data")
    valid = np.ones(count, bool)
    batch = jax.tree.map(_owned, (arrays, valid))
    program = engine.program(step, state, batch, now.key, capacity=1)
    # (batches, examples, ...)
    chunk = jax.tree.map(lambda a: a[None], batch)
    chunk = divide(chunk, state, axis=1)
    state, sums, healthy = program(
        state,
        program.zeros(),
        chunk,
        now.key,
        first=0,
        count=1,
        number=int(now.step),
        guard=guard,
    )
    if not bool(healthy):
        raise TrainingError(
            "expected a finite loss and finite gradients, received NaN or infinity at step "
            f"{int(now.step)}; the model is as it was; lower the learning rate"
        )
    return state, result_values(sums)


def _owned(array: Tree) -> Tree:
    """A copy of a NumPy array: JAX may read the caller's memory after the call has returned."""
    if isinstance(array, jax.Array):
        return array
    return np.array(array, copy=True)
