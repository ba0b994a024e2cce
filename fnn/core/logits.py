"""Activated: the outputs of a softmax or sigmoid, and with them the values before it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arithmetic import activate
from fnn.core.config import resolve
from fnn.core.masking import Masked, is_masked, split_mask

# What a loss of probabilities p can be computed from without rounding:
# "scores"  log p, up to a number that all classes share
# "log"     log p
# "odds"    log(p / (1 - p))
Form: TypeAlias = Literal["scores", "log", "odds"]

_NAMES = {
    jax.nn.softmax: "softmax",
    jax.nn.sigmoid: "sigmoid",
    jax.scipy.special.softmax: "softmax",
    jax.scipy.special.expit: "sigmoid",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Activated:
    """What a network returns under `Context(logits=True)` where it ends in softmax or sigmoid.

    `values` are the outputs and `logits` what they are made of by `activation`, of the last axis
    for a softmax; both are arrays, or `Masked`.
    """

    values: Any
    logits: Any
    activation: str = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def moved(self, values: Any, logits: Any) -> Any:
        """The same numbers in other places; without logits where classes are not together now."""
        together = self.activation == "sigmoid" or values.shape[-1] == self.shape[-1]
        return Activated(values, logits, self.activation) if together else values

    def before(self, form: Form) -> Array:
        """The logits of the values, in the form that a loss takes, without their mask."""
        z = split_mask(self.logits)[0]
        if self.activation == "sigmoid":
            return z if form == "odds" else jax.nn.log_sigmoid(z)
        if form == "odds":
            return _odds(z)
        return jax.nn.log_softmax(z) if form == "log" else z


def _odds(z: Array) -> Array:
    """log(p / (1 - p)) of p = softmax(z): z - log(sum of exp(z) of all other classes)."""
    top = jax.nn.one_hot(jnp.argmax(z, -1), z.shape[-1], dtype=bool)
    total = jax.nn.logsumexp(z, -1, keepdims=True)
    others = jax.nn.logsumexp(jnp.where(top, -jnp.inf, z), -1, keepdims=True)
    # All but the largest p are at most 1/2, so that 1 - p loses no digits.
    below = total + jnp.log1p(-jnp.exp(jnp.where(top, -1, z - total)))
    return z - jnp.where(top, others, below)


def is_activated(x: Any) -> bool:
    """Whether `x` is an `Activated` (for `is_leaf`)."""
    return isinstance(x, Activated)


def strip_logits(x: Any) -> Any:
    """`x` with every `Activated` in it replaced by its values."""
    return jax.tree.map(lambda a: a.values if is_activated(a) else a, x, is_leaf=is_activated)


def activated(activation: Any, z: Any) -> Any:
    """activation(z), with z if the activation is a sigmoid or a softmax of the last axis."""
    y = Masked(activate(activation, z.values), z.mask) if is_masked(z) else activate(activation, z)
    name = name_of(activation, getattr(z, "shape", ()))
    return y if name is None else Activated(y, z, name)


def name_of(activation: Any, shape: tuple[int, ...]) -> str | None:
    """The activation if it is a sigmoid or a softmax of the last axis, by its name; else None."""
    options: dict[str, Any] = {}
    while isinstance(activation, functools.partial) and not activation.args:
        activation, options = activation.func, {**activation.keywords, **options}
    functions = {resolve("activation", name): name for name in ("softmax", "sigmoid")}
    name = activation
    if not isinstance(activation, str):
        known = (_NAMES | functions).items()
        name = next((name for function, name in known if function is activation), None)
    axis = options.pop("axis", -1)
    if options or (name == "softmax" and not _is_last(axis, shape)):
        return None
    return name if name in ("softmax", "sigmoid") else None


def _is_last(axis: Any, shape: tuple[int, ...]) -> bool:
    """Whether an axis is the last one, and there are several classes along it."""
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    return shape != () and axis in (-1, len(shape) - 1) and shape[-1] > 1
