"""Initializer: what all of them are, and the two things that several do."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from jax import Array, random

from fnn.core import arguments
from fnn.core.value import Value
from fnn.runtime.initial_values import on_device

Shape = tuple[int, ...]


class Initializer(Value, loadable=False):
    """How fresh weights are drawn: a value, called as `initializer(key, shape, dtype)`.

    Any function of these three is an initializer too, and one of Keras's `(shape, dtype=None)`; so
    is a subclass with such a `__call__`. Those with a `seed` draw from the seed alone and not from
    the key: equal seeds and shapes give equal weights, in every layer that they are used in. By
    hand a shape is enough, `GlorotUniform()((3, 2))`: the key is then always the same one.

    >>> seeded = fnn.initializers.GlorotUniform(seed=1)
    >>> bool((seeded(jax.random.key(0), (2, 2)) == seeded(jax.random.key(1), (2, 2))).all())
    True
    """

    kind = "initializer"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        call = vars(cls).get("__call__")
        if call is not None and "key" in inspect.signature(call).parameters:
            cls.__call__ = _by_hand(call)  # type: ignore[method-assign]

    def validate(self) -> None:
        axes = getattr(self, "input_axes", None), getattr(self, "output_axes", None)
        if (axes[0] is None) != (axes[1] is None):
            expected = "to be both given or both None"
            raise arguments.wrong(self, "(input_axes, output_axes)", expected, axes)


def _by_hand(call: Any) -> Any:
    """`call(self, key, shape, dtype)`, for which a shape alone is enough, as in Keras."""

    @functools.wraps(call)
    def drawn(self: Any, *args: Any, **kwargs: Any) -> Array:
        bare = isinstance(args[0], (tuple, list)) if args else "key" not in kwargs
        if bare:
            args = (random.key(0), *args)
        return on_device(call(self, *args, **kwargs))

    return drawn


def draw_key(initializer: Any, key: Array) -> Array:
    """The key to draw from: that of the seed, if there is one, else the one given."""
    return key if initializer.seed is None else random.key(initializer.seed)


def require_rank(initializer: Any, right: bool, expected: str, shape: Shape) -> None:
    """Raises ValueError naming the shape unless it is `right`."""
    if not right:
        raise ValueError(
            f"{type(initializer).__name__}: expected a weight of {expected}, received shape "
            f"{tuple(shape)}; use another initializer for it"
        )
