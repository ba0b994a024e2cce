"""Initializer: the base class of initializers, and the seed and shape checks they share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from jax import Array, random

from fnn.core import arguments
from fnn.core.config import Configurable
from fnn.runtime.initial_values import on_device

Shape = tuple[int, ...]


class Initializer(Configurable, loadable=False):
    """The rule for initial weights: a value, called as `initializer(key, shape, dtype)`.

    A function with these arguments is an initializer too, as is a function of `(shape, dtype=None)`
    as in Keras, or a subclass with such a `__call__`. With a `seed`, values depend on the seed and
    not on the key: equal seeds and shapes give equal weights, in every layer. Called with a shape
    alone, `GlorotUniform()((3, 2))`, an initializer uses a fixed key.

    >>> seeded = fnn.initializers.GlorotUniform(seed=1)
    >>> bool((seeded(jax.random.key(0), (2, 2)) == seeded(jax.random.key(1), (2, 2))).all())
    True
    """

    kind = "initializer"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        call = vars(cls).get("__call__")
        if call is not None and "key" in inspect.signature(call).parameters:
            cls.__call__ = _with_default_key(call)  # type: ignore[method-assign]

    def validate(self) -> None:
        inputs = getattr(self, "input_axes", None)
        outputs = getattr(self, "output_axes", None)
        if (inputs is None) != (outputs is None):
            names = "(input_axes, output_axes)"
            expected = "to be both given or both None"
            raise arguments.wrong(self, names, expected, (inputs, outputs))


class Seeded(Protocol):
    """An initializer with a field `seed`."""

    @property
    def seed(self) -> int | None: ...


def _with_default_key(call: Callable[..., Array]) -> Callable[..., Array]:
    """`call(self, key, shape, dtype)`, where the key may be left out, as in Keras."""

    @functools.wraps(call)
    def drawn(self: Initializer, *args: Any, **kwargs: Any) -> Array:
        has_key = "key" in kwargs
        if args:  # a shape is a tuple or a list, a key never is
            has_key = not isinstance(args[0], (tuple, list))
        if not has_key:
            args = (random.key(0), *args)
        return on_device(call(self, *args, **kwargs))

    return drawn


def draw_key(initializer: Seeded, key: Array) -> Array:
    """The key to draw from: that of the `seed` if there is one, else `key`."""
    if initializer.seed is None:
        return key
    return random.key(initializer.seed)


def check_shape(
    initializer: Initializer,
    fits: bool,
    expected: str,
    shape: Shape,
) -> None:
    """Raises ValueError with the expected and the given shape unless the shape `fits`."""
    if not fits:
        raise ValueError(
            f"{type(initializer).__name__}: expected a weight of {expected}, received shape "
            f"{tuple(shape)}; use another initializer for it"
        )
