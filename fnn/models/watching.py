"""Watched: the dicts of weights that a model shows, for what a user assigns inside them."""

from __future__ import annotations

import operator
from typing import Any

import jax

from fnn.core import tree
from fnn.core.calling import weight_spec
from fnn.training.state import TrainState

Weights = tuple[Any, Any]  # params and state


class Watched:
    """The weights of a model as it knows them, and the dicts in which others see them.

    JAX wants plain dicts, which tell nobody of an assignment. So it is found at the next use of the
    model: the dicts then hold another leaf than the model knows.
    """

    def __init__(self, now: TrainState) -> None:
        self.params, self.state = now.params, now.state
        self.leaves, treedef = jax.tree.flatten((now.params, now.state))
        self.treedef: Any = treedef
        self.view: Weights | None = None  # what `model.params` and `model.state` return
        self.others: list[Weights] = []

    def is_of(self, now: TrainState) -> bool:
        """Whether these are the weights in `now`."""
        return now.params is self.params and now.state is self.state

    def assigned(self) -> list[Weights]:
        """The dicts in which an entry was assigned, added or removed."""
        shown = filter(None, ((self.params, self.state), self.view, *self.others))
        return [weights for weights in shown if not self._same(weights)]

    def _same(self, weights: Weights) -> bool:
        try:
            leaves, treedef = jax.tree.flatten(weights)
        except (TypeError, ValueError):  # keys that JAX cannot sort
            return False
        return bool(self.treedef == treedef) and all(map(operator.is_, leaves, self.leaves))

    def whole(self) -> Weights:
        """The weights before the assignment, in dicts of their own."""
        weights: Weights = self.treedef.unflatten(self.leaves)
        return weights

    def follow(self, before: Watched, assigned: list[Weights], order: Weights) -> None:
        """Goes on with the dicts that a user may still hold, in which an entry was assigned.

        They get the arrays that were made of it, and their entries the order of creation.
        """
        self.view = before.view
        self.others = [weights for weights in assigned if weights is not self.view]
        for shown in filter(None, (self.view, *self.others)):
            for part, now, like in zip(shown, (self.params, self.state), order, strict=True):
                _become(part, now, like)


def _become(shown: dict[str, Any], now: dict[str, Any], like: dict[str, Any]) -> None:
    """Gives `shown` the leaves of `now`, in the order of `like`, in its own dicts."""
    entries = {}
    for name in like:
        entries[name] = now[name]
        if isinstance(now[name], dict):
            inner = shown.get(name)
            entries[name] = inner if isinstance(inner, dict) else {}
            _become(entries[name], now[name], like[name])
    shown.clear()
    shown.update(entries)


def take_assigned(model: Any) -> None:
    """Takes over what was assigned inside the dicts of weights that a model shows.

    Raises ValueError for what does not fit, and leaves the model with the weights that it had.
    """
    watched, now = model._watched, model._train_state
    if watched is None or not watched.is_of(now):  # nobody has seen these weights yet
        model._watched = None
        return
    assigned = watched.assigned()
    if not assigned:
        return
    params, state = watched.whole()
    model._train_state = now.replace(params=params, state=state)
    model._watched = Watched(model._train_state)
    try:
        given = [
            (tree.checked("params", p, params), tree.checked("state", s, state))
            for p, s in assigned
        ]
    except ValueError as error:
        error.add_note(
            "as assigned inside model.params, model.state or model.train_state; the model keeps "
            "the weights that it had"
        )
        raise
    last = lambda old, *new: next((leaf for leaf in new if leaf is not old), old)
    params, state = jax.tree.map(last, (params, state), *given)
    model.train_state = model._train_state.replace(params=params, state=state)
    order = weight_spec(model.layer, model._trial())
    model._watch().follow(watched, assigned, order)
