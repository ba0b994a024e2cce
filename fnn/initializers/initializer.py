"""Initializer: what all of them are, and the two things that several do."""

from __future__ import annotations

from typing import Any

from jax import Array, random

from fnn.core import arguments
from fnn.core.config import Value

Shape = tuple[int, ...]


class Initializer(Value, loadable=False):
    """How fresh weights are drawn: a value, called as `initializer(key, shape, dtype)`.

    Any function of these three is an initializer too. Those with a `seed` draw from the seed alone
    and not from the key: equal seeds and shapes give equal weights, in every layer that they are
    used in.

    >>> seeded = fnn.initializers.GlorotUniform(seed=1)
    >>> bool((seeded(jax.random.key(0), (2, 2)) == seeded(jax.random.key(1), (2, 2))).all())
    True
    """

    kind = "initializer"

    def validate(self) -> None:
        arguments.seed(self)
        axes = getattr(self, "input_axes", None), getattr(self, "output_axes", None)
        if (axes[0] is None) != (axes[1] is None):
            expected = "to be both given or both None"
            raise arguments.wrong(self, "(input_axes, output_axes)", expected, axes)


def draw_key(initializer: Any, key: Array) -> Array:
    """The key to draw from: that of the seed, if there is one, else the one given."""
    return key if initializer.seed is None else random.key(initializer.seed)


def require_rank(initializer: Any, right: bool, expected: str, shape: Shape) -> None:
    """Raises ValueError naming the shape unless it is `right`."""
    if not right:
        raise ValueError(
            f"{type(initializer).__name__}: expected a weight of {expected}, received shape "
            f"{tuple(shape)}; do use another initializer for it"
        )
