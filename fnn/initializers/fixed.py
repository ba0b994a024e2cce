"""Initializers that draw nothing: constants, the identity, the Fourier transform."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.fields import one_of
from fnn.initializers.initializer import Initializer, Shape, require_rank
from fnn.initializers.windows import WINDOWS, window
from fnn.runtime.initial_values import filled


class Zeros(Initializer):
    """0 everywhere.

    >>> Zeros()(jax.random.key(0), (3,)).tolist()
    [0.0, 0.0, 0.0]
    """

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return filled(key, shape, dtype, 0)


class Ones(Initializer):
    """1 everywhere.

    >>> Ones()(jax.random.key(0), (3,)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return filled(key, shape, dtype, 1)


class Constant(Initializer):
    """`value` everywhere; nested lists of numbers are spread to the shape.

    A large array belongs into the params after `init`, not in here: a value holds plain numbers.
    Raises ValueError if `value` is not made of numbers.

    >>> Constant([1.0, 2.0])(jax.random.key(0), (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    value: Any = 0.0

    def validate(self) -> None:
        if np.asarray(self.value).dtype.kind not in "biufc":
            raise arguments.wrong(self, "value", "to be a number", self.value)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return filled(key, shape, dtype, self.value)


class Identity(Initializer):
    """gain * the identity matrix. Raises ValueError unless the weight has two axes.

    >>> Identity(gain=2.0)(jax.random.key(0), (2, 3)).tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """

    gain: float = 1.0

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        require_rank(self, len(shape) == 2, "2 axes", shape)
        return self.gain * jnp.eye(shape[0], shape[1], dtype=dtype)


class STFT(Initializer):
    """A `Conv1D` kernel that computes a short-time Fourier transform.

    (frame, 1, frequencies), of a transform of length 2 * (frequencies - 1). `side` chooses "real"
    or "imag"; `window` is a name in `scipy.signal.windows`, its values, or None; `scaling`
    divides by the norm of the window, in L2 ("density") or L1 ("spectrum").
    Raises ValueError for wrong arguments, and for a weight that is not of this shape.

    >>> kernel = STFT("real", window=None, scaling=None)(jax.random.key(0), (4, 1, 3))
    >>> [round(v) for v in kernel[:, 0, 1].tolist()]  # one turn in four steps
    [1, 0, -1, 0]
    """

    side: str = one_of(("real", "imag"), default="real")
    window: Any = "hann"
    scaling: str | None = one_of(("density", "spectrum", None), default="density")
    periodic: bool = False

    def validate(self) -> None:
        if isinstance(self.window, str) and self.window not in WINDOWS:
            expected = "to be a window of scipy.signal.windows without parameters"
            raise arguments.wrong(self, "window", expected, self.window)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        require_rank(self, len(shape) == 3, "3 axes (frame, 1, frequencies)", shape)
        frame, _, frequencies = shape
        length, exact = 2 * (frequencies - 1), jnp.promote_types(dtype, jnp.float32)
        if not length or frame * frequencies >= 2**31:
            expected = "2 frequencies or more, and a product of frame and frequencies below 2**31"
            require_rank(self, False, expected, shape)
        # Whole turns are taken off as integers: float32 would lose the angle beside them.
        turns = jnp.arange(frame)[:, None] * jnp.arange(frequencies)[None] % length
        angle = (
            2 * np.pi / length * jnp.where(2 * turns > length, turns - length, turns)
        )
        angle = angle.astype(exact)
        kernel = jnp.cos(angle) if self.side == "real" else -jnp.sin(angle)
        if self.window is not None:
            kernel *= self._scaled_window(frame, exact)[:, None]
        return jnp.broadcast_to(kernel[:, None, :].astype(dtype), shape)

    def _scaled_window(self, frame: int, dtype: Any) -> Array:
        if isinstance(self.window, str):
            values = window(self.window, frame, self.periodic, dtype)
        else:
            values = jnp.asarray(self.window, dtype)
        if values.shape != (frame,):
            raise ValueError(
                f"STFT: expected a window of {frame} values, as long as the frame, received "
                f"shape {values.shape}; give a name or {frame} values"
            )
        order = {"density": 2, "spectrum": 1, None: None}[self.scaling]
        return values / jnp.linalg.norm(values, order) if order else values
