"""EinsumDense: a dense layer over the axes that an equation names."""

from __future__ import annotations

import re
import string
from dataclasses import field
from typing import Any

from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.masking import attach_mask
from fnn.core.value import resolve
from fnn.runtime.placement import einsum

EQUATION = re.compile(
    r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?"
)


class EinsumDense(Layer):
    """activation(einsum(equation, x, kernel) + bias).

    The equation has one of the forms `ab,bc->ac`, `...ab,bc->...ac` and `ab...,bc->ac...`.
    `output_shape` is the shape of one output, without the axes of the dots (whose first is the
    batch) and without the first axis where there are none before it; None stands for a size
    that the inputs tell. `bias_axes` names the axes of the outputs that have a bias of their own;
    without it there is none. Weights: `kernel`, with the axes of the equation, and `bias`.
    Raises ValueError for an equation that cannot be, and for inputs that do not fit it.

    >>> init, apply = EinsumDense("...x,xhd->...hd", (2, 3), bias_axes="hd")
    >>> params, state = init(jax.random.key(0), jnp.ones((7, 5, 4)))
    >>> params["kernel"].shape, apply(params, state, jnp.ones((7, 5, 4)))[0].shape
    ((4, 2, 3), (7, 5, 2, 3))
    """

    masking = "use"
    keeps_sharding = True

    equation: str
    output_shape: int | tuple[int | None, ...]
    activation: Activation = None
    bias_axes: str | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    activity_regularizer: Regularizer = field(default=None, kw_only=True)

    def validate(self) -> None:
        x, kernel, y, dots = self._parts()
        stray = (set(y) - set(x + kernel)) | (set(kernel) - set(x + y))
        if stray or any(len(set(part)) < len(part) for part in (x, kernel, y)):
            expected = "to name each axis once a part, those of the kernel in inputs or outputs"
            raise arguments.wrong(self, "equation", expected, self.equation)
        named = y if dots == "left" else y[1:]
        shape = self._shape()
        if len(shape) != len(named) or any(
            n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1)
            for n in shape
        ):
            expected = f"to have an integer above 0 or None for each axis of {named!r}"
            raise arguments.wrong(self, "output_shape", expected, self.output_shape)
        if self.bias_axes is not None and not set() < set(self.bias_axes) <= set(y):
            expected = f"to be axes of the outputs {y!r}, or None for no bias"
            raise arguments.wrong(self, "bias_axes", expected, self.bias_axes)

    def _shape(self) -> tuple[int | None, ...]:
        return (
            self.output_shape
            if isinstance(self.output_shape, tuple)
            else (self.output_shape,)
        )

    def _parts(self) -> tuple[str, str, str, str]:
        """The axes of inputs, kernel and outputs, and where the dots are: left, right or ''."""
        found = EQUATION.fullmatch(str(self.equation).replace(" ", ""))
        left, x, right, kernel, left_out, y, right_out = (
            found.groups() if found else (None,) * 7
        )
        if not found or (left, right) != (left_out, right_out) or (left and right):
            expected = "to be like 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'"
            raise arguments.wrong(self, "equation", expected, self.equation)
        return (
            x or "",
            kernel or "",
            y or "",
            "left" if left else "right" if right else "",
        )

    def _sizes(
        self, shape: tuple[int, ...]
    ) -> tuple[dict[str, int], dict[str, int | None]]:
        """The size of every axis by its letter: that of the inputs, that of the outputs."""
        x, _, y, dots = self._parts()
        if len(shape) < len(x) or (not dots and len(shape) > len(x)):
            raise ValueError(
                f"EinsumDense: expected inputs with the axes {x!r} of {self.equation!r}, received "
                f"shape {tuple(shape)}; change the equation, or reshape the inputs"
            )
        own = shape[len(shape) - len(x) :] if dots == "left" else shape
        sizes = dict(zip(x, own, strict=False))
        named: dict[str, int | None] = {} if dots == "left" else {y[0]: sizes.get(y[0])}
        named |= dict(zip(y if dots == "left" else y[1:], self._shape(), strict=True))
        for letter in set(x) & set(y):
            if named[letter] not in (None, sizes[letter]):
                raise ValueError(
                    f"EinsumDense: expected inputs with axis {letter!r} of size {named[letter]}, "
                    f"received {sizes[letter]} in shape {tuple(shape)}; set None in output_shape"
                )
        return sizes, {letter: n or sizes.get(letter) for letter, n in named.items()}

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        _, kernel, y, dots = self._parts()
        inner, outer = self._sizes(x.shape)
        shape = tuple(
            outer[letter] if letter in outer else inner[letter] for letter in kernel
        )
        bias = tuple(outer[n] if n in (self.bias_axes or "") else 1 for n in y)
        if None in shape or None in bias:
            expected = "to tell the sizes that the inputs do not"
            raise arguments.wrong(self, "output_shape", expected, self.output_shape)
        params = {"kernel": self._with_axes(kernel, y).weight("kernel", key, shape)}  # type: ignore[arg-type]
        if self.bias_axes is not None:
            bias = bias[min(map(y.index, self.bias_axes)) :]
            bias += (1,) * (len(x.shape) - len(inner)) if dots == "right" else ()
            params["bias"] = self.weight("bias", key, bias)  # type: ignore[arg-type]
        return params, {}

    def _with_axes(self, kernel: str, y: str) -> EinsumDense:
        """This layer with an initializer that knows which axes of the kernel are outputs."""
        initializer = resolve("initializer", self.kernel_initializer)
        if getattr(initializer, "input_axes", ()) is not None:
            return self
        axes = {
            "input_axes": tuple(
                i for i, letter in enumerate(kernel) if letter not in y
            ),
            "output_axes": tuple(i for i, letter in enumerate(kernel) if letter in y),
        }
        return self.replace(kernel_initializer=initializer.replace(**axes))

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        y = einsum(self.equation, x, params["kernel"], self._letters(x.ndim))
        if "bias" in params:
            bias = params["bias"]
            y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        return attach_mask(activate(self.activation, y), self._mask(x, ctx.mask)), state

    def _letters(self, axes: int) -> tuple[str, str, str]:
        """A letter for each axis of inputs, kernel and outputs, those of the dots included."""
        x, kernel, y, dots = self._parts()
        further = [
            letter for letter in string.ascii_letters if letter not in x + kernel
        ]
        more = "".join(further[: axes - len(x)])
        return (
            (more + x, kernel, more + y)
            if dots == "left"
            else (x + more, kernel, y + more)
        )

    def cache(self, params: Params, batch: int, length: int) -> State:
        """Nothing; raises ValueError for an equation that mixes or moves the steps."""
        x, _, y, dots = self._parts()
        if (x[:1] != y[:1] and len(x) > 1) if dots == "left" else x[:2] != y[:2]:
            expected = (
                "to leave the steps where they are, since they come a few at a time"
            )
            raise arguments.wrong(self, "equation", expected, self.equation)
        return {}

    def _mask(self, x: Array, mask: Array | None) -> Array | None:
        """The mask, if the outputs have the steps of the inputs."""
        letters, _, y, dots = self._parts()
        axes, before = 0 if mask is None else mask.ndim, len(x.shape) - len(letters)
        own = (
            max(axes - before, 0) if dots == "left" else axes
        )  # as many letters have a mask
        if letters[:own] != y[:own]:
            raise ValueError(
                f"EinsumDense: expected inputs without a mask, since {self.equation!r} mixes or "
                "moves the steps, received a mask; use Unmask() first to drop it"
            )
        return mask
