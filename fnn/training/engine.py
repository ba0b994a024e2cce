"""The engine: a step function traced once and compiled to run one or many steps a dispatch."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from fnn.core import tree
from fnn.metrics import Mean
from fnn.runtime.devices import Distribution, beside, distribution_of
from fnn.runtime.program_cache import programs, small_cache
from fnn.training.state import Tally, add

Step = Callable[[Any, Any, Array], tuple[Any, dict[str, Any]]]

# The most work that goes into one dispatch, in floating-point operations and in steps. Memory for
# temporaries is taken from the system once a dispatch, which is a quarter of the time of a small
# transformer's step on CPU; a second or so of work keeps Ctrl-C and the progress line prompt. The
# numbers were measured (benchmarks/README.md). They depend on the program and the platform alone,
# never on a clock, since the choice must not change from run to run: results are bit for bit equal.
WORK_A_DISPATCH = {"cpu": 1e11, "default": 6.4e10}
STEPS_A_DISPATCH = 32
# A last batch that is not full gets a program of its own, where padding it would take more than
# this many operations (some 50 ms on a CPU with two cores): then a second compilation pays off
# after some passes over the data.
WORK_OF_A_PROGRAM = 4e9

# A state of this size is donated to its step; a smaller one stays safer. Without it a network with
# a state of 2.7 MB took 1.2 times as long a step (wall time; benchmarks/README.md has it as cnn).
DONATED_BYTES = 2**20


class Batches(NamedTuple):
    """What a dispatch runs, as its compiled function gets it."""

    chunk: Any  # batches, stacked along a first axis
    key: Array
    span: Any  # the first batch, the one after the last, and how far steps are ahead of batches
    mode: Any  # of a loss that is not finite: whether it ends the dispatch, whether its step counts


class Program:
    """One step function for states and batches of one shape, compiled.

    `capacity` is how many batches a dispatch takes at most (`steps_a_dispatch`).
    """

    def __init__(
        self,
        step: Step,
        state: Any,
        batch: Any,
        key: Array,
        read_only: bool,
        capacity: int | None = None,
    ) -> None:
        self._made_for = step, state, key, read_only
        self.batch_size = tree.batch_size(batch)
        # A function of its own: what JAX compiles for it is freed with the program.
        inner = jax.jit(lambda *given: step(*given), inline=True)
        traced = inner.trace(*jax.tree.map(_spec, (state, batch, key)))
        self.logs = traced.out_info[1]
        self.work = operations(_open(traced.jaxpr))
        self.capacity = capacity or steps_a_dispatch(_open(traced.jaxpr))
        self.is_large = not read_only and tree.nbytes(state) >= DONATED_BYTES
        run = functools.partial(
            _run_read_only if read_only else _run_steps, inner, self.capacity == 1
        )
        self._run = jax.jit(run, static_argnums=(4, 5))
        self._run_donating = jax.jit(run, donate_argnums=0, static_argnums=(4, 5))

    def of_size(self, chunk: Any) -> Program:
        """This program, or for batches of another size one of their own.

        JAX keeps all that it compiled for a function; the cache of programs drops a size again.
        """
        if jax.tree.leaves(chunk)[0].shape[1] == self.batch_size:
            return self
        step, state, key, read_only = self._made_for
        batch = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), chunk
        )
        return program(step, state, batch, key, read_only, self.capacity)

    def runs_apart(self, valid: int) -> bool:
        """Whether a batch of so few examples gets a program of its own, in place of padding."""
        return runs_apart(self.work, valid, self.batch_size)

    def zeros(self) -> Any:
        """Empty sums for the logs of the step."""
        return jax.tree.map(lambda spec: np.zeros(spec.shape, spec.dtype), self.logs)

    def __call__(
        self,
        state: Any,
        tallies: Any,
        chunk: Any,
        key: Array,
        *,
        first: int,
        count: int,
        number: int,
        healthy: Any = True,
        guard: str = "raise",
        donate: bool = False,
    ) -> tuple[Any, Any, Any]:
        """Runs `count` batches of `chunk` from batch `first`: (state, tallies, healthy).

        `number` is the number of the first step since training began; it selects the randomness.
        A step whose loss is not finite leaves the state as it was; with `guard="raise"` no later
        step runs either, and `healthy` is False. A single step without `donate` returns its new
        state even then: the caller still has the old one, and choosing between the two takes 5 % of
        the time of a convolutional network.
        """
        span = np.array([first, first + count, number - first], np.int64).astype(
            np.int32
        )
        mode = np.array([guard == "raise", guard == "ignore"])
        healthy = np.True_ if healthy is True else healthy
        state, tallies, key, healthy = beside(chunk, (state, tallies, key, healthy))
        run = self._run_donating if donate else self._run
        batches, shared = Batches(chunk, key, span, mode), distribution_of(chunk, state)
        return run(
            state, tallies, healthy, batches, self.chooses(guard, donate), shared
        )

    def chooses(self, guard: str, donate: bool) -> bool:
        """Whether a state that comes back has none of the steps that are not to be taken."""
        return donate or self.capacity > 1 or guard == "skip"


def _one(step: Step, state: Any, given: Batches, index: Any) -> Any:
    """(state, logs) after the batch of this index."""
    batch = jax.tree.map(
        lambda a: lax.dynamic_index_in_dim(a, index, keepdims=False), given.chunk
    )
    return step(state, batch, random.fold_in(given.key, index + given.span[2]))


def _run_steps(
    step: Step,
    single: bool,
    state: Any,
    tallies: Any,
    healthy: Any,
    given: Batches,
    chooses: bool,
    shared: Distribution | None,
) -> tuple[Any, Any, Any]:
    sticky, ignore = given.mode[0], given.mode[1]

    def body(carry: Any) -> Any:
        index, state, tallies, healthy = carry
        new, logs = _one(step, state, given, index)
        finite = _is_finite(logs) | ignore
        after = new, add(tallies, logs)
        if chooses:
            commit = _computed_once(healthy & finite)
            pick = lambda n, o: n if n is o else jnp.where(commit, n, o)
            after = jax.tree.map(pick, after, (state, tallies))
        state, tallies = after
        return index + 1, state, tallies, healthy & (finite | ~sticky)

    carry = (given.span[0], state, tallies, healthy)
    with shared.tracing() if shared else contextlib.nullcontext():
        if single:
            carry = body(carry)
        else:
            carry = lax.while_loop(lambda c: (c[0] < given.span[1]) & c[3], body, carry)
    return shared.keep_whole(carry[1:]) if shared else carry[1:]


def _computed_once(condition: Array) -> Array:
    """`condition`, which XLA would compute again in the kernel of every leaf that depends on it.

    XLA repeats what is cheap, however long the chain: here sums over all gradients, once for each
    weight and moment. A square root is not cheap by its count (and a barrier is gone by then). It
    made the program of a transformer three times as small, and its compilation a third shorter.
    """
    return lax.sqrt(condition.astype(jnp.float32)) > 0.5


def _run_read_only(
    step: Step,
    single: bool,
    state: Any,
    tallies: Any,
    healthy: Any,
    given: Batches,
    chooses: bool,
    shared: Distribution | None,
) -> tuple[Any, Any, Any]:
    def body(index: Any, tallies: Any) -> Any:
        return add(tallies, _one(step, state, given, index)[1])

    loop = lambda: lax.fori_loop(given.span[0], given.span[1], body, tallies)
    tallies = body(given.span[0], tallies) if single else loop()
    return None, shared.keep_whole(tallies) if shared else tallies, healthy


def _spec(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.extended):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # a random key
    return jax.ShapeDtypeStruct(
        np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape,
        jax.dtypes.canonicalize_dtype(
            getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
        ),
    )


def _is_finite(logs: dict[str, Any]) -> Array:
    """Whether the loss of this step is a finite number (True for a step that logs no loss)."""
    loss = logs.get("loss")
    leaves = jax.tree.leaves(loss.sums if isinstance(loss, Tally) else loss)
    return jnp.all(
        jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves] or [True])
    )


@programs.cached
def _program(
    step: Step,
    treedef: Any,
    leaves: tuple[Any, ...],
    read_only: bool,
    capacity: int | None,
) -> Program:
    state, batch, key = treedef.unflatten(leaves)
    return Program(step, state, batch, key, read_only, capacity)


def program(
    step: Step,
    state: Any,
    batch: Any,
    key: Array,
    read_only: bool = False,
    capacity: int | None = None,
) -> Program:
    """The compiled program of `step`; equal steps on equal shapes share one."""
    leaves, treedef = jax.tree.flatten(jax.tree.map(_spec, (state, batch, key)))
    return _program(step, treedef, tuple(leaves), read_only, capacity)


@small_cache(64)
def tallied(step: Step) -> Step:
    """`step` with every plain number in its logs turned into a mean over its batches."""

    def run(state: Any, batch: Any, key: Array) -> tuple[Any, dict[str, Any]]:
        returned = step(state, batch, key)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise _no_logs(returned)
        state, logs = returned
        if not isinstance(logs, dict):
            raise _no_logs(returned)
        return state, {name: _as_tally(name, value) for name, value in logs.items()}

    return run


def _no_logs(returned: Any) -> TypeError:
    found = type(returned).__name__
    if isinstance(returned, tuple):
        found = f"({', '.join(type(part).__name__ for part in returned)})"
    return TypeError(
        f"step must return (state, logs), logs a dict of numbers, but returned {found}; return "
        '(state, {"loss": loss}), or (state, {}) where there is nothing to log'
    )


def _as_tally(name: str, value: Any) -> Tally:
    if isinstance(value, Tally):
        return value
    if jnp.ndim(value):
        raise ValueError(
            f"expected one number for {name!r} in the logs of a step, received an array of shape "
            f"{jnp.shape(value)}; log its mean"
        )
    return Tally(
        Mean(), {"total": jnp.asarray(value, jnp.float32), "count": jnp.ones(())}
    )


def steps_a_dispatch(jaxpr: Any) -> int:
    """How many steps should go into one dispatch on this platform, judged by the program.

    One on CPU where there is a convolution (inside a loop it is 9 to 23 times slower there), else
    as many as `WORK_A_DISPATCH` and `STEPS_A_DISPATCH` allow.
    """
    platform = jax.default_backend()
    if platform == "cpu" and any(
        e.primitive.name == "conv_general_dilated" for e in equations(jaxpr)
    ):
        return 1
    work = WORK_A_DISPATCH.get(platform, WORK_A_DISPATCH["default"])
    return int(min(max(work / max(operations(jaxpr), 1.0), 1), STEPS_A_DISPATCH))


def runs_apart(work: float, valid: int, size: int) -> bool:
    """Whether padding `valid` examples to a batch of `size`, which takes `work`, wastes too much.

    >>> runs_apart(1e9, 1, 256), runs_apart(6e9, 44, 256)
    (False, True)
    """
    return work * (1 - valid / size) > WORK_OF_A_PROGRAM


def _open(value: Any) -> Any:
    """A program without what it closes over, where these come as a pair."""
    return getattr(value, "jaxpr", value)


def _inner(equation: Any) -> Iterator[Any]:
    for value in jax.tree.leaves(
        tuple(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
    ):
        inner = _open(value)
        if hasattr(inner, "eqns"):
            yield inner


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a program, those inside loops and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from equations(inner)


def operations(jaxpr: Any) -> float:
    """About how many floating-point operations a program takes."""
    total = 0.0
    for equation in jaxpr.eqns:
        size = sum(math.prod(getattr(v.aval, "shape", ())) for v in equation.outvars)
        name, inside = equation.primitive.name, list(_inner(equation))
        if inside:
            total += equation.params.get("length", 1) * sum(map(operations, inside))
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            total += 2 * size * math.prod(equation.invars[1].aval.shape[1:])
        else:
            total += size
    return total
