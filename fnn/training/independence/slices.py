"""Rules for padding, joining, slicing, gather and scatter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fnn.training.independence.rules import Operation, place_of, remaining_axes, rule
from fnn.training.independence.values import (
    Each,
    Fill,
    Mixes,
    Same,
    Value,
    aligned,
    check_same_after,
    common_fill,
    placed,
)


@rule("pad")
def _pad(op: Operation, values: list[Value]) -> Value:
    value, padding = values
    if isinstance(value, Each):
        widths = op.params["padding_config"][value.axis]
        if widths != (0, 0, 0):
            raise Mixes("padding is added along the axis of the examples")
    return replace(value, fill=common_fill((value, padding)))


@rule("concatenate")
def _concatenate(op: Operation, values: list[Value]) -> Value:
    place = aligned(values)
    if place is not None and place.axis == op.params["dimension"]:
        if place.after is None:
            raise Mixes(
                "arrays of different sizes are joined along the axis of the examples"
            )
        for value in values:
            if not isinstance(value, Each) or value.after != place.after:
                raise Mixes("other entries are joined along the axis of the examples")
    return placed(values, common_fill(values))


@rule("stack")
def _stack(op: Operation, values: list[Value]) -> Value:
    value = placed(values, common_fill(values))
    if isinstance(value, Each) and value.axis >= op.params["axis"]:
        return replace(value, axis=value.axis + 1)
    return value


def _is_boundary(
    value: Each,
    position: int,
    other: int,
    sizes: tuple[int, int],
) -> bool:
    """Whether a position along the axis of the examples is between copies of the batch.

    `other` is the position at the other batch size; it must be between the same copies.
    """
    after = value.after or 1
    full_size = sizes[0] * after
    other_size = sizes[1] * after
    return position % full_size == 0 and position // full_size * other_size == other


def _bounds(params: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Where a slice begins and ends along each axis."""
    return zip(params["start_indices"], params["limit_indices"], strict=True)


@rule("slice")
def _slice(op: Operation, values: list[Value]) -> Value:
    value = values[0]
    result: Value = value
    bounds = zip(_bounds(op.params), _bounds(op.other.params), strict=True)
    for axis, (here, there) in enumerate(bounds):
        if isinstance(value, Each) and axis == value.axis:
            result = _slice_of_examples(op, value, here, there)
        elif here != there:
            raise Mixes("a slice depends on the batch size")
    return result


def _slice_of_examples(
    op: Operation,
    value: Each,
    bounds: tuple[int, int],
    other: tuple[int, int],
) -> Value:
    """A slice along the axis of the examples: of whole batches, or of the first example."""
    first, last = bounds
    if bounds == other and first == 0 and last <= (value.after or 1):
        return Same()  # the first example is never padding
    strides = op.params["strides"]
    if strides is not None and strides[value.axis] != 1:
        raise Mixes("some examples are taken out of the batch")
    for pair in zip(bounds, other, strict=True):
        if not _is_boundary(value, *pair, op.sizes):
            raise Mixes("some examples are taken out of the batch")
    return value


@rule("split")
def _split(op: Operation, values: list[Value]) -> list[Value]:
    value = values[0]
    sizes, others = op.both("sizes")
    if isinstance(value, Each) and value.axis == op.params["axis"]:
        for pair in zip(sizes, others, strict=True):
            if not _is_boundary(value, *pair, op.sizes):
                raise Mixes("some examples are taken out of the batch")
    elif sizes != others:
        raise Mixes("a slice depends on the batch size")
    return op.all_results(value)


def _require_all_examples(
    value: Value,
    shape: Sequence[int],
    sizes: Sequence[int],
    others: Sequence[int],
) -> None:
    """Raises Mixes unless slices of `sizes` take the whole axis of the examples.

    `others` are the sizes of the slices at the other batch size.
    """
    pairs = zip(sizes, others, strict=True)
    for axis, (size, other) in enumerate(pairs):
        if isinstance(value, Each) and axis == value.axis:
            if size != shape[axis]:
                raise Mixes("some examples are taken out of the batch")
        elif size != other:
            raise Mixes("a slice depends on the batch size")


@rule("dynamic_slice")
def _dynamic_slice(op: Operation, values: list[Value]) -> Value:
    sizes, others = op.both("slice_sizes")
    _require_all_examples(values[0], op.shape(0), sizes, others)
    return values[0]


@rule("dynamic_update_slice")
def _dynamic_update_slice(op: Operation, values: list[Value]) -> Value:
    operand, update = values[:2]
    place = aligned((operand, update))
    if place is not None:
        both = isinstance(operand, Each) and isinstance(update, Each)
        whole = op.shape(0)[place.axis] == op.shape(1)[place.axis]
        if not (both and whole):
            raise Mixes("some examples are replaced")
    return placed((operand, update), common_fill((operand, update)))


@rule("gather")
def _gather(op: Operation, values: list[Value]) -> Value:
    operand, indices = values
    numbers = op.params["dimension_numbers"]
    fill = operand.fill
    if "FILL" in str(op.params["mode"]).upper():
        fill = None
    # The axes of the operand that the slices have too.
    window = remaining_axes(
        op.ndim(0), numbers.collapsed_slice_dims, numbers.operand_batching_dims
    )
    _check_slice_sizes(op, operand)
    if isinstance(operand, Each) and operand.axis in window:
        # Whole examples are taken, along the axis of the examples.
        if isinstance(indices, Each) or operand.axis in numbers.start_index_map:
            raise Mixes("examples are looked up by an index")
        axis = numbers.offset_dims[window.index(operand.axis)]
        return Each(axis, operand.after, fill)
    if isinstance(indices, Each):
        if indices.axis == op.ndim(1) - 1:
            raise Mixes("examples are the components of an index")
        if isinstance(operand, Each):
            _require_same_example(
                operand,
                indices,
                numbers.operand_batching_dims,
                numbers.start_indices_batching_dims,
            )
        batches = remaining_axes(len(op.result()), numbers.offset_dims)
        return Each(batches[indices.axis], indices.after, fill)
    if isinstance(operand, Each):
        raise Mixes("examples are looked up by an index")
    return Same()


def _check_slice_sizes(op: Operation, operand: Value) -> None:
    """Raises Mixes unless slices have one size, or take the whole axis of the examples."""
    sizes, others = op.both("slice_sizes")
    pairs = zip(sizes, others, strict=True)
    for axis, (size, other) in enumerate(pairs):
        is_examples = isinstance(operand, Each) and axis == operand.axis
        whole = is_examples and size == op.shape(0)[axis]
        if size != other and not whole:
            raise Mixes("how much is looked up depends on the batch size")


def _require_same_example(
    operand: Each,
    other: Each,
    axes: Sequence[int],
    other_axes: Sequence[int],
) -> None:
    """Raises Mixes unless example i of one is combined with example i of the other."""
    place = place_of(axes, operand.axis)
    if place < 0 or place != place_of(other_axes, other.axis):
        raise Mixes("examples are looked up by an index")
    check_same_after(operand, other)


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
    batches = remaining_axes(op.ndim(2), windows)
    if isinstance(indices, Each):
        # Index i belongs to update i.
        _require_same_example(indices, updates, range(op.ndim(1) - 1), batches)
    if isinstance(operand, Same):
        # A sum over examples is right only if padding adds 0 to it.
        adds = op.name in ("scatter-add", "scatter_add", "scatter-sub", "scatter_sub")
        if not adds or updates.fill != 0 or updates.axis in windows:
            raise Mixes("examples are collected in one array")
        return Same()
    assert isinstance(operand, Each)
    result = Each(
        operand.axis, operand.after or updates.after, _scatter_fill(op, values)
    )
    inserted, paired = numbers.inserted_window_dims, numbers.operand_batching_dims
    window = remaining_axes(op.ndim(0), inserted, paired)
    if operand.axis in window:
        unindexed = operand.axis not in numbers.scatter_dims_to_operand_dims
        matching = place_of(windows, updates.axis) == window.index(operand.axis)
        whole = op.shape(2)[updates.axis] == op.shape(0)[operand.axis]
        if isinstance(indices, Each) or not (unindexed and matching and whole):
            raise Mixes("examples are written to by an index")
        check_same_after(operand, updates)
        return result
    if not isinstance(indices, Each):
        raise Mixes("examples are written to by an index")
    _require_same_example(
        operand, indices, paired, numbers.scatter_indices_batching_dims
    )
    return result


def _scatter_fill(op: Operation, values: list[Value]) -> Fill:
    """The value at padding after a scatter: 0 after a sum of zeros, say."""
    operand, _, updates = values
    if op.name == "scatter":
        return common_fill((operand, updates))
    adds = op.name in ("scatter-add", "scatter_add")
    if adds and operand.fill == updates.fill == 0:
        return 0
    return None
