"""Tying: places of a network where one layer object stands have one set of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import jax

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path, Tree

# Pairs (a place, the place before it with the same weights). The trees of weights have the
# branch of the first place only.
Ties: TypeAlias = tuple[tuple[Path, Path], ...]
Children: TypeAlias = Iterable[tuple[str | None, Layer]]
Apply: TypeAlias = Callable[[Params, State], tuple[Tree, State]]


def find(children: Children) -> Ties:
    """The places among and below these layers where an object stands that stood elsewhere before.

    Values that hold several layers, `Sequential` of `fnn.layers` for one, are compared by value
    and not looked into: two equal ones could not differ in which of their layers are one object.
    """
    ties: list[tuple[Path, Path]] = []
    last: dict[int, Path] = {}
    known: set[Path] = set()

    def look(children: Children, path: Path) -> None:
        for name, child in children:
            place = path if name is None else (*path, name)
            if place in known:
                continue
            before = last.get(id(child))
            last[id(child)] = place
            if before is not None:
                ties.append((place, before))
                continue
            known.update((*place, *inner) for inner, _ in child.inner_ties)
            if child.holds_objects or Layer.is_of_model(child):
                look(child.children(), place)

    look(children, ())
    return tuple(ties)


def everywhere(layer: Layer) -> Ties:
    """The ties of a layer and of all layers inside, as paths from this layer."""
    return tuple(
        ((*path, *place), (*path, *before))
        for path, inner, _ in walk(layer)
        for place, before in inner.inner_ties
    )


def filled(branch: Tree, ties: Ties) -> Tree:
    """A tree of weights with a branch at each place."""
    for place, before in ties:
        found = tree.get(branch, before)
        if found:
            branch = tree.put(branch, place, found)
    return branch


def gathered(branch: Tree, ties: Ties) -> Tree:
    """Fresh weights with those of the first place only, wherever they were made."""
    for place, _ in ties:
        found = tree.get(branch, place)
        if found:
            whole = tree.put({}, first_place(place, ties), found)
            branch = tree.union(branch, whole)
    return pruned(branch, ties)


def pruned(branch: Tree, ties: Ties) -> Tree:
    """A tree of weights with the branch of the first place only."""
    for place, _ in ties:
        branch = _without(branch, place)
    return branch


def _without(branch: Tree, path: Path) -> Tree:
    """`branch` without what is at `path`, nor the dicts that are empty then."""
    name, *rest = path
    if not isinstance(branch, dict) or name not in branch:
        return branch
    left = {key: item for key, item in branch.items() if key != name}
    if rest:
        inner = _without(branch[name], tuple(rest))
        if inner:
            return {**branch, name: inner}
    return left


def first_place(path: Path, ties: Ties) -> Path:
    """The place whose branch holds what is at `path`."""
    for place, before in ties:
        if path[: len(place)] == place:
            return first_place((*before, *path[len(place) :]), ties)
    return path


def take(branch: Tree, path: Path, ties: Ties) -> Tree:
    """The branch of a layer at `path`, with what is tied to places outside of it."""
    found = tree.get(branch, first_place(path, ties))
    for inside, outside in _from_outside(path, ties):
        there = tree.get(branch, outside)
        if there:
            found = tree.put(found, inside, there)
    return found


def give(branch: Tree, path: Path, new: Tree, ties: Ties) -> Tree:
    """`branch` with another branch of the layer at `path`, as `take` returned one."""
    for inside, outside in _from_outside(path, ties):
        there = tree.get(new, inside)
        if there:
            branch = tree.put(branch, outside, there)
            new = _without(new, inside)
    return tree.put(branch, first_place(path, ties), new)


def _from_outside(path: Path, ties: Ties) -> Iterator[tuple[Path, Path]]:
    """(a path below `path`, the place outside whose weights are there)."""
    size = len(path)
    for place, _ in ties:
        first = first_place(place, ties)
        is_below = len(place) > size and place[:size] == path
        if is_below and first[:size] != path:
            yield place[size:], first


def run(ties: Ties, apply: Apply, params: Params, state: State) -> tuple[Tree, State]:
    """`apply`, where each place has the weights of the first.

    State goes from place to place, as if one layer were called several times. What a place gets
    is known only after the one before it has run: then everything runs again. The compiled
    program has the equal parts of these runs once.
    """
    params = filled(params, ties)
    before = filled(state, ties)
    y, after = apply(params, before)
    for _ in range(_rounds(ties, before, after)):
        for place, previous in ties:
            found = tree.get(after, previous)
            if found:
                before = tree.put(before, place, found)
        y, after = apply(params, before)
    for place, previous in reversed(ties):
        last = tree.get(after, place)
        if last:
            joined = _joined(tree.get(after, previous), last)
            after = tree.put(after, previous, joined)
    return y, pruned(after, ties)


def _rounds(ties: Ties, before: State, after: State) -> int:
    """How often state must be passed on: the number of places in the longest row of them."""
    lengths: dict[Path, int] = {}
    for place, previous in ties:
        old = dict(_weights(tree.get(before, previous)))
        new = dict(_weights(tree.get(after, previous)))
        is_changed = any(new[path] is not leaf for path, leaf in old.items())
        if is_changed or lengths:
            steps = [n for p, n in lengths.items() if _is_around(p, previous)]
            lengths[place] = 1 + max(steps, default=0)
    return max(lengths.values(), default=0)


def _is_around(one: Path, other: Path) -> bool:
    size = min(len(one), len(other))
    return one[:size] == other[:size]


def _weights(branch: State) -> Iterator[tuple[Path, jax.Array]]:
    for path, leaf in tree.flatten(branch):
        if path and path[-1] != "aux_loss":
            yield path, leaf


def _joined(first: State, second: State) -> State:
    """The state after two places: that of the second, with the losses of both."""
    joined = {}
    for name, leaf in second.items():
        joined[name] = leaf
        if isinstance(leaf, dict):
            joined[name] = _joined(first.get(name, {}), leaf)
        elif name == "aux_loss" and name in first:
            joined[name] = first[name] + leaf
    return joined
