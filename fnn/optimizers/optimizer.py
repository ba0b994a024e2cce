"""Optimizer: a frozen value that is an optax transformation; its rate, updates of its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.config import Value, resolve

State: TypeAlias = Any


class Optimizer(Value, loadable=False):
    """What turns gradients into updates: `init(params) -> state`, `update(grads, state, params)`.

    It is an optax transformation: `updates, state = optimizer.update(grads, state, params)`, the
    updates are added (`optax.apply_updates`), `optax.chain(optimizer, ...)` takes it.

    For a rule of your own write that pair, or, where gradients at one point are not enough,
    `get_updates(loss, params)`: training calls it in place of both. `loss` is a pure function of
    `params`. It returns what to add: a tree like `params`, or a dict of "path/to/weight" -> update
    (or a part of the tree); what is left out stays as it is. Plain gradient descent is

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

    def init(self, params: Any) -> State:
        """The state before the first step: the step, and the learning rate if it is a number."""
        rate = getattr(self, "learning_rate", None)
        state: dict[str, Any] = {"step": jnp.zeros((), jnp.int32)}
        if rate is not None and not callable(rate):
            state["learning_rate"] = jnp.asarray(rate, jnp.float32)
        return state

    def update(
        self, grads: Any, state: State, params: Any = None, **extra: Any
    ) -> tuple[Any, State]:
        """(updates to add, new state)."""
        raise TypeError(
            f"expected {type(self).__name__} to define update(grads, state, params), received a "
            "class without it; do write it, or get_updates(loss, params)"
        )

    @property
    def accumulates(self) -> bool:
        """Whether gradients may wait in the state, for `flush`."""
        return False

    @property
    def averages(self) -> bool:
        """Whether a running average of the weights is kept in the state, for `average`."""
        return False

    def flush(self, state: State, params: Any) -> tuple[Any, State]:
        """(updates, new state) by gradients that wait in the state; for the end of an epoch."""
        return jax.tree.map(jnp.zeros_like, params), state

    def average(self, state: State, params: Any) -> Any:
        """The weights to keep after training; `params` unless their average is kept."""
        return params

    def __iter__(self) -> Iterator[Any]:
        """`init, update = optimizer`."""
        return iter((self.init, self.update))


def current_learning_rate(optimizer: Any, state: State) -> Any:
    """The learning rate of the next step, as an array; None where it is not known (plain optax).

    Of `ByPath` a dict, with the rate of each pattern.

    >>> from fnn.optimizers import SGD
    >>> current_learning_rate(SGD(0.5), SGD(0.5).init({})).item()
    0.5
    """
    if isinstance(state, dict) and "learning_rate" in state:
        return state["learning_rate"]
    if isinstance(state, dict) and "inner" in state:
        return current_learning_rate(optimizer.inner_optimizer, state["inner"])
    if isinstance(state, dict) and "rules" in state:
        rules = optimizer.optimizers
        return {name: current_learning_rate(rules[name], s) for name, s in state["rules"].items()}
    hyperparameters = getattr(state, "hyperparams", {})
    if "learning_rate" in hyperparameters:
        return jnp.asarray(hyperparameters["learning_rate"])
    schedule = getattr(optimizer, "learning_rate", None)
    if callable(schedule) and isinstance(state, dict) and "step" in state:
        return jnp.asarray(schedule(state["step"]), jnp.float32)
    return None


def with_learning_rate(state: State, value: Any) -> State:
    """The optimizer state with another learning rate; nothing is compiled anew.

    For the state of `ByPath` one number is the rate of every rule, a dict those of the patterns in
    it. Raises ValueError where the state holds no rate: a schedule sets it, or a plain optax chain.

    >>> from fnn.optimizers import SGD
    >>> state = with_learning_rate(SGD(0.5).init({}), 0.25)
    >>> current_learning_rate(SGD(0.5), state).item()  # the state counts, not the field
    0.25
    """
    if isinstance(state, dict) and "learning_rate" in state:
        return {**state, "learning_rate": jnp.asarray(value, jnp.float32)}
    if isinstance(state, dict) and "inner" in state:
        return {**state, "inner": with_learning_rate(state["inner"], value)}
    if isinstance(state, dict) and "rules" in state:
        rules = state["rules"]
        rates = value if isinstance(value, dict) else dict.fromkeys(rules, value)
        if not set(rates) <= set(rules):
            raise ValueError(
                f"expected learning rates by the patterns {list(rules)}, received {list(rates)}; "
                "do give a number for all, or a dict of some of these"
            )
        changed = {name: with_learning_rate(rules[name], rate) for name, rate in rates.items()}
        return {**state, "rules": {**rules, **changed}}
    if "learning_rate" in getattr(state, "hyperparams", {}):
        old = state.hyperparams["learning_rate"]
        changed = {**state.hyperparams, "learning_rate": jnp.asarray(value, jnp.asarray(old).dtype)}
        return state._replace(hyperparams=changed)
    raise ValueError(
        "expected an optimizer state that holds a learning rate, received one without (the rate is "
        "set by a schedule, or by plain optax); do make the optimizer with a number as "
        "learning_rate, or with optax.inject_hyperparams"
    )


def loss_scale(state: State) -> Array | None:
    """By what the loss is to be multiplied before its gradient is taken; None for nothing.

    >>> from fnn.optimizers import SGD, LossScaleOptimizer
    >>> loss_scale(LossScaleOptimizer(SGD(), 8.0).init({})).item(), loss_scale(SGD().init({}))
    (8.0, None)
    """
    return state.get("loss_scale") if isinstance(state, dict) else None


def run_update(
    optimizer: Any, grads: Any, state: State, params: Any, weight: Any = 1.0, **extra: Any
) -> tuple[Any, State]:
    """`optimizer.update` of fnn or optax, given those of the extra arguments that it takes.

    `weight` says by how much these gradients count among others that are averaged with them.

    >>> import optax
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


def expand_updates(updates: Any, params: Any) -> Any:
    """Updates as `get_updates` returns them, as a tree like `params`: zeros where none is given.

    Raises ValueError for a path that is no weight and for an update of another shape.

    >>> expand_updates({"dense/bias": 1.0}, {"dense": {"bias": 0.0, "kernel": 0.0}})
    {'dense': {'bias': 1.0, 'kernel': 0.0}}
    """
    if not isinstance(params, dict):
        return updates
    given = {"/".join(path): leaf for path, leaf in tree.flatten(updates) if path}
    known = {"/".join(path): (path, leaf) for path, leaf in tree.flatten(params)}
    unknown = [path for path in given if path not in known and given[path] is not None]
    if unknown:
        raise ValueError(
            f"expected updates of weights, received {unknown}, which are none; do name them by "
            f"path: {', '.join(list(known)[:8])}"
        )
    expanded = []
    for name, (path, weight) in known.items():
        update = given.get(name)
        if update is None:
            update = jax.tree.map(jnp.zeros_like, weight) if hasattr(weight, "shape") else 0.0
        elif jnp.shape(update) not in ((), jnp.shape(weight)):
            raise ValueError(
                f"expected an update of shape {jnp.shape(weight)} for {name}, received "
                f"{jnp.shape(update)}; do return what is to be added to the weight"
            )
        expanded.append((path, update))
    return tree.unflatten(expanded)


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
    found = identifier() if isinstance(identifier, type) else identifier
    if hasattr(found, "init") and hasattr(found, "update"):
        return found
    raise TypeError(
        f"expected an optimizer, received {identifier!r} of type {type(identifier).__name__}; do "
        "e.g. optimizer='adam', fnn.optimizers.Adam(0.001) or optax.adam(0.001)"
    )
