"""The learning rate in the state of an optimizer: read, and set without compiling anew."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.tree import path_name
from fnn.optimizers.bound import plain
from fnn.runtime.initial_values import on_device


def current_learning_rate(optimizer: Any, state: Any) -> Any:
    """The learning rate of the next step, as an array; None where it is not known (plain optax).

    It is looked for in all of the state: inside `optax.chain`, `optax.masked` and the like too. Of
    `ByPath` there is a dict, with the rate of each pattern; of other states that hold several, a
    dict by their place. `optimizer` is asked where the state holds none.

    >>> from fnn.optimizers import SGD
    >>> current_learning_rate(SGD(0.5), SGD(0.5).init({})).item()
    0.5
    """
    own = getattr(optimizer, "learning_rate", None)
    if callable(own) and isinstance(state, dict) and "scheduled" in state:
        return optimizer.rate_at(state, state["step"])
    found = _found(state)
    if found is None and isinstance(own, (int, float)):
        return on_device(own, jnp.float32)
    return found


def _found(state: Any) -> Any:
    rates = {}
    for path, part in jax.tree_util.tree_leaves_with_path(state, is_leaf=_tells):
        rate = _rate_of(part) if _tells(part) else None
        if rate is not None:
            rates[path_name(path)] = rate
    return next(iter(rates.values())) if len(rates) == 1 else rates or None


def _tells(state: Any) -> bool:
    """Whether this is the state of an optimizer of fnn, or of `optax.inject_hyperparams`."""
    return is_own(state) or "learning_rate" in getattr(state, "hyperparams", ())


def is_own(state: Any) -> bool:
    """Whether this is the state of an optimizer of fnn: a dict in which a step or rate stands."""
    if not isinstance(state, dict):
        return False
    known = (state.get("step"), state.get("learning_rate"))
    return any(getattr(leaf, "shape", None) == () for leaf in known)


def _rate_of(state: Any) -> Any:
    if not isinstance(state, dict):
        return jnp.asarray(state.hyperparams["learning_rate"])
    if "rules" in state:
        return {name: _found(part) for name, part in state["rules"].items()}
    return _found(state["inner"]) if "inner" in state else state.get("learning_rate")


def with_learning_rate(state: Any, value: Any) -> Any:
    """The optimizer state with another learning rate; nothing is compiled anew.

    Every rate in the state becomes this number; for the state of `ByPath` a dict sets those of the
    patterns in it. It also takes the place of an fnn schedule, from then on. Raises ValueError for
    what is no finite number of at least 0, and where the state holds no rate (plain optax) or one
    that a schedule of optax sets anew in every step.

    >>> from fnn.optimizers import SGD
    >>> with_learning_rate(SGD(0.5).init({}), 0.25)["learning_rate"].item()
    0.25
    """
    value = plain(value)
    if not isinstance(value, dict):
        value = _checked(value)
    held = [part for part in jax.tree.leaves(state, is_leaf=_tells) if _tells(part)]
    if all(_rate_of(part) is None for part in held):
        raise ValueError(
            "expected an optimizer state that holds a learning rate, received one without (plain "
            "optax, or an optimizer that computes its own updates); make the optimizer with "
            "fnn.optimizers or optax.inject_hyperparams"
        )
    change = lambda part: _with_rate(part, value) if _tells(part) else part
    return jax.tree.map(change, state, is_leaf=_tells)


def _with_rate(state: Any, value: Any) -> Any:
    if isinstance(state, dict) and "rules" in state:
        return {**state, "rules": _with_rates(state["rules"], value)}
    if isinstance(state, dict) and "inner" in state:
        return {**state, "inner": with_learning_rate(state["inner"], value)}
    if isinstance(value, dict):
        raise ValueError(
            f"expected one learning rate, received {value!r}; give a number"
        )
    if isinstance(state, dict):
        if "learning_rate" not in state:
            return state
        scheduled = {"scheduled": jnp.zeros((), bool)} if "scheduled" in state else {}
        return {**state, "learning_rate": on_device(value, jnp.float32), **scheduled}
    if "learning_rate" in getattr(state, "hyperparams_states", ()):
        raise ValueError(
            "expected a learning rate that can be set, received one that a schedule inside "
            "optax.inject_hyperparams sets in every step; give inject_hyperparams a number, or "
            "the schedule to an optimizer of fnn.optimizers"
        )
    old = jnp.asarray(state.hyperparams["learning_rate"])
    changed = {**state.hyperparams, "learning_rate": on_device(value, old.dtype)}
    return state._replace(hyperparams=changed)


def _with_rates(rules: dict[str, Any], value: Any) -> dict[str, Any]:
    """The states of `ByPath` with other rates: one for those that hold one, or by pattern."""
    told = [name for name, part in rules.items() if _found(part) is not None]
    rates = value if isinstance(value, dict) else dict.fromkeys(told, value)
    if not set(rates) <= set(rules):
        raise ValueError(
            f"expected learning rates by the patterns {list(rules)}, received {list(rates)}; "
            "give a number for all, or a dict of some of these"
        )
    return {
        **rules,
        **{n: with_learning_rate(rules[n], rate) for n, rate in rates.items()},
    }


def _checked(value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        return value
    number = (
        isinstance(value, (int, float, np.generic, np.ndarray, Array))
        and np.ndim(value) == 0
    )
    if isinstance(value, bool) or not number or not 0 <= float(value) < math.inf:
        raise ValueError(
            f"expected a finite learning rate of at least 0, received {value!r}; e.g. "
            "model.learning_rate = 1e-4"
        )
    return value
