"""Optimizers written in Keras's way, with `build` and `update_step`, as pure rules."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import DTypeLike

from fnn.core.tree import Tree, path_name
from fnn.optimizers.optimizer import Optimizer, State
from fnn.optimizers.rule import Rule
from fnn.variables import Operand, StatelessScope, Variable

Initializer = Any  # a name, a function or a value


class Subclassed(Rule, loadable=False):
    """The base that an optimizer gets if its class defines `update_step`.

    `build(variables)` makes its variables, `update_step(gradient, variable, learning_rate)`
    assigns new values to one weight and to them. `rule` runs both on a copy, in a scope that holds
    the values of all variables, so it is pure: clipping, weight decay, averages and accumulation
    are those of `Rule`. `iterations` is the number of updates made.

    >>> class Momentum(Optimizer):
    ...     def __init__(self, learning_rate=0.01, name="momentum", **kwargs):
    ...         super().__init__(learning_rate=learning_rate, name=name, **kwargs)
    ...     def build(self, variables):
    ...         super().build(variables)
    ...         self.velocities = self.add_optimizer_variables(variables, "velocity")
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         velocity = self.velocities[self._get_variable_index(variable)]
    ...         self.assign(velocity, 0.5 * velocity - learning_rate * gradient)
    ...         self.assign_add(variable, velocity)
    >>> optimizer, weight = Momentum(1.0), {"w": jnp.float32(2.0)}
    >>> updates, state = optimizer.update({"w": jnp.float32(3.0)}, optimizer.init(weight), weight)
    >>> updates["w"].item()
    -3.0
    """

    # No constructor of its own: that of the class that is changed.
    _open: ClassVar[bool] = True
    rebuilds: ClassVar[bool] = True
    if TYPE_CHECKING:
        _variables = list[Variable]()

    def __post_init__(self) -> None:
        vars(self)["_variables"] = []
        super().__post_init__()

    # -- what Keras's class offers --------------------------------------------------------------

    def build(self, variables: Sequence[Variable]) -> None:
        """Notes the variables; for a class that changes one of fnn's, makes those of that one."""
        places = {id(variable): place for place, variable in enumerate(variables)}
        vars(self).update(_fnn_trainable=list(variables), _fnn_places=places)
        if not self._has_base:
            return
        base = []
        for variable in variables:
            leaves, structure = jax.tree.flatten(self._base_init(variable))
            made = [self.add_variable(leaf.shape, dtype=leaf.dtype) for leaf in leaves]
            for one, leaf in zip(made, leaves, strict=True):
                one.initializer = functools.partial(_like, leaf)
            base.append((structure, made))
        vars(self)["_fnn_base"] = base

    def update_step(
        self,
        gradient: Array,
        variable: Variable,
        learning_rate: Array,
    ) -> None:
        """The step of the optimizer that this class changes, for one variable."""
        place = self._get_variable_index(variable)
        structure, made = vars(self)["_fnn_base"][place]
        state = jax.tree.unflatten(structure, [part.value for part in made])
        params = {variable.path: variable.value}
        grads = {variable.path: jnp.asarray(gradient)}
        updates, state = self._base_rule.update(
            grads, state, params, learning_rate=learning_rate
        )
        variable.assign_add(updates[variable.path])
        for part, leaf in zip(made, jax.tree.leaves(state), strict=True):
            part.assign(leaf)

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Initializer = "zeros",
        dtype: DTypeLike | None = None,
        aggregation: str = "none",
        layout: object = None,
        name: str | None = None,
    ) -> Variable:
        """A new variable of the optimizer."""
        if "_variables" not in vars(self):
            raise RuntimeError(
                f"{type(self).__name__}: call super().__init__(learning_rate=learning_rate) "
                "before add_variable"
            )
        variable = Variable(initializer or "zeros", shape, dtype, False, name=name)
        vars(self).get("_fnn_made", self._variables).append(variable)
        return variable

    def add_variable_from_reference(
        self,
        reference_variable: Variable,
        name: str | None = None,
        initializer: Initializer = "zeros",
    ) -> Variable:
        """A new variable of the shape and dtype of a weight."""
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(
            reference_variable.shape,
            initializer,
            reference_variable.dtype,
            name=f"{path}_{name or 'var'}",
        )

    def add_optimizer_variables(
        self,
        trainable_variables: Sequence[Variable],
        name: str | Sequence[str],
        initializer: Initializer = "zeros",
    ) -> Any:
        """A list of a new variable for each weight; for several names, a tuple of such lists."""
        names, initializers = name, initializer
        if isinstance(name, str):
            names = [name]
        if not isinstance(initializer, (list, tuple)):
            initializers = [initializer] * len(names)
        made: tuple[list[Variable], ...] = tuple([] for _ in names)
        for weight in trainable_variables:
            for own, one, start in zip(made, names, initializers, strict=True):
                own.append(self.add_variable_from_reference(weight, one, start))
        if isinstance(name, str):
            return made[0]
        return made

    def assign(self, variable: Variable, value: Operand) -> None:
        """`variable.assign(value)`."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Operand) -> None:
        """`variable.assign_add(value)`."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Operand) -> None:
        """`variable.assign_sub(value)`."""
        variable.assign_sub(value)

    @property
    def iterations(self) -> Variable:
        """The number of updates made, before this one."""
        own: Variable | None = vars(self).get("_fnn_iterations")
        if own is None:
            return super().iterations
        return own

    def _get_variable_index(self, variable: Variable) -> int:
        place: int | None = vars(self)["_fnn_places"].get(id(variable))
        if place is None:
            raise ValueError(
                f"{type(self).__name__}: expected a variable that build was given, received "
                f"{variable!r}"
            )
        return place

    def _get_current_learning_rate(self) -> Any:
        return self.learning_rate

    @property
    def _trainable_variables(self) -> list[Variable]:
        return [*vars(self).get("_fnn_trainable", ())]

    # -- the pure rule ----------------------------------------------------------------------------

    @property
    def _has_base(self) -> bool:
        """Whether the class changes an optimizer of fnn that has a rule."""
        after = type(self).__mro__
        after = after[after.index(Subclassed) + 1 : after.index(Rule)]
        return any("rule" in vars(base) or "direction" in vars(base) for base in after)

    @property
    def _base_rule(self) -> optax.GradientTransformationExtraArgs:
        return super().rule()

    def _base_init(self, variable: Variable) -> State:
        with jax.ensure_compile_time_eval():
            zeros = {variable.path: jnp.zeros(variable.shape, variable.dtype)}
            return self._base_rule.init(zeros)

    def rule(self) -> optax.GradientTransformationExtraArgs:
        def init(params: Tree) -> State:
            run = self._run_for(params)
            values = [variable.initial(_key()) for variable in run.made]
            return {"iterations": jnp.zeros((), jnp.int32), "values": values}

        return self.at_rate(init, self._descend)

    def _descend(
        self,
        grads: Tree,
        state: State,
        params: Tree,
        rate: Array,
    ) -> tuple[Tree, State]:
        weights, structure = jax.tree.flatten(params)
        run = self._run_for(params)
        held = [*run.trainable, *run.made, run.iterations]
        values = [*weights, *state["values"], state["iterations"]]
        with StatelessScope(zip(held, values, strict=True)) as scope:
            vars(run.optimizer)["learning_rate"] = rate
            gradients = jax.tree.leaves(grads)
            for gradient, weight in zip(gradients, run.trainable, strict=True):
                run.optimizer.update_step(gradient, weight, rate)
        known = {id(variable) for variable in held}
        after = [scope.get_current_value(variable) for variable in held]
        if scope.held - known:
            raise ValueError(
                f"{type(self).__name__}: expected update_step to assign the weight and variables "
                "of the optimizer, received another variable; make it with self.add_variable"
            )
        updates = [new - old for new, old in zip(after, weights, strict=False)]
        values = after[len(weights) : -1]
        iterations = optax.safe_increment(state["iterations"])
        return jax.tree.unflatten(structure, updates), {
            "iterations": iterations,
            "values": values,
        }

    def _run_for(self, params: Tree) -> _Run:
        """A copy of the optimizer that is built for weights like these."""
        optimizer = copy.copy(self)
        iterations = Variable("zeros", (), "int32", False, name="iteration")
        vars(optimizer).update(
            _variables=[*self._variables], _fnn_iterations=iterations
        )
        weights = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = path_name(path)
            weights.append(Variable("zeros", leaf.shape, leaf.dtype, name=name))
        optimizer.build(weights)
        made = [*self._variables, *vars(optimizer)["_fnn_made"]]
        return _Run(optimizer, weights, made, iterations)

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        for name, value in super()._attributes():
            # What `build` makes is not part of the value.
            leaves = jax.tree.leaves(value)
            if not any(isinstance(leaf, Variable) for leaf in leaves):
                yield name, value


class _Run:
    """A copy of an optimizer, built: the weights, its variables and its count of updates."""

    def __init__(
        self,
        optimizer: Any,
        trainable: list[Variable],
        made: list[Variable],
        iterations: Variable,
    ) -> None:
        self.optimizer = optimizer
        self.trainable = trainable
        self.made = made
        self.iterations = iterations


def _key() -> Array:
    with jax.ensure_compile_time_eval():
        return jax.random.key(0)


def _like(
    leaf: Array,
    key: Array,
    shape: Any,
    dtype: DTypeLike,
) -> Array:
    return leaf


# -- classes --------------------------------------------------------------------------------------


def adapt(cls: Any) -> None:
    """Makes a class in Keras's way a `Subclassed` one; called for every new class."""
    if not issubclass(cls, Subclassed):
        if not hasattr(cls, "update_step"):
            return
        # Its methods may set attributes, unless it declares fields.
        is_open = cls._open or not inspect.get_annotations(cls)
        bases = cls.__bases__
        place = next(i for i, base in enumerate(bases) if issubclass(base, Optimizer))
        cls.__bases__ = (*bases[:place], Subclassed, *bases[place:])
        cls._open = is_open
    if not hasattr(cls.build, "is_whole"):
        cls.build = _whole_build(cls.build)


def _whole_build(function: Callable[..., None]) -> Callable[..., None]:
    """`build` of a class; the outermost one collects the variables that are made in it."""

    @functools.wraps(function)
    def build(self: Subclassed, variables: Sequence[Variable]) -> None:
        if vars(self).get("_fnn_building"):
            function(self, variables)
            return
        if self.built:
            return
        vars(self).update(_fnn_made=[], _fnn_building=True)
        try:
            function(self, variables)
        finally:
            vars(self)["_fnn_building"] = False
        if "_fnn_iterations" not in vars(self):
            _hold(self, variables)

    build.is_whole = True  # type: ignore[attr-defined]
    return build


def _hold(optimizer: Subclassed, variables: Sequence[Variable]) -> None:
    """Keeps a state for an optimizer that is used by itself; its variables show it."""
    Optimizer.build(optimizer, variables)
    held = optimizer._held
    assert held is not None
    numbers = [*range(len(held.variables))]
    places = held.state(numbers)["rule"]["values"]
    own = [*optimizer._variables, *vars(optimizer)["_fnn_made"]]
    for variable, place in zip(own, places, strict=True):
        variable.home = functools.partial(held.variables.__getitem__, int(place))


Optimizer.on_subclass = staticmethod(adapt)
