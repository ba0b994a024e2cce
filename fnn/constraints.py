"""Constraints: functions applied to weights after every update, with Keras's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.config import Configurable, serializers
from fnn.core.fields import fraction, not_negative
from fnn.core.registry import register
from fnn.core.value import resolve

Axis: TypeAlias = int | tuple[int, ...]

EPSILON = 1e-7  # no division by 0: a weight of zeros stays zero


serialize, deserialize = serializers("constraint", __name__, "MaxNorm(1.0)")


def get(identifier: object) -> Callable[[Array], Array] | None:
    """The constraint of a name; a constraint, a function or None is returned as it is.

    Raises ValueError for an unknown name and TypeError for anything but a name or a callable.

    >>> get("non_neg")
    NonNeg()
    """
    found: Callable[[Array], Array] | None = resolve("constraint", identifier)
    return found


class Constraint(Configurable, loadable=False):
    """A limit on a weight: a value, called as `constraint(weight) -> weight` after every update.

    Any function of one array is a constraint too. Norms are over `axis`: with 0 for the kernel of
    `Dense` and `(0, 1, 2)` for that of `Conv2D` there is one norm for each output.

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
    """Scales larger norms down to `max_value` (Srivastava et al. 2014, section 5.1).

    >>> [round(v, 3) for v in MaxNorm(1.0)(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """

    max_value: float = not_negative(default=2)
    axis: Axis = 0

    def __call__(self, w: Array) -> Array:
        norm = _norm(w, self.axis)
        wanted = jnp.minimum(norm, self.max_value)
        return w * (wanted / (EPSILON + norm))


class UnitNorm(Constraint):
    """Scales to a norm of 1.

    >>> [round(v, 3) for v in UnitNorm()(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """

    axis: Axis = 0

    def __call__(self, w: Array) -> Array:
        norm = _norm(w, self.axis)
        return w / (EPSILON + norm)


class MinMaxNorm(Constraint):
    """Scales to a norm between `min_value` and `max_value`.

    `rate` is the fraction of the way that each update goes.

    >>> [round(v, 3) for v in MinMaxNorm(0.0, 1.0, rate=0.5)(jnp.array([6.0, 8.0])).tolist()]
    [3.3, 4.4]
    """

    min_value: float = not_negative(default=0.0)
    max_value: float = not_negative(default=1.0)
    rate: float = fraction(default=1.0)
    axis: Axis = 0

    def validate(self) -> None:
        if self.min_value > self.max_value:
            expected = f"to be at most max_value={self.max_value}"
            raise arguments.wrong(self, "min_value", expected, self.min_value)

    def __call__(self, w: Array) -> Array:
        norm = _norm(w, self.axis)
        wanted = jnp.clip(norm, self.min_value, self.max_value)
        new_norm = self.rate * wanted + (1 - self.rate) * norm
        return w * (new_norm / (EPSILON + norm))


def _norm(w: Array, axis: Axis) -> Array:
    square = jnp.square(w).sum(axis=axis, keepdims=True)  # size 1 along `axis`
    return jnp.sqrt(square)


# Keras's other names for the same classes.
max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm
min_max_norm = MinMaxNorm

register(MaxNorm, "max_norm")
register(NonNeg, "non_neg")
register(UnitNorm, "unit_norm")
register(MinMaxNorm, "min_max_norm")
