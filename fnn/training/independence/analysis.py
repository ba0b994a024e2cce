"""The analysis: a program at two batch sizes, walked side by side from inputs to outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import Literal

from fnn.training.independence import jaxprs, products, slices  # noqa: F401 - register rules
from fnn.training.independence.loops import LOOPS
from fnn.training.independence.rules import RULES, Operation
from fnn.training.independence.values import (
    Each,
    Mixed,
    Mixes,
    Same,
    Single,
    Value,
    joined,
)

CALLS = {  # by name: the parameter that holds the program called
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
OTHERWISE = "the program is another one at another batch size"


def why_mixed(
    function: Callable[..., Any],
    full: tuple[Any, ...],
    other: tuple[Any, ...],
    *,
    valid: int | None = None,
    differentiated: bool = False,
) -> str | None:
    """Why the examples of a batch affect each other in `function`; None if they do not.

    `full` and `other` are its arguments, or their shapes, at two batch sizes; the axes that differ
    carry the examples. `valid` is the position of the argument that is False at filling.

    None promises: where a batch of the size of `other` is filled up to that of `full`, behind its
    examples, outputs without an axis for examples are the same, and so are the others at the
    examples. With `differentiated` the same holds for the gradient: custom derivatives
    (`jax.custom_vjp`) are then looked at, too. Random numbers need not be the same. The filling
    may hold any numbers from which no NaN or infinity is computed: copies of examples are safe.

    The converse is not promised: what is not known to keep examples apart is found mixed. If
    `other` has one example, that is more often so, since an axis of length 1 is broadcast by
    other operations. Raises ValueError if the batch sizes are equal.

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
    except Exception as error:  # of any kind: the function is a user's
        return f"the program cannot be run on {sizes[1]} examples: {error}"
    leaves = (
        (number, leaf)
        for number, arg in enumerate(full)
        for leaf in jax.tree.leaves(arg)
    )
    fills = [0 if number == valid else None for number, _ in leaves]
    analysis = _Analysis(sizes, differentiated)
    given = zip(program.jaxpr.invars, twin.jaxpr.invars, fills, strict=True)
    values = [
        analysis.argument(a.aval.shape, b.aval.shape, fill) for a, b, fill in given
    ]
    try:
        results = analysis.run(program, twin, values)
    except Mixes as finding:
        return str(finding)
    shapes = [variable.aval.shape for variable in program.jaxpr.outvars]
    found = [(analysis.effect, ()), *zip(results, shapes, strict=True)]
    reasons = (_why_no_output(value, shape, sizes[0]) for value, shape in found)
    return next((reason for reason in reasons if reason), None)


def _batch_sizes(full: Any, other: Any) -> tuple[int, int]:
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(other), strict=True):
        for sizes in zip(np.shape(a), np.shape(b), strict=True):
            if sizes[0] != sizes[1]:
                return sizes
    raise ValueError(
        "expected arguments of two batch sizes, received the same shapes twice; pass those of "
        "another size as `other`"
    )


def _why_no_output(value: Value, shape: Any, batch: int) -> str | None:
    """Why an output cannot be cut to the examples: they must be along its first axis."""
    if isinstance(value, Mixed):
        return f"{value.reason} at {value.where}" if value.where else value.reason
    if isinstance(value, Each) and (value.axis != 0 or shape[0] != batch):
        return f"an output of shape {shape} has its examples elsewhere than along the first axis"
    return None


def _located(equation: Any, value: Value) -> Value:
    """The value; the innermost line of a user's that made it mixed is noted."""
    if not isinstance(value, Mixed) or value.where:
        return value
    where = source_info_util.summarize(equation.source_info)
    return replace(value, where=where.strip() if ":" in where else "")


class _Analysis:
    """What holds of each variable of two programs that should be the same but for sizes."""

    def __init__(
        self, sizes: tuple[int, int], differentiated: bool, one_example: bool = False
    ) -> None:
        self.sizes, self.differentiated, self.one_example = (
            sizes,
            differentiated,
            one_example,
        )
        self.effect: Value = (
            Same()
        )  # Mixed where filling is seen by more than the results
        self.known: dict[Any, list[Value]] = {}
        self.kept: list[Any] = []  # programs in `known`, so that no other gets their id

    def argument(self, shape: Any, twin: Any, fill: Any = None) -> Value:
        """What holds of an array that is given, in two shapes."""
        axes = [axis for axis, size in enumerate(shape) if size != twin[axis]]
        return self._fitting(Each(axes[0], 1, fill) if axes else Same(), shape, twin)

    def run(self, full: Any, other: Any, values: list[Value]) -> list[Value]:
        """What holds of the results of a program, given what holds of its arguments."""
        key = id(full), id(other), tuple(values)
        if key not in self.known:
            self.kept.append((full, other))
            self.known[key] = self._walk(full, other, values)
        return self.known[key]

    def _walk(self, full: Any, other: Any, values: list[Value]) -> list[Value]:
        program, twin = jaxprs.opened(full), jaxprs.opened(other)
        variables: dict[Any, tuple[Any, Value]] = {}

        def write(names: Any, twins: Any, found: list[Value]) -> None:
            if not len(names) == len(twins) == len(found):
                raise Mixes(OTHERWISE)
            variables.update(zip(names, zip(twins, found, strict=True), strict=True))

        def read(name: Any, twin: Any) -> Value:
            if isinstance(name, Literal) and isinstance(twin, Literal):
                return self._constant(name.val, twin.val)
            expected, value = (
                (None, None) if isinstance(name, Literal) else variables[name]
            )
            if value is None or expected is not twin:
                raise Mixes(OTHERWISE)
            return value

        pairs = zip(jaxprs.constants(full), jaxprs.constants(other), strict=False)
        write(
            program.constvars, twin.constvars, [self._constant(a, b) for a, b in pairs]
        )
        write(program.invars, twin.invars, values)
        equations, others = jaxprs.needed(program), jaxprs.needed(twin)
        if len(equations) != len(others):
            raise Mixes(OTHERWISE)
        for one, two in zip(equations, others, strict=True):
            parts = [
                (e.primitive.name, len(e.invars), len(e.outvars)) for e in (one, two)
            ]
            if parts[0] != parts[1]:
                raise Mixes(OTHERWISE)
            op = Operation(one, two, self.sizes, (program, twin))
            write(
                one.outvars,
                two.outvars,
                self._results(op, list(map(read, one.invars, two.invars))),
            )
        return list(map(read, program.outvars, twin.outvars))

    def _constant(self, a: Any, b: Any) -> Value:
        """What holds of a constant, given it at both sizes."""
        if a is b:
            return Same(jaxprs.scalar(a))
        first, second = jaxprs.on_host(a), jaxprs.on_host(b)
        if first.dtype != second.dtype or first.ndim != second.ndim:
            return Mixed("a constant depends on the batch size")
        value = self.argument(first.shape, second.shape)
        if isinstance(value, Each):  # the entries of the examples that both have
            shared = tuple(
                slice(min(pair)) for pair in zip(first.shape, second.shape, strict=True)
            )
            first, second = first[shared], second[shared]
        if not np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"):
            shown = f": {a} or {b}" if first.ndim == 0 else ""
            return Mixed(f"a constant depends on the batch size{shown}")
        return Same(jaxprs.scalar(a)) if isinstance(value, Same) else value

    def _fitting(self, value: Value, shape: Any, twin: Any) -> Value:
        """The value, or Mixed if the shapes at the two sizes contradict it."""
        if isinstance(value, Mixed):
            return value
        if len(shape) != len(twin):
            return Mixed(OTHERWISE)
        axes = [axis for axis, size in enumerate(shape) if size != twin[axis]]
        if not isinstance(value, Each):
            return Mixed("a shape depends on the batch size") if axes else value
        one, two = (size * (value.after or 1) for size in self.sizes)
        size = shape[value.axis]
        if axes != [value.axis] or size % one or size // one * two != twin[value.axis]:
            return Mixed(
                "a shape depends on the batch size otherwise than by its examples"
            )
        return value

    def _results(self, op: Operation, values: list[Value]) -> list[Value]:
        """What holds of the results of one equation."""
        try:
            if not op.same_ranks():
                raise Mixes(OTHERWISE)
            results = self._found(op, values)
        except (Mixes, LookupError, AttributeError, ValueError) as finding:
            # What is no Mixes is a parameter unlike those that the rules know.
            results = [Mixed(f"{finding} ({op.name})")] * len(op.full.outvars)
        pairs = zip(results, op.full.outvars, op.other.outvars, strict=True)
        fitting = (
            self._fitting(value, a.aval.shape, b.aval.shape) for value, a, b in pairs
        )
        return [_located(op.full, value) for value in fitting]

    def _found(self, op: Operation, values: list[Value]) -> list[Value]:
        if any(isinstance(value, Single) for value in values):
            return self._of_one_example(op, values)
        if op.name in CALLS:
            name = CALLS[op.name]
            results = self.run(op.params[name], op.other.params[name], values)
            custom = self.differentiated and op.name in CUSTOM
            return self._with_derivative(op, values, results) if custom else results
        if op.name in LOOPS:
            return LOOPS[op.name](self, op, values)
        alike = all(isinstance(value, Same) for value in values)
        if op.full.effects and (self.one_example or not alike):
            seen = _located(
                op.full, Mixed(f"filling is seen outside of the program ({op.name})")
            )
            self.effect = joined(self.effect, seen)
        mixed = next((value for value in values if isinstance(value, Mixed)), None)
        if mixed is not None:
            return [mixed] * len(op.full.outvars)
        op.check_parameters()
        if op.name in RULES:
            found = RULES[op.name](op, values)
            return found if isinstance(found, list) else [found] * len(op.full.outvars)
        if not alike:
            raise Mixes("it is not known to keep examples apart")
        return [Same()] * len(op.full.outvars)

    def _of_one_example(self, op: Operation, values: list[Value]) -> list[Value]:
        """In a loop over examples: one of them, combined with what is the same for all."""
        if any(isinstance(value, (Each, Mixed)) for value in values):
            raise Mixes("one example is combined with others")
        inner = _Analysis(self.sizes, self.differentiated, one_example=True)
        results = inner._results(
            op, [Same() if isinstance(v, Single) else v for v in values]
        )
        self.effect = joined(self.effect, inner.effect)
        return [Single() if isinstance(value, Same) else value for value in results]

    def _with_derivative(
        self, op: Operation, values: list[Value], results: list[Value]
    ) -> list[Value]:
        """The results of a function with a custom derivative, which must keep examples apart too.

        Where the results do not depend on filling, the true derivative with respect to it is 0
        everywhere. So a custom one gets cotangents that are 0 there, and must return such.
        """
        if self.one_example:
            raise Mixes(
                "a custom derivative in a loop over examples is not looked into"
            )
        if any(isinstance(value, Mixed) for value in (*values, *results)):
            return results
        results = [replace(value, fill=None) for value in results]
        (program, inputs, floats), (twin, *_) = map(
            jaxprs.pullback, op.programs, (op.full, op.other)
        )
        known = dict(zip(op.full.outvars, results, strict=True))
        known |= {
            v: b for v, b in zip(op.full.invars, values, strict=True) if v in inputs
        }
        expected = [known[v] for v in floats]
        expected += [_at_filling(known[v], 0) for v in inputs if jaxprs.is_float(v)]
        cotangents = [_at_filling(known[v], 0) for v in floats]
        backward = _Analysis(self.sizes, False)
        found = backward.run(program, twin, [*(known[v] for v in inputs), *cotangents])
        for want, got in zip(expected, found, strict=True):
            if isinstance(got, Mixed):
                raise Mixes(f"in the derivative, {got.reason}")
            if not _implies(got, want):
                raise Mixes("in the derivative, filling reaches the examples")
        return results


def _at_filling(value: Value, fill: Any) -> Value:
    return replace(value, fill=fill if isinstance(value, Each) else None)


def _implies(got: Value, want: Value) -> bool:
    """Whether an array of which `got` is known is as `want` says."""
    if not isinstance(got, Each) or not isinstance(want, Each):
        return isinstance(got, Same) and isinstance(want, Same)
    alike = None in (got.after, want.after) or got.after == want.after
    return got.axis == want.axis and alike and want.fill in (None, got.fill)
