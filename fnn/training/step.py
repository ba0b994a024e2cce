"""The pure step functions of a model: train, evaluate, predict. Equal arguments share one step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from fnn.core import tree, weights
from fnn.core.calling import call
from fnn.core.context import Context, is_masked, split_mask
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.last_activation import End, outputs_by_path, without_last_activation
from fnn.losses.logits import in_form
from fnn.metrics import Mean
from fnn.optimizers import expand_updates, loss_scale, run_update
from fnn.optimizers.optimizer import Optimizer, init_state, keeps_finite, without_rate
from fnn.runtime.program_cache import small_cache
from fnn.training.objective import Objective, entry_count
from fnn.training.own_objective import run_own
from fnn.training.state import NORMS, Accumulator, Logs, TrainState
from fnn.training.targets import call_with_targets, moves_targets

T = TypeVar("T")
OutputPath: TypeAlias = tuple[object, ...]  # of an output in nested tuples and dicts
Batch: TypeAlias = dict[str, Tree]  # "x", "y" and "weight"
Loss: TypeAlias = Callable[[Tree], tuple[Array, Tree]]  # params -> (loss, more)


def output_leaves(outputs: Tree) -> list[Tree]:
    """The outputs of a model one by one (dicts in the order of their keys)."""
    return jax.tree.leaves(outputs, is_leaf=is_masked)


class Forward:
    """A layer run for an objective: outputs, and logits where the loss should use those.

    Where an output ends in softmax or sigmoid and its loss takes probabilities, the loss is
    computed from the values before the activation: the same number, without the gradient that
    rounding would lose (`without_last_activation` finds where that is).
    """

    def __init__(self, layer: Layer, objective: Objective) -> None:
        self.layer = layer
        self.moves_targets = moves_targets(layer)
        self.forms = [getattr(goal.loss, "logits", None) for goal in objective.goals]

    def __call__(
        self, params: Tree, state: Tree, arrays: Batch, ctx: Context
    ) -> tuple[list[Tree], list[Array | None], Tree, Batch]:
        """(outputs, the logits for each loss or None, state after, arrays with their targets).

        Layers of images may have changed the targets.
        """
        x = arrays["x"]
        layer = self.layer
        ends: dict[OutputPath, End] = {}
        if any(self.forms):
            layer, ends = without_last_activation(layer, x)
        targets = arrays["y"]
        if self.moves_targets:
            result, state, targets = call_with_targets(
                layer, params, state, x, targets, ctx
            )
        else:
            result, state = call(layer, params, state, x, ctx)
        outputs = []
        logits: list[Array | None] = []
        by_path = outputs_by_path(result)
        for form, (path, y) in zip(self.forms, by_path, strict=True):
            end = ends.get(path)
            if end is None:
                outputs.append(y)
                logits.append(None)
                continue
            outputs.append(end.of(y))
            name = end.name_for(y.shape)
            if form and name:
                logits.append(in_form(form, name, split_mask(y)[0]))
            else:
                logits.append(None)
        return outputs, logits, state, {**arrays, "y": targets}


@small_cache(64)
def make_loss(layer: Layer, objective: Objective) -> Callable[..., Tree]:
    """The pure function `loss(params, now, batch, key) -> (loss, (state, logs))` in training.

    `params` are the weights that gradients change; all others are taken from `now`.
    """
    forward = Forward(layer, objective)

    def loss_of(
        params: Tree,
        now: TrainState,
        batch: Tree,
        key: Array,
    ) -> tuple[Array, tuple[Tree, Logs]]:
        arrays, rows = batch
        _, fixed = weights.split(layer, now.params)
        whole = weights.merge(now.params, params, fixed)
        ctx = Context(train=True, key=key, rows=rows, remat=objective.remat)
        if objective.function is not None:
            return run_own(layer, objective, (whole, params), now.state, arrays, ctx)
        outputs, logits, state, arrays = forward(whole, now.state, arrays, ctx)
        penalty = weights.penalty(layer, params) + weights.auxiliary(state)
        loss, logs = objective.evaluate(outputs, logits, arrays, rows, penalty)
        return loss, (state, logs)

    return loss_of


def _shared(make: Callable[..., T]) -> Callable[..., T]:
    """Caches `make` by its arguments; the optimizer's learning rate is not part of the key."""
    made = small_cache(64)(make)

    @functools.wraps(make)
    def cached(*arguments: object) -> T:
        return made(*map(without_rate, arguments))

    return cached


@_shared
def make_train_step(
    layer: Layer,
    objective: Objective,
    optimizer: Optimizer,
    norms: bool = False,
) -> Callable[..., Tree]:
    """The pure function `step(train_state, batch, key) -> (train_state, logs)` of a model.

    `batch` is `({"x": ..., "y": (...), "weight": (...)}, rows)`; `rows` is False for padding.
    The step takes the gradient of the loss with its penalties, updates the trainable weights and
    applies constraints. The logs are accumulated sums. If any gradient is not finite, or any
    update of an optimizer that is not fnn's own, the loss in them is not finite either.
    `norms` adds the norms of gradients, updates and weights: `gradient_norm/dense/kernel`.

    >>> from fnn.training.objective import OutputGoal
    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="zeros"), jnp.ones((8, 1))
    >>> optimizer, goal = fnn.optimizers.SGD(0.125), OutputGoal("output", fnn.losses.get("mse"))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> opt_state = init_optimizer(layer, optimizer, params)
    >>> now = TrainState(params, state, opt_state, jax.random.key(0))
    >>> batch = {"x": x, "y": (x,), "weight": ()}, jnp.ones(8, bool)
    >>> step = jax.jit(make_train_step(layer, Objective((goal,)), optimizer))
    >>> now, logs = step(now, batch, jax.random.key(1))
    >>> logs["loss"].result.item(), now.params["kernel"].item()
    (1.0, 0.25)
    """
    objective_of = make_loss(layer, objective)

    def train_step(now: TrainState, batch: Tree, key: Array) -> tuple[TrainState, Logs]:
        learning, _ = weights.split(layer, now.params)
        # A partial function is no frame of its own in a traceback.
        loss_of = functools.partial(objective_of, now=now, batch=batch, key=key)

        def value_of(params: Tree) -> Array:
            value: Array = loss_of(params)[0]
            return value

        if _updates_itself(optimizer):
            _, (state, logs) = loss_of(learning)
            grads: Tree = {}
            updates = _own_updates(optimizer, value_of, learning)
            after = now.optimizer
        else:
            scale = loss_scale(now.optimizer)
            gradient = _value_and_grad(loss_of, scale)
            (loss, (state, logs)), grads = gradient(learning)
            count = entry_count(objective, logs["loss"])
            logs = _spoil(logs, grads, scale)
            extra = {"value": loss, "grad": grads, "value_fn": value_of}
            updates, after = run_update(
                optimizer, grads, now.optimizer, learning, weight=count, **extra
            )
        if not keeps_finite(optimizer):
            logs = _spoil(logs, updates, None)
        if norms:
            logs = {**logs, **_norms(grads, updates, learning)}
        new = _updated(layer, now, learning, updates)
        step = next_step(now.step)
        new = new.replace(state=state, optimizer=after, step=step)
        return same_types(new, now), logs

    made_from = {"network": layer, "objective": objective, "optimizer": optimizer}
    return _described(train_step, "training", **made_from, norms=norms)


def _described(
    step: Callable[..., Tree], program: str, **values: object
) -> Callable[..., Tree]:
    """The step, with what the log of compilations says of its program and its origin."""
    step.program, step.made_from = program, values  # type: ignore[attr-defined]
    return step


def next_step(step: Array | np.ndarray) -> Array:
    """The number of the step after this one; the largest integer stays."""
    after: Array = optax.safe_increment(step)
    return after


def _value_and_grad(loss_of: Loss, scale: Array | None) -> Callable[[Tree], Tree]:
    """`params -> ((loss, more), gradients)`, with gradients of the loss times `scale`, if any."""
    if scale is None:
        return jax.value_and_grad(loss_of, has_aux=True)

    def scaled_loss(params: Tree) -> tuple[Array, Tree]:
        loss, more = loss_of(params)
        return loss * scale.astype(loss.dtype), (loss, more)

    def value_and_grad(params: Tree) -> Tree:
        (_, found), grads = jax.value_and_grad(scaled_loss, has_aux=True)(params)
        return found, grads

    return value_and_grad


def _norms(gradients: Tree, updates: Tree, params: Tree) -> Logs:
    """The norm of each gradient, update and weight, by name and path."""
    logs = {}
    for name, whole in zip(NORMS, (gradients, updates, params), strict=True):
        for path, leaf in tree.flatten(whole):
            if path:
                squares = jnp.square(leaf.astype(jnp.float32))
                norm = jnp.sqrt(jnp.sum(squares))
                sums = {"total": norm, "count": jnp.ones(())}
                label = "/".join((name, *path))
                logs[label] = Accumulator(Mean(), sums)
    return logs


def _updated(
    layer: Layer,
    now: TrainState,
    learning: Tree,
    updates: Tree,
) -> TrainState:
    """The state with updates added to the trainable weights, and constraints applied."""
    _, fixed = weights.split(layer, now.params)
    learned = moved(layer, learning, updates)
    return now.replace(params=weights.merge(now.params, learned, fixed))


def moved(layer: Layer, learning: Tree, updates: Tree) -> Tree:
    """The trainable weights with updates added, and constraints applied.

    A weight that has not moved is not constrained: its gradient was accumulated only, or left
    out, and a constraint that moves part of the way would move it again in every step.
    """
    after = optax.apply_updates(learning, updates)

    def pick(constrained: Array, moved: Array, update: Array) -> Array:
        if constrained is moved:
            return moved
        return jnp.where(jnp.any(update != 0), constrained, moved)

    constrained = weights.constrain(layer, after)
    return jax.tree.map(pick, constrained, after, updates)


@_shared
def make_flush(
    layer: Layer, optimizer: Optimizer
) -> Callable[[TrainState], TrainState] | None:
    """The compiled function that applies gradients still accumulated in the optimizer's state.

    None for an optimizer that accumulates none.
    """
    if not getattr(optimizer, "accumulates", False):
        return None

    @jax.jit
    def flush(now: TrainState) -> TrainState:
        learning, _ = weights.split(layer, now.params)
        updates, after = optimizer.flush(now.optimizer, learning)
        new = _updated(layer, now, learning, updates)
        return same_types(new.replace(optimizer=after), now)

    return flush


def with_average(layer: Layer, optimizer: Optimizer, now: TrainState) -> TrainState:
    """The state with the running average in place of the weights, if the optimizer keeps one.

    Constraints are applied to it too: it averages weights from before they were constrained.
    """
    if not getattr(optimizer, "averages", False):
        return now
    learning, fixed = weights.split(layer, now.params)
    average = optimizer.average(now.optimizer, learning)
    average = weights.constrain(layer, average)
    return now.replace(params=weights.merge(now.params, average, fixed))


def same_types(new: TrainState, old: TrainState) -> TrainState:
    """`new` in the dtypes of `old`: the next step takes the same dtypes as this one."""

    def cast(new: Array, old: Array) -> Array:
        if hasattr(old, "dtype") and new.dtype != old.dtype:
            return new.astype(old.dtype)
        return new

    state: TrainState = jax.tree.map(cast, new, old)
    return state


def _spoil(logs: Logs, grads: Tree, scale: Array | None) -> Logs:
    """The logs with a loss that is not finite if any gradient (or update) is not.

    Infinity in gradients of a loss scaled by more than 1 is left to the optimizer.
    """
    size: Tree = 0.0
    for gradient in jax.tree.leaves(grads):
        size = size + jnp.sum(jnp.abs(gradient), dtype=jnp.float32)
    # NaN where a gradient is infinite or NaN, else 0.
    nothing = 0 * size
    if scale is not None:
        nothing = jnp.where(scale > 1, 0, nothing)
    loss = logs["loss"]
    sums = jax.tree.map(lambda total: total + nothing, loss.sums)
    return {**logs, "loss": Accumulator(loss.metric, sums)}


def _updates_itself(optimizer: object) -> bool:
    """Whether the optimizer computes updates from the loss itself, as Keras's old ones did."""
    return hasattr(optimizer, "get_updates")


def _own_updates(
    optimizer: Tree, value_of: Callable[[Tree], Array], params: Tree
) -> Tree:
    """The updates that such an optimizer computes."""
    return expand_updates(optimizer.get_updates(value_of, params), params)


def init_optimizer(layer: Layer, optimizer: Optimizer, params: Tree) -> Tree:
    """The state of the optimizer for the trainable weights."""
    if _updates_itself(optimizer):
        return {}
    learning, fixed = weights.split(layer, params)
    with weights.beside(fixed):
        return init_state(optimizer, learning)


@small_cache(64)
def make_eval_step(layer: Layer, objective: Objective) -> Callable[..., Tree]:
    """The pure function `step((params, state), batch, key) -> ((params, state), logs)`.

    The state stays as it is, except in stateful layers.

    >>> from fnn.training.objective import OutputGoal
    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="zeros"), jnp.ones((8, 1))
    >>> step = make_eval_step(layer, Objective((OutputGoal("output", fnn.losses.get("mse")),)))
    >>> batch = {"x": x, "y": (3 * x,), "weight": ()}, jnp.ones(8, bool)
    >>> weighted, logs = step(layer.init(jax.random.key(0), x), batch, jax.random.key(1))
    >>> logs["loss"].result.item()
    9.0
    """
    forward = Forward(layer, objective)

    def eval_step(weighted: Tree, batch: Tree, key: Array) -> tuple[Tree, Logs]:
        params, state = weighted
        arrays, rows = batch
        ctx = Context(key=key, rows=rows)
        learning, _ = weights.split(layer, params)
        if objective.function is not None:
            given = params, learning
            _, (after, logs) = run_own(layer, objective, given, state, arrays, ctx)
            return (params, after), logs
        outputs, logits, after, arrays = forward(params, state, arrays, ctx)
        penalty = weights.penalty(layer, learning) + weights.auxiliary(after)
        _, logs = objective.evaluate(outputs, logits, arrays, rows, penalty)
        return (params, after), logs

    return _described(eval_step, "evaluation", network=layer, objective=objective)
