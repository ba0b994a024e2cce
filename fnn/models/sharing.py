"""Sharing: a layer object that stands in several models has one set of weights, as in Keras."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Protocol, Self, TypeVar

import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.core.value import Fields
from fnn.models.network import Network
from fnn.symbolic.node import Node, input_specs
from fnn.training.state import TrainState

T = TypeVar("T", bound=Layer)
Change = Callable[[Layer], Layer]


class Weights(Protocol):
    """The weights of a network (`fnn.models.weights`), as far as sharing needs them."""

    network: Network
    now: TrainState
    shares: tuple[Share, ...]

    @property
    def built(self) -> bool: ...

    @property
    def followers(self) -> weakref.WeakSet[Self]: ...

    def as_layer(self) -> Layer: ...

    def get(self, place: Path = ()) -> list[np.ndarray]: ...

    def set(self, arrays: list[Tree], place: Path = ()) -> None: ...

    def count(self, place: Path = ()) -> int: ...


class Owner:
    """The weights to which a layer object belongs, and its path there.

    It keeps the weights alive only for a model used as a layer (`keeps`), so that they outlive a
    model that was made in place: `Sequential([Residual(Sequential([...]))])`.
    """

    def __init__(self, weights: Weights, path: Path, keeps: bool = False) -> None:
        self._weights = weakref.ref(weights)
        self.path = path
        self.kept: Weights | None = weights if keeps else None

    @property
    def weights(self) -> Weights | None:
        """The weights, or None if they are gone."""
        return self._weights()

    def mark(self, layer: Layer) -> None:
        """Makes this the owner of a layer."""
        _owners.put(layer, self)


class _Owners:
    """The owners of layers by object, since equal layers may have different owners.

    An entry goes when its layer goes.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Layer], Owner]] = {}

    def get(self, layer: Layer) -> Owner | None:
        """The owner of this object."""
        entry = self._entries.get(id(layer))
        if entry is None or entry[0]() is not layer:
            return None
        return entry[1]

    def put(self, layer: Layer, owner: Owner) -> None:
        """Sets the owner of this object."""
        key, entries = id(layer), self._entries

        def forget(_: weakref.ref[Layer]) -> None:
            entries.pop(key, None)

        entries[key] = weakref.ref(layer, forget), owner


_owners = _Owners()


def owner_of(layer: Layer) -> Owner | None:
    """The owner of a layer object, None if its weights are gone."""
    owner = _owners.get(layer)
    if owner is None or owner.weights is None:
        return None
    return owner


def stated_inputs(layer: Layer) -> Tree:
    """The nodes that a layer starts from: those of its model, or by its `input_shape`."""
    owner = owner_of(layer)
    if owner is not None and owner.kept is not None:
        return owner.kept.network.inputs
    if layer.input_shape is None:
        return None
    return Node(None, (), input_specs((None, *layer.input_shape)))


# -- weights that two networks share -------------------------------------------------------------


class Share:
    """A part of the weights of one network that belongs to the weights of another, its owner.

    If layers of the owner come or go, the weights that both still have stay shared.
    """

    def __init__(self, path: Path, layer: Layer, owner: Weights, place: Path) -> None:
        self.path = path
        self.layer = layer
        self.owner = owner
        self.place = place  # the path in the owner
        self.owner_layer = owner.network.layer  # when the share was made
        self._seen: tuple[Tree, Tree] = (None, None)

    def fits(self, now: TrainState) -> bool:
        """Whether the owner still has the weights that are in `now`, and no others."""
        if not self.owner.built:
            return False
        theirs = _parts(self.owner.now, self.place)
        return bool(_shapes(theirs) == _shapes(_parts(now, self.path)))

    def pull(self, now: TrainState) -> TrainState:
        """`now` with the weights of the owner."""
        if not self.owner.built:
            return now
        found = _parts(self.owner.now, self.place)
        if found[0] is self._seen[0] and found[1] is self._seen[1]:
            return now
        self._seen = found
        return _with_parts(now, self.path, found)

    def push(self, now: TrainState) -> None:
        """Gives the owner the weights in `now`."""
        if not self.owner.built:
            return
        held = self.owner.now
        given = _with_parts(held, self.place, _parts(now, self.path))
        before = jax.tree.leaves((held.params, held.state))
        after = jax.tree.leaves((given.params, given.state))
        if any(new is not old for old, new in zip(before, after, strict=True)):
            self.owner.now = given
        self._seen = _parts(self.owner.now, self.place)


def shares(weights: Weights, fresh: TrainState) -> Iterator[Share]:
    """The parts of a network, whose own weights would be `fresh`, that belong to other weights.

    A layer that needs weights of other shapes here is not shared. Raises ValueError for a model
    with weights inside copies (`Repeat`, `Ensemble`), which would each need their own.
    """
    done: list[Path] = []
    for path, layer, copies in walk(weights.network.layer):
        owner = owner_of(layer)
        if owner is None or owner.weights is None or owner.weights is weights:
            continue
        if not owner.weights.built or any(path[: len(p)] == p for p in done):
            continue
        if copies:
            if not owner.path:
                raise _inside_copies(path, owner.weights)
            continue
        theirs = _parts(owner.weights.now, owner.path)
        mine = _parts(fresh, path)
        if jax.tree.leaves(mine) and _shapes(theirs) == _shapes(mine):
            done.append(path)
            yield Share(path, layer, owner.weights, owner.path)


def _inside_copies(path: Path, weights: Weights) -> ValueError:
    return ValueError(
        f"expected a layer inside the copies at {'/'.join(path)}, received the model "
        f"{weights.network.name!r} with its weights; pass model.layer"
    )


def claim(weights: Weights) -> None:
    """Makes these weights the owner of the layers of their network that have no weights yet."""
    for path, layer, copies in walk(weights.network.layer):
        owner = owner_of(layer)
        is_free = owner is None or owner.weights is None or not owner.weights.built
        if path and not copies and is_free:
            Owner(weights, path).mark(layer)


def keep(weights: Weights, before: TrainState, fresh: TrainState) -> TrainState:
    """`fresh` with the weights from `before` of layers that were there before."""
    for path, layer, _ in walk(weights.network.layer):
        owner = owner_of(layer)
        if path and owner is not None and owner.weights is weights:
            old = _parts(before, owner.path)
            if _shapes(old) == _shapes(_parts(fresh, path)):
                fresh = _with_parts(fresh, path, old)
            Owner(weights, path).mark(layer)
    return fresh


def refreshed(weights: Weights) -> Layer:
    """The layer with the models inside as they are now: others of their weights may learn."""
    swaps = {}
    if weights.built:
        now = weights.now
        for share in weights.shares:
            current = share.owner.network.layer
            changed = not share.place and current != share.owner_layer
            if changed and share.fits(now):
                swaps[id(share.layer)] = share.owner.as_layer()
                share.layer = swaps[id(share.layer)]
                share.owner_layer = current
    return swapped(weights.network.layer, swaps)


def _parts(now: TrainState, path: Path) -> tuple[Tree, Tree]:
    """Params and state at a path; None where there are none."""
    return tree.get(now.params, path) or None, tree.get(now.state, path) or None


def _with_parts(now: TrainState, path: Path, parts: tuple[Tree, Tree]) -> TrainState:
    """`now` with the weights at a path replaced, in dicts of its own."""
    params, state = _parts(now, path)
    if params is not None:
        params = _replaced(params, parts[0])
        now = now.replace(params=tree.put(now.params, path, params))
    if state is not None:
        state = _replaced(state, parts[1])
        now = now.replace(state=tree.put(now.state, path, state))
    return now


def _replaced(old: Tree, new: Tree) -> Tree:
    """`old` with the leaves of `new` that have the same path and shape."""
    if isinstance(old, dict):
        branches = new if isinstance(new, dict) else {}
        return {name: _replaced(leaf, branches.get(name)) for name, leaf in old.items()}
    if hasattr(new, "shape") and new.shape == old.shape:
        return new
    return old


def _shapes(parts: tuple[Tree, Tree]) -> Tree:
    return jax.tree.map(lambda array: (array.shape, array.dtype), parts)


# -- other objects, equal layers -----------------------------------------------------------------


def swapped(layer: Layer, swaps: dict[int, Layer]) -> Layer:
    """`layer` with some of the layers inside replaced, by the id of the object."""
    if not swaps:
        return layer
    if id(layer) in swaps:
        return swaps[id(layer)]
    return _with_inner(layer, lambda inner: swapped(inner, swaps))


def apart(layer: T, known: dict[int, Layer] | None = None) -> T:
    """An equal layer of other objects throughout, which belong to no model; models inside stay."""
    known = {} if known is None else known
    owner = owner_of(layer)
    if owner is not None and not owner.path:
        return layer
    if id(layer) not in known:
        copied = _with_inner(layer, lambda inner: apart(inner, known))
        known[id(layer)] = copied.replace()
    return known[id(layer)]  # type: ignore[return-value]


def _with_inner(layer: T, change: Change) -> T:
    """`layer` with `change` made to each layer that it holds; itself if none changes."""
    changes = {}
    for name, value in vars(layer).items():
        if name[0] != "_":
            new = _changed(value, change)
            if new is not value:
                changes[name] = new
    if not changes:
        return layer
    return layer.replace(**changes)


def _changed(value: Tree, change: Change) -> Tree:
    if isinstance(value, Layer):
        return change(value)
    if isinstance(value, Fields):
        items = _changed(value.items, change)
        return value if items is value.items else Fields(items)
    if isinstance(value, tuple):
        new = tuple(_changed(item, change) for item in value)
        if any(a is not b for a, b in zip(new, value, strict=True)):
            return new
    return value
