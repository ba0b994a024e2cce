"""Looking: the outputs of layers inside a network, and losses and gradients of single examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import weights as core_weights
from fnn.core.calling import call, walk
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.core.weights import as_patterns, check_matches, check_patterns
from fnn.models.feed import Feed, checked_batch_size, in_batches
from fnn.runtime.patterns import matches_any
from fnn.runtime.program_cache import programs
from fnn.runtime.recording import OUTPUT
from fnn.training.objective import Objective
from fnn.training.step import make_eval_step

# -- layers inside -------------------------------------------------------------------------------


def intermediates(
    feed: Feed, x: Tree, paths: Any, batch_size: int | None
) -> dict[str, Tree]:
    """The outputs of the layers whose paths match, by path, as NumPy arrays."""
    patterns: Any = as_patterns(paths)
    check_patterns("intermediates", "paths", patterns)
    x = feed.checked_inputs(x)
    layer = feed.weights.network.compiled.layer
    copies = {"/".join(path): count for path, _, count in walk(layer) if path}
    check_matches("intermediates", "paths", patterns, list(copies), "layers")
    run = _kept_outputs(layer, patterns)
    key = feed.weights.inference_key()
    now = feed.weights.now
    parts: list[dict[str, Tree]] = []
    for batch in in_batches(x, checked_batch_size(batch_size)):
        outputs = run(now.params, now.state, batch, *key)
        parts.append(jax.device_get(outputs))
    if not parts:
        raise ValueError(
            "intermediates: expected examples, received none; check the data"
        )
    hidden = [path for path in copies if matches_any(patterns, path)]
    if not parts[0]:
        raise ValueError(
            f"intermediates: {', '.join(hidden)} run inside a layer that does not show their "
            "outputs (an RNN, for example); name that layer"
        )
    # Stacked copies come before the examples.
    return {
        path: jax.tree.map(
            lambda *arrays: np.concatenate(arrays, copies.get(path, 0)),  # noqa: B023
            *(part[path] for part in parts),
        )
        for path in parts[0]
    }


@programs.cached
def _kept_outputs(
    layer: Layer, patterns: tuple[str, ...]
) -> Callable[..., dict[str, Tree]]:
    """The compiled function `(params, state, x) -> outputs by path` for layers by patterns."""

    def run(
        params: Tree, state: Tree, x: Tree, key: Array | None = None
    ) -> dict[str, Tree]:
        ctx = Context(key=key, record=True)
        _, after = call(layer, params, state, x, ctx)
        return {
            path: outputs
            for path, outputs in _outputs(after)
            if path and matches_any(patterns, path)
        }

    return jax.jit(run)


def _outputs(state: Tree, around: str = "") -> Iterator[tuple[str, Tree]]:
    """(path of a layer, its outputs) for each layer that a call has recorded."""
    for name, branch in state.items():
        if name == OUTPUT:
            yield around, branch
        elif isinstance(branch, dict):
            yield from _outputs(branch, f"{around}/{name}" if around else name)


# -- single examples -----------------------------------------------------------------------------


def per_example(
    feed: Feed,
    given: tuple[Tree, ...],
    batch_size: int | None,
    gradients: bool,
) -> np.ndarray:
    """The loss of each example, or the norm of its gradient."""
    x, y, weight = feed.readable(*given)
    arrays, objective = feed.goals(x, y, weight, train=False)
    layer = feed.weights.network.compiled.layer
    if not objective.goals and objective.function is None:
        raise ValueError(
            f"{feed.weights.network.name!r} computes its loss in a step of its class, which takes "
            "whole batches; call test_on_batch for each example, or compile with a loss"
        )
    if core_weights.is_stateful(layer):
        raise ValueError(
            f"{feed.weights.network.name!r} is stateful, so the loss of an example depends on the "
            "batches before it; make the layers with stateful=False"
        )
    run = _of_each_example(layer, objective, gradients)
    now = feed.weights.now
    parts = [
        np.asarray(run(now.params, now.state, batch, now.key))
        for batch in in_batches(arrays, checked_batch_size(batch_size))
    ]
    return np.concatenate(parts)


@programs.cached
def _of_each_example(
    layer: Layer, objective: Objective, gradients: bool
) -> Callable[..., Array]:
    """The compiled function `(params, state, batch, key) -> (examples,)`."""
    evaluate = make_eval_step(layer, objective)

    def loss_of(
        learning: Tree, params: Tree, state: Tree, example: Tree, key: Array
    ) -> Array:
        _, fixed = core_weights.split(layer, params)
        whole = core_weights.merge(params, learning, fixed)
        alone = jax.tree.map(lambda a: a[None], example)
        valid = jnp.ones(1, bool)
        _, logs = evaluate((whole, state), (alone, valid), key)
        loss: Array = logs["loss"].result
        return loss

    def norm_of(*given: Tree) -> Array:
        total = jnp.zeros(())
        for gradient in jax.tree.leaves(jax.grad(loss_of)(*given)):
            total += jnp.sum(jnp.square(gradient.astype(jnp.float32)))
        return jnp.sqrt(total)

    def run(params: Tree, state: Tree, batch: Tree, key: Array) -> Array:
        learning, _ = core_weights.split(layer, params)
        of_one = norm_of if gradients else loss_of
        each = jax.vmap(of_one, in_axes=(None, None, None, 0, None))
        return each(learning, params, state, batch, key)

    return jax.jit(run)
