"""Which operations keep examples apart, by primitive: where they are in the results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fnn.training.independence_values import (
    ELEMENTWISE,
    Each,
    Mixes,
    Same,
    Value,
    aligned,
    common_fill,
    folded,
    neutral,
    placed,
)


@dataclass(frozen=True)
class Operation:
    """An equation of the program at the full batch size, and its twin at the other size."""

    full: Any
    other: Any
    sizes: tuple[int, int]

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
        return [axis for axis, size in enumerate(self.result(number)) if size != twin[axis]]

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


def _without(value: Value, axes: Any, fill: Any = None) -> Value:
    """A value after axes are gone, none of which carries examples."""
    if not isinstance(value, Each):
        return Same(fill)
    if value.axis in axes:
        raise Mixes("examples are combined along their axis")
    return replace(value, axis=value.axis - sum(axis < value.axis for axis in axes), fill=fill)


def _apart(value: Value, *axes: int) -> Value:
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
    return op.new_axis(value.fill, op.shape(0)[axis] if axis < len(op.shape(0)) else None)


@rule("random_bits", "random_split")
def _random(op: Operation, values: list[Value]) -> Value:
    return replace(values[0], fill=None) if isinstance(values[0], Each) else op.new_axis(None)


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
        block = after * math.prod(shape[value.axis + 1 :])  # entries of one example that adjoin
        if following and block % following == 0 and block:
            return Each(axis, block // following, value.fill)
    raise Mixes("a reshape takes examples apart")


@rule("squeeze")
def _squeeze(op: Operation, values: list[Value]) -> Value:
    return _without(values[0], op.params["dimensions"], values[0].fill)


@rule("transpose")
def _transpose(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    if not isinstance(value, Each):
        return value
    return replace(value, axis=op.params["permutation"].index(value.axis))


@rule("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")
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
    return _without(value, axes, fill if known else None)


@rule("reduce")
def _any_reduction(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    return [_without(place, op.params["dimensions"])] * len(op.full.outvars)


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(op: Operation, values: list[Value]) -> Value:
    value = _apart(values[0], op.params["axis"])
    keeps = value.fill == 0 and op.name != "cumlogsumexp"
    return value if keeps else replace(value, fill=None)


@rule("sort")
def _sort(op: Operation, values: list[Value]) -> list[Value]:
    place = aligned(values) or Same()
    _apart(place, op.params["dimension"])
    return [replace(place, fill=value.fill) for value in values]


@rule("top_k", "approx_top_k")
def _top_k(op: Operation, values: list[Value]) -> list[Value]:
    last = len(op.shape(0)) - 1
    value = _apart(values[0], op.params.get("axis", last) % (last + 1), last)
    return [value, replace(value, fill=None)]


@rule("rev")
def _reverse(op: Operation, values: list[Value]) -> Value:
    return _apart(values[0], *op.params["dimensions"])


@rule("pad")
def _pad(op: Operation, values: list[Value]) -> Value:
    value, padding = values
    if isinstance(value, Each) and op.params["padding_config"][value.axis] != (0, 0, 0):
        raise Mixes("padding is added along the axis of the examples")
    return replace(value, fill=common_fill((value, padding)))


@rule("concatenate")
def _concatenate(op: Operation, values: list[Value]) -> Value:
    place, axis = aligned(values), op.params["dimension"]
    if place is not None and place.axis == axis and place.after is None:
        raise Mixes("arrays of different sizes are joined along the axis of the examples")
    if place is not None and place.axis == axis and not all(
        isinstance(value, Each) and value.after == place.after for value in values
    ):
        raise Mixes("other entries are joined along the axis of the examples")
    return placed(values, common_fill(values))


def _blocks(value: Each, first: int, last: int, twin: tuple[int, int], sizes: Any) -> bool:
    """Whether first:last holds full batches at both sizes, the same ones."""
    one, two = (size * (value.after or 1) for size in sizes)
    same = first % one == last % one == 0 and first // one * two == twin[0]
    return same and last // one * two == twin[1]


@rule("slice")
def _slice(op: Operation, values: list[Value]) -> Value:
    value, twin = values[0], op.other.params
    result: Value = value
    starts, limits = op.params["start_indices"], op.params["limit_indices"]
    for axis, (first, last) in enumerate(zip(starts, limits, strict=True)):
        bounds = twin["start_indices"][axis], twin["limit_indices"][axis]
        if isinstance(value, Each) and axis == value.axis:
            strides = op.params["strides"]
            plain = strides is None or strides[axis] == 1
            if first == bounds[0] == 0 and last == bounds[1] <= (value.after or 1):
                result = Same()  # the first example is never filling
            elif not plain or not _blocks(value, first, last, bounds, op.sizes):
                raise Mixes("some examples are taken out of the batch")
        elif (first, last) != bounds:
            raise Mixes("a slice depends on the batch size")
    return result


@rule("split")
def _split(op: Operation, values: list[Value]) -> list[Value]:
    return [_apart(values[0], op.params["axis"])] * len(op.full.outvars)


def _full_along(value: Value, shape: Any, sizes: Any, twin: Any) -> None:
    """Raises Mixes unless slices of `sizes` take the whole axis of the examples."""
    axis = value.axis if isinstance(value, Each) else None
    for number, (size, other) in enumerate(zip(sizes, twin, strict=True)):
        if number == axis and size != shape[axis]:
            raise Mixes("some examples are taken out of the batch")
        if number != axis and size != other:
            raise Mixes("a slice depends on the batch size")


@rule("dynamic_slice")
def _dynamic_slice(op: Operation, values: list[Value]) -> Value:
    sizes, twin = op.params["slice_sizes"], op.other.params["slice_sizes"]
    _full_along(values[0], op.shape(0), sizes, twin)
    return values[0]


@rule("dynamic_update_slice")
def _dynamic_update_slice(op: Operation, values: list[Value]) -> Value:
    operand, update = values[:2]
    place = aligned((operand, update))
    if place is not None:
        both = isinstance(operand, Each) and isinstance(update, Each)
        if not both or op.shape(0)[place.axis] != op.shape(1)[place.axis]:
            raise Mixes("some examples are replaced")
    return placed((operand, update), common_fill((operand, update)))


def _trailing(core: int) -> Rule:
    """Operations on matrices, vectors ... that lie along the last `core` axes."""

    def kept(op: Operation, values: list[Value]) -> list[Value]:
        place = aligned(values) or Same()
        ndim = max(map(len, map(op.shape, range(len(values)))))
        _apart(place, *range(ndim - core, ndim))
        return [place] * len(op.full.outvars)

    return kept


for name in ("cholesky", "eigh", "eig", "qr", "lu", "svd", "triangular_solve", "geqrf"):
    RULES[name] = _trailing(2)
for name in ("householder_product", "schur", "hessenberg"):
    RULES[name] = _trailing(2)
RULES["lu_pivots_to_permutation"] = _trailing(1)


@rule("fft")
def _fft(op: Operation, values: list[Value]) -> Value | list[Value]:
    return _trailing(len(op.params["fft_lengths"]))(op, values)
