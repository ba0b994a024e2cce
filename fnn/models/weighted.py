"""Weighted: a layer together with its current weights, the part of Model that does not train."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import random

from fnn.core import tree, weights
from fnn.core.calling import initialize, snake_case, weight_spec
from fnn.core.context import salt
from fnn.core.layer import Layer
from fnn.models import sharing, watching
from fnn.models.outputs import refuse_none
from fnn.models.structure import Structure
from fnn.models.watching import Shown, Watched
from fnn.runtime.devices import beside, current, distribution_of, divide, undivided
from fnn.runtime.process import check_process
from fnn.runtime.seed import next_key
from fnn.symbolic.node import Node, input_specs, symbolic_call
from fnn.training import checks, inputs
from fnn.training.prediction import Predictor, predictor
from fnn.training.state import TrainState

SMALL_BATCHES = {
    1,
    2,
    4,
    8,
    16,
    32,
}  # which `predict` runs whole and unpadded by default


class Weighted(Structure):
    """A pure layer and the one pytree of its weights; `Model` adds training to it."""

    _shares: tuple[sharing.Share, ...] = ()
    _as_layer: Layer | None = None
    _last_predictor: tuple[Layer, Any, Callable[[], Predictor | None]] | None = None
    _known_stateful: tuple[Layer, bool] | None = None
    _watched: Watched | None = None
    _copies: tuple[TrainState, Any] | None = (
        None  # of weights, on several devices (`_placed`)
    )

    def __init__(
        self, layer: Layer, seed: int | None = None, inputs: Any = None
    ) -> None:
        self.layer, self.name = layer, layer.name or snake_case(type(self).__name__)
        self._key = next_key(seed)
        self._cell = sharing.Cell(inputs)
        self._training = threading.Lock()
        self._followers: weakref.WeakSet[Weighted] = (
            weakref.WeakSet()
        )  # share its weights
        if inputs is not None:
            self._build()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: all but the lock, and what ties this model to others."""
        own = {
            "_cell": (self._inputs, self._now if self.built else None),
            "_shares": (),
        }
        links = "_followers", "_as_layer", "_wired", "_watched", "_copies"
        ties = dict.fromkeys((*links, "_training", "_last_predictor", "_accepts"))
        return {**vars(self), **ties, **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(
            state, _training=threading.Lock(), _followers=weakref.WeakSet()
        )
        self._cell = sharing.Cell(*state["_cell"])
        if self.built:
            sharing.claim(self)

    # -- weights ---------------------------------------------------------------------------------

    @property
    def _inputs(self) -> Any:
        """Nodes, in the structure of the inputs; None while their shape is not known."""
        return self._cell.inputs

    @_inputs.setter
    def _inputs(self, nodes: Any) -> None:
        self._cell.inputs = nodes

    @property
    def built(self) -> bool:
        """Whether there are weights yet."""
        return self._cell.now is not None

    @property
    def train_state(self) -> TrainState:
        """All that training changes, as one pytree. Assigning one goes on from there.

        An array assigned inside its dicts counts too, as in those of `params`.
        """
        self._watch()
        return self._now

    @train_state.setter
    def train_state(self, state: TrainState) -> None:
        self._now = state
        self._watch()

    @property
    def _now(self) -> TrainState:
        """The state as `train_state` has it, for those who leave its dicts as they are."""
        if self._cell.now is None:
            raise ValueError(
                f"expected the model {self.name!r} to have weights, received one whose input shape "
                "is not known yet; give input_shape=(...) to its first layer, call "
                "model.build((None, 10)), or fit or predict first"
            )
        if self._watched is not None or self._followers:
            self._take_assigned()
        for share in self._shares:
            self._cell.now = share.pull(self._cell.now)
        return self._cell.now

    @_now.setter
    def _now(self, state: TrainState) -> None:
        self._watched = self._copies = None
        self._take_assigned()  # what followers have is earlier than `state`, which wins
        self._cell.now = state
        for share in self._shares:
            share.push(state)

    def _take_assigned(self) -> None:
        """Takes over what was assigned inside the weights of this model and of its followers."""
        for follower in tuple(self._followers):
            follower._take_assigned()
        if self._watched is not None:
            watching.take_assigned(self)

    def _watch(self) -> Watched:
        """The watch over the dicts of the weights, which are about to be shown."""
        now, watched = self._now, self._watched
        if watched is None or not watched.is_of(now):
            watched = self._watched = Watched(now)
        return watched

    @property
    def params(self) -> Any:
        """The weights that learn, in dicts nested by layer.

        Assign a tree like it to replace them, or an array inside it to replace that one: `params[
        "dense"]["bias"] = array` is checked and taken over at the next use of the model, or of one
        that shares its layers. After training or another assignment of weights, in any of them, an
        earlier tree is a picture of what was.
        """
        return self._ordered[0]

    @params.setter
    def params(self, params: Any) -> None:
        checked = tree.checked("params", params, self._now.params)
        self._now = self._now.replace(params=checked)

    @property
    def state(self) -> Any:
        """What moves without learning (running averages), in dicts nested by layer, as `params`."""
        return self._ordered[1]

    @state.setter
    def state(self, state: Any) -> None:
        checked = tree.checked("state", state, self._now.state)
        self._now = self._now.replace(state=checked)

    @property
    def _ordered(self) -> tuple[Any, Any]:
        """Params and state with their dicts in the order of creation."""
        watched = self._watch()
        if watched.view is None:
            params, state = weight_spec(self.layer, self._trial())
            watched.view = Shown(
                tree.same_order(watched.params, params),
                tree.same_order(watched.state, state),
            )
        return watched.view.weights

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of this shape, the batch included: `(None, 28, 28, 1)`."""
        several = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
        node = lambda shape: Node(None, (), input_specs(shape))
        self._build_for(tuple(map(node, input_shape)) if several else node(input_shape))

    def _build_for(self, nodes: Any) -> None:
        """Makes the weights for these inputs; if it fails, the model is as it was."""
        before, self._inputs = self._inputs, nodes
        try:
            self._build()
        except BaseException:
            self._inputs = before
            raise

    def _build(self) -> None:
        init_key = lambda: random.fold_in(self._key, salt("init"))
        traced = isinstance(
            init_key(), jax.core.Tracer
        )  # under jit weights are arrays, too
        with jax.ensure_compile_time_eval() if traced else contextlib.nullcontext():
            params, state = initialize(self.layer, init_key(), self._trial())
            refuse_none(self.layer, self._trial())
            self._start_from(params, state)

    def _start_from(self, params: Any, state: Any) -> None:
        """Begins with these weights, but for layers that have some: here before, or elsewhere."""
        before = self._now if self.built else None
        now = TrainState(params, state, None, random.fold_in(self._key, salt("train")))
        now = sharing.inherit(self, now)
        self._cell.now = now if before is None else sharing.keep(self, before, now)
        self._shares = tuple(sharing.shares(self, now))
        for share in self._shares:
            share.owner._followers.add(self)
        sharing.claim(self)

    def _trial(self, index: int = 0) -> Any:
        """Shapes and dtypes of the inputs, at one of the trial sizes for what is free."""
        return jax.tree.map(lambda node: node.specs[index], self._inputs)

    def get_weights(self) -> list[np.ndarray]:
        """All weights as NumPy arrays, layer by layer, what learns before what moves."""
        return self._weights_at(())

    def set_weights(self, arrays: list[Any]) -> None:
        """Replaces all weights, in the order of `get_weights`. All or nothing.

        Raises ValueError listing every place where number or shape differ.
        """
        self._set_weights_at((), arrays)

    def _weights_at(self, place: tree.Path) -> list[np.ndarray]:
        """The weights of the layer whose path is `place`."""
        return [np.asarray(array) for _, _, array in self._in_order(place)]

    def _set_weights_at(self, place: tree.Path, arrays: list[Any]) -> None:
        old = self._in_order(place)
        wrong = [
            f"{'/'.join(path)}: expected {a.shape}, received {np.shape(b)}"
            for (_, path, a), b in zip(old, arrays, strict=False)
            if a.shape != np.shape(b)
        ]
        if len(old) != len(arrays) or wrong:
            raise ValueError(
                f"expected {len(old)} arrays like those of get_weights, received {len(arrays)}"
                + "".join(f"\n  {line}" for line in wrong)
            )
        parts: dict[str, Any] = {"params": self._now.params, "state": self._now.state}
        for (part, path, a), b in zip(old, arrays, strict=True):
            parts[part] = tree.put(parts[part], path, tree.owned(b, a.dtype))
        self._now = self._now.replace(**parts)

    def _in_order(self, place: tree.Path = ()) -> list[tuple[str, tree.Path, Any]]:
        """Every weight as ("params" or "state", path, array on the device), in Keras's order.

        Of one layer alone, by its path, if `place` is given.
        """
        params, state = self._ordered
        parts = {"params": params, "state": state}
        order = weights.in_order(self.layer, params, state)
        inside = [(part, path) for part, path in order if path[: len(place)] == place]
        return [(part, path, tree.get(parts[part], path)) for part, path in inside]

    @property
    def weights(self) -> list[jax.Array]:
        """All weights as arrays on the device, in the order of `get_weights`."""
        return [array for _, _, array in self._in_order()]

    @property
    def trainable_weights(self) -> list[jax.Array]:
        """Those that learn: not of frozen layers, and nothing that moves by itself."""
        return [array for array, learns in self._which_learn() if learns]

    @property
    def non_trainable_weights(self) -> list[jax.Array]:
        """Those of frozen layers, and those that move without learning."""
        return [array for array, learns in self._which_learn() if not learns]

    def _which_learn(self) -> Iterator[tuple[jax.Array, bool]]:
        learning = dict(tree.flatten(weights.split(self.layer, self._now.params)[0]))
        for part, path, array in self._in_order():
            yield array, part == "params" and path in learning

    def count_params(self) -> int:
        """How many numbers the weights hold, those that move included."""
        return sum(array.size for _, _, array in self._in_order())

    # -- use -------------------------------------------------------------------------------------

    def as_layer(self) -> Layer:
        """The pure network, for use inside another, which shares the weights of this model."""
        if self._as_layer is None or self._as_layer != self.layer:
            self._as_layer = self.layer.replace()
            sharing.Owner(self, (), self._cell).mark(self._as_layer)
        return self._as_layer

    def __iter__(self) -> Iterator[Any]:
        """`init, apply = model`: the pair of the pure network."""
        return iter(self.layer)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """A node of a graph for symbolic inputs; for arrays the outputs, on the device."""
        if any(isinstance(leaf, Node) for leaf in jax.tree.leaves(given)):
            if not self.built:
                one = given[0] if len(given) == 1 else given
                self._build_for(tuple(one) if isinstance(one, list) else one)
            result = symbolic_call(self.as_layer(), given, named)
            for node in jax.tree.leaves(result):
                node.source = self
            return result
        asked = [
            n for n, value in named.items() if value is not None and value is not False
        ]
        if asked:
            raise TypeError(
                f"expected arrays alone, which run as in inference, received {asked[0]!r} too; use "
                "apply(params, state, x, Context(train=True, key=key)) of model.layer, which takes "
                "masks as Masked(x, mask)"
            )
        x = self._as_inputs(
            given[0] if len(given) == 1 else given, several=len(given) > 1
        )
        checks.input_values(self.layer, x)
        # JAX may read the caller's memory after this call has returned.
        own = lambda a: np.array(a, copy=True) if isinstance(a, np.ndarray) else a
        return self._forward(own(x) if hasattr(x, "shape") else jax.tree.map(own, x))

    def _as_inputs(self, x: Any, finite: bool = True, several: bool = False) -> Any:
        """`x` as the arrays that the network takes; the model is built if it was not."""
        check_process()
        several = several or isinstance(self._inputs, (tuple, dict))
        if self.built and not several:
            inputs.refuse_several(x, self._inputs)
        elif not self.built:
            several = several or inputs.are_arrays(x)
        x = inputs.as_inputs(x, several, finite=finite)
        if not self.built:
            specs = lambda a: input_specs((None, *a.shape[1:]), a.dtype)
            self._build_for(jax.tree.map(lambda a: Node(None, (), specs(a)), x))
        x = inputs.by_node(x, self._inputs)
        inputs.check_axes(x, self._inputs)
        return x

    def _forward(self, x: Any) -> Any:
        """The outputs for a batch on the device; layers that are stateful go on from there.

        Under a transformation of JAX they do not: what it traces has no numbers yet.
        """
        program, carry = self._predictor(x), self._carry
        params, now, x = self._placed(x)
        outputs, state = program.step(params, now, x)
        if carry and not any(
            isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(state)
        ):
            carry((params, state))
        return outputs

    def _placed(self, x: Any) -> tuple[Any, Any, Any]:
        """(params, state, a batch) on the devices that compute with them.

        Copies on several devices are made once for as long as the weights stay what they are.
        """
        now = self._now
        weights = now.params, now.state
        if self._copies is not None and self._copies[0] is now:
            weights = self._copies[1]
        x = divide(x, weights)
        weights = beside(x, weights)
        self._copies = None if distribution_of(x, weights) is None else (now, weights)
        return *weights, x

    def _room(self, size: int, may_pad: Callable[[], bool]) -> int:
        """The size to which batches of `size` are padded, so that the devices divide it."""
        own = current()
        if own is None or size < own.parts or size == own.room(size):
            return size
        return size if self._is_stateful or not may_pad() else own.room(size)

    def _predictor(self, x: Any) -> Predictor:
        """The compiled forward function for batches like `x`; the last one is at hand."""
        kind = tree.kind(x)
        last = self._last_predictor
        if last is not None and last[0] is self.layer and last[1] == kind:
            program = last[2]()  # None if the cache of programs has dropped it
            if program is not None:
                return program
        program = predictor(self.layer, kind)
        self._last_predictor = self.layer, kind, weakref.ref(program)
        return program

    def _predicts_at_once(self, x: Any, batch_size: Any) -> bool:
        """Whether the last program takes `x` as it is: an array like the one that came before."""
        last = self._last_predictor
        return (
            type(x) is np.ndarray
            and last is not None
            and last[0] is self.layer
            and last[1] == tree.kind(x)
            and len(x) in SMALL_BATCHES
            and (
                batch_size is None or (type(batch_size) is int and batch_size >= len(x))
            )
            and not self._is_stateful
        )

    @property
    def _is_stateful(self) -> bool:
        """Whether a layer inside carries its state from one call to the next."""
        known = self._known_stateful
        if known is None or known[0] is not self.layer:
            known = self._known_stateful = self.layer, weights.is_stateful(self.layer)
        return known[1]

    @property
    def _carry(self) -> Callable[[Any], None] | None:
        """What keeps the state after an inference; None where no layer is stateful."""
        if not self._is_stateful:
            return None
        keep = lambda state: setattr(
            self, "train_state", self._now.replace(state=state)
        )
        return lambda weighted: keep(undivided(weighted[1]))
