"""Ragged batches: whether one may be padded to full size, or must run at its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnn.core import tree, weights
from fnn.core.layer import Layer
from fnn.runtime.program_cache import small_cache
from fnn.training.independence import why_mixed
from fnn.training.objective import Objective
from fnn.training.state import TrainState, bare
from fnn.training.step import make_eval_step, make_loss, predict_function


def why_not_padded(
    layer: Layer, objective: Objective, now: TrainState, batch: Any
) -> str | None:
    """Why padding a training batch would change loss, metrics or weights; None if it does not.

    `batch` is that of a step, `(arrays, rows)`, or its shapes.

    >>> mean = fnn.layers.Lambda(lambda a: a - a.mean(axis=0, keepdims=True))
    >>> from fnn.training.objective import OutputGoal
    >>> goal, x = OutputGoal("output", fnn.losses.get("mse")), jnp.ones((4, 1))
    >>> now = TrainState({}, {}, {}, jax.random.key(0))
    >>> batch = {"x": x, "y": (x,), "weight": ()}, jnp.ones(4, bool)
    >>> why_not_padded(mean, Objective((goal,)), now, batch).partition(" (")[0]
    'examples are combined along their axis'
    >>> why_not_padded(fnn.layers.ReLU(), Objective((goal,)), now, batch)
    """
    state = tree.spec((now.params, now.state, bare(now).key))
    return _why("train", layer, objective, *_frozen((state, batch)))


def why_not_padded_in_evaluation(
    layer: Layer, objective: Objective, now: TrainState, batch: Any
) -> str | None:
    """`why_not_padded` for a batch of `evaluate`."""
    state = tree.spec((now.params, now.state, now.key))
    return _why("eval", layer, objective, *_frozen((state, batch)))


def why_not_padded_in_prediction(
    layer: Layer, params: Any, state: Any, x: Any
) -> str | None:
    """`why_not_padded` for a batch of `predict`."""
    return _why("predict", layer, None, *_frozen(((params, state, None), x)))


def _frozen(given: Any) -> tuple[Any, tuple[Any, ...]]:
    leaves, treedef = jax.tree.flatten(tree.spec(given))
    return treedef, tuple(leaves)


@small_cache(64)
def _why(
    kind: str, layer: Layer, objective: Any, treedef: Any, leaves: tuple[Any, ...]
) -> str | None:
    if weights.is_stateful(layer):  # its states have the size of a full batch
        return None
    state, batch = treedef.unflatten(leaves)
    size = tree.batch_size(batch)
    # Two examples stand for any number: a program that is another one for few examples, or that
    # knows their number, differs from that of a full batch.
    other = tree.resized(batch, 2 if size != 2 else 3)
    run = _forward(kind, layer, objective)
    if kind == "predict":
        return why_mixed(run, (state, batch), (state, other))
    full, less = (state, *batch), (state, *other)
    return why_mixed(run, full, less, valid=2, differentiated=kind == "train")


def _forward(kind: str, layer: Layer, objective: Any) -> Callable[..., Any]:
    """What a step computes of a batch, before any derivative."""
    if kind == "predict":
        predict = predict_function(layer)
        return lambda state, x: predict(*state[:2], x)
    if kind == "eval":
        evaluate = make_eval_step(layer, objective)
        return lambda state, arrays, rows: evaluate(state[:2], (arrays, rows), state[2])
    loss = make_loss(layer, objective)

    def train(state: Any, arrays: Any, rows: Any) -> Any:
        params, now, key = state
        learning, _ = weights.split(layer, params)
        return loss(learning, TrainState(params, now, None, key), (arrays, rows), key)

    return train
