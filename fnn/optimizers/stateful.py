"""Keras's interface of optimizers: state kept for the object, and pure functions of lists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree
from fnn.variables import Operand, Variable, value_of

State: TypeAlias = Any  # the state of an optimizer: a pytree
Gradients: TypeAlias = Iterable[Tree]


class Held:
    """The state that an optimizer keeps for a list of variables, as a list of variables."""

    def __init__(self, optimizer: Any, trainable: list[Variable]) -> None:
        self.trainable = trainable
        self.names = _names(trainable)
        state = optimizer.init(self.named(trainable))
        self._structure = jax.tree.structure(first_steps(state))
        self.variables = state_variables(state)

    def named(self, values: Iterable[Operand]) -> OrderedDict[str, Array]:
        """Weights or gradients by the paths of the variables, in the order of the list."""
        arrays = [jnp.asarray(value_of(value)) for value in values]
        return OrderedDict(zip(self.names, arrays, strict=True))

    def state(self, values: Sequence[Operand]) -> State:
        """The state of the optimizer from the values of its variables."""
        arrays = [jnp.asarray(value_of(value)) for value in values]
        steps, rest = jax.tree.unflatten(self._structure, arrays)
        if isinstance(rest, dict):
            return {**steps, **rest}
        return rest

    def values(self, state: State) -> list[Array]:
        """The values of its variables from the state of the optimizer."""
        leaves = jax.tree.leaves(first_steps(state))
        pairs = zip(leaves, self.variables, strict=True)
        return [jnp.asarray(leaf, variable.dtype) for leaf, variable in pairs]


def first_steps(state: State) -> tuple[State, State]:
    """A state in two parts: the step and the learning rate, as in Keras, then the rest."""
    if not isinstance(state, dict):
        return {}, state
    first = ("step", "learning_rate")
    steps = OrderedDict((name, state[name]) for name in first if name in state)
    rest = {name: part for name, part in state.items() if name not in first}
    return steps, rest


def state_variables(state: State) -> list[Variable]:
    """The leaves of the state of an optimizer as variables, in the order of `variables`.

    >>> state = fnn.optimizers.SGD(0.5).init({"w": jnp.ones(2)})
    >>> [float(variable) for variable in state_variables(state)]  # the step, the learning rate
    [0.0, 0.5]
    """
    leaves = jax.tree.leaves(first_steps(state))
    return [Variable(leaf, trainable=False) for leaf in leaves]


def _names(variables: list[Variable]) -> list[str]:
    """The path of each variable, with a number where it is taken."""
    names: list[str] = []
    for place, variable in enumerate(variables):
        name = str(getattr(variable, "path", "") or "variable")
        if name in names:
            name = f"{name}_{place}"
        names.append(name)
    return names


class Stateful:
    """The methods of Keras's optimizers that change variables, and their pure twins.

    `apply(grads, variables)` and `apply_gradients(pairs)` assign new values to variables, and keep
    the state for this object: it is not compared, printed, copied or saved, and training does not
    use it. `stateless_apply` takes and returns lists of values. `build(variables)` comes first.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]

    @property
    def _held(self) -> Held | None:
        held: Held | None = vars(self).get("_fnn_held")
        return held

    @property
    def built(self) -> bool:
        """Whether `build` was called."""
        return self._held is not None

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the state for these variables: its first values."""
        vars(self)["_fnn_held"] = Held(self, list(variables))

    @property
    def variables(self) -> list[Variable]:
        """The state: the step, the learning rate and the rest; empty before `build`."""
        if self._held is None:
            return []
        return [*self._held.variables]

    @property
    def iterations(self) -> Variable:
        """The number of calls of `apply`."""
        if self._held is None:
            return Variable(0, trainable=False)
        return self._held.variables[0]

    def apply(
        self, grads: Gradients, trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """One step: assigns new values to the variables, and to those of the optimizer.

        `grads` has one gradient for each variable, or None for one that stays as it is.
        """
        if trainable_variables is not None and not self.built:
            self.build(list(trainable_variables))
        held = self._require("apply")
        given = list(grads)
        if trainable_variables is not None:
            given = _in_order(held, given, trainable_variables)
        weights, state = self.stateless_apply(held.variables, given, held.trainable)
        for variable, value in zip(held.trainable, weights, strict=True):
            variable.assign(value)
            constraint: Any = getattr(variable, "constraint", None)
            if constraint is not None:
                variable.assign(constraint(variable.value))
        for variable, value in zip(held.variables, state, strict=True):
            variable.assign(value)

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Tree, Variable]]
    ) -> Variable:
        """`apply` of pairs of a gradient and a variable; returns the number of calls."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self.iterations

    def stateless_apply(
        self,
        optimizer_variables: Sequence[Operand],
        grads: Gradients,
        trainable_variables: Sequence[Operand],
    ) -> tuple[list[Array], list[Array]]:
        """(values of the weights, values of `variables`) after one step; nothing is kept.

        Raises ValueError before `build`, and for lists of other lengths than then.
        """
        held = self._require("stateless_apply")
        given = list(grads)
        counts = len(optimizer_variables), len(given), len(trainable_variables)
        weights = len(held.trainable)
        if counts != (len(held.variables), weights, weights):
            raise ValueError(
                f"{type(self).__name__}: expected the values of {len(held.variables)} variables of "
                f"the optimizer, {weights} gradients and {weights} weights, as it was built for, "
                f"received {counts[0]}, {counts[1]} and {counts[2]}"
            )
        params = held.named(trainable_variables)
        found = held.named(_filled(given, params))
        state = held.state(optimizer_variables)
        updates, state = self.update(found, state, params)
        moved = []
        for gradient, name in zip(given, held.names, strict=True):
            weight = params[name]
            if gradient is not None:
                weight = (weight + updates[name]).astype(weight.dtype)
            moved.append(weight)
        return moved, held.values(state)

    def _require(self, call: str) -> Held:
        if self._held is None:
            raise ValueError(
                f"{type(self).__name__}: {call} needs the variables; call "
                "optimizer.build(trainable_variables) first"
            )
        return self._held


def _filled(grads: list[Tree], params: OrderedDict[str, Array]) -> list[Tree]:
    """The gradients, zeros in place of None."""
    found = []
    for gradient, weight in zip(grads, params.values(), strict=True):
        if gradient is None:
            gradient = jnp.zeros_like(weight)
        found.append(gradient)
    return found


def _in_order(
    held: Held,
    grads: list[Tree],
    variables: Sequence[Variable],
) -> list[Tree]:
    """The gradients in the order of `build`; None for variables that are not among these."""
    places = {id(variable): place for place, variable in enumerate(held.trainable)}
    found: list[Tree] = [None] * len(held.trainable)
    for gradient, variable in zip(grads, variables, strict=True):
        if id(variable) not in places:
            raise ValueError(
                f"expected variables that the optimizer was built for, received {variable!r}; make "
                "another optimizer for others"
            )
        found[places[id(variable)]] = gradient
    return found
