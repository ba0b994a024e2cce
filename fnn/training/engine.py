"""The engine: a step function traced once and compiled to run one or many steps per dispatch."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree, array_spec, numeric_spec
from fnn.runtime import convolutions
from fnn.runtime.compilations import name_of, note
from fnn.runtime.devices import as_divided, beside, shared
from fnn.runtime.layouts import Shared
from fnn.runtime.program_cache import programs
from fnn.training.commit import committed
from fnn.training.cost import (
    convolves,
    has_loops,
    operations,
    runs_apart,
    steps_per_dispatch,
)
from fnn.training.state import Accumulator, Waiting, add

__all__ = [
    "Program",
    "Step",
    "operations",
    "program",
    "runs_apart",
    "steps_per_dispatch",
]

Step: TypeAlias = Callable[[Tree, Tree, Array], tuple[Tree, dict[str, Any]]]
Logs: TypeAlias = dict[str, Any]  # accumulators (`Accumulator`) by name
Flag: TypeAlias = Array | np.bool_ | bool

# A state of this size is donated to its step; a smaller one is not, which is safer.
# Without donation a network with a state of 2.7 MB took 1.2 times as long per step (wall
# time; cnn in benchmarks/README.md).
DONATED_BYTES = 2**20


class Batches(NamedTuple):
    """The batches of a dispatch, as the compiled function receives them.

    `span` has the first batch, the batch after the last, and the number of steps minus
    that of batches before. `mode` has two flags for a loss that is not finite: whether it
    ends the dispatch, and whether its step counts all the same.
    """

    chunk: Tree  # batches, stacked along a first axis
    key: Array
    span: Array | np.ndarray
    mode: Array | np.ndarray


class Results(NamedTuple):
    """The results of a dispatch. `healthy` is False after a loss that was not finite."""

    state: Tree
    accumulators: Logs
    healthy: Any  # an array or a NumPy bool


class _Noted(NamedTuple):
    """What the log of compilations says of a program: its kind, what its step is made from."""

    kind: str
    values: dict[str, object]
    took: float  # seconds to trace the step

    def __call__(self, state: Tree, chunk: Tree, **static: object) -> None:
        parts: dict[str, Tree] = {"batch": chunk}
        if isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], dict):
            parts = chunk[0]  # of a model
        values = {**self.values, **static}
        note(self.kind, {**parts, "state": state}, values, self.took)


class Program:
    """One step function, compiled for states and batches of one shape.

    `capacity` is the largest number of batches per dispatch (`steps_per_dispatch`).
    """

    def __init__(
        self,
        step: Step,
        treedef: Tree,
        leaves: tuple[jax.ShapeDtypeStruct, ...],
        read_only: bool,
        capacity: int | None = None,
    ) -> None:
        began = time.perf_counter()
        state, batch, key = treedef.unflatten(leaves)
        self._made_for = step, state, batch, key, read_only
        self.batch_size = tree.batch_size(batch)
        self.shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]

        # A function of its own, so that what JAX compiles is freed with the program.
        inner = jax.jit(functools.partial(step), inline=True)
        # With products alone on CPU; once more, with convolutions, where one has to stay.
        for products in (not read_only and jax.default_backend() == "cpu", False):
            with (
                contextlib.suppress(convolutions.NoProductError),
                convolutions.products(products),
            ):
                traced = inner.trace(state, batch, key)
                # One may be of a layer of the user's own, or of an operation.
                if not products or not convolves(traced.jaxpr.jaxpr):
                    break
        jaxpr = traced.jaxpr.jaxpr
        self.logs = traced.out_info[1]
        self.work = operations(jaxpr)
        self.has_loops = has_loops(jaxpr)
        self.capacity = capacity or steps_per_dispatch(jaxpr)
        self.is_large = not read_only and tree.nbytes(state) >= DONATED_BYTES
        run_steps: Any = functools.partial(_run_steps, products)
        if read_only:
            run_steps = _run_read_only
        kind = getattr(step, "program", "training")
        values = getattr(step, "made_from", {"step": id(step)})
        noted = _Noted(kind, values, time.perf_counter() - began)

        def compiled(donates: bool) -> Any:
            note = noted._replace(values={**values, "donation": donates})
            run = functools.partial(run_steps, note, inner, self.capacity == 1)
            run.__name__ = name_of(kind)  # type: ignore[attr-defined]
            donated = (0,) if donates else ()
            return jax.jit(run, donate_argnums=donated, static_argnums=(4, 5))

        self._run = compiled(False)
        self._run_donating = compiled(True)

    def of_size(self, chunk: Tree) -> Program:
        """This program, or another one for batches of another size or other lengths.

        A separate program can be freed: the cache of programs drops unused ones, while
        JAX keeps everything that it compiled for a function.
        """
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(chunk)]
        if shapes == self.shapes:
            return self
        step, state, _, key, read_only = self._made_for

        def one(array: Array) -> jax.ShapeDtypeStruct:
            return array_spec(array.shape[1:], array.dtype)

        batch = jax.tree.map(one, chunk)
        capacity = None
        if tree.batch_size(batch) != self.batch_size:
            capacity = self.capacity
        return program(step, state, batch, key, read_only, capacity)

    def runs_apart(self, valid: int) -> bool:
        """Whether a batch of so few examples gets a program of its own instead of padding."""
        return runs_apart(self.work, valid, self.batch_size)

    def zeros(self) -> Logs:
        """Empty accumulators for the logs of the step."""
        zeros: Logs = {}
        for name, part in self.logs.items():
            if isinstance(part, Waiting):
                zeros[name] = part.start
                continue
            specs, treedef = jax.tree.flatten(part)
            arrays = [np.zeros(spec.shape, spec.dtype) for spec in specs]
            zeros[name] = jax.tree.unflatten(treedef, arrays)
        return zeros

    def __call__(
        self,
        state: Tree,
        accumulators: Logs,
        chunk: Tree,
        key: Array,
        *,
        first: int,
        count: int,
        number: int,
        healthy: Flag = True,
        guard: str = "raise",
        donate: bool = False,
    ) -> Results:
        """Runs `count` batches of `chunk` from batch `first`: (state, accumulators, healthy).

        `number` is the number of the first step since training began; it selects the
        random numbers. A step whose loss is not finite leaves the state unchanged; with
        `guard="raise"` no later step runs either, and `healthy` is False. An undonated
        single step returns its new state even if the loss is not finite: the caller still
        has the old one, and choosing between the two takes 5 % of the time of a
        convolutional network.
        """
        # Via int64, since negative numbers may be out of range for smaller dtypes.
        span = np.array([first, first + count, number - first], np.int64)
        mode = np.array([guard == "raise", guard == "ignore"])
        if healthy is True:
            healthy = np.True_
        state, accumulators, key, healthy = beside(
            chunk, (state, accumulators, key, healthy)
        )
        batches = Batches(chunk, key, span.astype(np.int32), mode)
        run = self._run
        if donate:
            run = self._run_donating
        chooses = self.chooses(guard, donate)
        over = shared(chunk, state)
        return Results(*run(state, accumulators, healthy, batches, chooses, over))

    def compiled(self, guard: str, state: Tree = None) -> Any:
        """The executable for one batch, made from shapes alone; a later call finds it ready.

        With a distribution in force, that for each of its devices, as `state` lies on them.
        """
        _, like, batch, key, _ = self._made_for

        def alone(array: Array) -> jax.ShapeDtypeStruct:
            return array_spec((1, *array.shape), array.dtype)

        chunk = jax.tree.map(alone, batch)
        if state is None:
            state = like
        rest = state, self.zeros(), key, np.True_
        chunk, (state, zeros, key, healthy) = as_divided(chunk, rest)
        span = np.zeros(3, np.int32)
        mode = np.zeros(2, bool)
        batches = Batches(chunk, key, span, mode)
        run = self._run_donating if self.is_large else self._run
        chooses = self.chooses(guard, self.is_large)
        over = shared(chunk, state)
        return run.lower(state, zeros, healthy, batches, chooses, over).compile()

    def chooses(self, guard: str, donate: bool) -> bool:
        """Whether a returned state never includes a step with a loss that is not finite."""
        return donate or self.capacity > 1 or guard == "skip"


def _inputs(state: Tree, given: Batches, index: Array) -> tuple[Tree, Tree, Array]:
    """What the step takes for the batch with this index: (state, batch, key)."""

    def take(array: Array) -> Array:
        taken: Array = lax.dynamic_index_in_dim(array, index, keepdims=False)
        return taken

    batch = jax.tree.map(take, given.chunk)
    number = index + given.span[2]
    if given.key.ndim:
        # The keys of several members.
        fold_in = jax.vmap(random.fold_in, (0, None))
        return state, batch, fold_in(given.key, number)
    return state, batch, random.fold_in(given.key, number)


def _run_steps(
    products: bool,
    noted: _Noted,
    step: Any,
    single: bool,
    state: Tree,
    accumulators: Logs,
    healthy: Array,
    given: Batches,
    chooses: bool,
    over: Shared | None,
) -> tuple[Tree, Logs, Array]:
    """The body of a compiled dispatch of training steps."""
    noted(state, given.chunk, chooses=chooses, distribution=over)
    stops, ignores = given.mode[0], given.mode[1]

    def body(carry: tuple[Array, Tree, Logs, Array]) -> Any:
        index, state, accumulators, healthy = carry
        inputs = _inputs(state, given, index)

        def commits(logs: Logs) -> Array:
            return computed_once(healthy & (is_finite(logs) | ignores))

        if chooses:
            state, logs, commit = committed(step.trace(*inputs), inputs, commits)
            added = jax.tree.map(
                functools.partial(jnp.where, commit),
                add(accumulators, logs),
                accumulators,
            )
        else:
            state, logs = step(*inputs)
            added = add(accumulators, logs)
        finite = is_finite(logs) | ignores
        return index + 1, state, added, healthy & (finite | ~stops)

    def continues(carry: tuple[Array, Tree, Logs, Array]) -> Array:
        index, _, _, healthy = carry
        return (index < given.span[1]) & healthy

    def run(carry: tuple[Array, Tree, Logs, Array]) -> Any:
        if single:
            return body(carry)
        return lax.while_loop(continues, body, carry)

    with convolutions.products(products), _tracing(over):
        _, state, *results = run((given.span[0], state, accumulators, healthy))
    if over is None:
        return state, *results
    return over.keep(state), *over.keep_whole(results)


def _tracing(over: Shared | None) -> contextlib.AbstractContextManager[object]:
    if over is None:
        return contextlib.nullcontext()
    return over.distribution.tracing()


def computed_once(condition: Array) -> Array:
    """`condition`, computed once instead of in the kernel of every leaf that depends on it.

    XLA repeats cheap computations, however long their chain: here sums over all
    gradients, once for each weight and moment. It does not count a square root as cheap.
    (A barrier is removed before.) This made the program of a transformer three times
    smaller, and its compilation a third shorter.
    """
    return lax.sqrt(condition.astype(jnp.float32)) > 0.5


def _run_read_only(
    noted: _Noted,
    step: Step,
    single: bool,
    state: Tree,
    accumulators: Logs,
    healthy: Array,
    given: Batches,
    chooses: bool,
    over: Shared | None,
) -> tuple[Tree, Logs, Array]:
    """The body of a compiled dispatch of steps that change only the accumulators."""
    noted(state, given.chunk, distribution=over)

    def body(index: Array, accumulators: Logs) -> Logs:
        _, logs = step(*_inputs(state, given, index))
        added: Logs = add(accumulators, logs)
        return added

    if single:
        accumulators = body(given.span[0], accumulators)
    else:
        start, end = given.span[0], given.span[1]
        accumulators = lax.fori_loop(start, end, body, accumulators)
    if over is not None:
        accumulators = over.keep_whole(accumulators)
    return None, accumulators, healthy


def _spec(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a number or a random key, as JAX computes with it."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return numeric_spec(leaf.shape, dtype)  # a random key
    if dtype is None:
        dtype = np.asarray(leaf).dtype
    return numeric_spec(np.shape(leaf), jax.dtypes.canonicalize_dtype(dtype))


def is_finite(logs: Logs) -> Array:
    """Whether the loss of a step is finite (True for a step that logs no loss)."""
    loss = logs.get("loss")
    if isinstance(loss, Accumulator):
        loss = loss.sums
    leaves = jax.tree.leaves(loss)
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves]
    return jnp.all(jnp.array(finite or [True]))


_cached_program = programs.cached(Program)


def program(
    step: Step,
    state: Tree,
    batch: SpecTree,
    key: Array,
    read_only: bool = False,
    capacity: int | None = None,
) -> Program:
    """The compiled program of `step`; equal steps on equal shapes share one."""
    leaves, treedef = jax.tree.flatten((state, batch, key))
    specs = []
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            specs.append(numeric_spec(leaf.shape, leaf.dtype))
        else:
            specs.append(_spec(leaf))
    return _cached_program(step, treedef, tuple(specs), read_only, capacity)
