"""Own steps: what `fit`, `evaluate` and `predict` run for a class that overrides their steps."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.tree import SpecTree, Tree
from fnn.metrics import Metric
from fnn.models.compiled import metrics_in
from fnn.models.lists import Lists, array_of
from fnn.models.program import Program
from fnn.models.scoped import Given
from fnn.models.steps import Steps
from fnn.models.weights import Weights
from fnn.runtime.scope import Scope
from fnn.training.objective import Objective
from fnn.training.own_objective import packed
from fnn.training.plan import Holder
from fnn.training.state import TrainState, Waiting
from fnn.training.step import next_step, same_types
from fnn.variables import value_of

Step: TypeAlias = Callable[..., Tree]

BOTH = ("compute_loss", "compute_metrics", "compute_loss_and_updates", "metrics")
OVERRIDES = {
    "train_step": ("train_step", *BOTH),
    "test_step": ("test_step", *BOTH),
    "predict_step": ("predict_step",),
}
NO_GOALS = Objective()


def overrides(model: object, step: str) -> bool:
    """Whether the class of a model changes what Keras's step of this name computes."""
    cls = type(model)
    return any(
        getattr(cls, name) is not getattr(Steps, name) for name in OVERRIDES[step]
    )


class Latest(Metric, loadable=False):
    """The value of the last batch."""

    adds: ClassVar[bool] = False

    def init(self, y_true: SpecTree = None, y_pred: SpecTree = None) -> Tree:
        return jnp.zeros(y_true.shape, y_true.dtype)

    def update(self, sums: Tree, y_true: Tree, *others: Tree, **named: Tree) -> Tree:
        return y_true

    def result(self, sums: Tree = None) -> Array:
        latest: Array = sums
        return latest


class StepHolder:
    """The state of a model with its metrics: `state` holds both, while a step of its own runs."""

    def __init__(self, weights: Weights, model: Steps) -> None:
        self.weights = weights
        self.model = model

    @property
    def now(self) -> TrainState:
        """The state of the model, with the values of its metrics."""
        now = self.weights.now
        metrics = [variable.value for variable in self.model.metrics_variables]
        return now.replace(state=(now.state, metrics))

    @now.setter
    def now(self, state: TrainState) -> None:
        own, _ = state.state
        self.keep(state.state)
        self.weights.now = state.replace(state=own)

    def keep(self, state: Tree) -> None:
        """Takes the state of layers and metrics."""
        own, metrics = state
        self.weights.now = self.weights.now.replace(state=own)
        variables = self.model.metrics_variables
        for variable, value in zip(variables, metrics, strict=True):
            variable.assign(value)


class StepProgram(Program):
    """The program of a model whose class may override its steps."""

    def __init__(self, weights: Weights, model: Steps) -> None:
        super().__init__(weights)
        self._model = weakref.ref(model)
        self._steps: dict[str, tuple[object, Step]] = {}

    def __getstate__(self) -> dict[str, object]:
        """A copy is made for another model, by `copy_for_model`."""
        return {**vars(self), "_model": None, "_steps": {}}

    def copy_for_model(self, weights: Weights, model: Steps) -> StepProgram:
        """The same program for a copy of the model."""
        program = StepProgram(weights, model)
        program.arguments, program.distribution = self.arguments, self.distribution
        program._rates, program._frozen = self._rates, self._frozen
        program.objective = self.objective
        program.own_objective = self.own_objective
        program._compiled = self._compiled and type(self._compiled)(
            self._compiled.arguments
        )
        return program

    @property
    def model(self) -> Steps:
        """The model, which exists as long as one of its methods runs."""
        model = self._model()
        assert model is not None
        return model

    def own(self, step: str) -> bool:
        """Whether the step of this name runs as in Keras: for classes that change what it does.

        Models with metrics among their attributes log these too.
        """
        model = self.model
        return overrides(model, step) or (
            step != "predict_step" and bool(metrics_in(model))
        )

    def takes_any(self, step: str) -> bool:
        return super().takes_any(step) or self.own(step)

    def build_from(self, feed: object, x: Tree) -> None:
        self.model._build_from((x,), {})  # type: ignore[attr-defined]

    def compile(
        self, guard: str, checks: bool, optimizer: object, **goals: object
    ) -> None:
        extra = [name for name in ("objective", "remat") if goals.get(name)]
        if extra and self.own("train_step"):
            raise ValueError(
                f"{type(self.model).__name__} computes its training step itself, so "
                f"compile({extra[0]}=...) would have no effect; leave it out, and use "
                "fnn.remat(layer) or the loss that you want inside the class"
            )
        super().compile(guard, checks, optimizer, **goals)

    # -- for `fitting` ---------------------------------------------------------------------------

    @property
    def holder(self) -> Holder:
        if self.own("train_step"):
            return StepHolder(self.weights, self.model)
        return self.weights

    @property
    def evaluated(self) -> Holder:
        if self.own("test_step"):
            self.model.reset_metrics()
            return StepHolder(self.weights, self.model)
        return self.weights

    def begin_epoch(self) -> None:
        if self.own("train_step"):
            self.model.reset_metrics()

    def diagnosis(self, objective: Objective) -> Callable[..., str] | None:
        if self.own("train_step"):
            return None
        return super().diagnosis(objective)

    def carry(self, keeps: bool) -> Callable[[Tree], None] | None:
        if self.own("test_step"):
            return StepHolder(self.weights, self.model).keep
        return super().carry(keeps)

    def forget_steps(self) -> None:
        """Called when an attribute of the model has changed."""
        self._steps.clear()

    def ordered(self, logs: dict[str, Tree]) -> list[str]:
        """The names of logs in the order of `evaluate`'s list."""
        return self.compiled.order(list(logs), self.model.metrics)

    # -- steps -----------------------------------------------------------------------------------

    def train_step(self, objective: Objective, norms: bool = False) -> Step:
        if not self.own("train_step"):
            return super().train_step(objective, norms)
        return self._made("train_step", _train)

    def eval_step(self, objective: Objective) -> Step:
        if not self.own("test_step"):
            return super().eval_step(objective)
        return self._made("test_step", _test)

    def predict_step(self) -> Step:
        """`predict_step` of the class, compiled."""
        return self._made("predict_step", _predict)

    def _made(self, name: str, make: Callable[..., Step]) -> Step:
        """The step of this name, the same function until the model changes."""
        check_step(type(self.model), name)
        variables = tuple(map(id, self.model.metrics_variables))
        layer = self.weights.network.layer
        made_for = (
            self.arguments,
            layer._twin,
            variables,
            self.weights.network.frozen_paths,
        )
        known = self._steps.get(name)
        if known is None or known[0] != made_for:
            step = make(self._model, self)
            known = self._steps[name] = made_for, step
        return known[1]


def check_step(cls: Any, name: str) -> None:
    """Raises TypeError for a step in the form of Keras on TensorFlow or PyTorch."""
    signature = inspect.signature(getattr(cls, name))
    parameters = list(signature.parameters.values())[1:]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if variadic or len(parameters) >= 2:
        return
    raise TypeError(
        f"expected {cls.__name__}.{name}(self, state, data), as in Keras on JAX, received "
        f"{name}{tuple(p.name for p in parameters)}, the form for TensorFlow and PyTorch; "
        f"{FORMS[name]}"
    )


FORMS = {
    "train_step": """write it as
    def train_step(self, state, data):
        trainable, non_trainable, optimizer, metrics = state
        x, y = data
        gradient = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (_, (loss, y_pred, non_trainable, metrics)), grads = gradient(
            trainable, non_trainable, metrics, x, y, None, training=True)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        return {"loss": loss}, (trainable, non_trainable, optimizer, metrics)""",
    "test_step": """write it as
    def test_step(self, state, data):
        trainable, non_trainable, metrics = state
        x, y = data
        y_pred, non_trainable = self.stateless_call(trainable, non_trainable, x)
        return {"loss": self.compute_loss(x, y, y_pred)}, (trainable, non_trainable, metrics)""",
    "predict_step": """write it as
    def predict_step(self, state, data):
        trainable, non_trainable = state
        return self.stateless_call(trainable, non_trainable, data)""",
}


class Randomness(Scope):
    """A block in which random functions draw from one key, another number for each request."""

    def __init__(self, key: Array) -> None:
        self._key = key
        self._requests = 0

    def random_key(self) -> Array:
        self._requests += 1
        return jax.random.fold_in(self._key, self._requests)


def _given(model: Any, values: Sequence[Sequence[Tree]]) -> Given:
    """A scope in which layers and models inside have the weights that a step is given."""
    variables = *model.trainable_variables, *model.non_trainable_variables
    trainable, non_trainable = values
    return Given(zip(variables, (*trainable, *non_trainable), strict=True))


def _train(reference: Callable[[], Any], program: Program) -> Step:
    """The pure step of training around `train_step` of a model."""
    weights = program.weights

    def train_step(now: TrainState, batch: Tree, key: Array) -> Tree:
        model = reference()
        lists = Lists(weights)
        state, metrics = now.state
        plain = now.replace(state=state)
        optimizer = program.optimizer_values(now.optimizer)
        given = (*lists.of(plain, key), optimizer, list(metrics))
        with Randomness(key), _given(model, given[:2]):
            returned = model.train_step(given, packed(batch[0]))
        logs, after = _checked(model, "train_step", returned, given)
        trainable, non_trainable, optimizer_values, metrics = after
        new = lists.put(plain, trainable, non_trainable)
        held = list(map(array_of, metrics))
        new = new.replace(
            state=(new.state, held),
            optimizer=program.optimizer_state_of(optimizer_values),
            step=next_step(now.step),
        )
        return same_types(new, now), _latest(logs)

    return train_step


def _test(reference: Callable[[], Any], program: Program) -> Step:
    """The step of evaluation around `test_step` of a model."""
    weights = program.weights

    def test_step(weighted: Tree, batch: Tree, key: Array) -> Tree:
        model = reference()
        lists = Lists(weights)
        params, (state, metrics) = weighted
        plain = weights.now.replace(params=params, state=state)
        given = (*lists.of(plain, key), list(metrics))
        with Randomness(key), _given(model, given[:2]):
            returned = model.test_step(given, packed(batch[0]))
        logs, after = _checked(model, "test_step", returned, given)
        _, non_trainable, metrics = after
        new = lists.put(plain, given[0], non_trainable)
        held = list(map(array_of, metrics))
        new = new.replace(state=(new.state, held))
        kept = same_types(new, plain.replace(state=weighted[1]))
        return (params, kept.state), _latest(logs)

    test_step.program = "evaluation"  # type: ignore[attr-defined]
    return test_step


def _predict(reference: Callable[[], Any], program: Program) -> Step:
    """The compiled function around `predict_step` of a model."""
    weights = program.weights

    def predict_step(now: TrainState, x: Tree) -> Tree:
        model = reference()
        lists = Lists(weights)
        given = lists.of(now, now.key)
        with _given(model, given):
            outputs, _ = model.predict_step(given, packed(x))
        return jax.tree.map(value_of, outputs)

    compiled: Step = jax.jit(predict_step)
    return compiled


def _checked(
    model: object, name: str, returned: object, given: Sequence[Sequence[Tree]]
) -> tuple[dict[str, Tree], Sequence[Sequence[Tree]]]:
    """(logs, lists) that a step returned. Raises TypeError for anything else."""
    lengths = [len(part) for part in given]
    found: object = type(returned).__name__
    if isinstance(returned, tuple) and len(returned) == 2:
        logs, after = returned
        found = f"({type(logs).__name__}, {type(after).__name__})"
        if isinstance(logs, dict) and isinstance(after, (tuple, list)):
            found = f"lists of {[len(part) for part in after]} arrays"
            if [len(part) for part in after] == lengths:
                return logs, after
    raise TypeError(
        f"expected {type(model).__name__}.{name} to return (logs, state), logs a dict and state "
        f"lists of {lengths} arrays like those that it was given, received {found}"
    )


def _latest(logs: dict[str, Tree]) -> dict[str, Waiting]:
    """Logs whose value is that of the last batch; a dict among them is spread."""
    found: dict[str, Waiting] = {}
    for name, value in logs.items():
        if isinstance(value, dict):
            found.update(_latest(value))
        else:
            array = array_of(value)
            found[name] = Waiting(Latest(), (array, None, None, None))
    return found
