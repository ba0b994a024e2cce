"""Rules for products, convolutions, windows and matrix operations."""

from __future__ import annotations

from fnn.training.independence.rules import (
    RULES,
    Operation,
    Rule,
    apart,
    place_of,
    remaining_axes,
    rule,
)
from fnn.training.independence.values import (
    Each,
    Fill,
    Mixes,
    Same,
    Value,
    aligned,
    check_same_after,
    placed,
)


def _zero_if_any(values: list[Value]) -> Fill:
    """The fill of a product: 0 if one of its factors is 0 at padding."""
    if any(value.fill is not None and value.fill == 0 for value in values):
        return 0
    return None


@rule("dot_general")
def _dot(op: Operation, values: list[Value]) -> Value:
    left, right = values
    if isinstance(left, Each) and isinstance(right, Each):
        return _dot_of_examples(op, left, right)
    for side, value in enumerate(values):
        if isinstance(value, Each):
            return _dot_with_constant(op, value, side, _zero_if_any(values))
    return Same(_zero_if_any(values))


def _dot_of_examples(
    op: Operation,
    left: Each,
    right: Each,
) -> Value:
    """The product of two arrays of examples."""
    contracted, batched = op.params["dimension_numbers"]
    fill = _zero_if_any([left, right])
    # The same examples of both, with their positions as the axis.
    if left.axis in contracted[0]:
        position = contracted[0].index(left.axis)
        # A sum over examples is right only if padding adds 0 to it.
        if position != place_of(contracted[1], right.axis) or fill is None:
            raise Mixes("a product sums over the examples")
        check_same_after(left, right)
        return Same()
    if left.axis in batched[0]:
        position = batched[0].index(left.axis)
        if position != place_of(batched[1], right.axis):
            raise Mixes("a product combines every example with every other")
        operands = Each(position, left.after), Each(position, right.after)
        return placed(operands, fill)
    raise Mixes("a product combines every example with every other")


def _dot_with_constant(
    op: Operation,
    value: Each,
    side: int,
    fill: Fill,
) -> Value:
    """The product of an array of examples (0: left, 1: right) with another array."""
    contracted, batched = op.params["dimension_numbers"]
    bound = (*contracted[side], *batched[side])
    if value.axis in bound:
        raise Mixes("a product sums over the examples")
    # The result has the batch axes, the free axes of the left, those of the right.
    free = remaining_axes(op.ndim(side), bound)
    first = len(batched[0])
    if side == 1:
        first = op.ndim(0) - len(contracted[0])
    return Each(first + free.index(value.axis), value.after, fill)


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


# The parameters of a window that covers one entry along an axis.
_SINGLE_WINDOW: dict[str, object] = {
    "window_dimensions": 1,
    "window_strides": 1,
    "padding": (0, 0),
    "base_dilation": 1,
    "window_dilation": 1,
}


@rule("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min")
@rule("select_and_gather_add")
def _window(op: Operation, values: list[Value]) -> Value | list[Value]:
    place = aligned(values) or Same()
    if isinstance(place, Each):
        for name, single in _SINGLE_WINDOW.items():
            if name in op.params and op.params[name][place.axis] != single:
                raise Mixes("a window reaches over several examples")
    return op.all_results(place)


def _trailing(core: int) -> Rule:
    """A rule for operations on the last `core` axes: vectors, matrices and so on."""

    def kept(op: Operation, values: list[Value]) -> list[Value]:
        place = aligned(values) or Same()
        ndim = max(map(op.ndim, range(len(values))))
        apart(place, *range(ndim - core, ndim))
        return op.all_results(place)

    return kept


for name in ("cholesky", "eigh", "eig", "qr", "lu", "svd", "triangular_solve", "geqrf"):
    RULES[name] = _trailing(2)
for name in ("householder_product", "schur", "hessenberg"):
    RULES[name] = _trailing(2)
RULES["lu_pivots_to_permutation"] = _trailing(1)


@rule("fft")
def _fft(op: Operation, values: list[Value]) -> Value | list[Value]:
    return _trailing(len(op.params["fft_lengths"]))(op, values)
