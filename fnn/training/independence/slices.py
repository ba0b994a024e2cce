"""Which operations that take arrays apart or join them keep examples apart, by primitive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnn.training.independence.rules import Operation, place_of, rule
from fnn.training.independence.values import (
    Each,
    Mixes,
    Same,
    Value,
    aligned,
    common_fill,
    placed,
)


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
        raise Mixes(
            "arrays of different sizes are joined along the axis of the examples"
        )
    if (
        place is not None
        and place.axis == axis
        and not all(
            isinstance(value, Each) and value.after == place.after for value in values
        )
    ):
        raise Mixes("other entries are joined along the axis of the examples")
    return placed(values, common_fill(values))


@rule("stack")
def _stack(op: Operation, values: list[Value]) -> Value:
    value, axis = placed(values, common_fill(values)), op.params["axis"]
    moved = isinstance(value, Each) and value.axis >= axis
    return (
        replace(value, axis=value.axis + 1)
        if moved and isinstance(value, Each)
        else value
    )


def _between(value: Each, at: int, twin: int, sizes: tuple[int, int]) -> bool:
    """Whether a position along the axis of the examples is between batches, the same ones."""
    one, two = (size * (value.after or 1) for size in sizes)
    return at % one == 0 and at // one * two == twin


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
            elif not plain or not all(
                _between(value, *pair, op.sizes)
                for pair in zip((first, last), bounds, strict=True)
            ):
                raise Mixes("some examples are taken out of the batch")
        elif (first, last) != bounds:
            raise Mixes("a slice depends on the batch size")
    return result


@rule("split")
def _split(op: Operation, values: list[Value]) -> list[Value]:
    value, axis = values[0], op.params["axis"]
    sizes, twin = op.params["sizes"], op.other.params["sizes"]
    if isinstance(value, Each) and value.axis == axis:
        if not all(
            _between(value, *pair, op.sizes) for pair in zip(sizes, twin, strict=True)
        ):
            raise Mixes("some examples are taken out of the batch")
    elif sizes != twin:
        raise Mixes("a slice depends on the batch size")
    return [value] * len(op.full.outvars)


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


def _window_axes(ndim: int, *bound: Any) -> list[int]:
    """The axes of an operand along which slices of a gather or scatter extend."""
    return [axis for axis in range(ndim) if not any(axis in axes for axes in bound)]


@rule("gather")
def _gather(op: Operation, values: list[Value]) -> Value:
    operand, indices = values
    numbers, ndim = op.params["dimension_numbers"], len(op.shape(0))
    filled = "FILL" in str(op.params["mode"]).upper()
    fill = None if filled else operand.fill
    batches = [
        axis for axis in range(len(op.result())) if axis not in numbers.offset_dims
    ]
    window = _window_axes(
        ndim, numbers.collapsed_slice_dims, numbers.operand_batching_dims
    )
    _slice_sizes(op, operand)
    if isinstance(operand, Each) and operand.axis in window:
        if isinstance(indices, Each) or operand.axis in numbers.start_index_map:
            raise Mixes("examples are looked up by an index")
        return Each(
            numbers.offset_dims[window.index(operand.axis)], operand.after, fill
        )
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
        whole = (
            isinstance(operand, Each)
            and axis == operand.axis
            and size == op.shape(0)[axis]
        )
        if size != other and not whole:
            raise Mixes("how much is looked up depends on the batch size")


def _batched(operand: Each, other: Each, axes: Any, other_axes: Any) -> None:
    """Raises Mixes unless example i of one is combined with example i of the other."""
    place = place_of(axes, operand.axis)
    if place < 0 or place != place_of(other_axes, other.axis):
        raise Mixes("examples are looked up by an index")
    aligned((Each(0, operand.after), Each(0, other.after)))


@rule("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul")
@rule(
    "scatter-min",
    "scatter_min",
    "scatter-max",
    "scatter_max",
    "scatter_sub",
    "scatter-sub",
)
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
    fill = (
        common_fill((operand, updates))
        if op.name == "scatter"
        else _sum_of_zeros(op, values)
    )
    inserted, paired = numbers.inserted_window_dims, numbers.operand_batching_dims
    window = _window_axes(len(op.shape(0)), inserted, paired)
    if operand.axis in window:
        aside = operand.axis not in numbers.scatter_dims_to_operand_dims
        beside = place_of(windows, updates.axis) == window.index(operand.axis)
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
