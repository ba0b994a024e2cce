"""Weights: the current weights of a network and all else that training changes."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from fnn.core import tree
from fnn.core.context import salt
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.models import laid_out, scoped, sharing, watching
from fnn.models.network import Network
from fnn.models.outputs import refuse_none
from fnn.models.training_lock import TrainingLock
from fnn.models.watching import Shown, Watched
from fnn.runtime.compilations import CompilationLog
from fnn.runtime.devices import beside, divide, shared, undivided
from fnn.runtime.layouts import Distribution, current
from fnn.runtime.processes import local
from fnn.runtime.program_cache import changes
from fnn.runtime.seed import next_key
from fnn.training.state import TrainState


class Entry(NamedTuple):
    """One weight: "params" or "state", its path there, and the array on the device."""

    part: str
    path: Path
    array: jax.Array


class Placed(NamedTuple):
    """Copies of weights on the devices that compute with them, for as long as `now` holds."""

    now: TrainState
    params: Tree
    state: Tree


class Weights:
    """The weights of a network, made when the shapes of its inputs are known.

    Several models may use the same weights: one that contains a layer of another `shares` that
    part with it, and each takes what the other has at its next use.
    """

    def __init__(
        self,
        network: Network,
        seed: int | None = None,
        key: jax.Array | None = None,
    ) -> None:
        self._network = network
        self.key = next_key(seed) if key is None else key
        self.shares: tuple[sharing.Share, ...] = ()
        self.followers: weakref.WeakSet[Weights] = weakref.WeakSet()
        self.variables: weakref.WeakValueDictionary[tuple[str, Path], object] = (
            weakref.WeakValueDictionary()
        )
        self.compilations = CompilationLog()
        self.training = TrainingLock(network.name, self.compilations)
        self._now: TrainState | None = None
        self._pulling = False
        self._watched: Watched | None = None
        self._placed: Placed | None = None
        self.layout: Distribution | None = None  # what laid out these weights last
        self._as_layer: Callable[[], Layer | None] | None = None
        self.user: Callable[[], object] | None = None  # the model of these weights

    def __reduce__(self) -> tuple[Callable[..., Weights], tuple[Tree, ...]]:
        """A copy has the same weights and shares them with no other model."""
        now = self.now if self.built else None
        return _restored, (self.network, self.key, now)

    # -- all of them -----------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """The network with its layers as they are now: they may be changed in place."""
        if self._network.changes != changes.now:
            self._network = self._network.current()
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network = network

    @property
    def built(self) -> bool:
        """Whether the weights have been made."""
        return self._now is not None

    @property
    def now(self) -> TrainState:
        """The current state, for readers that leave its dicts as they are."""
        if self._now is None:
            raise ValueError(
                f"the model {self.network.name!r} has no weights yet, since the shape of its "
                "inputs is not known; give input_shape=(...) to its first layer, call "
                "model.build((None, 10)), or fit or predict first"
            )
        if self._watched is not None or self.followers:
            self.take_assigned()
        if self.shares:
            self._pull()
        return self._now

    @now.setter
    def now(self, state: TrainState) -> None:
        self._watched = None
        self._placed = None
        if self.followers:
            # What they hold is older than `state`, which wins.
            self.take_assigned()
        self._now = state
        for share in self.shares:
            share.push(state)

    @property
    def shown(self) -> TrainState:
        """The current state for a user, who may assign arrays inside its dicts."""
        self._watch()
        return self.now

    @shown.setter
    def shown(self, state: TrainState) -> None:
        self.now = state
        self._watch()

    def _pull(self) -> None:
        """Takes the parts that other weights own from these."""
        self._pulling = True
        try:
            for share in self.shares:
                assert self._now is not None
                self._now = share.pull(self._now)
        finally:
            self._pulling = False

    def take_assigned(self) -> None:
        """Takes over what users assigned inside the dicts of these weights and of followers."""
        if self._pulling:  # An owner asks its followers, and this one has just looked.
            return
        for follower in tuple(self.followers):
            follower.take_assigned()
        if self._watched is None or self._now is None:
            return
        if not self._watched.is_of(self._now):
            # Nobody has seen these weights yet.
            self._watched = None
            return
        assigned = self._watched.assigned()
        if assigned:
            self._take(self._watched, assigned)

    def _take(self, watched: Watched, assigned: list[Shown]) -> None:
        before = watched.whole()
        assert self._now is not None
        self._now = self._now.replace(params=before[0], state=before[1])
        self._watched = None
        given = watching.checked(assigned, before, self.network.name)
        # Models that share layers may have taken over other weights meanwhile.
        now = self.now
        params, state = watching.merged((now.params, now.state), before, given)
        self.now = laid_out.with_params(now.replace(state=state), params)
        self._watch().follow(watched, assigned, self.network.weight_specs)

    def _watch(self) -> Watched:
        """The watch over the dicts of the weights, before a user sees them."""
        now = self.now
        if self._watched is None or not self._watched.is_of(now):
            self._watched = Watched(now)
        return self._watched

    @property
    def ordered(self) -> tuple[Tree, Tree]:
        """Params and state for a user, their dicts in the order of creation."""
        watched = self._watch()
        if watched.view is None:
            params, state = self.network.weight_specs
            watched.view = Shown(
                tree.same_order(watched.params, params),
                tree.same_order(watched.state, state),
            )
        return watched.view.weights

    def set_params(self, params: Tree) -> None:
        """Replaces the params by a tree like them. Raises ValueError naming what differs."""
        checked = tree.checked("params", params, self.now.params)
        self.now = laid_out.with_params(self.now, checked)

    def set_state(self, state: Tree) -> None:
        """Replaces the state by a tree like it. Raises ValueError naming what differs."""
        checked = tree.checked("state", state, self.now.state)
        self.now = self.now.replace(state=checked)

    def reset_recurrent_states(self, place: Path = ()) -> None:
        """Sets the states that recurrent layers at path `place` keep back to zeros."""
        now = self.now
        reset = jax.tree_util.tree_map_with_path(_reset, tree.get(now.state, place))
        state = tree.put(now.state, place, reset)
        self.now = now.replace(state=state)

    def keep_state(self, state: Tree) -> None:
        """Keeps the state of stateful layers after an inference."""
        self.shown = self.now.replace(state=undivided(state))

    def inference_key(self) -> tuple[jax.Array, ...]:
        """The key of the next inference, which moves on; nothing for networks that draw none.

        Under a transformation of JAX it moves on while that is traced.
        """
        if not self.network.draws_in_inference:
            return ()
        now = self.now
        with jax.ensure_compile_time_eval():
            key, own = random.split(now.key)
        self.now = now.replace(key=key)
        return (own,)

    # -- making them -----------------------------------------------------------------------------

    def build_for(self, inputs: Tree) -> None:
        """Makes the weights for these input nodes; if it fails, nothing has changed."""
        before = self.network
        self.network = before.with_inputs(inputs)
        try:
            self.build()
        except BaseException:
            self.network = before
            raise

    def build(self) -> None:
        """Makes the weights; under a transformation of JAX they are arrays, too."""
        scoped.refuse_new(self)
        init_key = random.fold_in(self.key, salt("init"))
        eager: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if isinstance(init_key, jax.core.Tracer):
            eager = jax.ensure_compile_time_eval()
        with eager:
            init_key = random.fold_in(self.key, salt("init"))
            part = self.network.compiled
            trial = part.trial()
            params, state = laid_out.made(self, part.layer, init_key, trial)
            refuse_none(part.layer, trial)
            self.start_from(params, state)
            laid_out.lay_out_new(self)

    def start_from(self, params: Tree, state: Tree) -> None:
        """Begins with these weights, except for layers that already have some."""
        before = self.now if self.built else None
        key = random.fold_in(self.key, salt("train"))
        now = TrainState(params, state, None, key)
        if before is not None:
            now = sharing.keep(self, before, now)
        self._now = now
        self.shares = tuple(sharing.shares(self, now))
        for share in self.shares:
            share.owner.followers.add(self)
        sharing.claim(self)

    def forget(self) -> None:
        """Back to no weights, when the inputs of the network are not known any more."""
        self._now = None
        self._watched = None

    def forget_optimizer(self) -> None:
        """Drops the optimizer's state, which is made again when training starts."""
        if self._now is not None:
            self._now = self._now.replace(optimizer=None)

    def refresh_inner_models(self) -> None:
        """Takes the models inside as they are now: which of their weights learn may differ."""
        layer = sharing.refreshed(self)
        if layer is not self.network.layer:
            self.network = self.network.with_layer(layer)

    @property
    def used_as(self) -> Layer | None:
        """The layer that `as_layer` returned last, while something refers to it."""
        if self._as_layer is None:
            return None
        return self._as_layer()

    def as_layer(self) -> Layer:
        """The layer of the network, for use inside another one, which shares these weights."""
        known = self.used_as
        if known is not None and known == self.network.layer:
            return known
        layer = self.network.layer.replace()
        sharing.Owner(self, (), keeps=True).mark(layer)
        # Weak: the table of owners keeps these weights for as long as the layer is used.
        self._as_layer = weakref.ref(layer)
        return layer

    # -- one by one ------------------------------------------------------------------------------

    def entries(self, place: Path = ()) -> list[Entry]:
        """Every weight in Keras's order; only those of the layer at path `place`, if given."""
        params, state = self.ordered
        trees = {"params": params, "state": state}
        return [
            Entry(part, path, tree.get(trees[part], path))
            for part, path in self.network.weight_places(place)
        ]

    def part_with(self, path: Path) -> str | None:
        """The part, "params" or "state", in which an array is at this path.

        It takes over no changes: any attribute of a layer may be looked for here.
        """
        for part in ("params", "state"):
            whole = getattr(self._now, part, {})
            branch = tree.get(whole, path[:-1])
            found = branch.get(path[-1]) if isinstance(branch, dict) else None
            if found is not None and not isinstance(found, dict):
                return part
        return None

    def count(self, place: Path = ()) -> int:
        """The number of scalars in the weights of the layer at path `place`."""
        return sum(entry.array.size for entry in self.entries(place))

    def get(self, place: Path = ()) -> list[np.ndarray]:
        """The weights of the layer at path `place` as NumPy arrays."""
        return [np.asarray(local(entry.array)) for entry in self.entries(place)]

    def set(self, arrays: list[Tree], place: Path = ()) -> None:
        """Replaces the weights of the layer at path `place`, in the order of `get`.

        Raises ValueError that lists every place where number or shape differ.
        """
        old = self.entries(place)
        wrong = [
            f"\n  {'/'.join(entry.path)}: expected {entry.array.shape}, received {np.shape(new)}"
            for entry, new in zip(old, arrays, strict=False)
            if entry.array.shape != np.shape(new)
        ]
        if len(old) != len(arrays) or wrong:
            raise ValueError(
                f"expected {len(old)} arrays like those of get_weights, received {len(arrays)}"
                + "".join(wrong)
            )
        trees = {"params": self.now.params, "state": self.now.state}
        for entry, new in zip(old, arrays, strict=True):
            array = tree.owned(new, entry.array.dtype)
            placed = laid_out.beside(entry.array, array)
            trees[entry.part] = tree.put(trees[entry.part], entry.path, placed)
        self.now = self.now.replace(**trees)

    # -- devices ---------------------------------------------------------------------------------

    def placed(self, x: Tree) -> tuple[Tree, Tree, Tree]:
        """(params, state, a batch) on the devices that compute with them.

        Copies on several devices are made once for as long as the weights stay the same.
        """
        now = self.now
        weights = now.params, now.state
        if type(x) is np.ndarray and current() is None:
            # Neither a distribution nor the user has put the batch on devices.
            return *weights, x
        if self._placed is not None and self._placed.now is now:
            weights = self._placed.params, self._placed.state
        x = divide(x, weights)
        weights = beside(x, weights)
        self._placed = None
        if shared(x, weights) is not None:
            self._placed = Placed(now, *weights)
        return *weights, x


def _restored(network: Network, key: jax.Array, now: TrainState | None) -> Weights:
    """Weights from the parts of a copy or pickle."""
    sharing.forget_kept(network)
    weights = Weights(network, key=key)
    if now is not None:
        weights.now = now
        sharing.claim(weights)
    return weights


def _reset(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> jax.Array:
    """Zeros for the state of a recurrent layer, known by its name."""
    if path[-1].key.startswith("rnn_state"):
        return jnp.zeros_like(leaf)
    return leaf
