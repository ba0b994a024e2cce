"""Reshaping: Flatten, Reshape, Permute, Reverse, RepeatVector."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, attach_mask
from fnn.core.fields import one_of, positive
from fnn.core.layer import Layer, Params, State
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

    with_strings = "move"

    input_layout = "(batch, ...)"

    data_format: str | None = one_of(
        (None, "channels_last", "channels_first"), default=None
    )

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


def _filled(shape: tuple[int, ...], x: SpecTree) -> tuple[int, ...]:
    """`shape` with the size that is left for -1, if an example of `x` is to fill it."""
    known = math.prod(n for n in shape if n != -1)
    inferred = math.prod(x.shape[1:]) // max(known, 1)
    return tuple(inferred if n == -1 else n for n in shape)


def _check_size(layer: Reshape, x: SpecTree) -> None:
    """Raises ValueError unless examples have as many values as the new shape."""
    shape = layer.target_shape
    size = math.prod(x.shape[1:])
    if math.prod(_filled(shape, x)) == size:
        return
    known = math.prod(n for n in shape if n != -1)
    wanted = f"{'a multiple of ' * (-1 in shape)}{known} values"
    expected = f"whose examples have {wanted}, to fill target_shape={shape}"
    advice = f"choose a target_shape of {size} values, without the batch"
    raise arguments.wrong_inputs(layer, expected, x, advice)


class Reshape(Layer):
    """Each example in another shape.   (batch, ...) -> (batch, *target_shape)

    `target_shape` leaves the batch out; one size of -1 in it is inferred.
    Raises ValueError for a wrong `target_shape`, and for inputs of another number of values.

    >>> Reshape((2, -1)).apply({}, {}, jnp.ones((5, 6)))[0].shape
    (5, 2, 3)
    """

    with_strings = "move"

    input_layout = "(batch, ...)"
    field_rules = (
        Rule(
            "target_shape",
            lambda layer: (
                min(layer.target_shape, default=0) >= -1
                and layer.target_shape.count(-1) <= 1
            ),
            "to be a tuple of integers with at most one -1",
            "e.g. Reshape((28, 28, 1)), without the batch",
        ),
    )
    input_rules = (_check_size,)

    target_shape: tuple[int, ...]

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        shape = (x.shape[0], *_filled(self.target_shape, x))
        return reshape(x, shape), state  # stays divided over the batch, on a mesh


class Permute(Layer):
    """The axes of each example in another order.   (batch, ...) -> (batch, ...)

    `dims` counts from 1, since the batch, axis 0, stays first: `Permute((2, 1))` transposes.
    Raises ValueError unless `dims` is a permutation of 1, 2, ... and the inputs have these axes.

    >>> Permute((2, 1)).apply({}, {}, jnp.ones((5, 3, 4)))[0].shape
    (5, 4, 3)
    """

    with_strings = "move"

    field_rules = (
        Rule(
            "dims",
            lambda layer: sorted(layer.dims) == list(range(1, len(layer.dims) + 1)),
            "to be a permutation of the axes 1, 2, ...",
            "e.g. Permute((2, 1)), without the batch",
        ),
    )

    dims: tuple[int, ...]

    @property
    def input_layout(self) -> str:  # type: ignore[override]
        axes = (f"axis {axis}" for axis in sorted(self.dims))
        return f"({', '.join(['batch', *axes])})"

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
    input_layout = "(batch, time, ...)"
    field_rules = (
        Rule(
            "axis",
            lambda layer: layer.axis != 0,
            "to be an integer other than 0, which is the batch",
            "e.g. Reverse(axis=1)",
        ),
    )
    input_rules = (
        Rule(
            "axis",
            lambda layer, x: -len(x.shape) < layer.axis < len(x.shape),
            "to be an axis after the batch of inputs of shape {x.shape}",
        ),
    )

    axis: int = 1

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

    with_strings = "move"

    input_layout = "(batch, features)"

    n: int = positive()

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        x = x[:, None, :]  # (batch, 1, features)
        return jnp.repeat(x, self.n, axis=1), state
