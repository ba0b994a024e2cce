"""The analysis: one program traced at two batch sizes, walked side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Literal

from fnn.core.tree import SpecTree
from fnn.training.independence import jaxprs, products, slices  # noqa: F401 - register rules
from fnn.training.independence.jaxprs import Equation, Program, Variable
from fnn.training.independence.loops import LOOPS
from fnn.training.independence.rules import RULES, Operation
from fnn.training.independence.values import (
    Each,
    Fill,
    Mixed,
    Mixes,
    Same,
    Shape,
    Single,
    Value,
    joined,
)

# The parameter of a primitive that holds the program it calls.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
CUSTOM = ("custom_jvp_call", "custom_vjp_call")
OTHERWISE = "the program differs at another batch size"


def why_mixed(
    function: Callable[..., Any],
    full: tuple[SpecTree, ...],
    other: tuple[SpecTree, ...],
    *,
    valid: int | None = None,
    differentiated: bool = False,
) -> str | None:
    """Why the examples of a batch affect each other in `function`; None if they do not.

    `full` and `other` are its arguments, or their shapes, at two batch sizes; the axes
    that differ hold the examples. `valid` is the position of the argument that is False
    at padding.

    None guarantees the following. If a batch of the size of `other` is padded to that of
    `full`, behind its examples, then outputs without an axis of examples are the same,
    and so are the others at the examples. With `differentiated` the same holds for the
    gradient: custom derivatives (`jax.custom_vjp`) are then analyzed too. Random numbers
    may differ. The padding may hold any numbers from which no NaN or infinity is
    computed: copies of examples are safe.

    The converse is not guaranteed: a program is found mixed if it is not known to keep
    examples separate. That is more frequent if `other` has one example, since an axis of
    length 1 is broadcast by other operations. Raises ValueError if the batch sizes are
    equal.

    >>> full, other = (jax.ShapeDtypeStruct((size, 3), "float32") for size in (8, 5))
    >>> why_mixed(lambda x: x - x.mean(axis=1, keepdims=True), (full,), (other,))
    >>> reason = why_mixed(lambda x: x - x.mean(axis=0, keepdims=True), (full,), (other,))
    >>> reason.partition(" at ")[0]
    'examples are combined along their axis (reduce_sum)'
    """
    sizes = _batch_sizes(full, other)
    program = jax.make_jaxpr(function)(*full)
    try:
        twin = jax.make_jaxpr(function)(*other)
    except Exception as error:
        # Any exception: the function is a user's.
        return f"the program cannot be run on {sizes[1]} examples: {error}"
    analysis = _Analysis(sizes, differentiated)
    variables, twins = program.jaxpr.invars, twin.jaxpr.invars
    fills = _fills(full, valid)
    values = []
    for a, b, fill in zip(variables, twins, fills, strict=True):
        argument = analysis.argument(a.aval.shape, b.aval.shape, fill)
        values.append(argument)
    try:
        results = analysis.run(program, twin, values)
    except Mixes as finding:
        return str(finding)
    shapes = [variable.aval.shape for variable in program.jaxpr.outvars]
    outputs: list[tuple[Value, Shape]] = [(analysis.effect, ())]
    outputs.extend(zip(results, shapes, strict=True))
    for value, shape in outputs:
        reason = _why_not_separable(value, shape, sizes[0])
        if reason:
            return reason
    return None


def _fills(arguments: tuple[SpecTree, ...], valid: int | None) -> Iterator[Fill]:
    """The value at padding of each leaf of the arguments: False for `valid`."""
    for position, argument in enumerate(arguments):
        fill = None
        if position == valid:
            fill = 0
        for _ in jax.tree.leaves(argument):
            yield fill


def _batch_sizes(full: SpecTree, other: SpecTree) -> tuple[int, int]:
    """The first two sizes of an axis that differ."""
    shapes = map(np.shape, jax.tree.leaves(full))
    others = map(np.shape, jax.tree.leaves(other))
    for shape, twin in zip(shapes, others, strict=True):
        for sizes in zip(shape, twin, strict=True):
            if sizes[0] != sizes[1]:
                return sizes
    raise ValueError(
        "expected arguments of two batch sizes, received the same shapes twice; pass those "
        "of another size as `other`"
    )


def _why_not_separable(value: Value, shape: Shape, batch: int) -> str | None:
    """Why an output cannot be cut to the examples: they must be along its first axis."""
    if isinstance(value, Mixed):
        if value.where:
            return f"{value.reason} at {value.where}"
        return value.reason
    if not isinstance(value, Each):
        return None
    if value.axis != 0 or shape[0] != batch:
        return f"an output of shape {shape} has its examples elsewhere than along the first axis"
    return None


def _located(equation: Equation, value: Value) -> Value:
    """The value; if it is mixed, with the innermost line of user code responsible."""
    if not isinstance(value, Mixed) or value.where:
        return value
    where = source_info_util.summarize(equation.source_info)
    if ":" not in where:
        return value
    return replace(value, where=where.strip())


def _check_equal(condition: bool) -> None:
    """Raises Mixes unless the two programs are equal in this respect."""
    if not condition:
        raise Mixes(OTHERWISE)


class _Values:
    """The values of the variables of two programs, each with its twin in the other."""

    def __init__(self, constant: Callable[[Any, Any], Value]) -> None:
        self._constant = constant
        self._known: dict[Variable, tuple[Variable, Value]] = {}

    def write(
        self,
        variables: Sequence[Variable],
        twins: Sequence[Variable],
        values: Sequence[Value],
    ) -> None:
        _check_equal(len(variables) == len(twins) == len(values))
        pairs = zip(twins, values, strict=True)
        self._known.update(zip(variables, pairs, strict=True))

    def read(self, variable: Variable, twin: Variable) -> Value:
        if isinstance(variable, Literal) and isinstance(twin, Literal):
            return self._constant(variable.val, twin.val)
        _check_equal(not isinstance(variable, Literal))
        expected, value = self._known[variable]
        _check_equal(expected is twin)
        return value


class _Analysis:
    """Finds the value of each variable of a program, given it at two batch sizes."""

    def __init__(
        self, sizes: tuple[int, int], differentiated: bool, one_example: bool = False
    ) -> None:
        self.sizes = sizes
        self.differentiated = differentiated
        self.one_example = one_example
        # Mixed if padding is visible in other ways than by the results.
        self.effect: Value = Same()
        self._results_of: dict[Any, list[Value]] = {}
        # Keeps the programs in `_results_of` alive, so that ids stay unique.
        self._programs: list[tuple[Program, Program]] = []

    def argument(self, shape: Shape, twin: Shape, fill: Fill = None) -> Value:
        """The value of an argument, given its two shapes."""
        value: Value = Same()
        for axis, size in enumerate(shape):
            if size != twin[axis]:
                value = Each(axis, 1, fill)
                break
        return self._fitting(value, shape, twin)

    def run(
        self,
        full: Program,
        other: Program,
        values: list[Value],
    ) -> list[Value]:
        """The values of the results of a program, given those of its arguments."""
        key = id(full), id(other), tuple(values)
        if key not in self._results_of:
            self._programs.append((full, other))
            self._results_of[key] = self._walk(full, other, values)
        return self._results_of[key]

    def _walk(
        self,
        full: Program,
        other: Program,
        values: list[Value],
    ) -> list[Value]:
        program, twin = jaxprs.opened(full), jaxprs.opened(other)
        known = _Values(self._constant)
        pairs = zip(jaxprs.constants(full), jaxprs.constants(other), strict=False)
        constants = [self._constant(a, b) for a, b in pairs]
        known.write(program.constvars, twin.constvars, constants)
        known.write(program.invars, twin.invars, values)

        equations, others = jaxprs.needed(program), jaxprs.needed(twin)
        _check_equal(len(equations) == len(others))
        for one, two in zip(equations, others, strict=True):
            _check_equal(one.primitive.name == two.primitive.name)
            _check_equal(len(one.invars) == len(two.invars))
            _check_equal(len(one.outvars) == len(two.outvars))
            op = Operation(one, two, self.sizes, (program, twin))
            operands = list(map(known.read, one.invars, two.invars))
            known.write(one.outvars, two.outvars, self._results(op, operands))
        return list(map(known.read, program.outvars, twin.outvars))

    def _constant(self, a: Any, b: Any) -> Value:
        """The value of a constant, given it at both sizes."""
        if a is b:
            return Same(jaxprs.scalar(a))
        first, second = jaxprs.on_host(a), jaxprs.on_host(b)
        if first.dtype != second.dtype or first.ndim != second.ndim:
            return Mixed("a constant depends on the batch size")
        value = self.argument(first.shape, second.shape)
        if isinstance(value, Each):
            # Compare the entries of the examples that both have.
            shapes = zip(first.shape, second.shape, strict=True)
            shared = tuple(slice(min(pair)) for pair in shapes)
            first, second = first[shared], second[shared]
        if not np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"):
            reason = "a constant depends on the batch size"
            if first.ndim == 0:
                reason += f": {a} or {b}"
            return Mixed(reason)
        if isinstance(value, Same):
            return Same(jaxprs.scalar(a))
        return value

    def _fitting(self, value: Value, shape: Shape, twin: Shape) -> Value:
        """The value, or Mixed if the shapes at the two sizes contradict it."""
        if isinstance(value, Mixed):
            return value
        if len(shape) != len(twin):
            return Mixed(OTHERWISE)
        axes = [axis for axis, size in enumerate(shape) if size != twin[axis]]
        if not isinstance(value, Each):
            if axes:
                return Mixed("a shape depends on the batch size")
            return value
        after = value.after or 1
        full_size, other_size = self.sizes[0] * after, self.sizes[1] * after
        size = shape[value.axis]
        # Both sizes must be the same multiple of the batch size.
        multiple = size // full_size
        fits = size % full_size == 0 and multiple * other_size == twin[value.axis]
        if axes != [value.axis] or not fits:
            return Mixed("a shape depends on the batch size other than by its examples")
        return value

    def _results(self, op: Operation, values: list[Value]) -> list[Value]:
        """The values of the results of one equation."""
        try:
            _check_equal(op.same_ranks())
            results = self._found(op, values)
        except (Mixes, LookupError, AttributeError, ValueError) as finding:
            # Others than Mixes come from parameters that the rules do not know.
            results = op.all_results(Mixed(f"{finding} ({op.name})"))
        variables, twins = op.full.outvars, op.other.outvars
        fitting = []
        for value, a, b in zip(results, variables, twins, strict=True):
            fitted = self._fitting(value, a.aval.shape, b.aval.shape)
            fitting.append(_located(op.full, fitted))
        return fitting

    def _found(self, op: Operation, values: list[Value]) -> list[Value]:
        if any(isinstance(value, Single) for value in values):
            return self._of_one_example(op, values)
        if op.name in CALLS:
            full, other = op.both(CALLS[op.name])
            results = self.run(full, other, values)
            if self.differentiated and op.name in CUSTOM:
                return self._with_derivative(op, values, results)
            return results
        if op.name in LOOPS:
            return LOOPS[op.name](self, op, values)
        all_same = all(isinstance(value, Same) for value in values)
        if op.full.effects and (self.one_example or not all_same):
            seen = Mixed(f"padding is seen outside of the program ({op.name})")
            self.effect = joined(self.effect, _located(op.full, seen))
        for value in values:
            if isinstance(value, Mixed):
                return op.all_results(value)
        op.check_parameters()
        if op.name not in RULES:
            if not all_same:
                raise Mixes("it is not known to keep examples apart")
            return op.all_results(Same())
        found = RULES[op.name](op, values)
        if isinstance(found, list):
            return found
        return op.all_results(found)

    def _of_one_example(self, op: Operation, values: list[Value]) -> list[Value]:
        """In a loop over examples: one of them, combined with what is the same for all."""
        operands: list[Value] = []
        for value in values:
            if isinstance(value, (Each, Mixed)):
                raise Mixes("one example is combined with others")
            if isinstance(value, Single):
                value = Same()
            operands.append(value)
        inner = _Analysis(self.sizes, self.differentiated, one_example=True)
        results = inner._results(op, operands)
        self.effect = joined(self.effect, inner.effect)
        return [Single() if isinstance(value, Same) else value for value in results]

    def _with_derivative(
        self, op: Operation, values: list[Value], results: list[Value]
    ) -> list[Value]:
        """The results of a function whose custom derivative must keep examples separate too.

        If the results do not depend on padding, the true derivative with respect to it is
        0. So a custom derivative receives cotangents that are 0 there, and must return
        cotangents that are 0 there.
        """
        if self.one_example:
            raise Mixes("a custom derivative in a loop over examples is not analyzed")
        if any(isinstance(value, Mixed) for value in (*values, *results)):
            return results
        results = [replace(value, fill=None) for value in results]
        full = jaxprs.pullback(op.programs[0], op.full)
        other = jaxprs.pullback(op.programs[1], op.other)
        known = dict(zip(op.full.outvars, results, strict=True))
        for variable, value in zip(op.full.invars, values, strict=True):
            if variable in full.inputs:
                known[variable] = value

        inputs = [known[v] for v in full.inputs]
        cotangents = [_with_fill(known[v], 0) for v in full.results]
        expected = [known[v] for v in full.results]
        for variable in full.inputs:
            if jaxprs.is_float(variable):
                expected.append(_with_fill(known[variable], 0))
        backward = _Analysis(self.sizes, False)
        arguments = [*inputs, *cotangents]
        found = backward.run(full.program, other.program, arguments)
        for want, got in zip(expected, found, strict=True):
            if isinstance(got, Mixed):
                raise Mixes(f"in the derivative, {got.reason}")
            if not _implies(got, want):
                raise Mixes("in the derivative, padding reaches the examples")
        return results


def _with_fill(value: Value, fill: Fill) -> Value:
    """The value with another fill, which only examples have."""
    if not isinstance(value, Each):
        fill = None
    return replace(value, fill=fill)


def _implies(got: Value, want: Value) -> bool:
    """Whether an array with the value `got` has the value `want`."""
    if not isinstance(got, Each) or not isinstance(want, Each):
        return isinstance(got, Same) and isinstance(want, Same)
    if want.fill not in (None, got.fill):
        return False
    same_after = None in (got.after, want.after) or got.after == want.after
    return got.axis == want.axis and same_after
