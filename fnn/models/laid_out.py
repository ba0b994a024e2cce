"""Laid out: the weights of a model on the devices that a distribution gives them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding

from fnn.core.calling import initialize, weight_spec
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree, path_name
from fnn.models.network import Network
from fnn.runtime.layouts import Distribution, current
from fnn.runtime.processes import put
from fnn.training.laying_out import beside_params, is_committed, shardings
from fnn.training.state import TrainState

P = ParamSpec("P")
T = TypeVar("T")


class Weights(Protocol):
    """What this file needs of `fnn.models.weights.Weights`."""

    now: TrainState
    layout: Distribution | None  # what laid out these weights last

    @property
    def network(self) -> Network: ...

    @property
    def built(self) -> bool: ...


def made(
    weights: Weights,
    layer: Layer,
    key: Array,
    x: SpecTree,
) -> tuple[Tree, Tree]:
    """New (params, state) of a layer, each array created on the devices that are to hold it."""
    distribution = current()
    if distribution is None or not distribution.rules or is_committed(key):
        return initialize(layer, key, x)
    places = _shardings(distribution, weights.network.name, weight_spec(layer, x))
    weights.layout = distribution

    def init(key: Array) -> tuple[Tree, Tree]:
        return initialize(layer, key, x)

    found: tuple[Tree, Tree] = jax.jit(init, out_shardings=places)(key)
    return found


def _shardings(
    distribution: Distribution, name: str, weights: tuple[SpecTree, SpecTree]
) -> tuple[Tree, Tree]:
    """The shardings of (params, state) of a network, after a check of the rules."""
    params, state = weights
    places = _places(distribution, name, weights)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    leaves += jax.tree_util.tree_leaves_with_path(state)
    names = [path_name(path) for path, _ in leaves]
    divided = [
        name
        for name, place in zip(names, jax.tree.leaves(places), strict=True)
        if not place.is_fully_replicated
    ]
    for rule in distribution.rules:
        rule.check(names, divided)
    return places


def _places(
    distribution: Distribution, name: str, weights: tuple[SpecTree, SpecTree]
) -> tuple[Tree, Tree]:
    """The shardings of (params, state)."""
    params, state = weights
    return shardings(distribution, params, name), shardings(distribution, state, name)


def lay_out_new(weights: Weights) -> None:
    """Lays out weights that were just made: those of models inside may lie on another mesh."""
    distribution = current()
    if distribution is not None:
        lay_out(weights, distribution, new=True)


def lay_out(weights: Weights, distribution: Distribution, new: bool = False) -> None:
    """Puts weights, state and optimizer state where a distribution wants them.

    Arrays that the user put on devices stay there. Without rules nothing moves before a batch is
    divided: batches that cannot be leave the weights on one device. `new` weights are those of a
    model that was just made, which may have taken over some of models inside.
    """
    before = weights.layout
    if not distribution.rules and (before is None or not before.rules):
        # Training may replicate them: that is no user's choice.
        weights.layout = distribution
        return
    now = weights.now
    held = now.params, now.state
    known = before == distribution
    stays: Callable[[Any], bool] = is_committed
    if new or not _lie_on_one_mesh(now.params):
        stays = functools.partial(_can_stay, distribution.mesh)
    if known and all(map(stays, jax.tree.leaves(held))):
        return
    name = weights.network.name
    places = _shardings(distribution, name, held)

    def settled(leaf: Any, place: Any) -> Any:
        if stays(leaf):
            return leaf
        return put(leaf, place)

    if before is None or known:
        moved = jax.tree.map(settled, held, places)
    else:
        old = _places(before, name, held)
        moved = jax.tree.map(_put_ours, held, places, old)
    others = [now.key, now.step, now.epoch]
    for i, leaf in enumerate(others):
        if is_committed(leaf):
            others[i] = put(leaf, distribution.whole)
    key, step, epoch = others
    params, state = moved
    now = now.replace(params=params, state=state, key=key, step=step, epoch=epoch)
    if now.optimizer is not None:
        now = now.replace(optimizer=beside_params(now.optimizer, now.params))
    weights.layout = distribution
    weights.now = now


def _can_stay(mesh: Mesh, leaf: Any) -> bool:
    """Whether an array lies where somebody put it, and a program on this mesh can use it there.

    On a mesh of other axes over the same devices, as that of a model inside, it cannot: a program
    has one mesh.
    """
    if not is_committed(leaf):
        return False
    if not isinstance(leaf.sharding, NamedSharding):
        return True
    other = leaf.sharding
    if other.mesh.shape == mesh.shape:
        return True
    return other.device_set != set(mesh.devices.flat)


def _lie_on_one_mesh(params: Tree) -> bool:
    """Whether somebody put all weights on one mesh: they can be computed with there."""
    leaves = jax.tree.leaves(params)
    if not all(map(is_committed, leaves)):
        return False
    meshes = {getattr(leaf.sharding, "mesh", leaf.sharding) for leaf in leaves}
    return len(meshes) == 1


def _put_ours(leaf: Any, place: Any, before: Any) -> Any:
    """An array in its place, also one that the distribution before has put in its own."""
    if is_committed(leaf) and not leaf.sharding.is_equivalent_to(before, leaf.ndim):
        return leaf
    return put(leaf, place)


def beside(old: Array, new: Array) -> Array:
    """A new value of a weight on the devices of the old one, if these were chosen."""
    if is_committed(old) and not is_committed(new):
        new = put(new, old.sharding)
    return new


def with_params(now: TrainState, params: Tree) -> TrainState:
    """A state with other params; the state of the optimizer goes to their devices."""
    now = now.replace(params=params)
    if now.optimizer is None:
        return now
    return now.replace(optimizer=beside_params(now.optimizer, params))


def on_devices(
    weights: Weights, distribution: Distribution | None
) -> AbstractContextManager[None]:
    """A block in which weights and batches lie as a distribution wants them, if there is one.

    That is `distribution`, with which the model was compiled, else the one in force.
    """
    if distribution is None:
        distribution = current()
    if distribution is None:
        return contextlib.nullcontext()
    return _in_scope(weights, distribution)


@contextlib.contextmanager
def _in_scope(weights: Weights, distribution: Distribution) -> Iterator[None]:
    with distribution.scope():
        if weights.built:
            lay_out(weights, distribution)
        yield


def distributed(verb: Callable[P, T]) -> Callable[P, T]:
    """A method of a model that runs `on_devices` of the model."""

    @functools.wraps(verb)
    def run(*given: P.args, **named: P.kwargs) -> T:
        model: Any = given[0]
        with on_devices(model._weights, model._program.distribution):
            return verb(*given, **named)

    return run
