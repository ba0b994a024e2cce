"""Watching: finds what a user has assigned inside the dicts of weights that a model shows."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TypeAlias

import jax

from fnn.core import tree
from fnn.core.tree import Path, Tree
from fnn.training.state import TrainState

Pair: TypeAlias = tuple[Tree, Tree]  # params and state


class Shown:
    """Params and state as a user sees them, and the dicts that they consist of, by path.

    The dicts are noted when they are shown, so that each keeps its place: a user may assign a
    branch from elsewhere, and that dict remains the user's.
    """

    def __init__(self, params: Tree, state: Tree) -> None:
        self.weights: Pair = (params, state)
        self._dicts = dict(_dicts({"params": params, "state": state}))

    def become(self, params: Tree, state: Tree, order: Pair) -> None:
        """Shows these weights in the same dicts, with keys in the order of `order`."""
        now = {"params": params, "state": state}
        like = {"params": order[0], "state": order[1]}
        for path, shown in self._dicts.items():
            here = tree.get(now, path)
            names = tree.get(like, path)
            shown.clear()
            for name in names:
                shown[name] = self._dicts.get((*path, name), here[name])


def _dicts(branch: Tree, path: Path = ()) -> Iterator[tuple[Path, dict[str, Tree]]]:
    """Every nested dict and its path."""
    if isinstance(branch, dict):
        yield path, branch
        for name, inner in branch.items():
            yield from _dicts(inner, (*path, name))


class Watched:
    """The weights as a model knows them, and the dicts in which a user sees them.

    JAX needs plain dicts, which report no assignment. So an assignment is found at the next use
    of the model: the dicts then hold another leaf than the model knows.
    """

    def __init__(self, now: TrainState) -> None:
        self.params = now.params
        self.state = now.state
        leaves, treedef = jax.tree.flatten((now.params, now.state))
        self.leaves: list[jax.Array] = leaves
        self.treedef: Tree = treedef
        # What `model.params` and `model.state` return, once they were read.
        self.view: Shown | None = None
        self._own = Shown(now.params, now.state)
        self._others: list[Shown] = []

    def is_of(self, now: TrainState) -> bool:
        """Whether these are the weights in `now`."""
        return now.params is self.params and now.state is self.state

    def assigned(self) -> list[Shown]:
        """The dicts in which an entry was assigned, added or removed."""
        shown = [self._own]
        if self.view is not None:
            shown.append(self.view)
        shown.extend(self._others)
        return [one for one in shown if not self._is_unchanged(one)]

    def _is_unchanged(self, shown: Shown) -> bool:
        try:
            leaves, treedef = jax.tree.flatten(shown.weights)
        except (TypeError, ValueError):
            # Keys that JAX cannot sort.
            return False
        if self.treedef != treedef:
            return False
        return all(map(operator.is_, leaves, self.leaves))

    def whole(self) -> Pair:
        """Params and state before the assignment, in dicts of their own."""
        params, state = self.treedef.unflatten(self.leaves)
        return params, state

    def follow(self, before: Watched, assigned: list[Shown], order: Pair) -> None:
        """Continues with the dicts that a user may still hold, in which an entry was assigned.

        They get the arrays that were made of it, and their keys the order of creation.
        """
        self.view = before.view
        self._others = [shown for shown in assigned if shown is not self.view]
        if self.view is not None:
            self.view.become(self.params, self.state, order)
        for shown in self._others:
            shown.become(self.params, self.state, order)


def checked(assigned: list[Shown], before: Pair, name: str) -> list[Pair]:
    """The trees with assigned entries, as arrays. Raises ValueError for those that do not fit."""
    try:
        return [
            (
                tree.checked("params", shown.weights[0], before[0]),
                tree.checked("state", shown.weights[1], before[1]),
            )
            for shown in assigned
        ]
    except ValueError as error:
        error.add_note(
            f"as assigned inside model.params, model.state or model.train_state of {name!r}; "
            "the model keeps the weights that it had"
        )
        raise


def merged(now: Pair, before: Pair, given: list[Pair]) -> Pair:
    """`now` with each leaf that one of the `given` trees has changed since `before`."""

    def pick(now: jax.Array, before: jax.Array, *given: jax.Array) -> jax.Array:
        for leaf in given:
            if leaf is not before:
                return leaf
        return now

    params, state = jax.tree.map(pick, now, before, *given)
    return params, state
