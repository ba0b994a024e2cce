"""Reshaping: Flatten, Reshape, Permute, Reverse, RepeatVector."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.placement import reshape


class Flatten(Layer):
    """Each example as a vector.   (batch, ...) -> (batch, features)

    The last axis varies fastest. `data_format="channels_first"` moves the channels to the last axis
    before flattening, so that a `Dense` layer after it has the same weights in both formats.
    Raises ValueError for a wrong `data_format`.

    >>> Flatten().apply({}, {}, jnp.ones((2, 3, 4)))[0].shape
    (2, 12)
    """

    data_format: str | None = one_of(
        (None, "channels_last", "channels_first"), default=None
    )

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        if self.data_format == "channels_first" and x.ndim > 2:
            x = jnp.moveaxis(x, 1, -1)  # (batch, ..., channels)
        batch, *rest = x.shape
        return x.reshape(batch, math.prod(rest)), state


class Reshape(Layer):
    """Each example in another shape.   (batch, ...) -> (batch, *target_shape)

    `target_shape` leaves the batch out; one size of -1 in it is inferred.
    Raises ValueError for a wrong `target_shape`, and for inputs of another number of values.

    >>> Reshape((2, -1)).apply({}, {}, jnp.ones((5, 6)))[0].shape
    (5, 2, 3)
    """

    target_shape: tuple[int, ...]

    def validate(self) -> None:
        shape = self.target_shape
        if any(n < -1 for n in shape) or shape.count(-1) > 1:
            expected = "to be a tuple of integers with at most one -1"
            advice = "e.g. Reshape((28, 28, 1)), without the batch"
            raise arguments.wrong(self, "target_shape", expected, shape, advice)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        self._new_shape(x)
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        shape = (x.shape[0], *self._new_shape(x))
        return reshape(x, shape), state  # stays divided over the batch, on a mesh

    def _new_shape(self, x: SpecTree) -> tuple[int, ...]:
        """`target_shape` with the inferred size in place of -1."""
        size = math.prod(x.shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        wanted = str(known)
        fits = size == known
        inferred = 0
        if -1 in self.target_shape:
            wanted = f"a multiple of {known}"
            if known:  # else a size in the shape is 0, and so is the inferred one
                inferred, rest = divmod(size, known)
                fits = rest == 0
        if not fits:
            raise ValueError(
                f"Reshape: expected inputs whose examples have {wanted} values, to fill "
                f"target_shape={self.target_shape}, received {size} in shape {tuple(x.shape)}; "
                f"choose a target_shape of {size} values, without the batch"
            )
        shape = list(self.target_shape)
        if -1 in shape:
            shape[shape.index(-1)] = inferred
        return tuple(shape)


class Permute(Layer):
    """The axes of each example in another order.   (batch, ...) -> (batch, ...)

    `dims` counts from 1, since the batch, axis 0, stays first: `Permute((2, 1))` transposes.
    Raises ValueError unless `dims` is a permutation of 1, 2, ... and the inputs have these axes.

    >>> Permute((2, 1)).apply({}, {}, jnp.ones((5, 3, 4)))[0].shape
    (5, 4, 3)
    """

    dims: tuple[int, ...]

    def validate(self) -> None:
        axes = list(range(1, len(self.dims) + 1))
        if sorted(self.dims) != axes:
            expected = "to be a permutation of the axes 1, 2, ..."
            advice = "e.g. Permute((2, 1)), without the batch"
            raise arguments.wrong(self, "dims", expected, self.dims, advice)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.rank(self, x, len(self.dims) + 1)
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return jnp.transpose(x, (0, *self.dims)), state


class Reverse(Layer):
    """The steps in reverse order.   same shape -> same shape

    `axis` is the axis that is reversed, not the batch (0). A mask is reversed with its values, so
    padding at the end comes to the front, where layers that use the mask skip it.
    Raises ValueError for an `axis` that is 0 or that the inputs do not have.

    >>> Reverse().apply({}, {}, jnp.array([[1, 2, 3]]))[0].tolist()
    [[3, 2, 1]]
    """

    masking = "use"
    by_step = True  # except along time

    axis: int = 1

    def validate(self) -> None:
        if self.axis == 0:
            expected = "to be an integer other than 0, which is the batch"
            advice = "e.g. Reverse(axis=1)"
            raise arguments.wrong(self, "axis", expected, self.axis, advice)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 2, "(batch, time, ...)")
        if not -len(x.shape) < self.axis < len(x.shape):
            shape = tuple(x.shape)
            expected = f"to be an axis after the batch of inputs of shape {shape}"
            raise arguments.wrong(self, "axis", expected, self.axis)
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        axis = self.axis % x.ndim
        mask = ctx.mask
        if mask is not None and axis < mask.ndim:  # the mask has this axis
            mask = jnp.flip(mask, axis)
        return attach_mask(jnp.flip(x, axis), mask), state


class RepeatVector(Layer):
    """Each example repeated as `n` equal steps.   (batch, features) -> (batch, n, features)

    Raises ValueError unless `n` is an integer above 0 and the inputs are vectors.

    >>> RepeatVector(3).apply({}, {}, jnp.ones((2, 5)))[0].shape
    (2, 3, 5)
    """

    n: int = positive()

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.rank(self, x, 2, layout="(batch, features)")
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        x = x[:, None, :]  # (batch, 1, features)
        return jnp.repeat(x, self.n, axis=1), state
