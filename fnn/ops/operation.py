"""Operation: the layer that a function of arrays makes of symbolic nodes."""

from __future__ import annotations

import base64
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree, dtype_name
from fnn.core.value import Fields, Value
from fnn.symbolic.node import Node, symbolic_call
from fnn.symbolic.trial_sizes import differ_in_batch


class Known(NamedTuple):
    """An operation of the table: its arguments and the function of arrays."""

    signature: inspect.Signature
    function: Callable[..., Tree]


# By name. A file names an operation of this table; nothing else is ever run.
OPERATIONS: dict[str, Known] = {}

# Arguments by which a program grows: a file must not make one that is never built.
_COUNTS = {"indices_or_sections", "beam_width", "top_paths"}
MOST_PARTS = 10_000

# Python's types as dtypes, as Keras reads them.
_PYTHON_DTYPES: dict[object, str] = {
    float: "float32",
    int: "int32",
    bool: "bool",
}


class Place(Value):
    """Marks where an input of an operation stands among its arguments."""

    index: int

    def validate(self) -> None:
        if self.index < 0:
            raise arguments.wrong(self, "index", "to be 0 or more", self.index)

    def __repr__(self) -> str:
        return f"inputs[{self.index}]"


class Constant(Value):
    """An array among the arguments of an operation: its dtype, shape and bytes in base64.

    `weak` marks a number of Python that JSON cannot write: infinity, NaN, complex numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    data: str
    weak: bool = False

    def validate(self) -> None:
        try:
            content = base64.b64decode(self.data, validate=True)
        except ValueError as error:
            raise arguments.wrong(self, "data", "to be base64", self.data) from error
        dtype = np.dtype(self.dtype)
        size = math.prod(self.shape) * dtype.itemsize
        is_shape = min(self.shape, default=0) >= 0
        if dtype.hasobject or not is_shape or len(content) != size:
            expected = f"to hold {self.dtype} of shape {self.shape}, {size} bytes"
            raise arguments.wrong(self, "data", expected, f"{len(content)} bytes")

    @classmethod
    def of(cls, value: Tree) -> Constant:
        """The constant that holds an array or a number."""
        weak = isinstance(value, (float, complex)) and not isinstance(value, np.generic)
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(
                f"expected an array of numbers, received {value!r} of type "
                f"{type(value).__name__}"
            )
        data = base64.b64encode(array.tobytes()).decode()
        return cls(str(array.dtype), array.shape, data, weak)

    @functools.cached_property
    def _fnn_value(self) -> Tree:
        content = base64.b64decode(self.data)
        array = np.frombuffer(content, self.dtype).reshape(self.shape)
        if self.weak:
            return array.item()
        return array

    @property
    def value(self) -> Tree:
        """The array, or the number of Python for a weak one."""
        return self._fnn_value

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class Slice(Value):
    """A slice among the arguments of an operation."""

    start: object = None
    stop: object = None
    step: object = None


class Dots(Value):
    """`...` among the arguments of an operation."""


def held(value: Tree, inputs: list[Node]) -> Tree:
    """An argument as plain data and values; nodes are put into `inputs`, and marked."""
    if isinstance(value, Node):
        known = [place for place, node in enumerate(inputs) if node is value]
        if known:
            return Place(known[0])
        inputs.append(value)
        return Place(len(inputs) - 1)
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"expected arrays with values beside symbolic nodes, received {value}; build "
            "the graph outside of jit, grad and vmap"
        )
    if isinstance(value, jax.Array) and value.weak_type:
        value = value.item()
    if isinstance(value, (np.ndarray, np.generic, jax.Array, complex)):
        return Constant.of(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else Constant.of(value)
    if isinstance(value, (list, tuple)):
        return tuple(held(item, inputs) for item in value)
    if isinstance(value, dict):
        return Fields(tuple((name, held(item, inputs)) for name, item in value.items()))
    if isinstance(value, slice):
        ends = (value.start, value.stop, value.step)
        return Slice(*(held(end, inputs) for end in ends))
    if value is Ellipsis:
        return Dots()
    if isinstance(value, (np.dtype, type)):
        return _PYTHON_DTYPES.get(value) or dtype_name(value)
    _refuse_nodes_inside(value)
    return value


def _refuse_nodes_inside(function: Tree) -> None:
    """Raises TypeError for a function that uses a node from outside of it."""
    cells = getattr(function, "__closure__", None) or ()
    for cell in cells:
        if isinstance(cell.cell_contents, Node):
            raise TypeError(
                f"expected a function of its arguments, received {function}, which uses a "
                "symbolic node from outside; hand the node over as an operand, as switch "
                "takes them"
            )


def restored(value: Tree, inputs: Sequence[Tree]) -> Tree:
    """The argument that `held` wrote down, the inputs in their places."""
    if isinstance(value, Place):
        return inputs[value.index]
    if isinstance(value, Constant):
        return value.value
    if isinstance(value, tuple):
        return tuple(restored(item, inputs) for item in value)
    if isinstance(value, Fields):
        return {name: restored(item, inputs) for name, item in value.items}
    if isinstance(value, Slice):
        ends = (value.start, value.stop, value.step)
        return slice(*(restored(end, inputs) for end in ends))
    if isinstance(value, Dots):
        return Ellipsis
    return value


def _places(value: Tree) -> list[int]:
    """The numbers of the inputs that stand in an argument."""
    if isinstance(value, Place):
        return [value.index]
    parts: tuple[Tree, ...] = ()
    if isinstance(value, tuple):
        parts = value
    elif isinstance(value, Fields):
        parts = tuple(item for _, item in value.items)
    elif isinstance(value, Slice):
        parts = (value.start, value.stop, value.step)
    return [place for part in parts for place in _places(part)]


class Operation(Layer):
    """A function of `fnn.ops` as a layer: its name, and its arguments with places for inputs.

    What `ops.concatenate([x, y], axis=-1)` makes of nodes. Masks are dropped, as in Keras. Several
    outputs are a tuple, in the order of `jax.tree.leaves`. An operation may go along the axis of
    the batch, as `ops.mean(x, 0)` does.
    Raises ValueError for a name that is not in the table and for arguments that it does not have.
    """

    masking = "use"
    is_operation = True
    follows_policy = False

    operation: str
    arguments: Fields

    def validate(self) -> None:
        known = OPERATIONS.get(self.operation)
        if known is None:
            expected = "to be the name of a function of fnn.ops"
            raise arguments.wrong(self, "operation", expected, self.operation)
        if not isinstance(self.arguments, Fields):
            raise arguments.wrong(self, "arguments", "to be a dict", self.arguments)
        names = [name for name, _ in self.arguments.items]
        if not set(names) <= set(known.signature.parameters):
            expected = f"to be among {', '.join(known.signature.parameters)}"
            raise arguments.wrong(self, "arguments", expected, names)
        for name, item in self.arguments.items:
            if name in _COUNTS and isinstance(item, int) and item > MOST_PARTS:
                expected = f"to hold {name} of at most {MOST_PARTS}"
                raise arguments.wrong(self, "arguments", expected, item)
        places = self._input_places
        if not places or places != set(range(len(places))):
            expected = "to hold the places 0, 1, ... of the inputs"
            raise arguments.wrong(self, "arguments", expected, sorted(places))

    @property
    def named_after(self) -> str:
        return self.operation

    @property
    def _input_places(self) -> set[int]:
        return {p for _, item in self.arguments.items for p in _places(item)}

    @functools.cached_property
    def _fnn_count(self) -> int:
        return len(self._input_places)

    def compute(self, *inputs: Tree) -> Tree:
        """What the function returns for these inputs, in the structure that it has in Keras."""
        known = OPERATIONS[self.operation]
        given = {n: restored(item, inputs) for n, item in self.arguments.items}
        bound = inspect.BoundArguments(known.signature, given)
        return known.function(*bound.args, **bound.kwargs)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        inputs = x
        if self._fnn_count == 1:
            inputs = (x,)
        y = self.compute(*inputs)
        leaves, structure = jax.tree.flatten(y)
        if jax.tree_util.treedef_is_leaf(structure):
            return jnp.asarray(y), state
        return tuple(map(jnp.asarray, leaves)), state

    def __repr__(self) -> str:
        shown = [f"{name}={item!r}" for name, item in self.arguments.items]
        return f"ops.{self.operation}({', '.join(shown)})"


def on_nodes(
    name: str,
    given: tuple[Tree, ...],
    named: dict[str, Tree],
) -> Tree:
    """The nodes that an operation makes of nodes, in the structure of its results."""
    bound = OPERATIONS[name].signature.bind(*given, **named)
    inputs: list[Node] = []
    arguments = {n: held(value, inputs) for n, value in bound.arguments.items()}
    layer = Operation(name, Fields(tuple(arguments.items())))
    made = symbolic_call(layer, tuple(inputs), {})
    nodes = made if isinstance(made, tuple) else (made,)
    for node in nodes:
        # An operation may mix the batch, and fit its inputs at the first trial size by chance.
        node.fixed_but_for_batch = differ_in_batch(*node.specs)
    if not isinstance(made, tuple):
        return made
    first = _structure(layer, inputs, 0)
    second = _structure(layer, inputs, 1)
    if first != second:
        raise ValueError(
            f"{name}: expected results whose number is known, received one for each "
            "example of a batch of any size; give Input a batch_size"
        )
    return jax.tree.unflatten(first, made)


def _structure(
    layer: Operation,
    inputs: list[Node],
    trial: int,
) -> Tree:
    """The structure of the results for inputs of one of the trial sizes."""
    specs = [node.specs[trial] for node in inputs]
    return jax.tree.structure(jax.eval_shape(layer.compute, *specs))
