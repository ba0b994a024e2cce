"""Freezing: which weights of a model learn, chosen by patterns of paths."""

from __future__ import annotations

from typing import Any

import jax

from fnn.core import tree
from fnn.core import weights as core_weights
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.core.weights import check_matches
from fnn.models.variables import Key
from fnn.models.weights import Weights
from fnn.runtime.patterns import BIASES_AND_NORMS, matches


def is_pattern(name: str) -> bool:
    """Whether a string is a pattern or a path, rather than the name of a layer."""
    return "*" in name or "/" in name or name == BIASES_AND_NORMS


def freeze(weights: Weights, pattern: str, frozen: bool) -> None:
    """Keeps the weights fixed that a pattern matches, or those of layers that it matches; or not.

    A layer whose weights are all fixed, running averages included, is not trainable. Raises
    ValueError for a pattern that matches nothing.
    """
    weights.now  # noqa: B018 - raises while there are no weights
    places = weights.network.weight_places()
    chosen = {place for place in places if _chooses(pattern, place[1])}
    if not chosen:
        paths = ["/".join(path) for _, path in places]
        call = "freeze" if frozen else "unfreeze"
        check_matches(call, "layers", (pattern,), paths, "weights")
    fixed = _fixed(weights, places)
    if frozen:
        fixed |= chosen
        _check_averages(weights, places, fixed)
    else:
        fixed -= chosen
    _assign(weights, places, fixed)


def _chooses(pattern: str, path: Path) -> bool:
    ends = range(len(path), 0, -1)
    prefixes = ["/".join(path[:end]) for end in ends]
    return any(matches(pattern, prefix) for prefix in prefixes)


def _fixed(weights: Weights, places: list[Key]) -> set[Key]:
    """The places that are fixed now."""
    prefixes = core_weights.frozen_paths(weights.network.layer)
    return {
        (part, path)
        for part, path in places
        if any(path[: len(prefix)] == prefix for prefix in prefixes)
    }


def _check_averages(weights: Weights, places: list[Key], fixed: set[Key]) -> None:
    """Raises ValueError for a running average that is to stop alone, without its layer."""
    for path, _, _ in walk(weights.network.layer):
        own = [place for place in places if place[1][:-1] == path]
        stopped = [place for place in own if place in fixed]
        averages = [average for part, average in stopped if part == "state"]
        if averages and not fixed.issuperset(own):
            names = ", ".join("/".join(average) for average in averages)
            raise ValueError(
                f"freeze: {names} would stop without the weights beside it, but a layer updates "
                f"its running averages as long as it learns; freeze {'/'.join(path)}/**"
            )


def _assign(weights: Weights, places: list[Key], fixed: set[Key]) -> None:
    """Sets `trainable` and `fixed_weights` of all layers, outermost first."""
    owners: dict[Key, tuple[Path, int]] = {}
    layers = list(walk(weights.network.layer))
    for number, (path, _, _) in enumerate(layers):
        for place in _inside(places, path):
            owners[place] = path, number
    for number, (path, layer, _) in enumerate(layers):
        inside = _inside(places, path)
        if not inside:
            continue
        learns = not fixed.issuperset(inside)
        single = []
        for place in fixed.intersection(inside):
            part, own = place
            if learns and part == "params" and owners[place] == (path, number):
                single.append("/".join(own[len(path) :]))
        names = tuple(sorted(single))
        same = {id(one): one for one in _same(weights, layer)}
        for one in same.values():
            if one.trainable != learns:
                one.trainable = learns
            if one.fixed_weights != names:
                one.fixed_weights = names


def _inside(places: list[Key], path: Path) -> list[Key]:
    """The places at a path and below it."""
    return [place for place in places if place[1][: len(path)] == path]


def _same(weights: Weights, layer: Layer) -> list[Any]:
    """The layer; of the whole network also the layer as which other models use it."""
    if layer is weights.network.layer and weights.used_as is not None:
        return [layer, weights.used_as]
    return [layer]


# -- the optimizer's state -----------------------------------------------------------------------


def carried_over(new: Tree, old: Tree, params: Tree) -> Tree:
    """A fresh optimizer state with what an older one holds of the same weights, by their paths.

    Counters and learning rates are carried over too, unless the states differ in these.
    """
    names = ["/".join(path) for path, _ in tree.flatten(params)]
    before, now = _by_path(old, names), _by_path(new, names)
    same = _counters(now) == _counters(before)

    def pick(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        held, of_weight = before.get(name, (None, False))
        if held is None or not (of_weight or same):
            return leaf
        if (held.shape, held.dtype) != (leaf.shape, leaf.dtype):
            return leaf
        return held

    return jax.tree_util.tree_map_with_path(pick, new)


def _by_path(state: Tree, names: list[str]) -> dict[str, tuple[Any, bool]]:
    """The leaves of a state by path, and whether each belongs to one of the weights."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        keys = [str(part.key) for part in path if hasattr(part, "key")]
        place = "/" + "/".join(keys)
        of_weight = any(place.endswith(f"/{name}") for name in names)
        found[jax.tree_util.keystr(path)] = leaf, of_weight
    return found


def _counters(leaves: dict[str, tuple[Any, bool]]) -> set[str]:
    """The paths of the leaves that belong to no weight."""
    return {path for path, (_, of_weight) in leaves.items() if not of_weight}
