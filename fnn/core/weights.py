"""Weights: by layer (trainable ones, penalties, constraints, order); checks of patterns."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments, tree, tying
from fnn.core.calling import walk
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path
from fnn.core.value import resolve
from fnn.runtime.patterns import BIASES_AND_NORMS, matches


def split(layer: Layer, params: Params) -> tuple[Params, Params]:
    """`params` as two trees: trainable weights, and weights inside a frozen layer."""
    frozen = frozen_paths(layer)
    learned: list[tuple[Path, Array]] = []
    fixed: list[tuple[Path, Array]] = []
    for path, leaf in tree.flatten(params):
        if any(path[: len(prefix)] == prefix for prefix in frozen):
            fixed.append((path, leaf))
        else:
            learned.append((path, leaf))
    return tree.unflatten(learned), tree.unflatten(fixed)


def frozen_paths(layer: Layer) -> list[Path]:
    """The paths of the layers, and of single weights, that stay fixed."""
    found: list[Path] = []
    for path, inner, _ in walk(layer):
        if not inner.trainable:
            found.append(path)
        found += [(*path, *name.split("/")) for name in inner.fixed_weights]
        if hasattr(type(inner), "integer_weights"):
            quantized: Any = inner
            found += [(*path, *name) for name in quantized.integer_weights()]
    return found


def merge(
    like: Params,
    first: Params,
    second: Params,
) -> Params:
    """The union of the two trees that `split` made of a tree like `like`."""
    leaves = [*tree.flatten(first), *tree.flatten(second)]
    merged: Params = tree.fill(like, tree.unflatten(leaves))
    return merged


def _rules(
    layer: Layer,
    part: str,
    params: Params,
) -> Iterator[tuple[Path, Callable[[Array], Array]]]:
    """(path of a weight, its regularizer or constraint), for weights that have one.

    The function is vectorized for copies of a layer, whose weights are stacked.
    """
    for path, inner, copies in walk(layer):
        weights = tree.get(params, path)
        for name, identifier in inner.weight_rules(part).items():
            if identifier is None or name not in weights:
                continue
            function = resolve(part, identifier)
            for _ in range(copies):
                function = jax.vmap(function)
            yield (*path, name), function


def penalty(layer: Layer, params: Params) -> Array:
    """The sum of the weight regularizers of all layers, over the weights in `params`."""
    total = jnp.zeros(())
    for _, value in penalties(layer, params):
        total += value.astype(total.dtype)
    return total


def penalties(layer: Layer, params: Params) -> Iterator[tuple[Path, Array]]:
    """(path, value of its regularizer) of each weight that has one."""
    for path, regularizer in _rules(layer, "regularizer", params):
        yield path, jnp.sum(regularizer(tree.get(params, path)))


def constrain(layer: Layer, params: Params) -> Params:
    """`params` after all weight constraints of the layers."""
    for path, constraint in _rules(layer, "constraint", params):
        weight = constraint(tree.get(params, path))
        params = tree.put(params, path, weight)
    return params


def auxiliary(state: State) -> Array:
    """The sum of all state leaves named `aux_loss`."""
    total = jnp.zeros(())
    for loss in auxiliaries(state):
        total += loss
    return total


def auxiliaries(state: State) -> list[Array]:
    """The state leaves named `aux_loss`, each summed."""
    return [
        jnp.sum(leaf)
        for path, leaf in tree.flatten(state)
        if path and path[-1] == "aux_loss"
    ]


def is_stateful(layer: Layer) -> bool:
    """Whether a layer inside carries its state from one call to the next, in inference too."""
    return any(getattr(inner, "stateful", False) for _, inner, _ in walk(layer))


def is_weight(name: str) -> bool:
    """Whether a leaf of this name is a weight of Keras's, not an intermediate result of a call."""
    return name != "aux_loss" and not name.startswith("rnn_state")


def in_order(
    layer: Layer,
    params: Params,
    state: State,
    place: Path = (),
) -> list[tuple[str, Path]]:
    """The places of all weights in Keras's order: by layer, trainable weights before state.

    Each is ("params" or "state", path). `params` and `state` are in the order of creation.
    With `place` only those of the layer at that path, also where they are tied to other places.
    """
    order: dict[tuple[str, Path], None] = {}
    parts = (("params", params), ("state", state))
    ties = tying.everywhere(layer)
    for path, inner, _ in walk(layer):
        if path[: len(place)] != place:
            continue
        children = {name for name, _ in inner.children()}
        shared = getattr(inner, "shared_with_inner", ())
        path = tying.first_place(path, ties)
        for part, weights in parts:
            branch = tree.get(weights, path)
            if not isinstance(branch, dict):
                continue
            for name, leaf in branch.items():
                is_own = name not in children and not isinstance(leaf, dict)
                if shared and part == "params":
                    is_own = name in shared
                if is_own and is_weight(name):
                    order[part, (*path, name)] = None
    # Weights that belong to no layer of `walk`.
    for part, weights in parts:
        for path, _ in tree.flatten(weights):
            is_inside = path[: len(place)] == place
            if path and is_inside and is_weight(path[-1]):
                order.setdefault((part, path), None)
    return list(order)


# -- patterns --------------------------------------------------------------------------------------

# The paths of weights that an optimizer does not see, since they are frozen.
_unseen: ContextVar[tuple[str, ...]] = ContextVar("unseen", default=())


@contextlib.contextmanager
def beside(fixed: Params) -> Iterator[None]:
    """Inside, patterns of weights may match these frozen weights instead of those that learn.

    So an optimizer stays valid when weights are frozen.
    """
    paths = ("/".join(path) for path, _ in tree.flatten(fixed))
    token = _unseen.set(tuple(paths))
    try:
        yield
    finally:
        _unseen.reset(token)


def as_patterns(patterns: object) -> object:
    """A single pattern as a tuple of one, a list as a tuple."""
    if isinstance(patterns, str):
        return (patterns,)
    if isinstance(patterns, list):
        return tuple(patterns)
    return patterns


def check_patterns(
    thing: object,
    argument: str,
    patterns: object,
) -> None:
    """Raises ValueError unless `patterns` is a tuple of patterns of paths."""
    if isinstance(patterns, tuple) and all(isinstance(p, str) and p for p in patterns):
        return
    expected = "to be patterns of paths"
    raise arguments.wrong(thing, argument, expected, patterns, 'e.g. ("**/bias",)')


def check_matches(
    thing: object,
    argument: str,
    patterns: tuple[str, ...],
    paths: list[str],
    kind: str = "weights",
) -> None:
    """Raises ValueError for patterns that match no path, suggesting similar paths.

    `kind` says what the paths are of, "weights" or "layers". "biases_and_norms" may match none.
    """
    if paths and kind == "weights":
        paths = [*paths, *_unseen.get()]
    idle = [p for p in patterns if p != BIASES_AND_NORMS and not _any(p, paths)]
    if not idle or not paths:
        return
    near = []
    for pattern in idle:
        near += difflib.get_close_matches(pattern, paths, 3, 0.5)
    examples = ", ".join((near or paths)[:8])
    expected = f"to be patterns of {kind}"
    where = "model.summary()" if kind == "layers" else "model.params"
    advice = f"which match none; use paths, e.g. {examples} (see {where})"
    raise arguments.wrong(thing, argument, expected, idle, advice)


def _any(pattern: str, paths: list[str]) -> bool:
    return any(matches(pattern, path) for path in paths)
