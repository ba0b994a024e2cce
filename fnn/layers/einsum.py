"""EinsumDense: a dense layer over axes chosen by an einsum equation."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import field
from typing import Literal, NamedTuple, TypeAlias

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
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import resolve
from fnn.runtime.placement import einsum

Dots: TypeAlias = Literal["left", "right", ""]  # where the equation has its dots

EQUATION = re.compile(
    r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?"
)


class Equation(NamedTuple):
    """The parts of an equation, one letter for each axis."""

    inputs: str
    kernel: str
    outputs: str
    dots: Dots


class EinsumDense(Layer):
    """activation(einsum(equation, x, kernel) + bias).

    The equation has one of the forms `ab,bc->ac`, `...ab,bc->...ac` and `ab...,bc->ac...`.
    `output_shape` has the sizes of the named axes of the outputs. The batch is left out: it is the
    first axis of the dots in `...ab`, and the first named axis otherwise. None stands for a size
    that is known from the inputs. `bias_axes` names the axes of the outputs along which the bias
    varies; None means no bias. Weights: `kernel`, with the axes of the equation, and `bias`.
    Raises ValueError for an invalid equation, and for inputs that do not fit it.

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
        new_in_outputs = set(y) - set(x + kernel)
        only_in_kernel = set(kernel) - set(x + y)
        repeats = any(len(set(part)) < len(part) for part in (x, kernel, y))
        if new_in_outputs or only_in_kernel or repeats:
            expected = (
                "to name each axis at most once in a part, those of the outputs in inputs or "
                "kernel, and those of the kernel in inputs or outputs"
            )
            raise arguments.wrong(self, "equation", expected, self.equation)
        named = _sized_axes(y, dots)
        shape = self._shape()
        if len(shape) != len(named) or not all(map(_is_size, shape)):
            expected = f"to have a positive integer or None for each axis of {named!r}"
            raise arguments.wrong(self, "output_shape", expected, self.output_shape)
        if self.bias_axes is None:
            return
        if not self.bias_axes or not set(self.bias_axes) <= set(y):
            expected = f"to be axes of the outputs {y!r}, or None for no bias"
            raise arguments.wrong(self, "bias_axes", expected, self.bias_axes)

    def _shape(self) -> tuple[int | None, ...]:
        if isinstance(self.output_shape, tuple):
            return self.output_shape
        return (self.output_shape,)

    def _parts(self) -> Equation:
        """The parts of the equation; raises ValueError for another form."""
        found = EQUATION.fullmatch(str(self.equation).replace(" ", ""))
        if found is not None:
            left, x, right, kernel, left_out, y, right_out = found.groups()
            if (left, right) == (left_out, right_out) and not (left and right):
                if left:
                    return Equation(x, kernel, y, "left")
                if right:
                    return Equation(x, kernel, y, "right")
                return Equation(x, kernel, y, "")
        expected = "to be like 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'"
        raise arguments.wrong(self, "equation", expected, self.equation)

    def _sizes(
        self, shape: tuple[int, ...]
    ) -> tuple[dict[str, int], dict[str, int | None]]:
        """The sizes of the axes of inputs and outputs, by letter."""
        x, _, y, dots = self._parts()
        too_few = len(shape) < len(x)
        too_many = not dots and len(shape) > len(x)
        if too_few or too_many:
            raise ValueError(
                f"EinsumDense: expected inputs with the axes {x!r} of {self.equation!r}, received "
                f"shape {tuple(shape)}; change the equation, or reshape the inputs"
            )
        if dots == "left":
            shape = shape[len(shape) - len(x) :]
        inputs = dict(zip(x, shape, strict=False))
        outputs: dict[str, int | None] = {}
        if dots != "left":  # the first axis is the batch
            outputs[y[0]] = inputs.get(y[0])
        sized = _sized_axes(y, dots)
        outputs |= dict(zip(sized, self._shape(), strict=True))
        for letter in set(x) & set(y):
            if outputs[letter] not in (None, inputs[letter]):
                raise ValueError(
                    f"EinsumDense: expected inputs with axis {letter!r} of size "
                    f"{outputs[letter]}, received {inputs[letter]} in shape {tuple(shape)}; "
                    "set None in output_shape"
                )
        for letter, size in outputs.items():
            outputs[letter] = size or inputs.get(letter)
        return inputs, outputs

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        arguments.minimum_rank(self, x, 1, "(batch, ...)")
        _, kernel, y, dots = self._parts()
        inputs, outputs = self._sizes(x.shape)
        sizes: dict[str, int | None] = {**inputs, **outputs}
        shape = self._known([sizes[letter] for letter in kernel])
        layer = self._with_axes(kernel, y)
        params = {"kernel": layer.weight("kernel", key, shape)}
        if self.bias_axes is not None:
            # From the first axis with a bias on; 1 for the axes without a bias.
            first = min(map(y.index, self.bias_axes))
            shape = self._known(
                [outputs[n] if n in self.bias_axes else 1 for n in y[first:]]
            )
            if dots == "right":
                shape += (1,) * (len(x.shape) - len(inputs))
            params["bias"] = self.weight("bias", key, shape)
        return params, {}

    def _known(self, sizes: Sequence[int | None]) -> tuple[int, ...]:
        """The sizes; raises ValueError if one is missing in `output_shape` and the inputs."""
        known = tuple(size for size in sizes if size is not None)
        if len(known) < len(sizes):
            expected = "to have the sizes that are not known from the inputs"
            raise arguments.wrong(self, "output_shape", expected, self.output_shape)
        return known

    def _with_axes(self, kernel: str, y: str) -> EinsumDense:
        """This layer with an initializer that knows which axes of the kernel are outputs."""
        initializer = resolve("initializer", self.kernel_initializer)
        if getattr(initializer, "input_axes", ()) is not None:
            return self
        inputs = tuple(i for i, letter in enumerate(kernel) if letter not in y)
        outputs = tuple(i for i, letter in enumerate(kernel) if letter in y)
        initializer = initializer.replace(input_axes=inputs, output_axes=outputs)
        return self.replace(kernel_initializer=initializer)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        # (batch, ...), the named axes as in the equation
        letters = self._letters(x.ndim)
        y = einsum(self.equation, x, params["kernel"], letters)
        if "bias" in params:
            bias = params["bias"]
            before = (1,) * (y.ndim - bias.ndim)
            y = y + bias.reshape(before + bias.shape)
        y = activate(self.activation, y)
        return attach_mask(y, self._mask(x, ctx.mask)), state

    def _letters(self, axes: int) -> tuple[str, str, str]:
        """A letter for each axis of inputs, kernel and outputs, those of the dots included."""
        x, kernel, y, dots = self._parts()
        unused = [letter for letter in string.ascii_letters if letter not in x + kernel]
        more = "".join(unused[: axes - len(x)])
        if dots == "left":
            return more + x, kernel, more + y
        return x + more, kernel, y + more

    def cache(self, params: Params, batch: int, length: int) -> State:
        """Nothing; raises ValueError for an equation that mixes or moves the steps."""
        x, _, y, dots = self._parts()
        moves = x[:2] != y[:2]
        if (
            dots == "left"
        ):  # the steps are among the dots, or the first of several named axes
            moves = len(x) > 1 and x[0] != y[0]
        if moves:
            expected = "to keep the steps in place, since they come a few at a time"
            raise arguments.wrong(self, "equation", expected, self.equation)
        return {}

    def _mask(self, x: Array, mask: Array | None) -> Array | None:
        """The mask; raises ValueError unless the outputs have the steps of the inputs."""
        if mask is None:
            return None
        letters, _, y, dots = self._parts()
        masked = mask.ndim  # how many named axes have a mask
        if dots == "left":
            masked = max(mask.ndim - (x.ndim - len(letters)), 0)
        if letters[:masked] != y[:masked]:
            raise ValueError(
                f"EinsumDense: expected inputs without a mask, since {self.equation!r} mixes or "
                "moves the steps, received a mask; use Unmask() first to drop it"
            )
        return mask


def _sized_axes(y: str, dots: Dots) -> str:
    """The axes of the outputs whose sizes are in `output_shape`: all but the batch."""
    if dots == "left":
        return y
    return y[1:]


def _is_size(size: object) -> bool:
    if size is None:
        return True
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1
