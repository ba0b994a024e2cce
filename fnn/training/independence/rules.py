"""Rules for primitives that keep examples separate: the position of examples in the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fnn.training.independence import jaxprs
from fnn.training.independence.jaxprs import Equation, Program
from fnn.training.independence.values import (
    ELEMENTWISE,
    Each,
    Fill,
    Mixes,
    Same,
    Shape,
    Value,
    aligned,
    folded,
    neutral,
    placed,
)

# Parameters that follow the shapes, which the rules check, and those that change no result.
OF_SHAPES = {
    "reps",
    "shape",
    "new_sizes",
    "start_indices",
    "limit_indices",
    "slice_sizes",
    "sizes",
}
IGNORED = {"sharding", "out_sharding", "update_jaxpr", "update_consts"}


@dataclass(frozen=True)
class Operation:
    """An equation of the program at the full batch size, and the same one at the other size.

    `programs` are the two programs that contain them.
    """

    full: Equation
    other: Equation
    sizes: tuple[int, int]
    programs: tuple[Program, Program]

    @property
    def name(self) -> str:
        name: str = self.full.primitive.name
        return name

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.full.params
        return params

    def both(self, name: str) -> tuple[Any, Any]:
        """A parameter at the full batch size, and at the other size."""
        return self.params[name], self.other.params[name]

    def shape(self, operand: int) -> Shape:
        """The shape of an operand at the full batch size."""
        return tuple(self.full.invars[operand].aval.shape)

    def ndim(self, operand: int) -> int:
        """The number of axes of an operand."""
        return len(self.full.invars[operand].aval.shape)

    def result(self, number: int = 0) -> Shape:
        """The shape of a result at the full batch size."""
        return tuple(self.full.outvars[number].aval.shape)

    def varying(self, number: int = 0) -> list[int]:
        """The axes of a result whose size depends on the batch size."""
        twin = self.other.outvars[number].aval.shape
        sizes = zip(self.result(number), twin, strict=True)
        return [axis for axis, (full, other) in enumerate(sizes) if full != other]

    def all_results(self, value: Value) -> list[Value]:
        """This value for each of the results."""
        return [value] * len(self.full.outvars)

    def _shapes(self) -> Iterator[tuple[Shape, Shape]]:
        """The shape of each operand and result at the full size, and at the other size."""
        full = (*self.full.invars, *self.full.outvars)
        other = (*self.other.invars, *self.other.outvars)
        for variable, twin in zip(full, other, strict=True):
            yield variable.aval.shape, twin.aval.shape

    def same_ranks(self) -> bool:
        """Whether operands and results have as many axes at both sizes."""
        return all(len(full) == len(other) for full, other in self._shapes())

    def check_parameters(self) -> None:
        """Raises Mixes if a parameter other than a size differs, as far as can be known."""
        varies = any(full != other for full, other in self._shapes())
        ignored = IGNORED
        if varies and self.name in RULES:
            ignored = IGNORED | OF_SHAPES
        for name in self.params:
            if name not in ignored and not jaxprs.equal(*self.both(name)):
                raise Mixes(f"the parameter {name} depends on the batch size")

    def ratio(self, axis: int, number: int = 0) -> int:
        """The size of an axis of a result divided by the batch size; 1 if not a multiple."""
        return max(self.result(number)[axis] // self.sizes[0], 1)

    def new_axis(self, fill: Fill, after: int | None = None) -> Value:
        """The result of an operation that creates the axis of the examples.

        Its entries are equal unless `after` is given, the size of its part per example.
        """
        axes = self.varying()
        if not axes:
            return Same(fill)
        if len(axes) > 1:
            raise Mixes("several axes depend on the batch size")
        if self.ratio(axes[0]) == 1:
            after = 1
        return Each(axes[0], after, fill)


Rule: TypeAlias = Callable[[Operation, list[Value]], Value | list[Value]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the primitives of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def without(
    value: Value,
    axes: Sequence[int],
    fill: Fill = None,
) -> Value:
    """The value after these axes are removed. Raises Mixes if one holds the examples."""
    if not isinstance(value, Each):
        return Same(fill)
    if value.axis in axes:
        raise Mixes("examples are combined along their axis")
    removed_before = sum(axis < value.axis for axis in axes)
    return replace(value, axis=value.axis - removed_before, fill=fill)


def place_of(axes: Sequence[int], axis: int) -> int:
    """The position of an axis among others, -1 if it is not one of them."""
    if axis not in axes:
        return -1
    return tuple(axes).index(axis)


def remaining_axes(ndim: int, *taken: Sequence[int]) -> list[int]:
    """The axes of an array but for those taken."""
    excluded: set[int] = set().union(*taken)
    return [axis for axis in range(ndim) if axis not in excluded]


def apart(value: Value, *axes: int) -> Value:
    """The value itself. Raises Mixes if its examples are along one of the axes."""
    if isinstance(value, Each) and value.axis in axes:
        raise Mixes("examples are combined along their axis")
    return value


@rule(*ELEMENTWISE)
def _elementwise(op: Operation, values: list[Value]) -> Value | list[Value]:
    dtypes = [v.aval.dtype for v in op.full.invars]
    result = op.full.outvars[0].aval.dtype
    fill = folded(op.name, op.params, values, dtypes, result)
    return op.all_results(placed(values, fill))


@rule("optimization_barrier", "sharding_constraint", "device_put", "pvary")
def _unchanged(op: Operation, values: list[Value]) -> list[Value]:
    return values


@rule("iota")
def _iota(op: Operation, values: list[Value]) -> Value:
    axes = op.varying()
    if axes and axes[0] == op.params["dimension"]:
        return op.new_axis(None, op.ratio(axes[0]))
    return op.new_axis(None)


@rule("broadcast_in_dim")
def _broadcast(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    if isinstance(value, Each):
        return replace(value, axis=op.params["broadcast_dimensions"][value.axis])
    return op.new_axis(value.fill)


@rule("tile")
def _tile(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    if op.params["reps"] == op.other.params["reps"]:
        # Copies of the batch are `before` it in its axis.
        return value
    if isinstance(value, Each):
        raise Mixes("how often examples are repeated depends on the batch size")
    axis = op.varying()[0]
    shape = op.shape(0)
    if axis >= len(shape):
        return op.new_axis(value.fill)
    return op.new_axis(value.fill, shape[axis])


@rule("random_bits", "random_split")
def _random(op: Operation, values: list[Value]) -> Value:
    if isinstance(values[0], Each):
        return replace(values[0], fill=None)
    return op.new_axis(None)


@rule("random_wrap", "random_unwrap", "random_seed", "random_clone")
def _key(op: Operation, values: list[Value]) -> Value:
    return replace(values[0], fill=None)


@rule("reshape")
def _reshape(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    axes = op.varying()
    if not isinstance(value, Each):
        return value
    if op.params.get("dimensions") is not None or len(axes) != 1:
        raise Mixes("a reshape takes examples apart")
    shape = op.shape(0)
    axis = axes[0]
    following = math.prod(op.result()[axis + 1 :])
    if value.after is not None:
        afters = [value.after]
    else:
        ratio = max(shape[value.axis] // op.sizes[0], 1)
        afters = [ratio, 1]
    for after in afters:
        # The number of consecutive entries of one example.
        block = after * math.prod(shape[value.axis + 1 :])
        if following and block % following == 0 and block:
            return Each(axis, block // following, value.fill)
    raise Mixes("a reshape takes examples apart")


@rule("squeeze")
def _squeeze(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    return without(value, op.params["dimensions"], value.fill)


@rule("transpose")
def _transpose(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    if not isinstance(value, Each):
        return value
    return replace(value, axis=op.params["permutation"].index(value.axis))


@rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or"
)
@rule("reduce_xor", "argmax", "argmin")
def _reduction(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    fill = value.fill
    axes = op.params["axes"]
    no_change = neutral(op.name, op.full.invars[0].aval.dtype)
    if isinstance(value, Each) and value.axis in axes:
        if fill is None or fill != no_change:
            raise Mixes("examples are combined along their axis")
        return Same()
    if fill is None or op.name in ("argmax", "argmin", "reduce_xor"):
        return without(value, axes)
    is_empty = not all(op.shape(0)[axis] for axis in axes)
    # Whether reducing copies of the fill gives the fill.
    idempotent = op.name in ("reduce_max", "reduce_min", "reduce_and", "reduce_or")
    keeps_fill = idempotent or fill in (no_change, 0)
    if is_empty or not keeps_fill:
        return without(value, axes)
    return without(value, axes, fill)


@rule("reduce")
def _any_reduction(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    return op.all_results(without(place, op.params["dimensions"]))


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(op: Operation, values: list[Value]) -> Value:
    value = apart(values[0], op.params["axis"])
    if value.fill == 0 and op.name != "cumlogsumexp":
        return value
    return replace(value, fill=None)


@rule("sort")
def _sort(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    apart(place, op.params["dimension"])
    return [replace(place, fill=value.fill) for value in values]


@rule("top_k", "approx_top_k")
def _top_k(op: Operation, values: list[Value]) -> list[Value]:
    ndim = op.ndim(0)
    axis = op.params.get("axis", -1) % ndim
    value = apart(values[0], axis, ndim - 1)
    return [value, replace(value, fill=None)]


@rule("rev")
def _reverse(op: Operation, values: list[Value]) -> Value:
    return apart(values[0], *op.params["dimensions"])
