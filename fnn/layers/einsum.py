"""EinsumDense: a dense layer over axes chosen by an einsum equation."""

from __future__ import annotations

import functools
import re
import string
from dataclasses import field
from typing import Any, Literal, NamedTuple, TypeAlias

from jax import Array

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, attach_mask
from fnn.core.fields import positive
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
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import resolve
from fnn.runtime.placement import einsum

Shape: TypeAlias = tuple[int, ...]
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


@functools.lru_cache(maxsize=256)
def parse(equation: str) -> Equation | None:
    """The parts of an equation; None for another form."""
    found = EQUATION.fullmatch(equation.replace(" ", ""))
    if found is None:
        return None
    left, x, right, kernel, left_out, y, right_out = found.groups()
    if (left, right) != (left_out, right_out) or (left and right):
        return None
    if left:
        return Equation(x, kernel, y, "left")
    if right:
        return Equation(x, kernel, y, "right")
    return Equation(x, kernel, y, "")


def _names_each_once(
    x: str,
    kernel: str,
    y: str,
    _: Dots,
) -> bool:
    if not set(y) <= set(x + kernel):
        return False
    if not set(kernel) <= set(x + y):
        return False
    return all(len(set(part)) == len(part) for part in (x, kernel, y))


def _keeps_steps(
    x: str,
    _: str,
    y: str,
    dots: Dots,
) -> bool:
    # On the left, the steps are among the dots, or the first of several named axes.
    if dots == "left":
        return len(x) == 1 or x[0] == y[0]
    return x[:2] == y[:2]


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
    by_step = True  # but for equations that `cache_rules` name
    keeps_sharding = True
    input_layout = "(batch, ...)"
    field_rules = (
        Rule(
            "equation",
            lambda layer: parse(layer.equation) is not None,
            "to be like 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'",
        ),
        Rule(
            "equation",
            lambda layer: _names_each_once(*layer._parts),
            "to name each axis at most once in a part, those of the outputs in inputs or "
            "kernel, and those of the kernel in inputs or outputs",
        ),
        Rule(
            "output_shape",
            lambda layer: len(layer._shape()) == len(layer._sized),
            "to have a positive integer or None for each axis of {self._sized!r}",
        ),
        Rule(
            "bias_axes",
            lambda layer: (
                layer.bias_axes is None
                or (
                    layer.bias_axes
                    and set(layer.bias_axes) <= set(layer._parts.outputs)
                )
            ),
            "to be axes of the outputs {self._parts.outputs!r}, or None for no bias",
        ),
    )
    input_rules = (
        Rule(
            "inputs",
            lambda layer, x: layer._fits(len(x.shape)),
            "with the axes {self._parts.inputs!r} of {self.equation!r}",
            "change the equation, or reshape the inputs",
        ),
        Rule(
            "inputs",
            lambda layer, x: not layer._differing(x.shape),
            "with the sizes of output_shape={self.output_shape} along the axes of "
            "{self.equation!r} that they share with the outputs",
            "set None in output_shape",
        ),
        Rule(
            "output_shape",
            lambda layer, x: None not in layer._kernel_shape(x.shape),
            "to have the sizes that are not known from the inputs",
        ),
    )
    cache_rules = (
        Rule(
            "equation",
            lambda layer: _keeps_steps(*layer._parts),
            "to keep the steps in place, since they come a few at a time",
        ),
    )

    equation: str
    output_shape: int | tuple[int | None, ...] = positive()
    activation: Activation = None
    bias_axes: str | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    activity_regularizer: Regularizer = field(default=None, kw_only=True)

    @property
    def summed_axes(self) -> tuple[int, ...]:
        """The axes of the kernel that are summed over."""
        _, kernel, y, _ = self._parts
        return tuple(i for i, letter in enumerate(kernel) if letter not in y)

    def _shape(self) -> tuple[int | None, ...]:
        if isinstance(self.output_shape, tuple):
            return self.output_shape
        return (self.output_shape,)

    @property
    def _parts(self) -> Equation:
        parts = parse(self.equation)
        assert parts is not None  # `field_rules` say so
        return parts

    @property
    def _sized(self) -> str:
        """The axes of the outputs whose sizes are in `output_shape`: all but the batch."""
        _, _, y, dots = self._parts
        if dots == "left":
            return y
        return y[1:]

    def _fits(self, axes: int) -> bool:
        x, _, _, dots = self._parts
        return axes == len(x) or (bool(dots) and axes > len(x))

    def _input_sizes(self, shape: Shape) -> dict[str, int]:
        """The sizes of the axes of the inputs, by letter."""
        x, _, _, dots = self._parts
        if dots == "left":
            shape = shape[len(shape) - len(x) :]
        return dict(zip(x, shape, strict=False))

    def _differing(self, shape: Shape) -> bool:
        """Whether `output_shape` has another size than the inputs along an axis of both."""
        inputs = self._input_sizes(shape)
        pairs = zip(self._sized, self._shape(), strict=True)
        return any(size not in (None, inputs.get(n, size)) for n, size in pairs)

    def _sizes(self, shape: Shape) -> dict[str, int | None]:
        """The sizes of the axes of inputs and outputs, by letter."""
        given = dict(zip(self._sized, self._shape(), strict=True))
        return {**given, **self._input_sizes(shape)}

    def _kernel_shape(self, shape: Shape) -> tuple[int | None, ...]:
        sizes = self._sizes(shape)
        return tuple(sizes[letter] for letter in self._parts.kernel)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        inputs, kernel, y, dots = self._parts
        sizes: dict[str, Any] = self._sizes(x.shape)
        shape: Any = self._kernel_shape(x.shape)
        layer = self._with_axes(kernel, y)
        params = {"kernel": layer.weight("kernel", key, shape)}
        if self.bias_axes is not None:
            # From the first axis with a bias on; 1 for the axes without a bias.
            first = min(map(y.index, self.bias_axes))
            own = {n: sizes[n] for n in self.bias_axes}
            shape = tuple(own.get(n, 1) for n in y[first:])
            if dots == "right":
                shape += (1,) * (len(x.shape) - len(inputs))
            params["bias"] = self.weight("bias", key, shape)
        return params, {}

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
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        # (batch, ...), the named axes as in the equation
        letters = self._letters(x.ndim)
        if "kernel_scale" in params:
            y = ctx.stored.einsum(x, params, letters)
        else:
            y = einsum(self.equation, x, params["kernel"], letters)
        if "bias" in params:
            bias = params["bias"]
            before = (1,) * (y.ndim - bias.ndim)
            y = y + bias.reshape(before + bias.shape)
        y = activate(self.activation, y)
        return attach_mask(y, self._mask(x, ctx.mask)), state

    def _letters(self, axes: int) -> tuple[str, str, str]:
        """A letter for each axis of inputs, kernel and outputs, those of the dots included."""
        x, kernel, y, dots = self._parts
        unused = [letter for letter in string.ascii_letters if letter not in x + kernel]
        more = "".join(unused[: axes - len(x)])
        if dots == "left":
            return more + x, kernel, more + y
        return x + more, kernel, y + more

    def _mask(self, x: Array, mask: Array | None) -> Array | None:
        """The mask; raises ValueError unless the outputs have the steps of the inputs."""
        if mask is None:
            return None
        letters, _, y, dots = self._parts
        masked = mask.ndim  # how many named axes have a mask
        if dots == "left":
            before = x.ndim - len(letters)
            masked = max(mask.ndim - before, 0)
        if letters[:masked] != y[:masked]:
            raise ValueError(
                f"EinsumDense: expected inputs without a mask, since {self.equation!r} mixes or "
                "moves the steps, received a mask; use Unmask() first to drop it"
            )
        return mask
