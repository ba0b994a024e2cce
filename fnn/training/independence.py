"""Whether a program treats the examples of a batch independently, found from its traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from fnn.training import independence_products  # noqa: F401 - registers its rules
from fnn.training.independence_loops import LOOPS
from fnn.training.independence_rules import RULES, Operation
from fnn.training.independence_values import Each, Mixed, Mixes, Same, Single, Value, joined

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
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
# Parameters that follow the shapes (the rules look at them), or that say nothing of their own.
OF_SHAPES = {"reps", "shape", "new_sizes", "start_indices", "limit_indices", "slice_sizes", "sizes"}
ASIDE = {"sharding", "out_sharding", "update_jaxpr", "update_consts"}


def why_mixed(
    function: Callable[..., Any],
    full: tuple[Any, ...],
    other: tuple[Any, ...],
    *,
    valid: int | None = None,
    differentiated: bool = False,
) -> str | None:
    """Why examples of a batch reach each other in `function(*full)`; None if they do not.

    None means: if a batch is filled up from the size of `other` to that of `full`, whatever finite
    numbers stand in the filling, outputs without an axis of examples are the same, and the others
    for the examples that there are. So it is for the gradient of such an output, if
    `differentiated`; then derivatives written by hand (`jax.custom_vjp`) are looked at too.

    `full` and `other` are the arguments, or their shapes, at two batch sizes, the examples along
    an axis that differs between them. Filling comes after the examples. `valid` is the number of
    the argument that is False there. The smaller size should be at least 2: with one example many
    programs are others, since an axis of length 1 is repeated.

    A program is found mixed where it is not known to be independent: that is safe, and costs
    whoever asks another compilation. Raises ValueError if the batch sizes do not differ.

    >>> full, other = jax.ShapeDtypeStruct((8, 3), "float32"), jax.ShapeDtypeStruct((5, 3), "float32")
    >>> why_mixed(lambda x: x - x.mean(axis=1, keepdims=True), (full,), (other,))
    >>> why_mixed(lambda x: x - x.mean(axis=0), (full,), (other,)).partition(" at ")[0]
    'examples are combined along their axis (reduce_sum)'
    """
    sizes = _batch_sizes(full, other)
    program = jax.make_jaxpr(function)(*full)
    try:
        twin = jax.make_jaxpr(function)(*other)
    except Exception as error:  # whatever a user's function raises
        return f"the program cannot be run on {sizes[1]} examples: {error}"
    flags = [(number == valid, arg) for number, arg in enumerate(full)]
    filled = [0 if flag else None for flag, arg in flags for _ in jax.tree.leaves(arg)]
    analysis = _Analysis(sizes, differentiated)
    given = zip(program.jaxpr.invars, twin.jaxpr.invars, filled, strict=True)
    values = [analysis.argument(a.aval.shape, b.aval.shape, fill) for a, b, fill in given]
    try:
        results = analysis.run(program, twin, values)
    except Mixes as finding:
        return str(finding)
    shapes = (variable.aval.shape for variable in program.jaxpr.outvars)
    found = [(analysis.effect, ()), *zip(results, shapes, strict=True)]
    reasons = (_why_no_output(value, shape, sizes[0]) for value, shape in found)
    return next((reason for reason in reasons if reason), None)


def _batch_sizes(full: Any, other: Any) -> tuple[int, int]:
    pairs = zip(jax.tree.leaves(full), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        for sizes in zip(np.shape(a), np.shape(b), strict=True):
            if sizes[0] != sizes[1]:
                return sizes
    raise ValueError("why_mixed: the arguments must have two batch sizes, got the same shapes twice")


def _why_no_output(value: Value, shape: Any, batch: int) -> str | None:
    """Why the caller cannot take an output as it is: its examples must be along the first axis."""
    if isinstance(value, Mixed):
        return f"{value.reason} at {value.where}" if value.where else value.reason
    if isinstance(value, Each) and (value.axis != 0 or shape[0] != batch):
        return f"an output of shape {shape} has its examples elsewhere than along the first axis"
    return None


class _Analysis:
    """Walks the program and its twin together, and notes what holds of each variable."""

    def __init__(self, sizes: tuple[int, int], differentiated: bool) -> None:
        self.sizes, self.differentiated = sizes, differentiated
        self.effect: Value = Same()
        self.known: dict[Any, list[Value]] = {}
        self.kept: list[Any] = []  # programs in `known`, so that their ids are not used again

    def argument(self, shape: Any, twin: Any, fill: Any = None) -> Value:
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
        program, twin = _open(full), _open(other)
        variables: dict[Any, tuple[Any, Value]] = {}

        def write(names: Any, twins: Any, found: list[Value]) -> None:
            if not len(names) == len(twins) == len(found):
                raise Mixes("the program is another one at another batch size")
            variables.update(zip(names, zip(twins, found, strict=True), strict=True))

        def read(name: Any, twin: Any) -> Value:
            if isinstance(name, Literal) and isinstance(twin, Literal):
                return self._constant(name.val, twin.val)
            expected, value = (None, None) if isinstance(name, Literal) else variables[name]
            if value is None or expected is not twin:
                raise Mixes("the program is another one at another batch size")
            return value

        constants = list(map(self._constant, _constants(full), _constants(other)))
        write(program.constvars, twin.constvars, constants)
        write(program.invars, twin.invars, values)
        equations, others = _needed(program), _needed(twin)
        if len(equations) != len(others):
            raise Mixes("the program has more operations at another batch size")
        for one, two in zip(equations, others, strict=True):
            if one.primitive.name != two.primitive.name or len(one.invars) != len(two.invars):
                raise Mixes("the program is another one at another batch size")
            given = list(map(read, one.invars, two.invars))
            write(one.outvars, two.outvars, self._operation(program, twin, one, two, given))
        return list(map(read, program.outvars, twin.outvars))

    def _constant(self, a: Any, b: Any) -> Value:
        """What holds of a constant of the program."""
        if a is b:
            return Same(_scalar(a))
        first, second = _array(a), _array(b)
        if first.dtype != second.dtype or first.ndim != second.ndim:
            return Mixed("a constant depends on the batch size")
        value = self.argument(first.shape, second.shape)
        if isinstance(value, Each):
            shared = [slice(min(sizes)) for sizes in zip(first.shape, second.shape, strict=True)]
            first, second = first[tuple(shared)], second[tuple(shared)]
        if not np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"):
            shown = f": {a} or {b}" if first.ndim == 0 else ""
            return Mixed(f"a constant depends on the batch size{shown}")
        return value if isinstance(value, (Each, Mixed)) else Same(_scalar(a))

    def _operation(
        self, program: Any, twin: Any, one: Any, two: Any, values: list[Value]
    ) -> list[Value]:
        """What holds of the results of one equation."""
        results = self._findings(program, twin, one, two, values)
        pairs = zip(results, one.outvars, two.outvars, strict=True)
        return [
            _located(one, self._fitting(value, a.aval.shape, b.aval.shape)) for value, a, b in pairs
        ]

    def _findings(
        self, program: Any, twin: Any, one: Any, two: Any, values: list[Value]
    ) -> list[Value]:
        name, count = one.primitive.name, len(one.outvars)
        op = Operation(one, two, self.sizes)
        try:
            if any(isinstance(value, Single) for value in values):
                return self._on_one_example(program, twin, one, two, values)
            if name in CALLS:
                results = self.run(one.params[CALLS[name]], two.params[CALLS[name]], values)
                if name in CUSTOM and self.differentiated:
                    results = self._derivative(program, twin, one, two, values, results)
                return results
            if name in LOOPS:
                return LOOPS[name](self, op, values)
            if one.effects and not all(isinstance(value, Same) for value in values):
                self.effect = joined(self.effect, _located(one, Mixed(f"{name} sees filling")))
            mixed = next((value for value in values if isinstance(value, Mixed)), None)
            if mixed is not None:
                return [mixed] * count
            _check_parameters(op)
            if name in RULES:
                found = RULES[name](op, values)
                return found if isinstance(found, list) else [found] * count
            if not all(isinstance(value, Same) for value in values):
                raise Mixes(f"{name} is not known to keep examples apart")
            return [Same()] * count
        except Mixes as finding:
            return [Mixed(f"{finding} ({name})")] * count

    def _fitting(self, value: Value, shape: Any, twin: Any) -> Value:
        """The value, or Mixed if the two shapes are not as it says."""
        if isinstance(value, Mixed):
            return value
        axes = [axis for axis, size in enumerate(shape) if size != twin[axis]]
        if not isinstance(value, Each):
            return Mixed("a shape depends on the batch size") if axes else value
        block = self.sizes[0] * (value.after or 1), self.sizes[1] * (value.after or 1)
        at = value.axis
        if (
            axes != [at]
            or shape[at] % block[0]
            or shape[at] // block[0] * block[1] != twin[at]
        ):
            return Mixed("a shape depends on the batch size otherwise than by its examples")
        return value

    def _on_one_example(
        self, program: Any, twin: Any, one: Any, two: Any, values: list[Value]
    ) -> list[Value]:
        """Whatever is made of one example and of what is the same for all is of that example."""
        if any(isinstance(value, (Each, Mixed)) for value in values):
            raise Mixes("one example is combined with the batch")
        if self.differentiated and one.primitive.name in CUSTOM:
            raise Mixes("a derivative in a loop over examples is not known to keep them apart")
        same: list[Value] = [Same() if isinstance(v, Single) else v for v in values]
        results = self._operation(program, twin, one, two, same)
        return [Single() if isinstance(value, Same) else value for value in results]

    def _derivative(
        self, program: Any, twin: Any, one: Any, two: Any, values: list[Value], results: list[Value]
    ) -> list[Value]:
        """The results, Mixed if the derivative of a custom function combines examples.

        Where filling reaches no result, the cotangents of what is computed from it are 0. Those of
        the arguments must be so again.
        """
        if any(isinstance(value, (Mixed, Single)) for value in (*values, *results)):
            return results
        results = [replace(value, fill=None) for value in results]
        pulled, names, outputs = _pullback(program, one)
        other, *_ = _pullback(twin, two)
        found = dict(zip(one.outvars, results, strict=True))
        given = {a: b for a, b in zip(one.invars, values, strict=True) if a in names}
        cotangents = [_zero_at_filling(found[variable]) for variable in outputs]
        expected = [_zero_at_filling(v) for a, v in given.items() if _is_float(a)]
        received = _Analysis(self.sizes, False).run(pulled, other, [*given.values(), *cotangents])
        for want, got in zip(expected, received, strict=True):
            if isinstance(got, Mixed):
                raise Mixes(f"in the derivative, {got.reason}")
            if not _holds(want, got):
                raise Mixes("a derivative brings filling to the examples")
        return results


def _holds(want: Value, got: Value) -> bool:
    """Whether a cotangent is as it has to be: 0 at filling, or the same for any filling."""
    if isinstance(got, Each) and isinstance(want, Each):
        alike = None in (got.after, want.after) or got.after == want.after
        return got.axis == want.axis and alike and got.fill == 0
    return isinstance(got, Same) and isinstance(want, Same)


def _zero_at_filling(value: Value) -> Value:
    return replace(value, fill=0) if isinstance(value, Each) else Same()


def _pullback(program: Any, equation: Any) -> tuple[Any, list[Any], list[Any]]:
    """(the program that computes cotangents, the variables that it takes, those of cotangents).

    It takes all arguments of the equation and the cotangents of its floating-point results, and
    returns those of its floating-point arguments.
    """
    names = list({v: None for v in equation.invars if not isinstance(v, Literal)})
    outputs = [v for v in equation.outvars if _is_float(v) and type(v).__name__ != "DropVar"]
    one = program.replace(constvars=[], invars=names, outvars=outputs, eqns=[equation])
    compute = jaxpr_as_fun(ClosedJaxpr(one, []))
    learned = [number for number, v in enumerate(names) if _is_float(v)]

    def pull(values: list[Any], cotangents: list[Any]) -> Any:
        def some(*parts: Any) -> Any:
            whole = list(values)
            for number, part in zip(learned, parts, strict=True):
                whole[number] = part
            return compute(*whole)

        return jax.vjp(some, *(values[number] for number in learned))[1](cotangents)

    spec = lambda v: jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype)
    return jax.make_jaxpr(pull)(list(map(spec, names)), list(map(spec, outputs))), names, outputs


def _is_float(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def _open(program: Any) -> Any:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _needed(program: Any) -> list[Any]:
    """The equations that results are computed from, or that have effects."""
    needed, found = {v for v in program.outvars if not isinstance(v, Literal)}, []
    for equation in reversed(program.eqns):
        if equation.effects or not needed.isdisjoint(equation.outvars):
            found.append(equation)
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return found[::-1]


def _constants(program: Any) -> Any:
    return program.consts if isinstance(program, ClosedJaxpr) else ()


def _array(constant: Any) -> np.ndarray:
    """A constant on the host; of a random key its numbers."""
    if jnp.issubdtype(getattr(constant, "dtype", float), jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return np.asarray(constant)


def _scalar(constant: Any) -> Any:
    """The value of a single number, None for other constants and for NaN."""
    if np.ndim(constant) or jnp.issubdtype(getattr(constant, "dtype", float), jax.dtypes.prng_key):
        return None
    value = np.asarray(constant).item()
    return value if value == value else None


def _check_parameters(op: Operation) -> None:
    """Raises Mixes if more of two equations differs than sizes that follow the shapes."""
    varies = any(
        a.aval.shape != b.aval.shape
        for a, b in zip(
            (*op.full.invars, *op.full.outvars), (*op.other.invars, *op.other.outvars), strict=True
        )
    )
    aside = ASIDE | OF_SHAPES if varies and op.name in RULES else ASIDE
    for name, value in op.params.items():
        if name not in aside and not _equal(value, op.other.params[name]):
            raise Mixes(f"{name} of {op.name} depends on the batch size")


def _equal(a: Any, b: Any) -> bool:
    """Whether two parameters are the same, as far as that can be told."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if hasattr(a, "eqns") or hasattr(a, "jaxpr"):
        constants = map(_constants, (a, b))
        return str(a) == str(b) and all(map(_equal, *map(list, constants)))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or bool(a == b)


def _located(equation: Any, value: Value) -> Value:
    """The value, which says where it became mixed if it did in this equation."""
    if not isinstance(value, Mixed) or value.where:
        return value
    where = source_info_util.summarize(equation.source_info)
    return replace(value, where=where if "/" in where else "")
