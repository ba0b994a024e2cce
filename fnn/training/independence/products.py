"""Which products, windows and matrix operations keep examples apart, by primitive."""

from __future__ import annotations

from typing import Any

from fnn.training.independence.rules import (
    RULES,
    Operation,
    Rule,
    apart,
    place_of,
    rule,
)
from fnn.training.independence.values import Each, Mixes, Same, Value, aligned, placed


def _zero_if_any(values: list[Value]) -> Any:
    return (
        0
        if any(value.fill is not None and value.fill == 0 for value in values)
        else None
    )


@rule("dot_general")
def _dot(op: Operation, values: list[Value]) -> Value:
    contracted, batched = op.params["dimension_numbers"]
    fill = _zero_if_any(values)
    sides = [side for side in (0, 1) if isinstance(values[side], Each)]
    if not sides:
        return Same(fill)
    place = [value.axis if isinstance(value, Each) else -1 for value in values]
    if len(sides) == 2 and place[0] in contracted[0]:
        if (
            contracted[0].index(place[0]) != place_of(contracted[1], place[1])
            or fill is None
        ):
            raise Mixes("a product sums over the examples")
        aligned(Each(0, value.after) for value in values if isinstance(value, Each))
        return Same()
    if len(sides) == 2 and place[0] in batched[0]:
        number = batched[0].index(place[0])
        if number != place_of(batched[1], place[1]):
            raise Mixes("a product combines every example with every other")
        return placed(
            (Each(number, v.after) for v in values if isinstance(v, Each)), fill
        )
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
        if any(
            params[name][place.axis] != one
            for name, one in plain.items()
            if name in params
        ):
            raise Mixes("a window reaches over several examples")
    return [place] * len(op.full.outvars)


def _trailing(core: int) -> Rule:
    """Operations on matrices, vectors ... that lie along the last `core` axes."""

    def kept(op: Operation, values: list[Value]) -> list[Value]:
        place = aligned(values) or Same()
        ndim = max(map(len, map(op.shape, range(len(values)))))
        apart(place, *range(ndim - core, ndim))
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
