"""What holds for weights by their layer: which learn, penalties, constraints, their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.layer import Layer, Params
from fnn.core.value import resolve


def split(layer: Layer, params: Params) -> tuple[Params, Params]:
    """`params` as two trees: the weights that learn, and those inside a layer that is frozen."""
    frozen = [path for path, inner, _ in walk(layer) if not inner.trainable]
    parts: tuple[list[Any], list[Any]] = [], []
    for path, leaf in tree.flatten(params):
        parts[any(path[: len(prefix)] == prefix for prefix in frozen)].append(
            (path, leaf)
        )
    return tree.unflatten(parts[0]), tree.unflatten(parts[1])


def merge(like: Params, first: Params, second: Params) -> Params:
    """The union of two trees of weights that `split` made of a tree like `like`."""
    return tree.fill(
        like, tree.unflatten([*tree.flatten(first), *tree.flatten(second)])
    )


def _by_field(
    layer: Layer, part: str, params: Params
) -> Iterator[tuple[tree.Path, Callable[..., Any], int]]:
    """(path of a weight, what its layer's field `<weight>_<part>` holds, its stacked axes)."""
    for path, inner, copies in walk(layer):
        if not dataclasses.is_dataclass(inner):
            continue
        for field in dataclasses.fields(inner):
            stem, _, end = field.name.rpartition("_")
            name, weights = inner.weight_names.get(stem, stem), tree.get(params, path)
            if (
                end == part
                and name in weights
                and getattr(inner, field.name) is not None
            ):
                yield (*path, name), resolve(part, getattr(inner, field.name)), copies


def penalty(layer: Layer, params: Params) -> Array:
    """The sum of the weight regularizers of all layers, over the weights in `params`."""
    total = jnp.zeros(())
    for path, regularizer, copies in _by_field(layer, "regularizer", params):
        for _ in range(copies):
            regularizer = jax.vmap(regularizer)
        total += jnp.sum(regularizer(tree.get(params, path))).astype(total.dtype)
    return total


def constrain(layer: Layer, params: Params) -> Params:
    """`params` with every weight constraint of the layers applied."""
    for path, constraint, copies in _by_field(layer, "constraint", params):
        for _ in range(copies):
            constraint = jax.vmap(constraint)
        params = tree.put(params, path, constraint(tree.get(params, path)))
    return params


def auxiliary(state: Any) -> Array:
    """The sum of all state leaves named `aux_loss`."""
    leaves = [
        leaf for path, leaf in tree.flatten(state) if path and path[-1] == "aux_loss"
    ]
    return sum((jnp.sum(leaf) for leaf in leaves), start=jnp.zeros(()))


def is_stateful(layer: Layer) -> bool:
    """Whether a layer inside carries its state from one call to the next, in inference too."""
    return any(getattr(inner, "stateful", False) for _, inner, _ in walk(layer))


def is_weight(name: str) -> bool:
    """Whether a leaf of this name is one of Keras's weights, and not what a call leaves behind."""
    return name != "aux_loss" and not name.startswith("rnn_state")


def in_order(layer: Layer, params: Any, state: Any) -> list[tuple[str, tree.Path]]:
    """Where every weight is, in Keras's order: layer by layer, what learns before what moves.

    Each is ("params" or "state", path). `params` and `state` are in the order of creation.
    """
    order: dict[tuple[str, tree.Path], None] = {}
    for path, inner, _ in walk(layer):
        for part, weights in (("params", params), ("state", state)):
            branch = tree.get(weights, path)
            names = {name for name, _ in inner.children()}
            for name, leaf in branch.items() if isinstance(branch, dict) else ():
                if name not in names and not isinstance(leaf, dict) and is_weight(name):
                    order[part, (*path, name)] = None
    for part, weights in (("params", params), ("state", state)):
        for path, _ in tree.flatten(weights):
            if path and is_weight(path[-1]):
                order.setdefault((part, path), None)
    return list(order)
