"""Cells: layers called on arrays; each keeps weights of its own, beside the layer."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import tree, tying
from fnn.core.calling import call, output_spec, walk, weight_spec
from fnn.core.context import Context, Masked, NeedsKeyError, is_masked, strip_masks
from fnn.core.layer import Layer, Params, State
from fnn.core.registry import snake_case
from fnn.core.tree import Path, Tree
from fnn.layers.rnn import initial_states
from fnn.models import scoped, sharing
from fnn.models.network import Network
from fnn.models.sharing import Owner, owner_of
from fnn.models.variables import variable_at
from fnn.models.weights import Weights
from fnn.models.wiring import free_batch, node_of
from fnn.preprocessing.adapting import Adapting
from fnn.preprocessing.host import cut, has_host
from fnn.preprocessing.strings import as_host, as_plain
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.program_cache import KEPT, Copied, programs
from fnn.subclassing import Methods, objects, running_frame
from fnn.subclassing.tracking import variables_in
from fnn.symbolic.node import bound_call
from fnn.variables import ArrayLike, value_of

Named: TypeAlias = dict[str, Tree]


def on_arrays(layer: Layer, inputs: tuple[Tree, ...], named: Named) -> Tree:
    """The outputs of a layer for arrays; its weights are made at the first call.

    Inside the `call` of a class in Keras's way they are those that the class is applied to.
    """
    frame = running_frame()
    if frame is not None:
        outputs = frame.run(layer, inputs, named)
        if outputs is not NotImplemented:
            return outputs
    objects.look()
    if not inputs and not named:
        raise TypeError(
            f"{type(layer).__name__}: expected the inputs of the layer, arrays or nodes (from "
            "Input), received nothing; call layer(x)"
        )
    for leaf in jax.tree.leaves((inputs, named)):
        refuse_keras(leaf)
    named = dict(named)
    training = named.pop("training", None)
    if training is None:
        training = layer.training_alone
    inputs = tuple(map(as_arrays, inputs))
    named = {name: as_arrays(value) for name, value in named.items()}
    if layer.masking != "refuse" and "mask" not in named:
        inputs = jax.tree.map(_with_mask, inputs)
    whole = bound_call(layer, inputs, named)
    run, x = _after_host(*whole)
    owner = owner_of(layer)
    if owner is None or _lacks_weights(owner, run, x):
        if frame is not None or is_traced(x):
            return _without_weights(layer, run, x, bool(training))
        owner = _own_cell(layer, *whole)
    assert owner.weights is not None
    return forward(owner.weights, owner.path, run, x, bool(training))


def _lacks_weights(owner: Owner, run: Layer, x: Tree) -> bool:
    """Whether a layer has no weights yet: `call` of the model around it may not use it."""
    weights = owner.weights
    if weights is None or not weights.built:
        return True
    ties = weights.network.ties
    for part in (weights.now.params, weights.now.state):
        if tying.take(part, owner.path, ties):
            return False
    return bool(owner.path and jax.tree.leaves(weight_spec(run, x)))


def forward(
    weights: sharing.Weights, path: Path, run: Layer, x: Tree, training: bool
) -> Tree:
    """The outputs of a layer with the weights at `path`; state and randomness move on."""
    now = held = scoped.current(weights)
    ties = weights.network.ties
    params = tying.take(now.params, path, ties)
    state = tying.take(now.state, path, ties)
    program: Callable[..., Tree] = _program(run, training)
    if tree.has_strings(x):  # of a class with `call`, which is not compiled then
        program = functools.partial(_forward, run, training)
    try:
        y, new_state = program(params, state, x, None)
    except NeedsKeyError:
        moved, key = jax.random.split(now.key)
        now = now.replace(key=moved)
        y, new_state = program(params, state, x, key)
    in_scope = scoped.keep(weights, path, new_state)
    if new_state and not in_scope and not is_traced(new_state):
        whole = tying.give(now.state, path, new_state, ties)
        now = now.replace(state=whole)
    if now is not held and not in_scope and not is_traced(x):
        weights.now = now
    return jax.tree.map(_without_mask, y, is_leaf=is_masked)


def _after_host(run: Layer, x: Tree) -> tuple[Layer, Tree]:
    """A layer without the part that runs on the host, and its inputs after that part."""
    if not has_host(run) or is_traced(x):
        return run, x
    x = jax.tree.map(functools.partial(as_host, run), x)
    parts = cut(run, tree.spec(x))
    if parts is None:
        return run, x
    return parts.rest, parts.run(x)


def learn(layer: Layer, like: Tree, learned: dict[str, np.ndarray]) -> None:
    """Puts arrays into the state of a layer, whose weights are made for inputs like `like`."""
    owner = owner_of(layer)
    if owner is None or owner.weights is None or not owner.weights.built:
        owner = _own_cell(layer, layer, like)
    weights = owner.weights
    assert weights is not None
    now = weights.now
    state = dict(tree.get(now.state, owner.path))
    for name, value in learned.items():
        if value.shape != state[name].shape:
            raise ValueError(
                f"{type(layer).__name__}: expected data for {name} of shape {state[name].shape}, "
                f"as the layer has in {weights.network.name!r}, received data for {value.shape}; "
                "adapt to data like the inputs there"
            )
        state[name] = tree.owned(value, state[name].dtype)
    whole = tree.put(now.state, owner.path, state)
    weights.now = now.replace(state=whole)


def _with_mask(array: Tree) -> Tree:
    """An array with the mask that the layer before has left on it."""
    mask = getattr(array, "_keras_mask", None)
    if mask is None:
        return array
    return Masked(array, mask)


def _without_mask(leaf: Tree) -> Tree:
    """A plain array, on which the mask is left as in Keras."""
    if not is_masked(leaf):
        return leaf
    with contextlib.suppress(AttributeError):  # some traced arrays take no attributes
        leaf.values._keras_mask = leaf.mask
    return leaf.values


class _Compiled:
    """A layer as a compiled function of weights, inputs and a key.

    Raises NeedsKeyError without a key, if the layer draws random numbers.
    """

    def __init__(self, layer: Layer, training: bool) -> None:
        self._draws = False
        self._run = jax.jit(functools.partial(_forward, layer, training))

    def __call__(
        self, params: Params, state: State, x: Tree, key: jax.Array | None
    ) -> tuple[Tree, State]:
        if self._draws and key is None:
            raise NeedsKeyError
        try:
            found: tuple[Tree, State] = self._run(params, state, x, key)
        except NeedsKeyError:
            self._draws = True
            raise
        return found


@programs.cached
def _program(layer: Layer, training: bool) -> _Compiled:
    return _Compiled(layer, training)


def _forward(
    layer: Layer,
    training: bool,
    params: Params,
    state: State,
    x: Tree,
    key: jax.Array | None,
) -> tuple[Tree, State]:
    return call(layer, params, state, x, Context(train=training, key=key))


def _own_cell(layer: Layer, run: Layer, x: Tree) -> Owner:
    """New weights for a layer that has none, as inputs like `x` need them."""
    name = layer.name or snake_case(type(layer).__name__)
    # `run` is the layer as this call runs it, with the same weights.
    inner = layer.replace() if run is layer else run
    weights = Weights(Network(inner, None, name))
    weights.build_for(nodes_like(inner, strip_masks(x)))
    seed = getattr(layer, "seed", None)
    if seed is not None:
        # Equal layers draw the same numbers, call by call, as in Keras.
        weights.now = weights.now.replace(key=jax.random.key(seed))
    owner = Owner(weights, (), keeps=True)
    owner.mark(layer)
    sharing.claim(weights, layer)
    return owner


def copy_weights(original: Any, copied: Any) -> None:
    """Gives a copy of a layer weights of its own, equal to those of the original."""
    whole = copied
    if not isinstance(copied, Layer):
        if "_weights" not in vars(copied):
            return  # an object on which `call` runs
        whole = copied.layer
    layers = [layer for _, layer, _ in walk(whole)]
    for thing in (copied, *layers):
        if isinstance(thing, Methods) and "_subject" not in vars(thing):
            for held in variables_in(thing).values():
                thing._adopt(held)
    owner = None
    if isinstance(original, Layer):
        owner = owner_of(original)
    if owner is None or owner.weights is None or not owner.weights.built:
        return
    inputs = sharing.stated_inputs(original)
    if not owner.path:
        inputs = owner.weights.network.inputs
    if inputs is None:
        return
    now = owner.weights.now
    weights = Weights(Network(copied.replace(), inputs, original.name or ""))
    params = tree.get(now.params, owner.path)
    state = tree.get(now.state, owner.path)
    weights.start_from(params, state)
    Owner(weights, (), keeps=True).mark(copied)
    sharing.claim(weights, copied)


class Kept(NamedTuple):
    """The weights of a layer in a pickle: its branches, the nodes of its inputs, its keys."""

    params: Tree
    state: Tree
    inputs: Tree
    keys: tuple[jax.Array, jax.Array]


def kept_weights(thing: Any) -> Kept | None:
    """The weights that a pickle of a layer holds; in that of a model they are there once."""
    owner = owner_of(thing) if isinstance(thing, Layer) else None
    if owner is None or owner.weights is None or not owner.weights.built:
        return None
    weights = owner.weights
    inputs = weights.network.inputs
    if owner.path:
        inputs = sharing.stated_inputs(thing)
    if inputs is None:
        return None
    now = weights.now
    params = tree.get(now.params, owner.path)
    state = tree.get(now.state, owner.path)
    return Kept(params, state, inputs, (weights.key, now.key))


def revive(layer: Layer) -> None:
    """Gives a layer from a pickle the weights that it had, if no model has."""
    kept: Kept = vars(layer).pop(KEPT)
    network = Network(layer.replace(), kept.inputs, layer.name or "")
    weights = Weights(network, key=kept.keys[0])
    weights.start_from(kept.params, kept.state)
    weights.now = weights.now.replace(key=kept.keys[1])
    Owner(weights, (), keeps=True).mark(layer)
    sharing.claim(weights, layer)


def nodes_like(layer: Layer, x: Tree) -> Tree:
    """Nodes for inputs like `x`: of any batch size, if the layer takes such."""
    free = jax.tree.map(free_batch, x)
    with contextlib.suppress(Exception):
        output_spec(layer, jax.tree.map(lambda node: node.specs[0], free))
        output_spec(layer, jax.tree.map(lambda node: node.specs[1], free))
        return free
    return jax.tree.map(lambda a: node_of(a.shape, a.dtype), x)


def build(layer: Layer, input_shape: Tree) -> None:
    """Makes the weights of a layer for inputs of this shape, as its first call would."""
    frame = running_frame()
    like = _specs_of(input_shape)
    if getattr(layer, "state_size", None) is not None:  # a cell, which gets states too
        size = like.shape[0]
        like = (like, jax.eval_shape(lambda: initial_states(layer, size)))
    if frame is not None and frame.declare(layer, like):
        return
    owner = owner_of(layer)
    if owner is None or _lacks_weights(owner, layer, like):
        _own_cell(layer, layer, like)


def _specs_of(shape: Tree) -> Tree:
    """Arrays of floats of a shape, or of a list or dict of shapes, as far as they are known."""
    if isinstance(shape, dict):
        return {name: _specs_of(item) for name, item in shape.items()}
    if shape and isinstance(shape[0], (tuple, list)):
        return tuple(map(_specs_of, shape))
    sizes = tuple(2 if size is None else size for size in shape)
    return tree.array_spec(sizes, jnp.dtype("float32"))


def _without_weights(layer: Layer, run: Layer, x: Tree, training: bool) -> Tree:
    """The outputs of a layer that needs no weights. Raises ValueError for others."""
    params, state = weight_spec(run, x)
    if not jax.tree.leaves((params, state)):
        frame = running_frame()
        ctx = Context(train=training)
        if frame is not None:
            ctx = frame.ctx.child(type(layer).__name__)
        x = jax.tree.map(jnp.asarray, x)
        return strip_masks(call(run, {}, {}, x, ctx)[0])
    name = type(layer).__name__
    if running_frame() is not None:
        raise ValueError(
            f"{name}: expected a layer that is an attribute of the layer whose call runs, received "
            "one made in call, whose weights would be new each time; make it in __init__ or build, "
            "self.layer = ..., and call that"
        )
    raise ValueError(
        f"{name}: expected a layer with weights inside a transformation of JAX, received one that "
        "has none yet; make them before, layer.build(input_shape), or use "
        "params, state = layer.init(key, x) and layer.apply(params, state, x)"
    )


def _is_variable(leaf: object) -> bool:
    return isinstance(leaf, ArrayLike)


def is_traced(x: Tree) -> bool:
    """Whether an array is traced by JAX, so that its values are not known."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x))


def as_arrays(given: Tree) -> Tree:
    """An argument for a compiled program, with the values of variables; lists as arrays."""
    leaves = jax.tree.leaves(given, is_leaf=_is_variable)
    are_numbers = all(isinstance(leaf, (int, float)) for leaf in leaves)
    if isinstance(given, (list, tuple)) and leaves and are_numbers:
        return jnp.asarray(given)
    if isinstance(given, list) and leaves and isinstance(leaves[0], (str, bytes)):
        return np.asarray(given)
    return jax.tree.map(_as_array, given, is_leaf=_is_variable)


def _as_array(leaf: Tree) -> Tree:
    leaf = as_plain(value_of(leaf))
    if hasattr(leaf, "numpy"):  # an eager tensor of TensorFlow or PyTorch
        leaf = np.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub":
        # A copy in JAX's dtype: a compiled program takes it without an operation of its own.
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return np.array(leaf, dtype)
    return leaf


def _variable(layer: Layer, path: Path) -> ArrayLike | None:
    """The weight at a path inside a layer that has weights."""
    weights = vars(layer).get("_weights")  # of a model
    if weights is not None and weights.built:
        return variable_at(weights, path)
    owner = None
    if weights is None:
        owner = owner_of(layer)
    elif weights.used_as is not None:
        # Only its parts are called, by a model around it, which has its weights.
        owner = owner_of(weights.used_as)
    if owner is None or owner.weights is None or not owner.weights.built:
        return None
    return variable_at(owner.weights, (*owner.path, *path))


Layer.on_arrays = staticmethod(on_arrays)
Copied.on_copied = staticmethod(copy_weights)
Copied.on_pickled = staticmethod(kept_weights)
Owner.on_kept = staticmethod(revive)
Adapting.on_weights = staticmethod(learn)
Methods.on_variable = staticmethod(_variable)
