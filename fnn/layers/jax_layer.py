"""JaxLayer and FlaxLayer: functions and modules of other JAX libraries as layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import random_seed
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree, path_name
from fnn.layers.shared.dropping import seeded_key

_OF_CALL = ("params", "state", "rng", "inputs", "training")
_OF_INIT = ("rng", "inputs", "training")


class Initial:
    """Initial weights that a user passed; equal only to itself, so that the layer has a hash."""

    def __init__(self, values: Tree) -> None:
        self.values = values

    def __repr__(self) -> str:
        return arguments.shown(self.values, 60)


def _held(values: Tree) -> Initial | None:
    """Initial weights as a field holds them."""
    if values is None or isinstance(values, Initial):
        return values
    return Initial(values)


class JaxLayer(Layer):
    """A function of JAX with weights, such as Haiku's and Equinox's, as a layer.

    `call_fn` is called by these names, as many as it has: `params`, `state`, `rng`, `inputs`,
    `training`; `inputs` is needed. With `state` it returns (outputs, new state), else outputs.
    `init_fn(rng, inputs, training)` returns the initial params, or (params, state); without it
    pass `params` and `state`, any pytrees. `rng` is a key in training and None otherwise.
    Raises ValueError for other arguments of the functions, and without initial weights. A
    saved model needs `fnn.register` on both functions, and `init_fn`.

    >>> def scaled(params, inputs):
    ...     return params["scale"] * inputs
    >>> layer = JaxLayer(scaled, lambda rng, inputs: {"scale": jnp.full((), 3.0)})
    >>> layer.apply(*layer.init(jax.random.key(0), jnp.ones(2)), jnp.ones(2))[0].tolist()
    [3.0, 3.0]
    """

    call_fn: Callable[..., Tree]
    init_fn: Callable[..., Tree] | None = None
    params: Any = field(default=None, metadata={"convert": _held})
    state: Any = field(default=None, metadata={"convert": _held})
    seed: int | None = random_seed(default=None)
    native_serialization_platforms: Any = None

    def validate(self) -> None:
        _check_signature(self, "call_fn", self.call_fn, _OF_CALL)
        if self.init_fn is not None:
            _check_signature(self, "init_fn", self.init_fn, _OF_INIT)
        given = (self.init_fn, self.params, self.state)
        takes_weights = {"params", "state"} & _names(self.call_fn)
        if given == (None, None, None) and takes_weights:
            raise ValueError(
                "JaxLayer: expected init_fn, params or state, since call_fn takes weights, "
                "received none of them; pass init_fn, a function of rng and inputs that "
                "returns params"
            )

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params, state = self._initial(key, x)
        return _as_dicts(params), _as_dicts(state)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        like, like_state = jax.eval_shape(self._initial, jax.random.key(0), x)
        rng = None
        if ctx.train and "rng" in _names(self.call_fn):
            rng = seeded_key(self, ctx)
        given = {
            "params": _like(like, params),
            "state": _like(like_state, state),
            "rng": rng,
            "inputs": x,
            "training": ctx.train,
        }
        outputs = _call(self.call_fn, given)
        if "state" not in _names(self.call_fn):
            return outputs, state
        outputs, new_state = outputs
        return outputs, _as_dicts(new_state)

    def _initial(self, key: Array, x: SpecTree) -> tuple[Tree, Tree]:
        """Params and state as the functions hold them."""
        if self.params is not None or self.state is not None:
            return _values(self.params), _values(self.state)
        if self.init_fn is None:
            return {}, {}
        given = {"rng": key, "inputs": _ones(x), "training": True}
        made = _call(self.init_fn, given)
        if "state" in _names(self.call_fn):
            params, state = made
            return params, state
        return made, {}


class FlaxLayer(Layer):
    """A module of Flax (`flax.linen.Module`) as a layer.

    `method` is the method that computes, by default `__call__`, or a function whose first
    argument is the module; it takes `inputs`, and `training` if it needs it. `variables` are
    initial weights, as `module.init` returns them. Collections other than "params" are the state.
    Random numbers in training come from the stream "dropout" and all others that the module asks
    for by default.

    >>> import flax.linen as nn  # doctest: +SKIP
    >>> model = fnn.Sequential([FlaxLayer(nn.Dense(3)), fnn.layers.Dense(1)])  # doctest: +SKIP
    """

    module: Any
    method: Any = None
    variables: Any = field(default=None, metadata={"convert": _held})

    def validate(self) -> None:
        if not hasattr(self.module, "init") or not hasattr(self.module, "apply"):
            expected = "to be a module of Flax, with init and apply"
            raise arguments.wrong(self, "module", expected, self.module)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        params, state = self._initial(key, x)
        return _as_dicts(params), _as_dicts(state)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        like, like_state = jax.eval_shape(self._initial, jax.random.key(0), x)
        rngs = {}
        if ctx.train and ctx.key is not None:
            rngs = {"dropout": ctx.random_key("dropout")}
        collections = _like(like_state, state)
        variables = {"params": _like(like, params), **collections}
        options = self._options(ctx.train)
        if not collections:
            outputs = self.module.apply(variables, x, rngs=rngs, **options)
            return outputs, state
        outputs, changed = self.module.apply(
            variables, x, rngs=rngs, mutable=list(collections), **options
        )
        return outputs, _as_dicts({**collections, **changed})

    def _initial(self, key: Array, x: SpecTree) -> tuple[Tree, Tree]:
        variables = _values(self.variables)
        if not variables:
            rngs = {}
            for n, name in enumerate(_RNGS):
                rngs[name] = jax.random.fold_in(key, n)
            variables = self.module.init(rngs, _ones(x), **self._options(True))
        collections = dict(variables)
        return collections.pop("params", {}), collections

    def _options(self, train: bool) -> dict[str, Any]:
        """The arguments of the module's init and apply beside its inputs."""
        method = self.method
        if isinstance(method, str):
            method = getattr(type(self.module), method)
        options = {"method": method}
        if "training" in _names(method or type(self.module).__call__):
            options["training"] = train
        return options


_RNGS = ("params", "dropout")


def _names(function: Callable[..., Any]) -> set[str]:
    """The names of the arguments of a function."""
    return set(inspect.signature(function).parameters)


def _check_signature(
    layer: Layer,
    name: str,
    function: Callable[..., Any],
    allowed: tuple[str, ...],
) -> None:
    """Raises ValueError for a function that takes other arguments, or no `inputs`."""
    names = _names(function)
    if "inputs" in names and names <= set(allowed):
        return
    expected = f"to be a function of inputs, and of others among {', '.join(allowed)}"
    received = f"a function of {', '.join(sorted(names)) or 'nothing'}"
    raise ValueError(
        f"{type(layer).__name__}: expected {name} {expected}, received {received}; wrap it in "
        "a function with these names"
    )


def _call(function: Callable[..., Tree], given: Mapping[str, Tree]) -> Tree:
    """The function with those arguments that it has, by name."""
    return function(**{name: given[name] for name in _names(function)})


def _ones(x: SpecTree) -> Tree:
    """Inputs from which the functions make weights."""
    return jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), x)


def _values(held: Any) -> Tree:
    """Initial weights as a tree of arrays."""
    if held is None:
        return {}
    return jax.tree.map(jnp.asarray, held.values)


def _as_dicts(tree: Tree) -> dict[str, Any]:
    """The leaves of any pytree in nested dicts by their paths."""
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *before, last = path_name(path).split("/")
        branch = found
        for name in before:
            branch = branch.setdefault(name, {})
        branch[last or "value"] = leaf
    return found


def _like(tree: Tree, held: dict[str, Any]) -> Tree:
    """The pytree with the structure of `tree` that `_as_dicts` took apart."""

    def leaf(path: Any, _: object) -> Any:
        branch: Any = held
        for name in path_name(path).split("/"):
            branch = branch[name or "value"]
        return branch

    return jax.tree_util.tree_map_with_path(leaf, tree)
