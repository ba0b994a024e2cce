"""Functions of weights by layer: trainable ones, penalties, constraints, Keras's order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path
from fnn.core.value import resolve


def split(layer: Layer, params: Params) -> tuple[Params, Params]:
    """`params` as two trees: trainable weights, and weights inside a frozen layer."""
    frozen = [path for path, inner, _ in walk(layer) if not inner.trainable]
    learned: list[tuple[Path, Array]] = []
    fixed: list[tuple[Path, Array]] = []
    for path, leaf in tree.flatten(params):
        if any(path[: len(prefix)] == prefix for prefix in frozen):
            fixed.append((path, leaf))
        else:
            learned.append((path, leaf))
    return tree.unflatten(learned), tree.unflatten(fixed)


def merge(
    like: Params,
    first: Params,
    second: Params,
) -> Params:
    """The union of the two trees that `split` made of a tree like `like`."""
    leaves = [*tree.flatten(first), *tree.flatten(second)]
    merged: Params = tree.fill(like, tree.unflatten(leaves))
    return merged


def _by_field(
    layer: Layer,
    part: str,
    params: Params,
) -> Iterator[tuple[Path, Callable[[Array], Array]]]:
    """(path of a weight, the value of its layer's field `<weight>_<part>`), if it has one.

    The function is vectorized for copies of a layer, whose weights are stacked.
    """
    for path, inner, copies in walk(layer):
        if not dataclasses.is_dataclass(inner):
            continue
        weights = tree.get(params, path)
        for field in dataclasses.fields(inner):
            stem, _, end = field.name.rpartition("_")
            if end != part:
                continue
            name = inner.weight_names.get(stem, stem)
            identifier = getattr(inner, field.name)
            if identifier is None or name not in weights:
                continue
            function = resolve(part, identifier)
            for _ in range(copies):
                function = jax.vmap(function)
            yield (*path, name), function


def penalty(layer: Layer, params: Params) -> Array:
    """The sum of the weight regularizers of all layers, over the weights in `params`."""
    total = jnp.zeros(())
    for path, regularizer in _by_field(layer, "regularizer", params):
        value = jnp.sum(regularizer(tree.get(params, path)))
        total += value.astype(total.dtype)
    return total


def constrain(layer: Layer, params: Params) -> Params:
    """`params` after all weight constraints of the layers."""
    for path, constraint in _by_field(layer, "constraint", params):
        weight = constraint(tree.get(params, path))
        params = tree.put(params, path, weight)
    return params


def auxiliary(state: State) -> Array:
    """The sum of all state leaves named `aux_loss`."""
    total = jnp.zeros(())
    for path, leaf in tree.flatten(state):
        if path and path[-1] == "aux_loss":
            total += jnp.sum(leaf)
    return total


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
) -> list[tuple[str, Path]]:
    """The places of all weights in Keras's order: by layer, trainable weights before state.

    Each is ("params" or "state", path). `params` and `state` are in the order of creation.
    """
    order: dict[tuple[str, Path], None] = {}
    parts = (("params", params), ("state", state))
    for path, inner, _ in walk(layer):
        children = {name for name, _ in inner.children()}
        for part, weights in parts:
            branch = tree.get(weights, path)
            if not isinstance(branch, dict):
                continue
            for name, leaf in branch.items():
                is_own = name not in children and not isinstance(leaf, dict)
                if is_own and is_weight(name):
                    order[part, (*path, name)] = None
    # Weights that belong to no layer of `walk`.
    for part, weights in parts:
        for path, _ in tree.flatten(weights):
            if path and is_weight(path[-1]):
                order.setdefault((part, path), None)
    return list(order)
