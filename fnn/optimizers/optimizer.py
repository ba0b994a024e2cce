"""Optimizer: a frozen value that is an optax transformation, with Keras's arguments."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.named import Named, of_kind
from fnn.core.tree import Tree
from fnn.core.value import resolve
from fnn.optimizers.bound import BoundOptimizer, unbound
from fnn.optimizers.rates import is_own
from fnn.optimizers.stateful import Stateful
from fnn.runtime.initial_values import without_compiling
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.settings import settings

State: TypeAlias = Any  # the state of an optimizer: a pytree; for fnn's own, a dict
LearningRate: TypeAlias = Any  # a number, or a schedule: a function of the step
AnyOptimizer: TypeAlias = Any  # an optimizer of fnn, or an optax transformation
# How much the gradients of a call count in an average; None if they are to be added.
Weight: TypeAlias = Array | float | None

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


def _as_it_is(cls: type[Optimizer]) -> None:
    """The default of `Optimizer.on_subclass`: the class is pure already."""


class Optimizer(Stateful, Named, loadable=False):
    """Turns gradients into updates: `init(params) -> state`, `update(grads, state, params)`.

    It is an optax transformation: `updates, state = optimizer.update(grads, state,
    params)`. The updates are to be added (`optax.apply_updates`), and
    `optax.chain(optimizer, ...)` accepts it.

    To write your own, define this pair. If gradients at one point are not enough, define
    `get_updates(loss, params)` instead: training calls it in place of both. `loss` is a
    pure function of `params`. The result is added to the weights. It may be a tree like
    `params`; a dict of "path/to/weight" -> update (or a part of the tree), where missing
    weights stay as they are; or a list of all updates, in the order of
    `jax.tree.leaves(params)`. For example, plain gradient descent:

    >>> class Descent(Optimizer):
    ...     def __init__(self, learning_rate=0.01):
    ...         super().__init__()
    ...         self.learning_rate = learning_rate
    ...     def get_updates(self, loss, params):
    ...         grads = jax.grad(loss)(params)
    ...         return jax.tree.map(lambda g: -self.learning_rate * g, grads)
    >>> Descent(0.5).get_updates(lambda params: params["w"] ** 2, {"w": 3.0})["w"].item()
    -3.0

    A class may also be written in Keras's way, with `build(variables)` and
    `update_step(gradient, variable, learning_rate)`; the pure pair is made from these.
    """

    kind: ClassVar[str] = "optimizer"
    # The hook that adapts classes in Keras's way; set by `fnn.optimizers.subclassed`.
    on_subclass: ClassVar[Callable[[type[Optimizer]], None]] = staticmethod(_as_it_is)

    learning_rate: LearningRate = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        Optimizer.on_subclass(cls)
        super().__init_subclass__(**kwargs)

    @classmethod
    def _positions(cls, own: list[str], keyword: list[str]) -> list[str]:
        """A class's own arguments, then `SHARED`, then the others of its bases.

        `exclude_from_weight_decay` is a method in Keras, not an argument, so it has no
        position.
        """
        shared = [name for name in SHARED if name in keyword]
        without_position = {*shared, "exclude_from_weight_decay"}
        rest = [name for name in keyword if name not in without_position]
        return [*own, *shared, *rest]

    def init(self, params: Tree) -> State:
        """The state before the first step: the step, and the learning rate of that step."""
        rate = getattr(self, "learning_rate", None)
        step = jnp.zeros((), jnp.int32)
        state: dict[str, Array] = {"step": step}
        if callable(rate):
            # True until a number is set in place of the schedule.
            state["scheduled"] = jnp.ones((), bool)
            rate = rate(step)
        if rate is not None:
            state["learning_rate"] = jnp.asarray(rate, settings.floatx)
        return state

    def rate_at(self, state: State, step: Array | int) -> Array:
        """The learning rate of a step: the schedule's, unless a number was set instead."""
        held: Array = state["learning_rate"]
        rate = getattr(self, "learning_rate", None)
        if not callable(rate):
            return held
        scheduled = jnp.asarray(rate(step), held.dtype)
        return jnp.where(state["scheduled"], scheduled, held)

    def update(
        self,
        grads: Tree,
        state: State,
        params: Tree = None,
        **extra: Any,
    ) -> tuple[Tree, State]:
        """(updates to add, new state)."""
        raise TypeError(
            f"expected {type(self).__name__} to define update(grads, state, params), "
            "received a class without it; define it, or get_updates(loss, params)"
        )

    @property
    def inner(self) -> tuple[AnyOptimizer, ...]:
        """The optimizers inside this one."""
        return ()

    @property
    def accumulates(self) -> bool:
        """Whether gradients may wait in the state, for `flush`."""
        return any(getattr(rule, "accumulates", False) for rule in self.inner)

    @property
    def averages(self) -> bool:
        """Whether the state holds a running average of the weights, for `average`."""
        return any(getattr(rule, "averages", False) for rule in self.inner)

    def for_weights(self, weights: Mapping[str, Any]) -> Optimizer:
        """This optimizer, once the weights (by path, with Keras's attributes) are known."""
        return self

    def flush(self, state: State, params: Tree) -> tuple[Tree, State]:
        """(updates, new state) from gradients waiting in the state; for the end of an epoch."""
        return jax.tree.map(jnp.zeros_like, params), state

    def average(self, state: State, params: Tree) -> Tree:
        """The weights to keep after training; `params` unless the state holds an average."""
        return params

    def without_rate(self) -> Optimizer:
        """This optimizer without the learning rate, if its state holds that; see `without_rate`."""
        return self

    def with_rate_of(self, state: State) -> Optimizer:
        """This optimizer with the learning rate that was set in a state; see `with_rate_of`."""
        own = getattr(self, "learning_rate", None)
        held = _held_rate(state)
        if own is None or held is None:
            return self
        if callable(own) and state["scheduled"]:
            return self
        if not callable(own) and held == held.dtype.type(own):
            return self
        return self._changed(learning_rate=held.item())

    def _changed(self, **attributes: object) -> Self:
        """A copy with some attributes changed, even if the class has its own `__init__`."""
        changed = copy.copy(self)
        for name, value in attributes.items():
            object.__setattr__(changed, name, value)
        return changed

    def _instead(self, name: str, value: object) -> str:
        if name == "learning_rate":
            return f"set model.learning_rate = {value!r}, which takes effect at the next step"
        return super()._instead(name, value)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """`init, update = optimizer`."""
        return iter((self.init, self.update))


def without_rate(optimizer: AnyOptimizer) -> AnyOptimizer:
    """The optimizer as a compiled step needs it: with None for a constant learning rate.

    The state holds that number, so optimizers that differ only in it are equal here and
    share a compiled step. A rule that reads its own number inside a step fails, as
    intended.

    >>> from fnn.optimizers import SGD
    >>> without_rate(SGD(0.5)) == without_rate(SGD(0.1))
    True
    """
    if type(optimizer) is BoundOptimizer:
        optimizer = optimizer.as_value()
    if not isinstance(optimizer, Optimizer):
        return optimizer
    cached = vars(optimizer).get("_fnn_without_rate")
    if cached is not None:
        return cached
    changed = optimizer.without_rate()
    if changed is not optimizer and "_sealed" in vars(optimizer):
        object.__setattr__(optimizer, "_fnn_without_rate", changed)
    return changed


def with_rate_of(optimizer: AnyOptimizer, state: State) -> AnyOptimizer:
    """The optimizer with the learning rate set in its state; optax's are unchanged.

    >>> from fnn.optimizers import SGD, with_learning_rate
    >>> with_rate_of(SGD(0.5, 0.9), with_learning_rate(SGD(0.5, 0.9).init({}), 0.25))
    SGD(learning_rate=0.25, momentum=0.9)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer.with_rate_of(state)
    return optimizer


def _held_rate(state: State) -> Array | None:
    """The one learning rate in the state of an optimizer of fnn, or None."""
    if not isinstance(state, dict):
        return None
    held = state.get("learning_rate")
    if getattr(held, "shape", None) != ():
        return None
    return held


def keeps_finite(optimizer: AnyOptimizer) -> bool:
    """Whether finite gradients give finite updates: then no check of updates is needed.

    True for optimizers of fnn, whose inner optimizers are all of fnn too.
    """
    package = type(optimizer).__module__.partition(".")[0]
    return package == "fnn" and all(map(keeps_finite, optimizer.inner))


def loss_scale(state: State) -> Array | None:
    """The factor of the loss before its gradient is taken; None if there is none.

    >>> from fnn.optimizers import SGD, LossScaleOptimizer
    >>> loss_scale(LossScaleOptimizer(SGD(), 8.0).init({})).item(), loss_scale(SGD().init({}))
    (8.0, None)
    """
    if not isinstance(state, dict):
        return None
    return state.get("loss_scale")


# Entries of a state that training uses, with the arguments that add them.
_USED_BY_TRAINING = {
    "accumulated": "gradient_accumulation_steps",
    "average": "use_ema",
    "loss_scale": "loss scaling",
}


def _features_in(state: State) -> Iterator[str]:
    """The features anywhere in a state that training must know of: `_USED_BY_TRAINING`."""
    for part in filter(is_own, jax.tree.leaves(state, is_leaf=is_own)):
        for entry, feature in _USED_BY_TRAINING.items():
            if entry in part:
                yield feature
        rules = part.get("rules", {})
        yield from _features_in((part.get("inner"), *rules.values()))


def init_state(optimizer: AnyOptimizer, params: Tree) -> State:
    """The state of an optimizer of fnn or optax before the first step.

    Raises ValueError for an optimizer that training cannot use correctly.
    """
    state = without_compiling(optimizer.init, params)
    hidden: list[str] = []
    if not isinstance(optimizer, Optimizer):
        hidden = sorted(set(_features_in(state)))
    if hidden:
        raise ValueError(
            f"expected {' and '.join(hidden)} in an optimizer of fnn outside of all others, "
            "received it inside one of optax, which passes on neither the weight of a batch "
            "nor the average; clip, decay or split with fnn.optimizers (clipvalue, "
            "weight_decay, ByPath), or use only optax (optax.MultiSteps, optax.ema)"
        )
    leaves = jax.tree.leaves(state, is_leaf=_is_lookahead)
    if any(map(_is_lookahead, leaves)):
        raise ValueError(
            "expected an optimizer of one set of weights, received optax.lookahead, which "
            "needs them in pairs (optax.LookaheadParams); write a training step of your own "
            "for fnn.training.fit, or keep an average: "
            "Adam(use_ema=True, ema_overwrite_frequency=5)"
        )
    return state


def _is_lookahead(part: object) -> bool:
    return isinstance(part, optax.LookaheadState)


def run_update(
    optimizer: AnyOptimizer,
    grads: Tree,
    state: State,
    params: Tree,
    weight: Weight = 1.0,
    **extra: object,
) -> tuple[Tree, State]:
    """`optimizer.update` of fnn or optax, with only the extra arguments that it accepts.

    `weight` is the weight of these gradients in an average over several calls; None if
    they are to be added.

    >>> optimizer, w = optax.sgd(0.5), jnp.ones(1)
    >>> updates, state = run_update(optimizer, w, optimizer.init(w), w, weight=32)
    >>> updates.tolist()
    [-0.5]
    """
    parameters = inspect.signature(optimizer.update).parameters
    accepted: Mapping[str, object] = extra
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        accepted = {name: value for name, value in extra.items() if name in parameters}
    if "weight" in parameters:
        accepted = {**accepted, "weight": weight}
    result: tuple[Tree, State] = optimizer.update(grads, state, params, **accepted)
    return result


def get(identifier: object) -> AnyOptimizer:
    """The optimizer for a name (in any case), a class or a value; optax's as they are.

    Anything with `init` and `update` is an optimizer. Raises ValueError for an unknown
    name, TypeError for anything else.

    >>> from fnn.optimizers import Adam
    >>> get("adam") == Adam(), get("SGD").learning_rate
    (True, 0.01)
    """
    if isinstance(identifier, str):
        return resolve("optimizer", identifier.lower())
    if isinstance(identifier, dict):
        return resolve("optimizer", identifier)
    given = unbound(identifier)
    refuse_keras(given)
    if isinstance(given, type):
        given = given()
    found = of_kind("optimizer", given)
    if hasattr(found, "init") and hasattr(found, "update"):
        return found
    raise TypeError(
        f"expected an optimizer, received {given!r} of type {type(given).__name__}; "
        "e.g. optimizer='adam', fnn.optimizers.Adam(0.001) or optax.adam(0.001)"
    )
