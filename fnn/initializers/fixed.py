"""Initializers without randomness: constants, the identity, the Fourier transform."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from fnn.core import arguments
from fnn.core.fields import one_of
from fnn.initializers.initializer import Initializer, Shape, check_shape
from fnn.initializers.windows import WINDOWS, window
from fnn.runtime.initial_values import filled

# A number, or nested tuples of numbers.
Numbers: TypeAlias = Any


class Zeros(Initializer):
    """0 everywhere.

    >>> Zeros()(jax.random.key(0), (3,)).tolist()
    [0.0, 0.0, 0.0]
    """

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        return filled(key, shape, dtype, 0)


class Ones(Initializer):
    """1 everywhere.

    >>> Ones()(jax.random.key(0), (3,)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        return filled(key, shape, dtype, 1)


class Constant(Initializer):
    """`value` everywhere; nested lists of numbers are broadcast to the shape.

    Put a large array into the params after `init` instead: here it is held as Python numbers.
    Raises ValueError if `value` is not made of numbers.

    >>> Constant([1.0, 2.0])(jax.random.key(0), (2, 2)).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """

    value: Numbers = 0.0

    def validate(self) -> None:
        if np.asarray(self.value).dtype.kind not in "biufc":
            raise arguments.wrong(self, "value", "to be a number", self.value)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        return filled(key, shape, dtype, self.value)


class Identity(Initializer):
    """gain * the identity matrix. Raises ValueError unless the weight has two axes.

    >>> Identity(gain=2.0)(jax.random.key(0), (2, 3)).tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]
    """

    gain: float = 1.0

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        check_shape(self, len(shape) == 2, "2 axes", shape)
        return self.gain * jnp.eye(shape[0], shape[1], dtype=dtype)


class STFT(Initializer):
    """A `Conv1D` kernel that computes a short-time Fourier transform.

    The shape is (frame, 1, frequencies), for a transform of length 2 * (frequencies - 1). `side` is
    the "real" or the "imag" part; `window` is a name in `scipy.signal.windows`, the values of a
    window, or None; `scaling` divides by the norm of the window, L2 ("density") or L1
    ("spectrum").
    Raises ValueError for wrong arguments, and for a weight of another shape.

    >>> kernel = STFT("real", window=None, scaling=None)(jax.random.key(0), (4, 1, 3))
    >>> [round(v) for v in kernel[:, 0, 1].tolist()]  # one turn in four steps
    [1, 0, -1, 0]
    """

    side: str = one_of(("real", "imag"), default="real")
    window: str | Numbers = "hann"
    scaling: str | None = one_of(("density", "spectrum", None), default="density")
    periodic: bool = False

    def validate(self) -> None:
        if isinstance(self.window, str) and self.window not in WINDOWS:
            expected = "to be a window of scipy.signal.windows without parameters"
            raise arguments.wrong(self, "window", expected, self.window)

    def __call__(
        self,
        key: Array,
        shape: Shape,
        dtype: DTypeLike = jnp.float32,
    ) -> Array:
        check_shape(self, len(shape) == 3, "3 axes (frame, 1, frequencies)", shape)
        frame, _, frequencies = shape
        length = 2 * (frequencies - 1)
        fits = length > 0 and frame * frequencies < 2**31
        expected = (
            "2 frequencies or more, and a product of frame and frequencies below 2**31"
        )
        check_shape(self, fits, expected, shape)
        exact = jnp.promote_types(dtype, jnp.float32)
        # In units of 2 pi / length. Full turns are removed in integers, and the rest is between -pi
        # and pi, since float32 is more exact for small angles.
        turns = jnp.arange(frame)[:, None] * jnp.arange(frequencies)[None] % length
        turns = jnp.where(2 * turns > length, turns - length, turns)
        angle = (2 * np.pi / length * turns).astype(exact)  # (frame, frequencies)
        kernel = self._part(angle)
        if self.window is not None:
            kernel *= self._scaled_window(frame, exact)[:, None]
        kernel = kernel[:, None, :].astype(dtype)  # (frame, 1, frequencies)
        return jnp.broadcast_to(kernel, shape)

    def _part(self, angle: Array) -> Array:
        """The real or the imaginary part of exp(-1j * angle)."""
        if self.side == "real":
            return jnp.cos(angle)
        return -jnp.sin(angle)

    def _scaled_window(self, frame: int, dtype: DTypeLike) -> Array:
        if isinstance(self.window, str):
            values = window(self.window, frame, self.periodic, dtype)
        else:
            values = jnp.asarray(self.window, dtype)
        if values.shape != (frame,):
            raise ValueError(
                f"STFT: expected a window of {frame} values, as long as the frame, received "
                f"shape {values.shape}; give a name or {frame} values"
            )
        if self.scaling == "density":
            values = values / jnp.linalg.norm(values, 2)
        elif self.scaling == "spectrum":
            values = values / jnp.linalg.norm(values, 1)
        return values
