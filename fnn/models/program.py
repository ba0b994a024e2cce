"""Program: how a model is trained, as compiled: optimizer, losses, metrics, step functions."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from fnn import optimizers
from fnn.core import tree
from fnn.core.tree import Path, Tree
from fnn.core.value import Fields
from fnn.distribution.ready_made import check_distribution
from fnn.models.compile_arguments import (
    NO_EXTRA,
    check_names,
    checked_remat,
    copied,
    own_objective,
    with_remat,
)
from fnn.models.compiled import Compiled
from fnn.models.freezing import carried_over
from fnn.models.laid_out import lay_out
from fnn.models.network import Network
from fnn.models.optimizer_lists import OptimizerLists
from fnn.models.variables import keys_of, variable
from fnn.models.weights import Weights
from fnn.optimizers import current_learning_rate, with_learning_rate
from fnn.optimizers.bound import LiveRates, is_bound, plain
from fnn.optimizers.optimizer import (
    Optimizer,
    with_rate_of,
    without_rate,
)
from fnn.runtime.layouts import Distribution
from fnn.subclassing import objects
from fnn.training import endings, inputs
from fnn.training.checks import check_guard
from fnn.training.diagnosis import diagnose
from fnn.training.laying_out import beside_params
from fnn.training.objective import Objective, resolve_objective
from fnn.training.objective import check_values as check_target_values
from fnn.training.plan import Holder
from fnn.training.state import log_name
from fnn.training.step import (
    init_optimizer,
    make_eval_step,
    make_loss,
    make_train_step,
    output_leaves,
)
from fnn.training.targets import target_specs

Step: TypeAlias = Callable[..., Tree]


class Program(OptimizerLists):
    """What `compile` was given, and what follows from it for the network of some weights."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.arguments: dict[str, object] | None = None  # of compile; None before
        self.distribution: Distribution | None = None
        self.objective: Objective | None = None  # for the last data
        self.own_objective: Objective | None = None  # of `compile(objective=...)`
        self._compiled: Compiled | None = None
        # Learning rates that were set before there were weights.
        self._rates: tuple[object, ...] = ()
        # What is frozen while the optimizer has its state, by path; None: it is not known.
        self._frozen: list[Path] | None = None
        self._resolved: tuple[object, Objective] | None = None
        self._described: tuple[Objective, str] | None = None
        self._endings_checked: tuple[Network, Objective] | None = None

    def compile(
        self, guard: str, checks: bool, optimizer: object, **goals: object
    ) -> None:
        """Takes the arguments of `compile`. Raises ValueError for unknown names."""
        check_guard(guard)
        objects.look()
        keeps_state = is_bound(optimizer, self)
        arguments = {"optimizer": optimizers.get(optimizer)}
        goals = NO_EXTRA | goals
        arguments |= {name: copied(goal) for name, goal in goals.items()}
        arguments |= {"guard": guard, "checks": checks}
        arguments["remat"] = checked_remat(arguments["remat"])
        check_names(arguments)
        own = own_objective(arguments)
        self.weights.compilations.limit(arguments["max_compiles"])
        self.arguments = arguments
        self._compiled = Compiled(arguments)
        self.own_objective = own
        self.forget_network()
        self._rates = ()
        network = self.weights.network
        self.weights.refresh_inner_models()
        # Other weights may learn in a network that has changed.
        if not keeps_state or self.weights.network is not network:
            self.weights.forget_optimizer()

    def forget_network(self) -> None:
        """Drops what was worked out for another network or other goals."""
        self.objective = None
        self._resolved = None
        self._described = None
        self._endings_checked = None

    def distribute(self, distribution: Distribution | None) -> None:
        """Takes the distribution that `compile` was given; the weights move to its devices."""
        self.distribution = distribution
        if distribution is not None:
            check_distribution(distribution)
            if self.weights.built:
                lay_out(self.weights, distribution)

    def copy_for(self, weights: Weights) -> Program:
        """The same program for other weights of the same network."""
        program = copy.copy(self)
        program.weights = weights
        return program

    def require(self, call: str) -> dict[str, object]:
        """The arguments of `compile`. Raises RuntimeError before it."""
        if self.arguments is None:
            raise RuntimeError(
                f"{call} needs a compiled model, but {self.weights.network.name!r} is not "
                "compiled yet; call model.compile(optimizer='adam', loss='mse')"
            )
        return self.arguments

    @property
    def guard(self) -> str:
        """What to do about a loss that is not finite: "raise", "skip" or "ignore"."""
        return str(self.require("fit")["guard"])

    @property
    def checks_values(self) -> bool:
        """Whether data is checked for NaN and for targets that are no probabilities."""
        return self.arguments is None or bool(self.arguments["checks"])

    def takes_any(self, step: str) -> bool:
        """Whether the step of this name takes data of any structure."""
        return self.own_objective is not None

    def build_from(self, feed: Any, x: Tree) -> None:
        """Makes the weights for the first data, if these are what the network takes."""
        feed.given(x)

    @property
    def needs_targets(self) -> bool:
        """Whether there is a loss to compute from targets."""
        return self.arguments is not None and self.arguments["loss"] is not None

    @property
    def compiled(self) -> Compiled:
        """Losses and metrics for batches in Keras's form. Raises RuntimeError before `compile`."""
        self.require("compute_loss")
        assert self._compiled is not None
        return self._compiled

    @property
    def trackers(self) -> list[Any]:
        """The metrics that `compile` made; none before."""
        if self._compiled is None:
            return []
        return self._compiled.trackers

    def output_names(self, y_pred: Tree) -> list[str]:
        """The names of the outputs, given them or their shapes."""
        if isinstance(y_pred, dict):
            return sorted(y_pred)
        names = []
        if self.weights.network.inputs is not None:
            names = self.weights.network.output_names
        count = len(output_leaves(y_pred))
        if len(names) == count:
            return names
        return [f"output_{index}" for index in range(count)]

    # -- losses and metrics ----------------------------------------------------------------------

    def resolve(self, arrays: dict[str, Tree]) -> Objective:
        """The objective for the arrays of a step, after all checks of shapes and values."""
        if self.own_objective is not None:
            self.objective = self._complete(self.own_objective)
            return self.objective
        whole = self.weights.network
        network = whole.compiled
        outputs = network.output_specs(arrays["x"])
        arguments = self.require("fit")
        names = whole.output_names
        targets = tree.spec(arrays["y"])
        if network.moves_targets:
            targets = target_specs(network.layer, arrays["x"], arrays["y"])
        shapes = names, targets, outputs
        key = *shapes, network.layer.ensemble_size
        if self._resolved is None or self._resolved[0] != key:
            flat = dict(arguments)
            for name in ("loss", "loss_weights"):
                flat[name] = inputs.flat(arguments[name], network.output_structure)
            self._resolved = key, self._complete(resolve_objective(flat, *key))
        objective = self._resolved[1]
        if self._endings_checked != (network, objective):
            # It warns once for each `compile`.
            endings.check(objective, outputs, network.last_activations(arrays["x"]))
        self.check_values(objective, arrays)
        self.objective = objective
        self._endings_checked = network, objective
        return objective

    def _complete(self, objective: Objective) -> Objective:
        return with_remat(objective, self.arguments, self.weights.network.layer)

    def check_values(self, objective: Objective, arrays: dict[str, Tree]) -> None:
        """Raises for ids and targets that cannot be right, such as labels out of range."""
        network = self.weights.network.compiled
        network.check_values(arrays["x"])
        if arrays["y"]:
            outputs = network.output_specs(arrays["x"])
            check_target_values(objective, arrays["y"], outputs, self.checks_values)

    @property
    def metrics_names(self) -> list[str]:
        """The names of the numbers that `evaluate` returns, in Keras's order."""
        goals = self.objective.goals if self.objective else ()
        labels = [log_name(label) for goal in goals for label, _, _ in goal.metrics]
        if self.objective is None or len(goals) < 2:
            return ["loss", *labels]
        names = []
        if self.objective.several:
            names = [goal.name for goal in goals if goal.loss is not None]
        outputs = getattr(self.weights.network.layer, "outputs", None)
        if isinstance(outputs, Fields) and outputs.as_dict():
            # A dict of outputs, in the order in which it was written.
            names.sort(key=list(outputs.as_dict()).index)
        return ["loss", *(f"{name}_loss" for name in names), *sorted(labels)]

    @property
    def metric_directions(self) -> dict[str, str | None]:
        """For each metric whether more ("max") or less ("min") is better."""
        return self.objective.directions if self.objective else {}

    # -- for `fitting` ---------------------------------------------------------------------------

    @property
    def holder(self) -> Holder:
        """What holds the state that the step of training changes."""
        return self.weights

    @property
    def evaluated(self) -> Holder:
        """What holds the state that the step of evaluation reads."""
        return self.weights

    # Called before each epoch, if a class has it.
    begin_epoch: Callable[[], None] | None = None

    def diagnosis(self, objective: Objective) -> Callable[..., str] | None:
        """What names the layer in which NaN first appeared."""
        layer = self.weights.network.compiled.layer
        return functools.partial(diagnose, layer, make_loss(layer, objective))

    def carry(self, keeps: bool) -> Callable[[Tree], None] | None:
        """What gets the state after an evaluation, and keeps it or not; None if it is the same."""
        if not self.weights.network.is_stateful:
            return None
        if keeps:
            return self.weights.keep_state
        return _dropped

    # -- steps -----------------------------------------------------------------------------------

    def train_step(self, objective: Objective, norms: bool = False) -> Step:
        """The pure step of training; with `norms` it logs those of gradients and weights."""
        layer = self.weights.network.compiled.layer
        if norms:
            return make_train_step(layer, objective, self.optimizer, norms)
        return make_train_step(layer, objective, self.optimizer)

    def eval_step(self, objective: Objective) -> Step:
        """The pure step of evaluation."""
        return make_eval_step(self.weights.network.compiled.layer, objective)

    def recipe(self, objective: Objective) -> dict[str, str]:
        """What determines the weights after a training beside its data; metrics do not."""
        if self._described is None or self._described[0] is not objective:
            losses = [(goal.name, goal.loss, goal.weight) for goal in objective.goals]
            described: tuple[object, ...] = without_rate(self.optimizer), losses
            if objective.function is not None:
                described += (getattr(objective.function, "__qualname__", "objective"),)
            goals = repr(described)
            self._described = objective, goals
        return {
            "goals": self._described[1],
            "network": self.weights.network.description,
        }

    # -- the optimizer ---------------------------------------------------------------------------

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer as a value, with the learning rate that it was compiled with."""
        return self.require("optimizer")["optimizer"]  # type: ignore[return-value]

    def complete(self) -> None:
        """Makes the optimizer's state if there is none."""
        if self.weights.now.optimizer is None:
            self.ensure_optimizer_state()

    def ensure_optimizer_state(self) -> None:
        """Makes the optimizer's state if there is none, or if other weights learn now.

        What it holds of weights that learn before and after, it keeps.
        """
        network = self.weights.network
        frozen = network.frozen_paths
        before: Tree = None
        if self._frozen not in (None, frozen):
            before = self.weights.now.optimizer
            self.weights.forget_optimizer()
        self._frozen = frozen
        now = self.weights.now
        if now.optimizer is None:
            self._fit_optimizer_to_weights()
            state = init_optimizer(network.layer, self.optimizer, now.params)
            state = beside_params(state, now.params)
            state = functools.reduce(with_learning_rate, self._rates, state)
            if before is not None:
                state = carried_over(state, before, now.params)
            self.weights.shown = now.replace(optimizer=state)

    def _fit_optimizer_to_weights(self) -> None:
        if isinstance(self.optimizer, Optimizer):
            keys = keys_of(self.weights, learned=True)
            learning = {
                "/".join(path): variable(self.weights, p, path) for p, path in keys
            }
            optimizer = self.optimizer.for_weights(learning)
            if optimizer is not self.optimizer:
                self.require("fit")["optimizer"] = optimizer

    def optimizer_state(self) -> Tree:
        """The state of the optimizer; while there are no weights, its state for none."""
        if self.weights.built:
            self.ensure_optimizer_state()
            return self.weights.now.optimizer
        return self._state_for_no_weights()

    def _state_for_no_weights(self) -> Tree:
        return functools.reduce(
            with_learning_rate, self._rates, self.optimizer.init({})
        )

    @property
    def learning_rate(self) -> Tree:
        """The learning rate of the next step; a dict for several; None if it is not known."""
        now = current_learning_rate(self.optimizer, self.optimizer_state())
        if isinstance(now, dict):
            return LiveRates(now, self.set_learning_rate)
        return now

    @learning_rate.setter
    def learning_rate(self, value: Tree) -> None:
        self.set_learning_rate(value)

    def set_learning_rate(self, value: Tree) -> None:
        """Sets the learning rate from the next step on."""
        value = plain(value)
        changed = with_learning_rate(self.optimizer_state(), value)
        if self.weights.built:
            self.weights.shown = self.weights.now.replace(optimizer=changed)
        else:
            self._rates += (value,)

    def with_current_rate(self, optimizer: Optimizer) -> Optimizer:
        """An optimizer that this program was compiled with, with the current learning rate."""
        if not self.is_compiled_with(optimizer):
            return optimizer
        state = self.weights.now.optimizer if self.weights.built else None
        if state is None:
            state = self._state_for_no_weights()
        current: Optimizer = with_rate_of(optimizer, state)
        return current

    def is_compiled_with(self, optimizer: object) -> bool:
        """Whether this is the current optimizer, whatever its learning rate."""
        return bool(without_rate(optimizer) == without_rate(self.optimizer))

    def iterations(self) -> Tree:
        """The number of steps of the optimizer; an optax optimizer has those of the model."""
        state = self.optimizer_state()
        if isinstance(state, dict) and "step" in state:
            return state["step"]
        return self.weights.now.step


def _dropped(state: Tree) -> None:
    """Keeps no state: that of stateful layers after a validation."""
