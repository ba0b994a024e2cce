"""Operators: the layers behind `x + y`, `x * 2`, `x @ y` and `x[:, 0]` of symbolic nodes."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, attach_mask, joined_mask

UNARY = ("negative", "absolute", "bitwise_not")
SYMBOLS = {
    **{
        "add": "+",
        "subtract": "-",
        "multiply": "*",
        "divide": "/",
        "floor_divide": "//",
    },
    **{"mod": "%", "power": "**", "less": "<", "less_equal": "<=", "greater": ">"},
    **{"greater_equal": ">=", "equal": "==", "not_equal": "!="},
    **{"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"},
}
BINARY = tuple(SYMBOLS)
OPERATORS = {*UNARY, *BINARY, "matmul"}

MOST_NUMBERS = (
    10_000  # a constant is compared, hashed and written into configs number by number
)


class Operator(Layer):
    """function(x, constant) or function(a, b), number by number, by NumPy's names.   -> same shape

    What `x * 2`, `1 - x`, `abs(x)` and `a + b` make of nodes. Sizes of 1 repeat. A constant is a
    number or a small array, which has the last axes of x; two inputs have equally many axes
    (`Add` and its like put new axes after the batch). `reflected` puts the constant in front. Its
    numbers take the dtype of x as plain numbers of Python do: x stays bfloat16. A step is real
    where it is real in both inputs.
    Raises ValueError for other functions, constants and shapes.

    >>> Operator("subtract", 1, reflected=True).apply({}, {}, jnp.array([[3.0]]))[0].tolist()
    [[-2.0]]
    """

    masking = "use"
    by_step = True

    function: str = one_of((*BINARY, *UNARY))
    constant: Any = None
    reflected: bool = False

    def validate(self) -> None:
        _check_constant(self)
        if self.constant is not None and self.function in UNARY:
            raise arguments.wrong(
                self, "constant", f"to be None for {self.function}", self.constant
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        count = 1 if self.constant is not None or self.function in UNARY else 2
        shapes = _shapes(self, x, count)
        _check_bits(self, x)
        if self.constant is not None:
            whole = np.shape(self.constant)
            shapes += [(1,) * (len(shapes[0]) - len(whole)) + whole]
        first = {shape[0] for shape in shapes[1:] if self.constant is not None}
        sizes = zip(*shapes, strict=False)
        if (
            len({*map(len, shapes)}) > 1
            or first - {1}
            or any(len({*s} - {1}) > 1 for s in sizes)
        ):
            what = "the constant" if self.constant is not None else "the second input"
            raise ValueError(
                f"Operator: expected {what} to repeat over an input of shape {shapes[0]} without "
                f"touching its batch, received shape {whole if first else shapes[1]} for "
                f"{self.function}; give sizes of 1 where it repeats, x[:, None] for a new axis"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        operands = (x,) if self.function in UNARY else _operands(self, x)
        y = getattr(jnp, self.function)(*operands)
        return attach_mask(y, joined_mask(ctx.mask, y.shape)), state


class MatMul(Layer):
    """The product of matrices in the last two axes.   (..., n, m) @ (..., m, k) -> (..., n, k)

    What `a @ b`, `x @ constant` and `constant @ x` make of nodes. The two inputs have equally many
    axes, three at least, the batch in front; a constant has two, or one that is summed over. A
    mask stays unless its steps are those summed over, which is refused.
    Raises ValueError for other shapes.

    >>> MatMul([[1.0], [2.0]]).apply({}, {}, jnp.array([[3.0, 4.0]]))[0].tolist()
    [[11.0]]
    """

    masking = "use"

    constant: Any = None
    reflected: bool = False

    def validate(self) -> None:
        _check_constant(self)
        if self.constant is not None and np.ndim(self.constant) not in (1, 2):
            raise arguments.wrong(
                self, "constant", "to have one or two axes", self.constant
            )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        shapes = _shapes(self, x, 1 if self.constant is not None else 2)
        least = 2 if self.constant is not None and not self.reflected else 3
        if len({*map(len, shapes)}) > 1 or len(shapes[0]) < least:
            raise ValueError(
                f"MatMul: expected inputs of equally many axes, {least} at least, since the first "
                f"is the batch, received shapes {shapes}; use Dot(axes=...), or x[:, None]"
            )
        if self.constant is not None:
            shapes.insert(0 if self.reflected else 1, np.shape(self.constant))
        a, b = shapes
        if a[-1] != b[-2 if len(b) > 1 else -1]:
            raise ValueError(
                f"MatMul: expected the last axis of a to be as long as the last but one of b, "
                f"received shapes {a} and {b}; transpose one, e.g. with Permute"
            )
        batches = zip(a[:-2], b[:-2], strict=False)
        if self.constant is None and (
            a[0] != b[0] or any(len({*s} - {1}) > 1 for s in batches)
        ):
            raise ValueError(
                f"MatMul: expected one batch size, and axes before the last two that are equally "
                f"long or 1, received shapes {a} and {b}; use Dot(axes=...) for other products"
            )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        a, b = _operands(self, x)
        y = jnp.matmul(a, b)
        masks = ctx.mask if isinstance(ctx.mask, tuple) else (ctx.mask,)
        if self.constant is None:
            summed = [a.ndim - 1, b.ndim - 2]
        else:
            summed = [x.ndim - (2 if self.reflected else 1)]
        if any(
            m is not None and m.ndim > axis
            for m, axis in zip(masks, summed, strict=False)
        ):
            raise ValueError(
                "MatMul: expected inputs without a mask over the axis that is summed over, "
                f"received shapes {tuple(a.shape)} and {tuple(b.shape)} with one; multiply by "
                "what is 0 there, or Unmask() to drop it"
            )
        return attach_mask(y, joined_mask(masks, y.shape)), state


class GetItem(Layer):
    """x[index] with an index that leaves the batch whole: numbers, slices, None and `...`.

    What `x[:, -1]`, `x[..., None]` and `x[:, 2:5]` make of nodes. Slices are kept as strings, as
    they are written: `GetItem((":", "2:5"))`. A mask is sliced with its steps; to take one of
    the steps away from it (`x[:, -1]` may be padding) is refused.
    Raises ValueError for any other index, and for one that the inputs do not have.

    >>> GetItem((slice(None), -1)).apply({}, {}, jnp.array([[1.0, 2.0]]))[0].tolist()
    [2.0]
    """

    masking = "use"

    index: Any

    def validate(self) -> None:
        given = self.index if isinstance(self.index, tuple) else (self.index,)
        try:
            object.__setattr__(self, "index", tuple(map(_as_text, given)))
            [_as_slice(item) for item in self.index if isinstance(item, str)]
        except (TypeError, ValueError) as error:
            expected = "to hold integers, slices, None and ... alone"
            advice = (
                "use Lambda(function)(x) for an array of positions, e.g. with jnp.take"
            )
            raise arguments.wrong(
                self, "index", expected, self.index, advice
            ) from error
        if self.index.count("...") > 1:
            raise arguments.wrong(self, "index", "to hold one ... at most", self.index)

    def _by_axis(self, x: Any) -> list[Any]:
        """The index with an item for each axis, and None for each new one."""
        axes, taken = (
            len(x.shape),
            sum(item not in (None, "...") for item in self.index),
        )
        if taken > axes:
            raise self._misfit(x, f"an index of {taken} axes", f"use {axes} at most")
        index = self.index if "..." in self.index else (*self.index, "...")
        at = index.index("...")
        items = [*index[:at], *(":",) * (axes - taken), *index[at + 1 :]]
        if items[:1] != [":"]:
            problem = "which does not keep the batch, the first axis, whole"
            raise self._misfit(x, problem, "write : for it, e.g. x[:, 0]")
        of_axes = (item for item in items if item is not None)
        for axis, (item, size) in enumerate(zip(of_axes, x.shape, strict=True)):
            if not isinstance(item, str) and not -size <= item < size:
                problem = f"but axis {axis} has size {size}"
                raise self._misfit(x, problem, f"use {-size} to {size - 1}")
        return items

    def _misfit(self, x: Any, problem: str, advice: str) -> ValueError:
        return ValueError(
            f"GetItem: expected an index within shape {tuple(x.shape)}, received "
            f"[{', '.join(map(str, self.index))}], {problem}; {advice}"
        )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        self._by_axis(x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        items = self._by_axis(x)
        index = tuple(
            _as_slice(item) if isinstance(item, str) else item for item in items
        )
        if ctx.mask is None:
            return x[index], state
        steps = index[: ctx.mask.ndim]
        if not all(isinstance(item, slice) for item in steps):
            raise ValueError(
                "GetItem: expected an index that keeps the masked steps an axis, received "
                f"[{', '.join(map(str, self.index))}] on inputs with a mask, whose step may be "
                "padding; use LSTM or GlobalAveragePooling1D, or Unmask() to drop it"
            )
        return Masked(x[index], ctx.mask[steps]), state


def _as_text(item: Any) -> Any:
    """An item of an index as what a value can hold; raises TypeError for another."""
    if isinstance(item, slice):
        bounds = (item.start, item.stop, item.step)
        texts = [
            "" if bound is None else str(operator.index(bound)) for bound in bounds
        ]
        return ":".join(texts if item.step is not None else texts[:2])
    if isinstance(item, bool):
        raise TypeError("a mask is no index here")
    if item is None or isinstance(item, str):
        return item
    return "..." if item is Ellipsis else operator.index(item)


def _as_slice(text: str) -> Any:
    """ "2:5" -> slice(2, 5); raises ValueError for what is none."""
    if text == "...":
        return Ellipsis
    bounds = text.split(":")
    if not 2 <= len(bounds) <= 3:
        raise ValueError(f"{text!r} is no slice")
    return slice(*(int(bound) if bound else None for bound in bounds))


def _check_bits(layer: Any, x: Any) -> None:
    """Raises TypeError for bits of floating-point numbers."""
    parts = [
        *jax.tree.leaves(x),
        np.asarray(0 if layer.constant is None else layer.constant),
    ]
    floats = [str(a.dtype) for a in parts if jnp.issubdtype(a.dtype, jnp.floating)]
    if layer.function.startswith("bitwise") and floats:
        raise TypeError(
            f"Operator: expected booleans or integers for {layer.function}, received {floats[0]}; "
            "compare first, (x > 0) & (x < 1), or use Lambda(jnp.logical_and)"
        )


def _check_constant(layer: Any) -> None:
    given: Any = layer.constant
    try:
        array = np.asarray(0 if given is None else given)
    except ValueError:  # rows of unequal length
        array = np.asarray(np.nan)
    small = array.size <= MOST_NUMBERS
    if array.dtype.kind not in "biuf" or not small or (array != array).any():
        expected = f"to be a number or an array of at most {MOST_NUMBERS}, without NaN"
        advice = "use Lambda(lambda x: ...) for larger arrays, or a layer with them as its state"
        received = given if small else f"an array of shape {array.shape}"
        raise arguments.wrong(layer, "constant", expected, received, advice)


def _shapes(layer: Any, x: Any, count: int) -> list[tuple[int, ...]]:
    inputs = x if isinstance(x, (tuple, list)) else (x,)
    arguments.every_input(layer, inputs)
    if len(inputs) != count or not all(len(a.shape) for a in inputs):
        raise ValueError(
            f"{type(layer).__name__}: expected {'one input' if count == 1 else 'two inputs'} with "
            f"a batch, received {len(inputs)} of shapes {[tuple(a.shape) for a in inputs]}; "
            "give a constant, or a pair (a, b)"
        )
    return [tuple(a.shape) for a in inputs]


def _operands(layer: Any, x: Any) -> tuple[Any, Any]:
    """What stands before and what stands after the operator."""
    if layer.constant is None:
        return x[0], x[1]
    constant = layer.constant
    if isinstance(constant, tuple):
        array = np.asarray(constant)
        # Of the dtype of plain numbers beside x, and with the axes of x, as strict JAX wants it.
        array = array.astype(jnp.result_type(x.dtype, array.dtype.type(0).item()))
        new = () if isinstance(layer, MatMul) else (1,) * (x.ndim - array.ndim)
        constant = jnp.asarray(array.reshape(new + array.shape))
    return (constant, x) if layer.reflected else (x, constant)
