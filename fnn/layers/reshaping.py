"""Reshaping: Flatten, Reshape, Permute, Reverse, RepeatVector: the same numbers elsewhere."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask
from fnn.runtime.placement import reshape


class Flatten(Layer):
    """All numbers of an example in one row.   (batch, ...) -> (batch, features)

    Row by row, channels innermost; `data_format="channels_first"` moves the channels last first,
    so that a following `Dense` reads the same weights in both formats.
    Raises ValueError for a wrong `data_format`.

    >>> Flatten().apply({}, {}, jnp.ones((2, 3, 4)))[0].shape
    (2, 12)
    """

    data_format: str | None = one_of(
        (None, "channels_last", "channels_first"), default=None
    )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if self.data_format == "channels_first" and x.ndim > 2:
            x = jnp.moveaxis(x, 1, -1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), state


class Reshape(Layer):
    """Each example in another shape.   (batch, ...) -> (batch, *target_shape)

    `target_shape` leaves the batch out; one -1 in it stands for what remains.
    Raises ValueError for shapes that cannot be, and for inputs that do not fill them.

    >>> Reshape((2, -1)).apply({}, {}, jnp.ones((5, 6)))[0].shape
    (5, 2, 3)
    """

    target_shape: tuple[int, ...]

    def validate(self) -> None:
        shape = self.target_shape
        if (
            not isinstance(shape, tuple)
            or any(
                isinstance(n, bool) or not isinstance(n, int) or n < -1 for n in shape
            )
            or shape.count(-1) > 1
        ):
            raise arguments.wrong(
                self,
                "target_shape",
                "to be a tuple of integers with at most one -1",
                shape,
                "e.g. Reshape((28, 28, 1)), without the batch",
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        self._shape(x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return reshape(x, (x.shape[0], *self._shape(x))), state

    def _shape(self, x: Any) -> tuple[int, ...]:
        size = math.prod(x.shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        free = -1 in self.target_shape
        if (size % known if known else size) if free else size != known:
            raise ValueError(
                f"Reshape: expected inputs whose examples have {'a multiple of ' * free}{known} "
                f"numbers, to fill target_shape={self.target_shape}, received {size} in shape "
                f"{tuple(x.shape)}; choose a target_shape of {size} numbers, without the batch"
            )
        rest = size // known if known else 0
        return tuple(rest if n == -1 else n for n in self.target_shape)


class Permute(Layer):
    """The axes of each example in another order.   (batch, ...) -> (batch, ...)

    `dims` counts from 1, since the batch stays first: `Permute((2, 1))` transposes.
    Raises ValueError unless `dims` is an order of 1, 2, ... and the inputs have these axes.

    >>> Permute((2, 1)).apply({}, {}, jnp.ones((5, 3, 4)))[0].shape
    (5, 4, 3)
    """

    dims: tuple[int, ...]

    def validate(self) -> None:
        if not isinstance(self.dims, tuple) or sorted(self.dims) != list(
            range(1, len(self.dims) + 1)
        ):
            raise arguments.wrong(
                self,
                "dims",
                "to be an order of the axes 1, 2, ...",
                self.dims,
                "e.g. Permute((2, 1)), without the batch",
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, len(self.dims) + 1)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return jnp.transpose(x, (0, *self.dims)), state


class Reverse(Layer):
    """The steps in the opposite order, the last one first.   same shape -> same shape

    `axis` is the axis that is turned round; the batch, axis 0, stays. A mask turns with its
    values, so padding at the end comes to the front: what reads the mask skips it there.
    Raises ValueError for an `axis` that is no integer, the batch, or not in the inputs.

    >>> Reverse().apply({}, {}, jnp.array([[1, 2, 3]]))[0].tolist()
    [[3, 2, 1]]
    """

    masking = "use"
    by_step = True  # but along time

    axis: int = 1

    def validate(self) -> None:
        if (
            isinstance(self.axis, bool)
            or not isinstance(self.axis, int)
            or self.axis == 0
        ):
            expected = "to be an integer other than 0, which is the batch"
            raise arguments.wrong(
                self, "axis", expected, self.axis, "e.g. Reverse(axis=1)"
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 2, "(batch, time, ...)")
        if not -len(x.shape) < self.axis < len(x.shape):
            expected = (
                f"to be an axis after the batch of inputs of shape {tuple(x.shape)}"
            )
            raise arguments.wrong(self, "axis", expected, self.axis)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        axis, mask = self.axis % x.ndim, ctx.mask
        if mask is not None and axis < mask.ndim:
            mask = jnp.flip(mask, axis)
        return attach_mask(jnp.flip(x, axis), mask), state


class RepeatVector(Layer):
    """Each example as `n` equal steps.   (batch, features) -> (batch, n, features)

    Raises ValueError unless `n` is an integer above 0 and the inputs are vectors.

    >>> RepeatVector(3).apply({}, {}, jnp.ones((2, 5)))[0].shape
    (2, 3, 5)
    """

    n: int = positive()

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.rank(self, x, 2, layout="(batch, features)")
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return jnp.repeat(x[:, None, :], self.n, axis=1), state
