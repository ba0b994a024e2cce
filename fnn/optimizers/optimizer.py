"""Optimizer: a frozen value that is an optax transformation, in Keras's words."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from fnn.core.named import Named, of_kind
from fnn.core.value import resolve
from fnn.optimizers.bound import unbound
from fnn.optimizers.rates import is_own
from fnn.runtime.initial_values import without_compiling

State: TypeAlias = Any

# The arguments that Keras's optimizers share, in the order in which they follow their own.
SHARED = (
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "name",
)


class Optimizer(Named, loadable=False):
    """What turns gradients into updates: `init(params) -> state`, `update(grads, state, params)`.

    It is an optax transformation: `updates, state = optimizer.update(grads, state, params)`, the
    updates are added (`optax.apply_updates`), `optax.chain(optimizer, ...)` takes it.

    For a rule of your own write that pair, or, where gradients at one point are not enough,
    `get_updates(loss, params)`: training calls it in place of both. `loss` is a pure function of
    `params`. It returns what to add: a tree like `params`, or a dict of "path/to/weight" -> update
    (or a part of the tree), what is left out stays as it is; or a list of all, in the order of
    `jax.tree.leaves(params)`. Plain gradient descent is

    >>> class Descent(Optimizer):
    ...     def __init__(self, learning_rate=0.01):
    ...         super().__init__()
    ...         self.learning_rate = learning_rate
    ...     def get_updates(self, loss, params):
    ...         grads = jax.grad(loss)(params)
    ...         return jax.tree.map(lambda g: -self.learning_rate * g, grads)
    >>> Descent(0.5).get_updates(lambda params: params["w"] ** 2, {"w": 3.0})["w"].item()
    -3.0
    """

    kind: ClassVar[str] = "optimizer"

    learning_rate: Any = None

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        """A class's own arguments, then `SHARED`, then what else its bases have.

        But for a method of Keras's, which changes the optimizer, and none of its arguments.
        """
        shared = [name for name in SHARED if name in keyword]
        rest = [
            n for n in keyword if n not in shared and n != "exclude_from_weight_decay"
        ]
        return [*own, *shared, *rest]

    def init(self, params: Any) -> State:
        """The state before the first step: the step, and the learning rate of that step."""
        rate, step = getattr(self, "learning_rate", None), jnp.zeros((), jnp.int32)
        state: dict[str, Any] = {"step": step}
        if callable(rate):
            state["scheduled"] = jnp.ones(
                (), bool
            )  # until a number is set in place of it
            rate = rate(step)
        if rate is not None:
            state["learning_rate"] = jnp.asarray(rate, jnp.float32)
        return state

    def rate_at(self, state: State, step: Any) -> Array:
        """The learning rate of a step: that of the schedule, unless a number was set instead."""
        held, rate = state["learning_rate"], getattr(self, "learning_rate", None)
        if not callable(rate):
            return held
        return jnp.where(state["scheduled"], jnp.asarray(rate(step), jnp.float32), held)

    def update(
        self, grads: Any, state: State, params: Any = None, **extra: Any
    ) -> tuple[Any, State]:
        """(updates to add, new state)."""
        raise TypeError(
            f"expected {type(self).__name__} to define update(grads, state, params), received a "
            "class without it; write it, or get_updates(loss, params)"
        )

    @property
    def inner(self) -> tuple[Any, ...]:
        """The optimizers that this one is made of."""
        return ()

    @property
    def accumulates(self) -> bool:
        """Whether gradients may wait in the state, for `flush`."""
        return any(getattr(rule, "accumulates", False) for rule in self.inner)

    @property
    def averages(self) -> bool:
        """Whether a running average of the weights is kept in the state, for `average`."""
        return any(getattr(rule, "averages", False) for rule in self.inner)

    def flush(self, state: State, params: Any) -> tuple[Any, State]:
        """(updates, new state) by gradients that wait in the state; for the end of an epoch."""
        return jax.tree.map(jnp.zeros_like, params), state

    def average(self, state: State, params: Any) -> Any:
        """The weights to keep after training; `params` unless their average is kept."""
        return params

    def without_rate(self) -> Any:
        """This optimizer without what its state holds anyway; see `without_rate`."""
        return self

    def with_rate_of(self, state: State) -> Any:
        """This optimizer with the learning rate that was set in a state; see `with_rate_of`."""
        own, held = getattr(self, "learning_rate", None), _held_rate(state)
        if own is None or held is None:
            return self
        unset = state["scheduled"] if callable(own) else held == np.float32(own)
        return self if unset else self._changed(learning_rate=held.item())

    def _changed(self, **attributes: Any) -> Any:
        """A copy with some attributes changed, of a class with an `__init__` of its own too."""
        changed = copy.copy(self)
        for name, value in attributes.items():
            object.__setattr__(changed, name, value)
        return changed

    def _instead(self, name: str, value: Any) -> str:
        if name == "learning_rate":
            return f"set model.learning_rate = {value!r}, which holds from the next step on"
        return super()._instead(name, value)

    def __iter__(self) -> Iterator[Any]:
        """`init, update = optimizer`."""
        return iter((self.init, self.update))


def without_rate(optimizer: Any) -> Any:
    """What a step needs of the optimizer: None for a learning rate that is a number.

    That number stands in the state, so optimizers that differ in nothing else come out equal and
    share a compiled step. A rule that reads its own number inside a step fails, as it should.

    >>> from fnn.optimizers import SGD
    >>> without_rate(SGD(0.5)) == without_rate(SGD(0.1))
    True
    """
    optimizer = unbound(optimizer)
    if not isinstance(optimizer, Optimizer):
        return optimizer
    bare = vars(optimizer).get("_fnn_bare")  # made once for a value
    if bare is None:
        bare = optimizer.without_rate()
        if bare is not optimizer and "_sealed" in vars(optimizer):
            object.__setattr__(optimizer, "_fnn_bare", bare)
    return bare


def with_rate_of(optimizer: Any, state: State) -> Any:
    """The optimizer with the learning rate in its state, where one was set; optax's as they are.

    >>> from fnn.optimizers import SGD, with_learning_rate
    >>> with_rate_of(SGD(0.5, 0.9), with_learning_rate(SGD(0.5, 0.9).init({}), 0.25))
    SGD(learning_rate=0.25, momentum=0.9)
    """
    return (
        optimizer.with_rate_of(state) if isinstance(optimizer, Optimizer) else optimizer
    )


def _held_rate(state: State) -> Any:
    """The one learning rate in the state of an optimizer of fnn, or None."""
    held = state.get("learning_rate") if isinstance(state, dict) else None
    return held if getattr(held, "shape", None) == () else None


def stays_finite(optimizer: Any) -> bool:
    """Whether updates are finite if gradients are, as those of fnn's own optimizers: no check."""
    own = type(optimizer).__module__.partition(".")[0] == "fnn"
    return own and all(map(stays_finite, optimizer.inner))


def loss_scale(state: State) -> Array | None:
    """By what the loss is to be multiplied before its gradient is taken; None for nothing.

    >>> from fnn.optimizers import SGD, LossScaleOptimizer
    >>> loss_scale(LossScaleOptimizer(SGD(), 8.0).init({})).item(), loss_scale(SGD().init({}))
    (8.0, None)
    """
    return state.get("loss_scale") if isinstance(state, dict) else None


_KEPT = {
    "accumulated": "gradient_accumulation_steps",
    "average": "use_ema",
    "loss_scale": "loss scaling",
}


def _kept(state: State) -> Iterator[str]:
    """What optimizers of fnn anywhere in a state keep in it for `flush`, `average` and the loss."""
    for part in filter(is_own, jax.tree.leaves(state, is_leaf=is_own)):
        yield from (word for name, word in _KEPT.items() if name in part)
        yield from _kept((part.get("inner"), *part.get("rules", {}).values()))


def start(optimizer: Any, params: Any) -> State:
    """The state of an optimizer of fnn or optax before the first step.

    Raises ValueError for one that training cannot serve.
    """
    state = without_compiling(optimizer.init, params)
    hidden = [] if isinstance(optimizer, Optimizer) else sorted(set(_kept(state)))
    if hidden:
        raise ValueError(
            f"expected {' and '.join(hidden)} in an optimizer of fnn outside of all others, "
            "received it inside one of optax, which hands on neither the weight of a batch nor the "
            "average; clip, decay or split by fnn.optimizers (clipvalue, weight_decay, ByPath), "
            "or have optax do it all (optax.MultiSteps, optax.ema)"
        )
    paired = lambda part: isinstance(part, optax.LookaheadState)
    if any(map(paired, jax.tree.leaves(state, is_leaf=paired))):
        raise ValueError(
            "expected an optimizer of one set of weights, received optax.lookahead, which wants "
            "them in pairs (optax.LookaheadParams); train those by a step of your own with "
            "fnn.training.fit, or keep an average: Adam(use_ema=True, ema_overwrite_frequency=5)"
        )
    return state


def run_update(
    optimizer: Any,
    grads: Any,
    state: State,
    params: Any,
    weight: Any = 1.0,
    **extra: Any,
) -> tuple[Any, State]:
    """`optimizer.update` of fnn or optax, given those of the extra arguments that it takes.

    `weight` says by how much these gradients count among others that are averaged with them; None
    that they are to be added.

    >>> optimizer, w = optax.sgd(0.5), jnp.ones(1)
    >>> updates, state = run_update(optimizer, w, optimizer.init(w), w, weight=32)
    >>> updates.tolist()
    [-0.5]
    """
    takes = inspect.signature(optimizer.update).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        extra = {name: value for name, value in extra.items() if name in takes}
    if "weight" in takes:
        extra["weight"] = weight
    return optimizer.update(grads, state, params, **extra)


def get(identifier: Any) -> Any:
    """The optimizer behind a name (in any case), a class or a value; optax's as they are.

    Anything with `init` and `update` is an optimizer. Raises ValueError for an unknown name,
    TypeError for what is none of these.

    >>> from fnn.optimizers import Adam
    >>> get("adam") == Adam(), get("SGD").learning_rate
    (True, 0.01)
    """
    if isinstance(identifier, str):
        return resolve("optimizer", identifier.lower())
    identifier = unbound(identifier)
    found = of_kind(
        "optimizer", identifier() if isinstance(identifier, type) else identifier
    )
    if hasattr(found, "init") and hasattr(found, "update"):
        return found
    raise TypeError(
        f"expected an optimizer, received {identifier!r} of type {type(identifier).__name__}; "
        "e.g. optimizer='adam', fnn.optimizers.Adam(0.001) or optax.adam(0.001)"
    )
