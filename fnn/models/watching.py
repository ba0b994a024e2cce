"""Watched: the dicts of weights that a model shows, for what a user assigns inside them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import jax

from fnn.core import tree
from fnn.core.calling import weight_spec
from fnn.training.state import TrainState


class Shown:
    """Params and state as a user sees them, and the dicts in which they are, by path.

    The dicts are noted when they are shown, so that they stay those of their places: a user may
    assign a branch from elsewhere, and that one remains the user's.
    """

    def __init__(self, params: Any, state: Any) -> None:
        self.weights = params, state
        self._dicts = dict(_dicts({"params": params, "state": state}))

    def become(self, params: Any, state: Any, order: tuple[Any, Any]) -> None:
        """Shows these weights, in the same dicts, whose keys get the order of `order`."""
        now = {"params": params, "state": state}
        like = {"params": order[0], "state": order[1]}
        for path, shown in self._dicts.items():
            here = tree.get(now, path)
            names = tree.get(like, path)
            shown.clear()
            shown.update(
                {name: self._dicts.get((*path, name), here[name]) for name in names}
            )


def _dicts(
    branch: Any, path: tree.Path = ()
) -> Iterator[tuple[tree.Path, dict[str, Any]]]:
    """Every nested dict and its path."""
    if isinstance(branch, dict):
        yield path, branch
        for name, inner in branch.items():
            yield from _dicts(inner, (*path, name))


class Watched:
    """The weights of a model as it knows them, and the dicts in which others see them.

    JAX wants plain dicts, which tell nobody of an assignment. So it is found at the next use of the
    model: the dicts then hold another leaf than the model knows.
    """

    def __init__(self, now: TrainState) -> None:
        self.params, self.state = now.params, now.state
        self.leaves, treedef = jax.tree.flatten((now.params, now.state))
        self.treedef: Any = treedef
        self._own = Shown(now.params, now.state)
        self.view: Shown | None = None  # what `model.params` and `model.state` return
        self._others: list[Shown] = []

    def is_of(self, now: TrainState) -> bool:
        """Whether these are the weights in `now`."""
        return now.params is self.params and now.state is self.state

    def assigned(self) -> list[Shown]:
        """The dicts in which an entry was assigned, added or removed."""
        shown = filter(None, (self._own, self.view, *self._others))
        return [one for one in shown if not self._same(one)]

    def _same(self, shown: Shown) -> bool:
        try:
            leaves, treedef = jax.tree.flatten(shown.weights)
        except (TypeError, ValueError):  # keys that JAX cannot sort
            return False
        return bool(self.treedef == treedef) and all(
            map(operator.is_, leaves, self.leaves)
        )

    def whole(self) -> tuple[Any, Any]:
        """Params and state before the assignment, in dicts of their own."""
        weights: tuple[Any, Any] = self.treedef.unflatten(self.leaves)
        return weights

    def follow(
        self, before: Watched, assigned: list[Shown], order: tuple[Any, Any]
    ) -> None:
        """Goes on with the dicts that a user may still hold, in which an entry was assigned.

        They get the arrays that were made of it, and their entries the order of creation.
        """
        self.view = before.view
        self._others = [shown for shown in assigned if shown is not self.view]
        for shown in filter(None, (self.view, *self._others)):
            shown.become(self.params, self.state, order)


def take_assigned(model: Any) -> None:
    """Takes over what was assigned inside the dicts of weights that a model shows.

    Raises ValueError for what does not fit, and leaves the model with the weights that it had.
    """
    watched, now = model._watched, model._cell.now
    if watched is None or not watched.is_of(now):  # nobody has seen these weights yet
        model._watched = None
        return
    assigned = watched.assigned()
    if not assigned:
        return
    old = watched.whole()
    model._cell.now = now.replace(params=old[0], state=old[1])
    model._watched = None
    try:
        given = [
            tuple(map(tree.checked, ("params", "state"), shown.weights, old))
            for shown in assigned
        ]
    except ValueError as error:
        error.add_note(
            f"as assigned inside model.params, model.state or model.train_state of {model.name!r}; "
            "the model keeps the weights that it had"
        )
        raise
    now = model._now  # models that share layers may have other weights to take over
    last = lambda now, old, *new: next((leaf for leaf in new if leaf is not old), now)
    params, state = jax.tree.map(last, (now.params, now.state), old, *given)
    model._now = now.replace(params=params, state=state)
    order = weight_spec(model.layer, model._trial())
    model._watch().follow(watched, assigned, order)
