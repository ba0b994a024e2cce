"""Whether an incomplete batch may be padded to full size, or must run at its own size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from fnn.core import tree, weights
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.program_cache import small_cache
from fnn.training.independence import why_mixed
from fnn.training.objective import Objective
from fnn.training.predict_step import predict_function
from fnn.training.state import TrainState, begun, without_counters
from fnn.training.step import make_eval_step, make_loss


@functools.cache
def _key_spec() -> SpecTree:
    return jax.eval_shape(lambda: jax.random.key(0))


def why_not_padded(
    layer: Layer,
    objective: Objective,
    now: TrainState,
    batch: SpecTree,
) -> str | None:
    """Why padding a training batch would change loss, metrics or weights; None if not.

    `batch` is the batch of a step, `(arrays, valid)`, or its shapes.

    >>> mean = fnn.layers.Lambda(lambda a: a - a.mean(axis=0, keepdims=True))
    >>> from fnn.training.objective import OutputGoal
    >>> goal, x = OutputGoal("output", fnn.losses.get("mse")), jnp.ones((4, 1))
    >>> now = TrainState({}, {}, {}, jax.random.key(0))
    >>> batch = {"x": x, "y": (x,), "weight": ()}, jnp.ones(4, bool)
    >>> why_not_padded(mean, Objective((goal,)), now, batch).partition(" (")[0]
    'examples are combined along their axis'
    >>> why_not_padded(fnn.layers.ReLU(), Objective((goal,)), now, batch)
    """
    key = without_counters(now).key
    state = tree.spec((now.params, now.state, key))
    return _why("train", layer, objective, *_hashable((state, batch)))


def why_not_padded_in_evaluation(
    layer: Layer,
    objective: Objective,
    now: TrainState,
    batch: SpecTree,
) -> str | None:
    """`why_not_padded` for a batch of `evaluate`."""
    state = tree.spec((now.params, now.state, now.key))
    return _why("eval", layer, objective, *_hashable((state, batch)))


def why_not_padded_in_prediction(
    layer: Layer,
    params: Params,
    state: State,
    x: SpecTree,
) -> str | None:
    """`why_not_padded` for a batch of `predict`."""
    arrays = (params, state, _key_spec()), x
    return _why("predict", layer, None, *_hashable(arrays))


def _hashable(arrays: SpecTree) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
    """Structure, shapes and dtypes as keys of a cache."""
    leaves, treedef = jax.tree.flatten(tree.spec(arrays))
    return treedef, tuple(leaves)


@small_cache(64)
def _why(
    kind: str,
    layer: Layer,
    objective: Objective | None,
    treedef: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
) -> str | None:
    if weights.is_stateful(layer):
        # Its states have the size of a full batch.
        return None
    state, batch = treedef.unflatten(leaves)
    size = tree.batch_size(batch)
    # Two examples stand for any number: a program that differs for few examples, or that
    # depends on their number, differs from that of a full batch.
    smaller = 2
    if size == 2:
        smaller = 3
    other = tree.resized(batch, smaller)
    run = _forward(kind, layer, objective)
    if kind == "predict":
        return why_mixed(run, (state, batch), (state, other))
    return why_mixed(
        run,
        (state, *batch),
        (state, *other),
        valid=2,
        differentiated=kind == "train",
    )


def _forward(
    kind: str,
    layer: Layer,
    objective: Objective | None,
) -> Callable[..., Tree]:
    """The function of a batch that a step computes, before any derivative."""
    if kind == "predict":
        predict = predict_function(layer)

        # The key is for networks that draw random numbers in inference too.
        def predicted(state: tuple[Params, State, Array], x: Tree) -> Tree:
            params, layer_state, key = state
            return predict(params, layer_state, x, key)

        return predicted
    assert objective is not None
    if kind == "eval":
        evaluate = make_eval_step(layer, objective)

        def evaluated(
            state: tuple[Params, State, Array],
            arrays: dict[str, Tree],
            valid: Array,
        ) -> Tree:
            params, layer_state, key = state
            weighted = params, layer_state
            after, logs = evaluate(weighted, (arrays, valid), key)
            return after, begun(logs)

        return evaluated
    loss = make_loss(layer, objective)

    def train(
        state: tuple[Params, State, Array],
        arrays: dict[str, Tree],
        valid: Array,
    ) -> Tree:
        params, layer_state, key = state
        learning, _ = weights.split(layer, params)
        now = TrainState(params, layer_state, None, key)
        value, (after, logs) = loss(learning, now, (arrays, valid), key)
        return value, after, begun(logs)

    return train
