"""Sharing: a layer object that stands in several models has one set of weights, as in Keras."""

from __future__ import annotations

import copy
import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, Self, TypeVar

import jax
import numpy as np

from fnn.core import tree, tying
from fnn.core.calling import walk
from fnn.core.context import strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.core.tying import Ties
from fnn.models.network import Network
from fnn.runtime.program_cache import KEPT, shallow
from fnn.subclassing.copies import swapped, with_inner
from fnn.symbolic.node import Node, input_specs
from fnn.training.state import TrainState
from fnn.variables import Variable

T = TypeVar("T", bound=Layer)


class Weights(Protocol):
    """The weights of a network (`fnn.models.weights`), as far as sharing needs them."""

    now: TrainState
    key: jax.Array
    shares: tuple[Share, ...]
    user: Callable[[], object] | None
    variables: weakref.WeakValueDictionary[Any, Any]

    @property
    def network(self) -> Network: ...

    @property
    def built(self) -> bool: ...

    @property
    def used_as(self) -> Layer | None: ...

    @property
    def followers(self) -> weakref.WeakSet[Self]: ...

    def as_layer(self) -> Layer: ...

    def get(self, place: Path = ()) -> list[np.ndarray]: ...

    def set(self, arrays: list[Tree], place: Path = ()) -> None: ...

    def count(self, place: Path = ()) -> int: ...

    def part_with(self, path: Path) -> str | None: ...

    def reset_recurrent_states(self, place: Path = ()) -> None: ...


class Owner:
    """The weights to which a layer object belongs, and its path there.

    It keeps the weights alive only for a model used as a layer (`keeps`), so that they outlive a
    model that was made in place: `Sequential([Residual(Sequential([...]))])`.
    """

    # Gives a layer from a pickle its weights; set by `fnn.models.cells`.
    on_kept: ClassVar[Callable[[Layer], None]]

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
    if KEPT in vars(layer):
        Owner.on_kept(layer)
    owner = _owners.get(layer)
    if owner is None or owner.weights is None:
        return None
    return owner


def forget_kept(network: Network) -> None:
    """Called for the layers of a model from a pickle, which has their weights."""
    for _, layer, _ in walk(network.layer):
        vars(layer).pop(KEPT, None)


def stated_inputs(layer: Layer) -> Tree:
    """The nodes that a layer starts from: those of its model, by its `input_shape` or place."""
    owner = owner_of(layer)
    if owner is not None and owner.kept is not None:
        return owner.kept.network.inputs
    if layer.input_shape is not None:
        return Node(None, (), input_specs((None, *layer.input_shape)))
    if owner is None or owner.weights is None or not owner.weights.built:
        return None
    # A layer of a model takes what it takes there.
    calls = owner.weights.network.wiring.calls
    if id(layer) not in calls:
        return None
    taken = calls[id(layer)][0]
    return jax.tree.map(lambda node: Node(None, (), strip_masks(node.specs)), taken)


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
        theirs = _parts(self.owner.now, self.place, self._ties)
        return _covers(theirs, _parts(now, self.path))

    @property
    def _ties(self) -> Ties:
        return self.owner.network.ties

    def pull(self, now: TrainState) -> TrainState:
        """`now` with the weights of the owner."""
        if not self.owner.built:
            return now
        found = _parts(self.owner.now, self.place, self._ties)
        if all(map(operator.is_, found, self._seen)):
            return now
        self._seen = found
        return _with_parts(now, self.path, found)

    def push(self, now: TrainState) -> None:
        """Gives the owner the weights in `now`."""
        if not self.owner.built:
            return
        held = self.owner.now
        parts = _parts(now, self.path)
        given = _with_parts(held, self.place, parts, self._ties)
        before = jax.tree.leaves((held.params, held.state))
        after = jax.tree.leaves((given.params, given.state))
        if any(new is not old for old, new in zip(before, after, strict=True)):
            self.owner.now = given
        self._seen = _parts(self.owner.now, self.place, self._ties)


def shares(weights: Weights, fresh: TrainState) -> Iterator[Share]:
    """The parts of a network, whose own weights would be `fresh`, that belong to other weights.

    A layer that needs weights of other shapes here is not shared. Raises ValueError for a model
    with weights inside copies (`Repeat`, `Ensemble`), which would each need their own.
    """
    done: list[Path] = []
    ties = weights.network.ties
    for path, layer, copies in walk(weights.network.layer):
        owner = owner_of(layer)
        if owner is None or owner.weights is None or owner.weights is weights:
            continue
        if any(path[: len(outer)] == outer for outer in done):
            continue
        source = owner.weights
        if not source.built:
            continue
        if copies:
            if not owner.path:
                raise _inside_copies(path, source)
            continue
        theirs = _parts(source.now, owner.path, source.network.ties)
        mine = _parts(fresh, path)
        if jax.tree.leaves(mine) and _covers(theirs, mine, path, ties):
            done.append(path)
            yield Share(path, layer, source, owner.path)


def _inside_copies(path: Path, weights: Weights) -> ValueError:
    return ValueError(
        f"expected a layer inside the copies at {'/'.join(path)}, received the model "
        f"{weights.network.name!r} with its weights; pass model.layer"
    )


def claim(weights: Weights, of: Layer | None = None) -> None:
    """Makes these weights the owner of the layers of their network that have no weights yet.

    `of`: an equal layer of other objects, whose layers inside are meant.
    """
    for path, layer, copies in _places(weights, of):
        owner = owner_of(layer)
        is_free = owner is None or owner.weights is None or not owner.weights.built
        if owner is not None and owner.kept is not None and is_free:
            # A model that gets no weights here, since `call` does not use it, stays its own.
            is_free = _parts(weights.now, path) != (None, None)
        if path and not copies and is_free:
            Owner(weights, path).mark(layer)


def keep(weights: Weights, before: TrainState, fresh: TrainState) -> TrainState:
    """`fresh` with the weights from `before` of layers that were there before."""
    for path, layer, _ in _places(weights):
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
        state = weights.now
        for share in weights.shares:
            current = share.owner.network.layer
            changed = not share.place and current != share.owner_layer
            if changed and share.fits(state):
                swaps[id(share.layer)] = share.owner.as_layer()
                share.layer = swaps[id(share.layer)]
                share.owner_layer = current
    now: Layer = swapped(weights.network.layer, swaps)
    return now


def _places(
    weights: Weights, of: Layer | None = None
) -> Iterator[tuple[Path, Layer, int]]:
    """`walk` over a network, without the places that have the weights of others."""
    network = weights.network
    if of is None:
        of = network.layer
    for path, layer, copies in walk(of):
        if tying.first_place(path, network.ties) == path:
            yield path, layer, copies


def _parts(now: TrainState, path: Path, ties: Ties = ()) -> tuple[Tree, Tree]:
    """Params and state at a path; None where there are none."""
    params = tying.take(now.params, path, ties)
    return params or None, tying.take(now.state, path, ties) or None


def _with_parts(
    now: TrainState,
    path: Path,
    parts: tuple[Tree, Tree],
    ties: Ties = (),
) -> TrainState:
    """`now` with the weights at a path replaced, in dicts of its own."""
    params, state = _parts(now, path, ties)
    if params is not None:
        params = _replaced(params, parts[0])
        now = now.replace(params=tying.give(now.params, path, params, ties))
    if state is not None:
        state = _replaced(state, parts[1])
        now = now.replace(state=tying.give(now.state, path, state, ties))
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


def _covers(
    theirs: tuple[Tree, Tree],
    mine: tuple[Tree, Tree],
    path: Path = (),
    ties: Ties = (),
) -> bool:
    """Whether one layer has the weights of another, which may be tied to other places in part."""
    for their, own in zip(_shapes(theirs), _shapes(mine), strict=True):
        found = dict(tree.flatten(their))
        wanted = dict(tree.flatten(own))
        for place in found.keys() - wanted.keys():
            whole = (*path, *place)
            if tying.first_place(whole, ties) != whole:
                del found[place]
        if found != wanted:
            return False
    return True


# -- other objects, equal layers -----------------------------------------------------------------


def apart(
    layer: T,
    known: dict[int, Layer] | None = None,
    models: bool = False,
) -> T:
    """An equal layer of other objects throughout, which belong to no model.

    Models inside stay, unless `models`.
    """
    if known is None:
        known = {}
    if id(layer) in known:
        return known[id(layer)]  # type: ignore[return-value]
    if isinstance(layer, Variable):
        known[id(layer)] = copy.copy(layer)
        return known[id(layer)]
    owner = owner_of(layer)
    if owner is not None and not owner.path and not models:
        return layer
    copied = with_inner(layer, lambda inner: apart(inner, known, models))
    if copied is layer:
        copied = shallow(layer)
    known[id(layer)] = copied
    return copied


def tied(layer: Layer) -> Layer:
    """A network of layers that a user has connected, with one set of weights for each object."""
    ties = tying.find(layer.children())
    if not ties:
        return layer
    return layer.replace(ties=ties)


def _is_of_model(layer: Layer) -> bool:
    owner = owner_of(layer)
    if owner is None or owner.weights is None:
        return False
    return owner.weights.used_as is layer


Layer.is_of_model = staticmethod(_is_of_model)
