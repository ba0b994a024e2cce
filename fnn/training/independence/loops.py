"""Rules for loops and branches: their bodies are analyzed like other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeAlias

from fnn.training.independence.jaxprs import Program, Variable, opened
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


class Analysis(Protocol):
    """The part of the analysis that loops use."""

    sizes: tuple[int, int]

    def run(
        self,
        full: Program,
        other: Program,
        values: list[Value],
    ) -> list[Value]:
        """The values of the results of a program, given those of its arguments."""


LoopRule: TypeAlias = Callable[[Analysis, Operation, list[Value]], list[Value]]


def _joined(many: list[list[Value]]) -> list[Value]:
    """The values of results that come from any of several programs."""
    first, *others = many
    for other in others:
        first = list(map(joined, first, other))
    return first


def _fixed_point(
    body: Callable[[list[Value]], list[Value]],
    carry: list[Value],
) -> list[Value]:
    """The values of the carry that hold before every iteration."""
    while True:
        after = list(map(joined, carry, body(carry)))
        if after == carry:
            return carry
        carry = after


def _cond(
    analysis: Analysis,
    op: Operation,
    values: list[Value],
) -> list[Value]:
    index, *operands = values
    if isinstance(index, Mixed):
        return op.all_results(index)
    pairs = zip(*op.both("branches"), strict=True)
    return _joined([analysis.run(*pair, operands) for pair in pairs])


def _while(
    analysis: Analysis,
    op: Operation,
    values: list[Value],
) -> list[Value]:
    # The operands are the constants of the condition, those of the body, and the carry.
    first = op.params["cond_nconsts"]
    last = first + op.params["body_nconsts"]
    of_condition = values[:first]
    of_body = values[first:last]

    def body(carry: list[Value]) -> list[Value]:
        full, other = op.both("body_jaxpr")
        return analysis.run(full, other, [*of_body, *carry])

    carry = _fixed_point(body, values[last:])
    full, other = op.both("cond_jaxpr")
    (condition,) = analysis.run(full, other, [*of_condition, *carry])
    if isinstance(condition, Mixed):
        return [condition] * len(carry)
    return carry


def _scan(
    analysis: Analysis,
    op: Operation,
    values: list[Value],
) -> list[Value]:
    first, last = _carry_bounds(op)
    constants = values[:first]
    carry = values[first:last]
    scanned = values[last:]
    if op.params["length"] != op.other.params["length"]:
        return _over_examples(analysis, op, constants, carry, scanned)
    if any(isinstance(value, Each) and value.axis == 0 for value in scanned):
        raise Mixes("a loop goes over a part of the batch")
    slices = [_moved(value, -1) for value in scanned]

    def body(carry: list[Value]) -> list[Value]:
        full, other = op.both("jaxpr")
        return analysis.run(full, other, [*constants, *carry, *slices])

    length = len(carry)
    carry = _fixed_point(lambda carry: body(carry)[:length], carry)
    stacked = body(carry)[length:]
    return [*carry, *(_moved(value, 1) for value in stacked)]


def _carry_bounds(op: Operation) -> tuple[int, int]:
    """Where the carry of a scan begins and ends among its operands.

    Scanned operands and stacked results have one axis more than in the body. (The
    parameters that give the numbers of operands have changed with JAX 0.11.)
    """
    body = opened(op.params["jaxpr"])
    scanned = sum(map(_has_more_axes, op.full.invars, body.invars))
    stacked = sum(map(_has_more_axes, op.full.outvars, body.outvars))
    last = len(op.full.invars) - scanned
    return last - (len(op.full.outvars) - stacked), last


def _has_more_axes(a: Variable, b: Variable) -> bool:
    return bool(a.aval.ndim > b.aval.ndim)


def _moved(value: Value, by: int) -> Value:
    """The value with the axis of the examples moved."""
    if not isinstance(value, Each):
        return value
    return replace(value, axis=value.axis + by)


def _over_examples(
    analysis: Analysis,
    op: Operation,
    constants: list[Value],
    carry: list[Value],
    scanned: list[Value],
) -> list[Value]:
    """A loop with an iteration per example, like that of `jax.lax.map`."""
    if carry or op.both("length") != analysis.sizes:
        raise Mixes("a loop over the examples carries something from one to the next")
    for value in scanned:
        if isinstance(value, Mixed):
            return op.all_results(value)
    for value in scanned:
        if not isinstance(value, Each) or value.axis != 0:
            raise Mixes("a loop over the examples goes over something else, too")
    slices: list[Value] = [Single()] * len(scanned)
    full, other = op.both("jaxpr")
    found = analysis.run(full, other, [*constants, *slices])
    return list(map(_stacked, found))


def _stacked(value: Value) -> Value:
    """The value of the results of all iterations, one per example."""
    if isinstance(value, (Same, Single)):
        return Each(0)
    if isinstance(value, Each):
        return Mixed("a loop over the examples returns the whole batch each time")
    return value


LOOPS: dict[str, LoopRule] = {
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
