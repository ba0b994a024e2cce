"""Own objective: a function of the user's in place of losses, `compile(objective=f)`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import weights
from fnn.core.calling import call
from fnn.core.context import Context, strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.metrics import Mean
from fnn.training.objective import Objective, WeightedLosses
from fnn.training.state import Accumulator, Logs

FORM = "f(apply, params, state, batch, ctx) -> (loss, (state, logs))"


def packed(arrays: dict[str, Tree]) -> Tree:
    """A batch as Keras packs it: x alone, (x, y) or (x, y, sample_weight)."""
    x, y, weight = arrays["x"], arrays["y"], arrays["weight"]
    if y is None and weight is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if weight is None else (x, y, weight)


def run_own(
    layer: Layer,
    objective: Objective,
    params: tuple[Tree, Tree],
    state: Tree,
    arrays: dict[str, Tree],
    ctx: Context,
) -> tuple[Array, tuple[Tree, Logs]]:
    """(loss, (state, logs)) of the user's function, with penalties of layers added to the loss.

    `params` are all weights, and those that learn. Each log counts as a mean over the batch.
    """
    whole, learning = params

    def apply(
        params: Tree, state: Tree, x: Tree, ctx: Context = ctx
    ) -> tuple[Tree, Tree]:
        outputs, state = call(layer, params, state, x, ctx)
        return strip_masks(outputs), state

    returned = objective.function(apply, whole, state, packed(arrays), ctx)
    loss, after, values = _checked(returned, state)
    loss += weights.penalty(layer, learning) + weights.auxiliary(after)
    assert ctx.rows is not None
    count = jnp.sum(ctx.rows, dtype=jnp.float32)
    of_loss = ((loss * count, count),)
    logs: Logs = {"loss": Accumulator(WeightedLosses(weights=()), of_loss)}
    for name, value in values.items():
        total = jnp.asarray(value, jnp.float32) * count
        sums = {"total": total, "count": count}
        logs.setdefault(name, Accumulator(Mean(), sums))
    return loss, (after, logs)


def _checked(returned: Any, before: Tree) -> tuple[Array, Tree, dict[str, Array]]:
    """(loss, state, logs) of what the function returned. Raises for another form."""
    try:
        loss, (state, logs) = returned
        is_number = jnp.shape(loss) == ()
    except (TypeError, ValueError):
        raise TypeError(
            f"objective must return (loss, (state, logs)), but returned {type(returned).__name__}; "
            f"write {FORM}, with {{}} if there is nothing to log"
        ) from None
    if not is_number:
        raise ValueError(
            f"objective must return one number as the loss, but returned an array of shape "
            f"{jnp.shape(loss)}; return its mean"
        )
    structure: Any = jax.tree.structure(state)
    if structure != jax.tree.structure(before):
        raise ValueError(
            "objective must return a state like the one it was passed, but returned "
            f"{structure}; return the state that apply returned"
        )
    if not isinstance(logs, dict) or any(map(jnp.shape, logs.values())):
        raise TypeError(
            f"objective must return logs as a dict of numbers, but returned {logs!r:.200}; "
            f'write e.g. {{"reconstruction": error.mean()}}'
        )
    return jnp.asarray(loss, jnp.float32), state, logs
