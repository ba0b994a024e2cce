"""Commit: a step whose new state replaces the old one only under a condition of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from fnn.core.tree import Tree

# The types of JAX's programs are not public: a `ClosedJaxpr`, a `JaxprEqn`, a `Var` or `Literal`.
Program: TypeAlias = Any
Equation: TypeAlias = Any
Variable: TypeAlias = Any


def committed(
    traced: Any,
    inputs: tuple[Tree, Tree, Array],
    condition: Callable[[Tree], Array],
) -> tuple[Tree, Tree, Array]:
    """(state, logs, commit) of a step; the state is the old one unless `commit` holds.

    `traced` is `jax.jit(step).trace(*inputs)`; `commit` is `condition({"loss": loss})`, with what
    the step logs as its loss, or `condition({})`.

    Each leaf is chosen as soon as it is computed, and what follows from it is computed from the
    chosen leaf: the same numbers wherever they count, since one condition holds for all. Chosen
    at the end, Adam's new moments would be needed for the choice and for the weights. XLA then
    computes them twice, and copies the old ones instead of updating them in place.

    >>> def step(w, batch, key):
    ...     return w + 1, {"loss": batch.sum()}
    >>> inputs = jnp.zeros(()), jnp.full(2, jnp.nan), jax.random.key(0)
    >>> traced = jax.jit(step).trace(*inputs)
    >>> w, logs, commit = committed(traced, inputs, lambda logs: jnp.isfinite(logs["loss"]))
    >>> w.item(), commit.item()
    (0.0, False)
    """
    run = _Evaluation(traced.jaxpr, jax.tree.leaves(inputs))
    structure = jax.tree.structure(traced.out_info)
    state, logs = jax.tree.unflatten(structure, traced.jaxpr.jaxpr.outvars)
    olds, treedef = jax.tree.flatten(inputs[0])
    news = jax.tree.leaves(state)
    loss = {}
    if "loss" in logs:
        loss["loss"] = logs["loss"]
    of_loss = jax.tree.leaves(loss)
    places = _places(run, news)
    ends = {variable for variable in of_loss if not run.has(variable)}
    ends.update(places)
    chosen: dict[int, Array] = {}
    commit: Array | None = None
    for equations in _parts(traced.jaxpr.jaxpr.eqns, ends):
        if commit is None and all(map(run.has, of_loss)):
            commit = condition(run.values_of(loss))
        run.run(equations)
        if commit is None:
            # These leaves do not depend on the loss, or come before it: they are chosen below.
            continue
        for variable in equations[-1].outvars:
            if variable not in places:
                continue
            i = places[variable]
            leaf = jnp.where(commit, run.values[variable], olds[i])
            chosen[i] = leaf
            # The equations that follow compute from the chosen leaf.
            run.values[variable] = leaf
    if commit is None:
        commit = condition(run.values_of(loss))
    leaves = []
    pairs = zip(olds, news, strict=True)
    for i, (old, variable) in enumerate(pairs):
        new = run.value(variable)
        if i not in chosen and new is not old:
            new = jnp.where(commit, new, old)
        leaves.append(chosen.get(i, new))
    return jax.tree.unflatten(treedef, leaves), run.values_of(logs), commit


def _places(run: _Evaluation, leaves: list[Variable]) -> dict[Variable, int]:
    """The place of each computed variable among the leaves of the new state.

    What a step returns as it came is known before, and has none.
    """
    places = {}
    for i, variable in enumerate(leaves):
        if not run.has(variable):
            places[variable] = i
    return places


def _parts(equations: list[Equation], ends: set[Variable]) -> Iterator[list[Equation]]:
    """The equations in order, cut after each one that computes a variable of `ends`."""
    part: list[Equation] = []
    for equation in equations:
        part.append(equation)
        if not ends.isdisjoint(equation.outvars):
            yield part
            part = []
    if part:
        yield part


class _Evaluation:
    """The values of the variables of a program, while it runs part by part."""

    def __init__(self, program: Program, arguments: list[Array]) -> None:
        self.program = program.jaxpr
        constants = zip(self.program.constvars, program.consts, strict=True)
        self.values: dict[Variable, Array] = dict(constants)
        self.values.update(zip(self.program.invars, arguments, strict=True))
        # Others are of no use, and some of them cannot be returned.
        self.used: set[Variable] = set()
        for equation in self.program.eqns:
            self.used.update(_inputs(equation))
        for variable in self.program.outvars:
            if not _is_literal(variable):
                self.used.add(variable)

    def has(self, variable: Variable) -> bool:
        """Whether the value is known."""
        return _is_literal(variable) or variable in self.values

    def value(self, variable: Variable) -> Array:
        if _is_literal(variable):
            constant: Array = variable.val
            return constant
        return self.values[variable]

    def values_of(self, variables: Tree) -> Tree:
        return jax.tree.map(self.value, variables)

    def run(self, equations: list[Equation]) -> None:
        """Computes the next equations."""
        results: list[Variable] = []
        needed: dict[Variable, None] = {}  # a set in order
        for equation in equations:
            results.extend(filter(self.used.__contains__, equation.outvars))
            needed.update(dict.fromkeys(_inputs(equation)))
        # The others are computed by these equations themselves.
        inputs = list(filter(self.has, needed))
        part = self.program.replace(
            constvars=[], invars=inputs, outvars=results, eqns=equations
        )
        run_part = jaxpr_as_fun(ClosedJaxpr(part, []))
        values = run_part(*map(self.value, inputs))
        self.values.update(zip(results, values, strict=True))


def _inputs(equation: Equation) -> list[Variable]:
    return [v for v in equation.invars if not _is_literal(v)]


def _is_literal(variable: Variable) -> bool:
    return isinstance(variable, Literal)
