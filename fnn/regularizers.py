"""Regularizers: penalties on a weight or an output, with Keras's names."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from fnn.core.config import Configurable, serializers
from fnn.core.fields import not_negative, one_of
from fnn.core.registry import register
from fnn.core.value import resolve

serialize, deserialize = serializers("regularizer", __name__, "L2(0.5)")


def get(identifier: object) -> Callable[[Array], Array] | None:
    """The regularizer of a name; a regularizer, a function or None is returned as it is.

    Raises ValueError for an unknown name and TypeError for anything but a name or a callable.

    >>> get("l2")
    L2()
    """
    found: Callable[[Array], Array] | None = resolve("regularizer", identifier)
    return found


class Regularizer(Configurable, loadable=False):
    """A penalty added to the loss: a value, called as `regularizer(weight) -> scalar`.

    Any function of one array is a regularizer too. The penalty on a weight does not depend on the
    batch; the penalty on an output (`activity_regularizer`) is divided by the number of examples.

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
    """l2 * sum(x**2), without the factor 1/2 of weight decay.

    >>> float(L2(0.5)(jnp.array([1.0, -3.0])))
    5.0
    """

    l2: float = not_negative(default=0.01)

    def __call__(self, x: Array) -> Array:
        return self.l2 * jnp.square(x).sum()


class L1L2(Regularizer):
    """l1 * sum(abs(x)) + l2 * sum(x**2).

    `L1L2()` is a penalty of 0, as in Keras; the name "l1_l2" means `L1L2(0.01, 0.01)`.

    >>> float(L1L2(l1=0.5, l2=0.5)(jnp.array([1.0, -3.0])))
    7.0
    """

    l1: float = not_negative(default=0.0)
    l2: float = not_negative(default=0.0)

    def __call__(self, x: Array) -> Array:
        absolute = self.l1 * jnp.abs(x).sum()
        return absolute + self.l2 * jnp.square(x).sum()


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
                "use another regularizer for it, e.g. L2()"
            )
        vectors = x
        if self.mode == "columns":
            vectors = x.T
        # At least 1e-14 under the root, so that a vector of zeros has a finite gradient.
        squares = jnp.square(vectors).sum(axis=1, keepdims=True)  # (vectors, 1)
        norms = jnp.sqrt(jnp.maximum(squares, 1e-14))
        cosines = (vectors / norms) @ (vectors / norms).T  # (vectors, vectors)
        count = len(vectors)
        off_diagonal = 1 - jnp.eye(count, dtype=x.dtype)
        others = jnp.abs(cosines * off_diagonal)
        pairs = max(count * (count - 1), 1)
        return self.factor * others.sum() / pairs


def l1_and_l2(x: Array) -> Array:
    """The regularizer of the name "l1_l2": `L1L2(0.01, 0.01)`.

    >>> round(float(l1_and_l2(jnp.array([1.0, -3.0]))), 4)  # 0.01 * 4 + 0.01 * 10
    0.14
    """
    return L1L2(0.01, 0.01)(x)


# Keras's other names for the same classes.
l1 = L1
l2 = L2
l1_l2 = L1L2
orthogonal_regularizer = OrthogonalRegularizer

register(L1, "l1")
register(L2, "l2")
# Not L1L2: without arguments its penalty is 0.
register(l1_and_l2, "l1_l2", "l1l2", kind="regularizer")
register(OrthogonalRegularizer, "orthogonal_regularizer")
