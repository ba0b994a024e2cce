"""Scoped: the weights of a network as a scope holds them, while a step of a class runs."""

from __future__ import annotations

from fnn.core import tree
from fnn.core.tree import Path, Tree
from fnn.models.sharing import Weights
from fnn.models.variables import Key, WeightVariable, keys_of, variable
from fnn.runtime.scope import scopes
from fnn.training.state import TrainState
from fnn.variables import StatelessScope


class Given(StatelessScope):
    """The values that a step was given for variables; assignments pass by."""

    def write(self, variable: object, value: Tree) -> bool:
        """Never: what a step does not return is gone."""
        return False


def current(weights: Weights) -> TrainState:
    """The state of the weights, with the values that scopes hold."""
    now = weights.now
    for (part, path), held in _held(weights, ()):
        changed = tree.put(getattr(now, part), path, held.value)
        now = now.replace(**{part: changed})
    return now


def holds(weights: Weights) -> bool:
    """Whether a scope holds some of the weights."""
    return weights.built and bool(_held(weights, ()))


def keep(weights: Weights, place: Path, state: Tree) -> bool:
    """Puts the state of the layer at `place` into the scope; False if none holds any."""
    held = _held(weights, place)
    for (part, path), known in held:
        if part == "state":
            new = tree.get(state, path[len(place) :])
            any(scope.write(known, new) for scope in scopes())
    return bool(held)


def refuse_new(weights: Weights) -> None:
    """Raises ValueError in a step of a class, where new weights would not be the model's."""
    if any(isinstance(scope, Given) for scope in scopes()):
        raise ValueError(
            f"expected {weights.network.name!r} to have weights before a step or loss of a class "
            "uses it, received a model without weights; call it on arrays, or "
            "model.build((None, 10)), before fit"
        )


def _held(weights: Weights, place: Path) -> list[tuple[Key, WeightVariable]]:
    """The variables at `place` that a scope holds, with their places."""
    around = [scope for scope in scopes() if isinstance(scope, StatelessScope)]
    if not around:
        return []
    found = []
    for key in keys_of(weights, place):
        known = variable(weights, *key)
        if any(scope.read(known) is not None for scope in around):
            found.append((key, known))
    return found
