"""Which loops and branches keep examples apart: their bodies are looked at like other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fnn.training.independence.jaxprs import opened
from fnn.training.independence.rules import Operation
from fnn.training.independence.values import (
    Each,
    Mixed,
    Mixes,
    Same,
    Single,
    Value,
    joined,
)


def _joined(many: list[list[Value]]) -> list[Value]:
    """What holds of results that come from any of several programs."""
    first, *others = many
    for other in others:
        first = list(map(joined, first, other))
    return first


def _fixed_point(
    body: Callable[[list[Value]], list[Value]], carry: list[Value]
) -> list[Value]:
    """What holds of the carry before every iteration."""
    while True:
        after = list(map(joined, carry, body(carry)))
        if after == carry:
            return carry
        carry = after


def _cond(analysis: Any, op: Operation, values: list[Value]) -> list[Value]:
    index, *operands = values
    if isinstance(index, Mixed):
        return [index] * len(op.full.outvars)
    pairs = zip(op.params["branches"], op.other.params["branches"], strict=True)
    return _joined([analysis.run(*pair, operands) for pair in pairs])


def _while(analysis: Any, op: Operation, values: list[Value]) -> list[Value]:
    first, second = op.params["cond_nconsts"], op.params["body_nconsts"]
    seen, used, carry = (
        values[:first],
        values[first : first + second],
        values[first + second :],
    )
    program = lambda name: (op.params[name], op.other.params[name])
    carry = _fixed_point(
        lambda now: analysis.run(*program("body_jaxpr"), [*used, *now]), carry
    )
    (goes_on,) = analysis.run(*program("cond_jaxpr"), [*seen, *carry])
    return [goes_on] * len(carry) if isinstance(goes_on, Mixed) else carry


def _scan(analysis: Any, op: Operation, values: list[Value]) -> list[Value]:
    first, last = _parts(op)
    constants, carry, slices = values[:first], values[first:last], values[last:]
    if op.params["length"] != op.other.params["length"]:
        return _over_examples(analysis, op, constants, carry, slices)
    if any(isinstance(value, Each) and value.axis == 0 for value in slices):
        raise Mixes("a loop goes over a part of the batch")
    inner = [_moved(value, -1) for value in slices]
    program = op.params["jaxpr"], op.other.params["jaxpr"]
    body = lambda now: analysis.run(*program, [*constants, *now, *inner])
    carry = _fixed_point(lambda now: body(now)[: len(carry)], carry)
    return [*carry, *(_moved(value, 1) for value in body(carry)[len(carry) :])]


def _parts(op: Operation) -> tuple[int, int]:
    """Where the carry of a scan begins and ends among its operands.

    What is scanned, and what is stacked, has an axis more than in the body. The parameters that
    tell the parts apart have changed with JAX 0.11.
    """
    body = opened(op.params["jaxpr"])
    shorter = lambda a, b: a.aval.ndim > b.aval.ndim
    scanned = sum(map(shorter, op.full.invars, body.invars))
    stacked = sum(map(shorter, op.full.outvars, body.outvars))
    last = len(op.full.invars) - scanned
    return last - (len(op.full.outvars) - stacked), last


def _moved(value: Value, by: int) -> Value:
    return replace(value, axis=value.axis + by) if isinstance(value, Each) else value


def _over_examples(
    analysis: Any,
    op: Operation,
    constants: list[Value],
    carry: list[Value],
    slices: list[Value],
) -> list[Value]:
    """A loop with an iteration for each example, as `jax.lax.map` makes it."""
    lengths = op.params["length"], op.other.params["length"]
    if carry or lengths != analysis.sizes:
        raise Mixes("a loop over the examples carries something from one to the next")
    mixed = next((value for value in slices if isinstance(value, Mixed)), None)
    if mixed is not None:
        return [mixed] * len(op.full.outvars)
    if any(not isinstance(value, Each) or value.axis != 0 for value in slices):
        raise Mixes("a loop over the examples goes over something else, too")
    inner: list[Value] = [Single()] * len(slices)
    found = analysis.run(
        op.params["jaxpr"], op.other.params["jaxpr"], [*constants, *inner]
    )
    return [Each(0) if isinstance(v, (Same, Single)) else _no_axis(v) for v in found]


def _no_axis(value: Value) -> Value:
    return (
        Mixed("a loop over the examples returns the whole batch each time")
        if (isinstance(value, Each))
        else value
    )


LOOPS: dict[str, Callable[[Any, Operation, list[Value]], list[Value]]] = {
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
