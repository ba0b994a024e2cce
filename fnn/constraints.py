"""Constraints: what a weight is moved to after every update, by Keras's names."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.fields import fraction, not_negative
from fnn.core.registry import register
from fnn.core.value import Value, resolve

EPSILON = 1e-7  # keeps a weight of zeros at zero


def get(identifier: Any) -> Any:
    """The constraint behind a name; a constraint or function stays as it is, None too.

    Raises ValueError for an unknown name and TypeError for what is neither name nor callable.

    >>> get("non_neg")
    NonNeg()
    """
    return resolve("constraint", identifier)


class Constraint(Value, loadable=False):
    """Where a weight may be: a value, called as `constraint(weight) -> weight` after an update.

    Any function of one array is a constraint too. `axis` is what the norm runs over: 0 for the
    kernel of `Dense`, `(0, 1, 2)` for that of `Conv2D`; each output then has a norm of its own.

    >>> class Within(Constraint):
    ...     limit: float = 1.0
    ...     def __call__(self, weight):
    ...         return jnp.clip(weight, -self.limit, self.limit)
    >>> Within(2.0)(jnp.array([-3.0, 1.0])).tolist()
    [-2.0, 1.0]
    """

    kind = "constraint"


class NonNeg(Constraint):
    """max(weight, 0).

    >>> NonNeg()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: Array) -> Array:
        return jnp.maximum(w, 0)


class MaxNorm(Constraint):
    """Shortens to a norm of `max_value` what is longer (Srivastava et al. 2014, section 5.1).

    >>> [round(v, 3) for v in MaxNorm(1.0)(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """

    max_value: float = not_negative(default=2)
    axis: int | tuple[int, ...] = 0

    def __call__(self, w: Array) -> Array:
        norm = _norm(w, self.axis)
        return w * (jnp.minimum(norm, self.max_value) / (EPSILON + norm))


class UnitNorm(Constraint):
    """Scales to a norm of 1.

    >>> [round(v, 3) for v in UnitNorm()(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """

    axis: int | tuple[int, ...] = 0

    def __call__(self, w: Array) -> Array:
        return w / (EPSILON + _norm(w, self.axis))


class MinMaxNorm(Constraint):
    """Scales to a norm between `min_value` and `max_value`.

    `rate` 1 does so at once; below 1 each update goes this share of the way.

    >>> [round(v, 3) for v in MinMaxNorm(0.0, 1.0, rate=0.5)(jnp.array([6.0, 8.0])).tolist()]
    [3.3, 4.4]
    """

    min_value: float = not_negative(default=0.0)
    max_value: float = not_negative(default=1.0)
    rate: float = fraction(default=1.0)
    axis: int | tuple[int, ...] = 0

    def validate(self) -> None:
        if self.min_value > self.max_value:
            expected = f"to be at most max_value={self.max_value}"
            raise arguments.wrong(self, "min_value", expected, self.min_value)

    def __call__(self, w: Array) -> Array:
        norm = _norm(w, self.axis)
        wanted = jnp.clip(norm, self.min_value, self.max_value)
        return w * ((self.rate * wanted + (1 - self.rate) * norm) / (EPSILON + norm))


def _norm(w: Array, axis: int | tuple[int, ...]) -> Array:
    return jnp.sqrt(jnp.square(w).sum(axis=axis, keepdims=True))


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

register(MaxNorm, "max_norm")
register(NonNeg, "non_neg")
register(UnitNorm, "unit_norm")
register(MinMaxNorm, "min_max_norm")
