"""Which operations keep examples apart, by primitive: where they are in the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fnn.training.independence import jaxprs
from fnn.training.independence.values import (
    ELEMENTWISE,
    Each,
    Mixes,
    Same,
    Value,
    aligned,
    folded,
    neutral,
    placed,
)

# Parameters that follow the shapes, which rules look at, and others that change no result.
OF_SHAPES = {
    "reps",
    "shape",
    "new_sizes",
    "start_indices",
    "limit_indices",
    "slice_sizes",
    "sizes",
}
ASIDE = {"sharding", "out_sharding", "update_jaxpr", "update_consts"}


@dataclass(frozen=True)
class Operation:
    """An equation of the program at the full batch size, and its twin at the other size.

    `programs` are the two that they are part of.
    """

    full: Any
    other: Any
    sizes: tuple[int, int]
    programs: tuple[Any, Any]

    @property
    def name(self) -> str:
        return self.full.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        return self.full.params

    def shape(self, operand: int) -> tuple[int, ...]:
        """The shape of an operand at the full batch size."""
        return tuple(self.full.invars[operand].aval.shape)

    def result(self, number: int = 0) -> tuple[int, ...]:
        """The shape of a result at the full batch size."""
        return tuple(self.full.outvars[number].aval.shape)

    def varying(self, number: int = 0) -> list[int]:
        """The axes of a result whose size depends on the batch size."""
        twin = self.other.outvars[number].aval.shape
        return [
            axis for axis, size in enumerate(self.result(number)) if size != twin[axis]
        ]

    def same_ranks(self) -> bool:
        """Whether operands and results have as many axes at both sizes."""
        ours, theirs = ((*e.invars, *e.outvars) for e in (self.full, self.other))
        return all(
            a.aval.ndim == b.aval.ndim for a, b in zip(ours, theirs, strict=True)
        )

    def check_parameters(self) -> None:
        """Raises Mixes if more than sizes differs between the two, as far as can be known."""
        ours, theirs = ((*e.invars, *e.outvars) for e in (self.full, self.other))
        varies = any(
            a.aval.shape != b.aval.shape for a, b in zip(ours, theirs, strict=True)
        )
        aside = ASIDE | OF_SHAPES if varies and self.name in RULES else ASIDE
        for name, value in self.params.items():
            if name not in aside and not jaxprs.equal(value, self.other.params[name]):
                raise Mixes(f"the parameter {name} depends on the batch size")

    def ratio(self, axis: int, number: int = 0) -> int:
        """How many times the batch size an axis of a result is, 1 if it is no multiple."""
        return max(self.result(number)[axis] // self.sizes[0], 1)

    def new_axis(self, fill: Any, after: int | None = None) -> Value:
        """The result of an operation that makes the axis of the examples.

        Its entries are equal unless `after` says how it is laid out.
        """
        axes = self.varying()
        if not axes:
            return Same(fill)
        if len(axes) > 1:
            raise Mixes("several axes depend on the batch size")
        ratio = self.ratio(axes[0])
        return Each(axes[0], 1 if ratio == 1 else after, fill)


Rule = Callable[[Operation, list[Value]], Value | list[Value]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the primitives of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def without(value: Value, axes: Any, fill: Any = None) -> Value:
    """A value after axes are gone, none of which carries examples."""
    if not isinstance(value, Each):
        return Same(fill)
    if value.axis in axes:
        raise Mixes("examples are combined along their axis")
    return replace(
        value, axis=value.axis - sum(axis < value.axis for axis in axes), fill=fill
    )


def place_of(axes: Any, axis: int) -> int:
    """Where an axis is among others, -1 if it is not."""
    return tuple(axes).index(axis) if axis in axes else -1


def apart(value: Value, *axes: int) -> Value:
    """The value itself. Raises Mixes if it carries examples along one of the axes."""
    if isinstance(value, Each) and value.axis in axes:
        raise Mixes("examples are combined along their axis")
    return value


@rule(*ELEMENTWISE)
def _elementwise(op: Operation, values: list[Value]) -> Value | list[Value]:
    dtypes = [v.aval.dtype for v in op.full.invars]
    fill = folded(op.name, op.params, values, dtypes, op.full.outvars[0].aval.dtype)
    return [placed(values, fill)] * len(op.full.outvars)


@rule("optimization_barrier", "sharding_constraint", "device_put", "pvary")
def _unchanged(op: Operation, values: list[Value]) -> list[Value]:
    return values


@rule("iota")
def _iota(op: Operation, values: list[Value]) -> Value:
    axes = op.varying()
    along = bool(axes) and axes[0] == op.params["dimension"]
    return op.new_axis(None, op.ratio(axes[0]) if along else None)


@rule("broadcast_in_dim")
def _broadcast(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    if isinstance(value, Each):
        return replace(value, axis=op.params["broadcast_dimensions"][value.axis])
    return op.new_axis(value.fill)


@rule("tile")
def _tile(op: Operation, values: list[Value]) -> Value:
    value, reps, twin = values[0], op.params["reps"], op.other.params["reps"]
    if reps == twin:
        return value  # copies of a batch come before it in its axis
    if isinstance(value, Each):
        raise Mixes("how often examples are repeated depends on the batch size")
    axis = op.varying()[0]
    return op.new_axis(
        value.fill, op.shape(0)[axis] if axis < len(op.shape(0)) else None
    )


@rule("random_bits", "random_split")
def _random(op: Operation, values: list[Value]) -> Value:
    return (
        replace(values[0], fill=None)
        if isinstance(values[0], Each)
        else op.new_axis(None)
    )


@rule("random_wrap", "random_unwrap", "random_seed", "random_clone")
def _key(op: Operation, values: list[Value]) -> Value:
    return replace(values[0], fill=None)


@rule("reshape")
def _reshape(op: Operation, values: list[Value]) -> Value:
    value, axes = values[0], op.varying()
    if not isinstance(value, Each):
        return value
    if op.params.get("dimensions") is not None or len(axes) != 1:
        raise Mixes("a reshape takes examples apart")
    shape, axis, batch = op.shape(0), axes[0], op.sizes[0]
    following = math.prod(op.result()[axis + 1 :])
    ratio = max(shape[value.axis] // batch, 1)
    for after in (ratio, 1) if value.after is None else (value.after,):
        block = after * math.prod(
            shape[value.axis + 1 :]
        )  # entries of one example that adjoin
        if following and block % following == 0 and block:
            return Each(axis, block // following, value.fill)
    raise Mixes("a reshape takes examples apart")


@rule("squeeze")
def _squeeze(op: Operation, values: list[Value]) -> Value:
    return without(values[0], op.params["dimensions"], values[0].fill)


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
    value, axes, fill = values[0], op.params["axes"], values[0].fill
    no_change = neutral(op.name, op.full.invars[0].aval.dtype)
    if isinstance(value, Each) and value.axis in axes:
        if fill is None or fill != no_change:
            raise Mixes("examples are combined along their axis")
        return Same()
    some = all(op.shape(0)[axis] for axis in axes)
    idempotent = op.name in ("reduce_max", "reduce_min", "reduce_and", "reduce_or")
    known = some and fill is not None and (idempotent or fill == no_change or fill == 0)
    known = known and not op.name.startswith("arg") and op.name != "reduce_xor"
    return without(value, axes, fill if known else None)


@rule("reduce")
def _any_reduction(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    return [without(place, op.params["dimensions"])] * len(op.full.outvars)


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(op: Operation, values: list[Value]) -> Value:
    value = apart(values[0], op.params["axis"])
    keeps = value.fill == 0 and op.name != "cumlogsumexp"
    return value if keeps else replace(value, fill=None)


@rule("sort")
def _sort(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    apart(place, op.params["dimension"])
    return [replace(place, fill=value.fill) for value in values]


@rule("top_k", "approx_top_k")
def _top_k(op: Operation, values: list[Value]) -> list[Value]:
    last = len(op.shape(0)) - 1
    value = apart(values[0], op.params.get("axis", last) % (last + 1), last)
    return [value, replace(value, fill=None)]


@rule("rev")
def _reverse(op: Operation, values: list[Value]) -> Value:
    return apart(values[0], *op.params["dimensions"])
