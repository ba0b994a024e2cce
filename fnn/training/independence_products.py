"""Which products, windows and look-ups keep examples apart: rules by primitive."""

from __future__ import annotations

from typing import Any

from fnn.training.independence_rules import Operation, rule
from fnn.training.independence_values import Each, Mixes, Same, Value, aligned, common_fill, placed


def _zero_if_any(values: list[Value]) -> Any:
    return 0 if any(value.fill is not None and value.fill == 0 for value in values) else None


@rule("dot_general")
def _dot(op: Operation, values: list[Value]) -> Value:
    contracted, batched = op.params["dimension_numbers"]
    fill = _zero_if_any(values)
    sides = [side for side in (0, 1) if isinstance(values[side], Each)]
    if not sides:
        return Same(fill)
    place = [value.axis if isinstance(value, Each) else -1 for value in values]
    if len(sides) == 2 and place[0] in contracted[0]:
        if contracted[0].index(place[0]) != _index(contracted[1], place[1]) or fill is None:
            raise Mixes("a product sums over the examples")
        aligned(Each(0, value.after) for value in values if isinstance(value, Each))
        return Same()
    if len(sides) == 2 and place[0] in batched[0]:
        number = batched[0].index(place[0])
        if number != _index(batched[1], place[1]):
            raise Mixes("a product combines every example with every other")
        return placed((Each(number, v.after) for v in values if isinstance(v, Each)), fill)
    if len(sides) == 2:
        raise Mixes("a product combines every example with every other")
    side = sides[0]
    bound = (*contracted[side], *batched[side])
    if place[side] in bound:
        raise Mixes("a product sums over the examples")
    free = [axis for axis in range(len(op.shape(side))) if axis not in bound]
    first = len(batched[0])
    if side == 1:
        first += len(op.shape(0)) - len(contracted[0]) - len(batched[0])
    value = values[side]
    assert isinstance(value, Each)
    return Each(first + free.index(value.axis), value.after, fill)


def _index(axes: Any, axis: int) -> int:
    """Where an axis is among others, -1 if it is not."""
    return tuple(axes).index(axis) if axis in axes else -1


@rule("conv_general_dilated")
def _convolution(op: Operation, values: list[Value]) -> Value:
    images, kernel = values
    fill = _zero_if_any(values)
    if isinstance(kernel, Each):
        raise Mixes("the kernel of a convolution depends on the examples")
    if not isinstance(images, Each):
        return Same(fill)
    spec = op.params["dimension_numbers"]
    if images.axis != spec.lhs_spec[0] or op.params["batch_group_count"] != 1:
        raise Mixes("a convolution combines examples")
    return Each(spec.out_spec[0], images.after, fill)


@rule("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min")
@rule("select_and_gather_add")
def _window(op: Operation, values: list[Value]) -> Value | list[Value]:
    place, params = aligned(values) or Same(), op.params
    if isinstance(place, Each):
        plain = {
            "window_dimensions": 1,
            "window_strides": 1,
            "padding": (0, 0),
            "base_dilation": 1,
            "window_dilation": 1,
        }
        if any(params[name][place.axis] != one for name, one in plain.items() if name in params):
            raise Mixes("a window reaches over several examples")
    return [place] * len(op.full.outvars)


def _window_axes(ndim: int, *bound: Any) -> list[int]:
    """The axes of an operand along which slices of a gather or scatter extend."""
    return [axis for axis in range(ndim) if not any(axis in axes for axes in bound)]


@rule("gather")
def _gather(op: Operation, values: list[Value]) -> Value:
    operand, indices = values
    numbers, ndim = op.params["dimension_numbers"], len(op.shape(0))
    filled = "FILL" in str(op.params["mode"]).upper()
    fill = None if filled else operand.fill
    batches = [axis for axis in range(len(op.result())) if axis not in numbers.offset_dims]
    window = _window_axes(ndim, numbers.collapsed_slice_dims, numbers.operand_batching_dims)
    _slice_sizes(op, operand)
    if isinstance(operand, Each) and operand.axis in window:
        if isinstance(indices, Each) or operand.axis in numbers.start_index_map:
            raise Mixes("examples are looked up by an index")
        return Each(numbers.offset_dims[window.index(operand.axis)], operand.after, fill)
    if isinstance(indices, Each):
        if indices.axis == len(op.shape(1)) - 1:
            raise Mixes("examples are the components of an index")
        if isinstance(operand, Each):
            pair = numbers.operand_batching_dims, numbers.start_indices_batching_dims
            _batched(operand, indices, *pair)
        return Each(batches[indices.axis], indices.after, fill)
    if isinstance(operand, Each):
        raise Mixes("examples are looked up by an index")
    return Same()


def _slice_sizes(op: Operation, operand: Value) -> None:
    """Raises Mixes unless slices have one size, or take in the whole axis of the examples."""
    sizes, twin = op.params["slice_sizes"], op.other.params["slice_sizes"]
    for axis, (size, other) in enumerate(zip(sizes, twin, strict=True)):
        whole = isinstance(operand, Each) and axis == operand.axis and size == op.shape(0)[axis]
        if size != other and not whole:
            raise Mixes("how much is looked up depends on the batch size")


def _batched(operand: Each, other: Each, axes: Any, other_axes: Any) -> None:
    """Raises Mixes unless example i of one is combined with example i of the other."""
    place = _index(axes, operand.axis)
    if place < 0 or place != _index(other_axes, other.axis):
        raise Mixes("examples are looked up by an index")
    aligned((Each(0, operand.after), Each(0, other.after)))


@rule("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul")
@rule("scatter-min", "scatter_min", "scatter-max", "scatter_max", "scatter_sub", "scatter-sub")
def _scatter(op: Operation, values: list[Value]) -> Value:
    operand, indices, updates = values
    if not any(isinstance(value, Each) for value in values):
        return Same()
    if not isinstance(updates, Each):
        raise Mixes("examples are written to by an index")
    numbers = op.params["dimension_numbers"]
    windows = numbers.update_window_dims
    batches = [axis for axis in range(len(op.shape(2))) if axis not in windows]
    if isinstance(indices, Each):  # index i belongs to update i
        _batched(indices, updates, range(len(op.shape(1)) - 1), batches)
    if isinstance(operand, Same):
        adds = op.name in ("scatter-add", "scatter_add", "scatter-sub", "scatter_sub")
        if not adds or updates.fill != 0 or updates.axis in windows:
            raise Mixes("examples are collected in one array")
        return Same()
    assert isinstance(operand, Each)
    fill = common_fill((operand, updates)) if op.name == "scatter" else _sum_of_zeros(op, values)
    inserted, paired = numbers.inserted_window_dims, numbers.operand_batching_dims
    window = _window_axes(len(op.shape(0)), inserted, paired)
    if operand.axis in window:
        aside = operand.axis not in numbers.scatter_dims_to_operand_dims
        beside = _index(windows, updates.axis) == window.index(operand.axis)
        whole = op.shape(2)[updates.axis] == op.shape(0)[operand.axis]
        if isinstance(indices, Each) or not (aside and beside and whole):
            raise Mixes("examples are written to by an index")
        aligned((Each(0, operand.after), Each(0, updates.after)))
        return Each(operand.axis, operand.after or updates.after, fill)
    if not isinstance(indices, Each):
        raise Mixes("examples are written to by an index")
    _batched(operand, indices, paired, numbers.scatter_indices_batching_dims)
    return Each(operand.axis, operand.after or updates.after, fill)


def _sum_of_zeros(op: Operation, values: list[Value]) -> Any:
    zeros = values[0].fill == values[2].fill == 0
    return 0 if zeros and op.name in ("scatter-add", "scatter_add") else None
