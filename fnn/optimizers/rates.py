"""The learning rate in an optimizer's state: read it, and set it without recompiling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.tree import Tree, path_name
from fnn.optimizers.bound import plain
from fnn.runtime.initial_values import on_device
from fnn.runtime.settings import settings

T = TypeVar("T")
Rates: TypeAlias = Any  # an array, a dict of them by pattern or by path, or None


def current_learning_rate(optimizer: Any, state: Tree) -> Rates:
    """The learning rate of the next step, as an array; None if it is unknown (plain optax).

    The whole state is searched, also inside `optax.chain`, `optax.masked` and the like.
    For `ByPath` the result is a dict with the rate of each pattern; for other states
    that hold several rates, a dict by their paths. If the state holds no rate,
    `optimizer.learning_rate` counts.

    >>> from fnn.optimizers import SGD
    >>> current_learning_rate(SGD(0.5), SGD(0.5).init({})).item()
    0.5
    """
    own = getattr(optimizer, "learning_rate", None)
    if callable(own) and isinstance(state, dict) and "scheduled" in state:
        return optimizer.rate_at(state, state["step"])
    found = _rates_in(state)
    if found is None and isinstance(own, (int, float)):
        return on_device(own, settings.floatx)
    return found


def _rates_in(state: Tree) -> Rates:
    """The rate anywhere in a state, a dict by path of several, None if there is none."""
    rates = {}
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=_may_hold_rate)
    for path, part in leaves:
        if not _may_hold_rate(part):
            continue
        rate = _rate_of(part)
        if rate is not None:
            rates[path_name(path)] = rate
    if len(rates) == 1:
        return next(iter(rates.values()))
    return rates or None


def _may_hold_rate(state: Tree) -> bool:
    """Whether this is the state of an optimizer of fnn, or of `optax.inject_hyperparams`."""
    return is_own(state) or "learning_rate" in getattr(state, "hyperparams", ())


def is_own(state: Tree) -> bool:
    """Whether this is the state of an optimizer of fnn: a dict with a step or a rate."""
    if not isinstance(state, dict):
        return False
    shapes = [
        getattr(state.get("step"), "shape", None),
        getattr(state.get("learning_rate"), "shape", None),
    ]
    return () in shapes


def _rate_of(state: Tree) -> Rates:
    """The rate in a state that may hold one."""
    if not isinstance(state, dict):
        return jnp.asarray(state.hyperparams["learning_rate"])
    if "rules" in state:
        return {name: _rates_in(part) for name, part in state["rules"].items()}
    if "inner" in state:
        return _rates_in(state["inner"])
    return state.get("learning_rate")


def with_learning_rate(state: Tree, value: Any) -> Tree:
    """The optimizer state with another learning rate; nothing is recompiled.

    Every rate in the state becomes this number. For the state of `ByPath` a dict sets
    the rates of the patterns in it. The number also replaces an fnn schedule from then
    on. Raises ValueError unless it is a finite number of at least 0; also if the state
    holds no rate (plain optax), or one that a schedule of optax sets in every step.

    >>> from fnn.optimizers import SGD
    >>> with_learning_rate(SGD(0.5).init({}), 0.25)["learning_rate"].item()
    0.25
    """
    value = plain(value)
    if not isinstance(value, dict):
        value = _checked(value)
    leaves = jax.tree.leaves(state, is_leaf=_may_hold_rate)
    holders = [part for part in leaves if _may_hold_rate(part)]
    if all(_rate_of(part) is None for part in holders):
        raise ValueError(
            "expected an optimizer state that holds a learning rate, received one without "
            "(plain optax, or an optimizer that computes its own updates); make the optimizer "
            "with fnn.optimizers or optax.inject_hyperparams"
        )

    def change(part: Tree) -> Tree:
        if not _may_hold_rate(part):
            return part
        return _with_rate(part, value)

    return jax.tree.map(change, state, is_leaf=_may_hold_rate)


def _with_rate(state: Tree, value: Any) -> Tree:
    """A state that may hold a rate, with another rate."""
    if isinstance(state, dict) and "rules" in state:
        return {**state, "rules": _with_rates(state["rules"], value)}
    if isinstance(state, dict) and "inner" in state:
        return {**state, "inner": with_learning_rate(state["inner"], value)}
    if isinstance(value, dict):
        raise ValueError(
            f"expected one learning rate, received {value!r}; pass a number"
        )
    if isinstance(state, dict):
        if "learning_rate" not in state:
            return state
        changed = {
            **state,
            "learning_rate": on_device(value, state["learning_rate"].dtype),
        }
        if "scheduled" in state:
            changed["scheduled"] = jnp.zeros((), bool)
        return changed

    if "learning_rate" in getattr(state, "hyperparams_states", ()):
        raise ValueError(
            "expected a learning rate that can be set, received one that a schedule inside "
            "optax.inject_hyperparams sets in every step; pass inject_hyperparams a number, "
            "or the schedule to an optimizer of fnn.optimizers"
        )
    old = jnp.asarray(state.hyperparams["learning_rate"])
    rate = on_device(value, old.dtype)
    return state._replace(hyperparams={**state.hyperparams, "learning_rate": rate})


def _with_rates(rules: Mapping[str, Tree], value: Any) -> dict[str, Tree]:
    """The states of `ByPath` with other rates: one number for all, or a dict by pattern."""
    rates = value
    if not isinstance(value, dict):
        holders = [name for name, part in rules.items() if _rates_in(part) is not None]
        rates = dict.fromkeys(holders, value)
    if not set(rates) <= set(rules):
        raise ValueError(
            f"expected learning rates by the patterns {list(rules)}, received {list(rates)}; "
            "pass a number for all, or a dict of some of these"
        )
    changed = dict(rules)
    for name, rate in rates.items():
        changed[name] = with_learning_rate(rules[name], rate)
    return changed


def _checked(value: T) -> T:
    """The value itself. Raises ValueError unless it is a finite number of at least 0."""
    if isinstance(value, jax.core.Tracer) or _is_rate(value):
        return value
    raise ValueError(
        f"expected a finite learning rate of at least 0, received {value!r}; e.g. "
        "model.learning_rate = 1e-4"
    )


def _is_rate(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if not isinstance(value, (int, float, np.generic, np.ndarray, Array)):
        return False
    return np.ndim(value) == 0 and 0 <= float(value) < math.inf
