"""Regularizers: penalties on a weight or an output, by Keras's names."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core.fields import not_negative, one_of
from fnn.core.registry import register
from fnn.core.value import Value, resolve


def get(identifier: Any) -> Any:
    """The regularizer behind a name; a regularizer or function stays as it is, None too.

    Raises ValueError for an unknown name and TypeError for what is neither name nor callable.

    >>> get("l2")
    L2()
    """
    return resolve("regularizer", identifier)


class Regularizer(Value, loadable=False):
    """A penalty that the loss gains: a value, called as `regularizer(weight) -> scalar`.

    Any function of one array is a regularizer too. A weight's penalty does not depend on the
    batch; an output's (`activity_regularizer`) is divided by the number of examples.

    >>> class FarFrom(Regularizer):
    ...     goal: float = 1.0
    ...     def __call__(self, x):
    ...         return jnp.square(x - self.goal).sum()
    >>> float(FarFrom(2.0)(jnp.zeros(3)))
    12.0
    """

    kind = "regularizer"


class L1(Regularizer):
    """l1 * sum(abs(x)).

    >>> float(L1(0.5)(jnp.array([1.0, -3.0])))
    2.0
    """

    l1: float = not_negative(default=0.01)

    def __call__(self, x: Array) -> Array:
        return self.l1 * jnp.abs(x).sum()


class L2(Regularizer):
    """l2 * sum(x**2). There is no half in front, unlike in weight decay.

    >>> float(L2(0.5)(jnp.array([1.0, -3.0])))
    5.0
    """

    l2: float = not_negative(default=0.01)

    def __call__(self, x: Array) -> Array:
        return self.l2 * jnp.square(x).sum()


class L1L2(Regularizer):
    """l1 * sum(abs(x)) + l2 * sum(x**2).

    `L1L2()` is no penalty at all, as in Keras; the name "l1_l2" stands for `L1L2(0.01, 0.01)`.

    >>> float(L1L2(l1=0.5, l2=0.5)(jnp.array([1.0, -3.0])))
    7.0
    """

    l1: float = not_negative(default=0.0)
    l2: float = not_negative(default=0.0)

    def __call__(self, x: Array) -> Array:
        return self.l1 * jnp.abs(x).sum() + self.l2 * jnp.square(x).sum()


class OrthogonalRegularizer(Regularizer):
    """factor * the mean of abs(cosine) over all pairs of rows, or of columns.

    Raises ValueError for wrong arguments and for a weight that is not a matrix.

    >>> float(OrthogonalRegularizer(1.0)(jnp.eye(3)))
    0.0
    """

    factor: float = not_negative(default=0.01)
    mode: str = one_of(("rows", "columns"), default="rows")

    def __call__(self, x: Array) -> Array:
        if x.ndim != 2:
            raise ValueError(
                f"OrthogonalRegularizer: expected a weight of 2 axes, received shape {x.shape}; "
                "regularize it otherwise, e.g. by L2()"
            )
        vectors = x if self.mode == "rows" else x.T
        # 1e-14 within the root: a row of zeros has a gradient, too.
        norms = jnp.sqrt(
            jnp.maximum(jnp.square(vectors).sum(axis=1, keepdims=True), 1e-14)
        )
        cosines = (vectors / norms) @ (vectors / norms).T
        count = len(vectors)
        others = jnp.abs(cosines * (1 - jnp.eye(count, dtype=x.dtype)))
        return self.factor * others.sum() / max(count * (count - 1), 1)


def l1_and_l2(x: Array) -> Array:
    """What the name "l1_l2" stands for: `L1L2(0.01, 0.01)`.

    >>> round(float(l1_and_l2(jnp.array([1.0, -3.0]))), 4)  # 0.01 * 4 + 0.01 * 10
    0.14
    """
    return L1L2(0.01, 0.01)(x)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

register(L1, "l1")
register(L2, "l2")
register(
    l1_and_l2, "l1_l2", "l1l2", kind="regularizer"
)  # L1L2() would silently be nothing
register(OrthogonalRegularizer, "orthogonal_regularizer")
