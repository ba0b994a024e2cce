"""Operations: the layers behind `x + y`, `x * 2`, `x @ y` and `x[:, 0]` of symbolic nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context, Masked, attach_mask, joined_mask
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.symbolic.indexing import as_plain, selector

UNARY = ("negative", "absolute", "bitwise_not")
SYMBOLS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "mod": "%",
    "power": "**",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
}
BINARY = tuple(SYMBOLS)
OPERATORS = {*UNARY, *BINARY, "matmul"}

# The functions that have another name in Keras.
KERAS_NAMES = {
    "bitwise_and": "logical_and",
    "bitwise_not": "logical_not",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "divide": "true_divide",
}

# The most elements of a constant, since they are compared, hashed and saved one by one.
MOST_NUMBERS = 10_000

Shape: TypeAlias = tuple[int, ...]


class Operator(Layer):
    """function(x, constant) or function(a, b), element by element.   -> same shape

    `function` is NumPy's name. Nodes make it of `x * 2`, `1 - x`, `abs(x)` and `a + b`. Sizes of
    1 broadcast. A constant is a number or a small array with the last axes of x; two inputs have
    the same number of axes (`Add` and similar layers insert axes after the batch). `reflected`
    puts the constant first. A constant does not change the dtype, as with Python's numbers: x
    stays bfloat16. A step is valid if it is valid in both inputs.
    Raises ValueError for other functions, constants and shapes.

    >>> Operator("subtract", 1, reflected=True).apply({}, {}, jnp.array([[3.0]]))[0].tolist()
    [[-2.0]]
    """

    masking = "use"
    is_operation = True
    follows_policy = False
    by_step = True

    function: str = one_of((*BINARY, *UNARY))
    constant: Any = None
    reflected: bool = False

    @property
    def named_after(self) -> str:
        return KERAS_NAMES.get(self.function, self.function)

    def validate(self) -> None:
        _check_constant(self)
        if self.constant is not None and self.function in UNARY:
            expected = f"to be None for {self.function}"
            raise arguments.wrong(self, "constant", expected, self.constant)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        if self.function in UNARY:
            _shapes(self, x, 1)
            _check_bits(self, x)
        elif self.constant is None:
            first, second = _shapes(self, x, 2)
            _check_bits(self, x)
            if not _broadcast(first, second):
                raise self._misfit("the second input", first, second)
        else:
            (first,) = _shapes(self, x, 1)
            _check_bits(self, x)
            second = np.shape(self.constant)
            if not _repeats_over(second, first):
                raise self._misfit("the constant", first, second)
        return {}, {}

    def _misfit(self, operand: str, first: Shape, second: Shape) -> ValueError:
        return ValueError(
            f"Operator: expected {operand} to repeat over an input of shape {first} without "
            f"touching its batch, received shape {second} for {self.function}; use sizes of 1 "
            "to repeat it, x[:, None] for a new axis"
        )

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        operands: tuple[Tree, ...] = (x,)
        if self.function not in UNARY:
            operands = _operands(self, x)
        y = getattr(jnp, self.function)(*operands)
        return attach_mask(y, joined_mask(ctx.mask, y.shape)), state


def _broadcast(first: Shape, second: Shape) -> bool:
    """Whether shapes have the same number of axes, with equal sizes or sizes of 1."""
    if len(first) != len(second):
        return False
    pairs = zip(first, second, strict=True)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _repeats_over(constant: Shape, shape: Shape) -> bool:
    """Whether a constant broadcasts to the last axes of inputs, with size 1 along the batch."""
    aligned = (1,) * (len(shape) - len(constant)) + constant
    return aligned[:1] == (1,) and _broadcast(shape, aligned)


class MatMul(Layer):
    """The product of matrices in the last two axes.   (..., n, m) @ (..., m, k) -> (..., n, k)

    Nodes make it of `a @ b`, `x @ constant` and `constant @ x`. Two inputs have the same number
    of axes, at least three, the batch first; a constant has two, or one that is summed over. A
    mask is kept; one of the steps that are summed over is refused.
    Raises ValueError for other shapes.

    >>> MatMul([[1.0], [2.0]]).apply({}, {}, jnp.array([[3.0, 4.0]]))[0].tolist()
    [[11.0]]
    """

    masking = "use"
    is_operation = True
    follows_policy = False

    constant: Any = None
    reflected: bool = False

    @property
    def named_after(self) -> str:
        return "matmul"

    def validate(self) -> None:
        _check_constant(self)
        if self.constant is not None and np.ndim(self.constant) not in (1, 2):
            expected = "to have one or two axes"
            raise arguments.wrong(self, "constant", expected, self.constant)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        inputs = 2
        if self.constant is not None:
            inputs = 1
        shapes = _shapes(self, x, inputs)
        self._check_axes(shapes)
        if self.constant is not None:
            shapes.insert(int(not self.reflected), np.shape(self.constant))
        a, b = shapes
        summed = b[-1]
        if len(b) > 1:
            summed = b[-2]
        if a[-1] != summed:
            raise ValueError(
                f"MatMul: expected the last axis of a to be as long as the last but one of b, "
                f"received shapes {a} and {b}; transpose one, e.g. with Permute"
            )
        if self.constant is not None:
            return {}, {}
        # The axes before the matrices, the batch first.
        before = a[:-2]
        others = b[:-2]
        if before[0] != others[0] or not _broadcast(before, others):
            raise ValueError(
                f"MatMul: expected one batch size, and axes before the last two that are equally "
                f"long or 1, received shapes {a} and {b}; use Dot(axes=...) for other products"
            )
        return {}, {}

    def _check_axes(self, shapes: list[Shape]) -> None:
        """Raises ValueError unless the inputs have the same number of axes, and enough."""
        least = 3
        if self.constant is not None and not self.reflected:
            least = 2
        ranks = {len(shape) for shape in shapes}
        if len(ranks) > 1 or min(ranks) < least:
            raise ValueError(
                f"MatMul: expected inputs of equally many axes, {least} at least, since the first "
                f"is the batch, received shapes {shapes}; use Dot(axes=...), or x[:, None]"
            )

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        a, b = _operands(self, x)
        y = jnp.matmul(a, b)  # (..., n, k)
        masks = ctx.mask
        if not isinstance(masks, tuple):
            masks = (masks,)
        # The axis of each input that is summed over.
        if self.constant is None:
            summed = [a.ndim - 1, b.ndim - 2]
        elif self.reflected:
            summed = [x.ndim - 2]
        else:
            summed = [x.ndim - 1]
        for mask, axis in zip(masks, summed, strict=False):
            if mask is not None and mask.ndim > axis:
                raise ValueError(
                    "MatMul: expected inputs without a mask over the axis that is summed over, "
                    f"received shapes {tuple(a.shape)} and {tuple(b.shape)} with one; set "
                    "the masked steps to 0 and use Unmask() to drop it"
                )
        return attach_mask(y, joined_mask(masks, y.shape)), state


class GetItem(Layer):
    """x[index] with an index that keeps the batch: integers, slices, None and `...`.

    Nodes make it of `x[:, -1]`, `x[..., None]` and `x[:, 2:5]`. Slices are kept as strings, as
    they are written: `GetItem((":", "2:5"))`. A mask is sliced with its steps; an index that
    selects one step of a masked input is refused, since `x[:, -1]` may be padding.
    Raises ValueError for any other index, and for one that does not fit the inputs.

    >>> GetItem((slice(None), -1)).apply({}, {}, jnp.array([[1.0, 2.0]]))[0].tolist()
    [2.0]
    """

    masking = "use"
    with_strings = "move"
    is_operation = True
    follows_policy = False

    index: Any

    def validate(self) -> None:
        given = self.index
        if not isinstance(given, tuple):
            given = (given,)
        try:
            object.__setattr__(self, "index", tuple(map(as_plain, given)))
            for item in self.index:
                selector(item)
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

    def _by_axis(self, x: Array) -> list[int | str | None]:
        """The index with an item for each axis, and None for each new one."""
        axes = len(x.shape)
        taken = sum(item not in (None, "...") for item in self.index)
        if taken > axes:
            raise self._misfit(x, f"an index of {taken} axes", f"use {axes} at most")
        index = self.index
        if "..." not in index:
            index = (*index, "...")
        at = index.index("...")
        whole_axes = [":"] * (axes - taken)
        items = [*index[:at], *whole_axes, *index[at + 1 :]]
        if items[:1] != [":"]:
            problem = "which does not keep the batch, the first axis, whole"
            raise self._misfit(x, problem, "write : for it, e.g. x[:, 0]")
        # Items that are not None each take the next axis of the inputs.
        of_axes = [item for item in items if item is not None]
        for axis, (item, size) in enumerate(zip(of_axes, x.shape, strict=True)):
            if not isinstance(item, str) and not -size <= item < size:
                problem = f"but axis {axis} has size {size}"
                raise self._misfit(x, problem, f"use {-size} to {size - 1}")
        return items

    def _misfit(self, x: Array, problem: str, advice: str) -> ValueError:
        return ValueError(
            f"GetItem: expected an index within shape {tuple(x.shape)}, received "
            f"[{', '.join(map(str, self.index))}], {problem}; {advice}"
        )

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        self._by_axis(x)
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        index = tuple(map(selector, self._by_axis(x)))
        if ctx.mask is None:
            return x[index], state
        steps = index[: ctx.mask.ndim]
        if not all(isinstance(item, slice) for item in steps):
            raise ValueError(
                "GetItem: expected an index that keeps the axes of masked steps, received "
                f"[{', '.join(map(str, self.index))}] on inputs with a mask, whose step may be "
                "padding; use LSTM or GlobalAveragePooling1D, or Unmask() to drop it"
            )
        return Masked(x[index], ctx.mask[steps]), state


def _check_bits(layer: Operator, x: SpecTree) -> None:
    """Raises TypeError for bitwise operators on floating-point numbers."""
    if not layer.function.startswith("bitwise"):
        return
    operands = jax.tree.leaves(x)
    if layer.constant is not None:
        operands.append(np.asarray(layer.constant))
    for operand in operands:
        if jnp.issubdtype(operand.dtype, jnp.floating):
            raise TypeError(
                f"Operator: expected booleans or integers for {layer.function}, received "
                f"{operand.dtype}; "
                "compare first, (x > 0) & (x < 1), or use Lambda(jnp.logical_and)"
            )


def _check_constant(layer: Operator | MatMul) -> None:
    """Raises ValueError unless the constant is a number or a small array, without NaN."""
    constant = layer.constant
    if constant is None:
        return
    try:
        array = np.asarray(constant)
    except ValueError:  # nested lists of unequal lengths
        array = np.asarray(np.nan)
    is_small = array.size <= MOST_NUMBERS
    if array.dtype.kind in "biuf" and is_small and not np.isnan(array).any():
        return
    received = constant
    if not is_small:
        received = f"an array of shape {array.shape}"
    expected = f"to be a number or an array of at most {MOST_NUMBERS}, without NaN"
    advice = (
        "use Lambda(lambda x: ...) for larger arrays, or a layer with them as its state"
    )
    raise arguments.wrong(layer, "constant", expected, received, advice)


def _shapes(layer: Operator | MatMul, x: SpecTree, count: int) -> list[Shape]:
    """The shapes of the inputs. Raises ValueError unless there are `count`, each with a batch."""
    inputs: Sequence[Array] = (x,)
    if isinstance(x, (tuple, list)):
        inputs = x
    arguments.every_input(layer, inputs)
    shapes = [tuple(a.shape) for a in inputs]
    if len(shapes) != count or () in shapes:
        number = "two inputs"
        if count == 1:
            number = "one input"
        raise ValueError(
            f"{type(layer).__name__}: expected {number} with a batch, received {len(shapes)} of "
            f"shapes {shapes}; pass a constant, or a pair (a, b)"
        )
    return shapes


def _operands(layer: Operator | MatMul, x: Tree) -> tuple[Tree, Tree]:
    """The left and the right operand."""
    constant = layer.constant
    if constant is None:
        return x[0], x[1]
    if isinstance(constant, tuple):
        array = np.asarray(constant)
        # The dtype of Python numbers beside x.
        number = array.dtype.type(0).item()
        array = array.astype(jnp.result_type(x.dtype, number))
        if not isinstance(layer, MatMul):
            # The rank of x, since strict JAX does not broadcast arrays of different ranks.
            new_axes = (1,) * (x.ndim - array.ndim)
            array = array.reshape(new_axes + array.shape)
        constant = jnp.asarray(array)
    if layer.reflected:
        return constant, x
    return x, constant
