"""The cost of a step in operations, and the decisions that depend on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax

Jaxpr: TypeAlias = Any  # a `jax.extend.core.Jaxpr`
Equation: TypeAlias = Any  # a `jax.extend.core.JaxprEqn`

# The most work in one dispatch, in floating-point operations and in steps. Memory for
# temporaries is allocated once per dispatch, which takes a quarter of the time of a small
# transformer's step on CPU; about a second of work keeps Ctrl-C and the progress line
# responsive. The numbers were measured (benchmarks/README.md). They depend on the program
# and the platform only, never on a clock: the choice must be the same in every run, so
# that results are bitwise equal.
WORK_PER_DISPATCH = {"cpu": 1e11, "default": 6.4e10}
STEPS_PER_DISPATCH = 32
# An incomplete last batch gets a program of its own if padding it would take more than
# this many operations (some 50 ms on a CPU with two cores): a second compilation then
# pays off after a few passes over the data.
WORK_OF_OWN_PROGRAM = 4e9


def steps_per_dispatch(jaxpr: Jaxpr) -> int:
    """How many steps to run per dispatch on this platform, estimated from the program.

    One on CPU if there is a convolution (9 to 23 times slower inside a loop there), else
    as many as `WORK_PER_DISPATCH` and `STEPS_PER_DISPATCH` allow.
    """
    platform = jax.default_backend()
    if platform == "cpu" and convolves(jaxpr):
        return 1
    work = WORK_PER_DISPATCH.get(platform, WORK_PER_DISPATCH["default"])
    steps = work / max(operations(jaxpr), 1.0)
    return int(min(max(steps, 1), STEPS_PER_DISPATCH))


def runs_apart(
    work: float,
    valid: int,
    size: int,
) -> bool:
    """Whether padding `valid` examples to a batch of `size`, which takes `work`, wastes too much.

    >>> runs_apart(1e9, 1, 256), runs_apart(6e9, 44, 256)
    (False, True)
    """
    return work * (1 - valid / size) > WORK_OF_OWN_PROGRAM


def largest_array(jaxpr: Jaxpr) -> int:
    """The bytes of the largest array that a program computes, as far as its equations show."""
    sizes = [
        math.prod(variable.aval.shape) * variable.aval.dtype.itemsize
        for equation in equations(jaxpr)
        for variable in equation.outvars
        if isinstance(variable.aval, jax.core.ShapedArray)
    ]
    return max(sizes, default=0)


def has_loops(jaxpr: Jaxpr) -> bool:
    """Whether there are loops, whose body XLA counts once in its analysis of cost."""
    return any(
        equation.primitive.name in ("scan", "while") for equation in equations(jaxpr)
    )


def convolves(jaxpr: Jaxpr) -> bool:
    """Whether a program has a convolution."""
    return any(
        equation.primitive.name == "conv_general_dilated"
        for equation in equations(jaxpr)
    )


def equations(jaxpr: Jaxpr) -> Iterator[Equation]:
    """Every equation of a program, including those inside loops and calls."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from equations(inner)


def _inner(equation: Equation) -> Iterator[Jaxpr]:
    """The programs inside an equation: the bodies of loops, branches and calls."""
    parameters = tuple(equation.params.values())
    for value in jax.tree.leaves(parameters, is_leaf=_is_program):
        inner = getattr(value, "jaxpr", value)
        if _is_program(inner):
            yield inner


def _is_program(value: object) -> bool:
    return hasattr(value, "eqns")


def operations(jaxpr: Jaxpr) -> float:
    """The approximate number of floating-point operations of a program."""
    total = 0.0
    for equation in jaxpr.eqns:
        shapes = [getattr(v.aval, "shape", ()) for v in equation.outvars]
        size = sum(map(math.prod, shapes))
        name = equation.primitive.name
        inside = list(_inner(equation))
        if inside:
            iterations = equation.params.get("length", 1)
            total += iterations * sum(map(operations, inside))
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            # An output is a sum over the kernel, whose axes are in any order, of one feature.
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * size * math.prod(kernel) / max(features, 1)
        else:
            total += size
    return total
