"""The pure step functions of a model: train, evaluate, predict. Equal arguments share one step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core import tree, weights
from fnn.core.calling import call
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.masking import is_masked, split_mask, strip_masks
from fnn.last_activation import End, outputs_by_path, without_last_activation
from fnn.losses.logits import in_form
from fnn.metrics import Mean
from fnn.optimizers import expand_updates, loss_scale, run_update
from fnn.optimizers.optimizer import start, stays_finite, without_rate
from fnn.runtime.program_cache import programs, small_cache
from fnn.training.objective import Objective, entries
from fnn.training.state import Tally, TrainState


def output_leaves(outputs: Any) -> list[Any]:
    """The outputs of a model one by one (dicts in the order of their keys)."""
    return jax.tree.leaves(outputs, is_leaf=is_masked)


class Forward:
    """A layer run for an objective: outputs, and logits where the loss should see those.

    Where an output ends in softmax or sigmoid and its loss takes probabilities, the loss is taken
    of the values before the activation: the same number, and no gradient lost to rounding
    (`without_last_activation` says where that is).
    """

    def __init__(self, layer: Layer, objective: Objective) -> None:
        self.layer = layer
        self.forms = [getattr(goal.loss, "logits", None) for goal in objective.goals]

    def __call__(
        self, params: Any, state: Any, x: Any, ctx: Context
    ) -> tuple[list[Any], list[Any], Any]:
        """(outputs, what the losses are taken of instead or None, state after)."""
        layer, ends = self.layer, dict[Any, End]()
        if any(self.forms):
            layer, ends = without_last_activation(layer, x)
        result, state = call(layer, params, state, x, ctx)
        outputs, bare = [], []
        for form, (path, y) in zip(self.forms, outputs_by_path(result), strict=True):
            end = ends.get(path)
            name = None if end is None else end.name_for(y.shape)
            bare.append(
                in_form(form, name, split_mask(y)[0]) if form and name else None
            )
            outputs.append(y if end is None else end.of(y))
        return outputs, bare, state


@small_cache(64)
def make_loss(layer: Layer, objective: Objective) -> Callable[..., Any]:
    """The pure function `loss(params, now, batch, key) -> (loss, (state, logs))` in training.

    `params` are the weights that learn; the others are taken from `now`.
    """
    forward = Forward(layer, objective)

    def loss_of(params: Any, now: TrainState, batch: Any, key: Array) -> Any:
        arrays, rows = batch
        _, fixed = weights.split(layer, now.params)
        whole = weights.merge(now.params, params, fixed)
        ctx = Context(train=True, key=key, rows=rows)
        outputs, bare, state = forward(whole, now.state, arrays["x"], ctx)
        penalty = weights.penalty(layer, params) + weights.auxiliary(state)
        loss, logs = objective.evaluate(outputs, bare, arrays, rows, penalty)
        return loss, (state, logs)

    return loss_of


def _shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """Caches `make` by its arguments; the learning rate of an optimizer is not part of the key."""
    made = small_cache(64)(make)
    return functools.wraps(make)(lambda *arguments: made(*map(without_rate, arguments)))


NORMS = ("gradient_norm", "update_norm", "weight_norm")


@_shared
def make_train_step(
    layer: Layer, objective: Objective, optimizer: Any, norms: bool = False
) -> Callable[..., Any]:
    """The pure function `step(train_state, batch, key) -> (train_state, logs)` of a model.

    `batch` is `({"x": ..., "y": (...), "weight": (...)}, rows)`, `rows` True where a row is real.
    It takes the gradient of the loss with the penalties, updates what learns, applies
    constraints. The logs are tallies; if any gradient is not finite, or any update of an optimizer
    that is not fnn's own, the loss is not either.
    With `norms` there are those of gradients, updates and weights: `gradient_norm/dense/kernel`.

    >>> from fnn.training.objective import OutputGoal
    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="zeros"), jnp.ones((8, 1))
    >>> optimizer, goal = fnn.optimizers.SGD(0.125), OutputGoal("output", fnn.losses.get("mse"))
    >>> params, state = layer.init(jax.random.key(0), x)
    >>> slots = init_optimizer(layer, optimizer, params)
    >>> now = TrainState(params, state, slots, jax.random.key(0))
    >>> batch = {"x": x, "y": (x,), "weight": ()}, jnp.ones(8, bool)
    >>> step = jax.jit(make_train_step(layer, Objective((goal,)), optimizer))
    >>> now, logs = step(now, batch, jax.random.key(1))
    >>> logs["loss"].result.item(), now.params["kernel"].item()
    (1.0, 0.25)
    """
    objective_of = make_loss(layer, objective)

    def train_step(
        now: TrainState, batch: Any, key: Array
    ) -> tuple[TrainState, dict[str, Tally]]:
        learning, _ = weights.split(layer, now.params)
        loss_of = lambda params: objective_of(params, now, batch, key)
        if _updates_itself(optimizer):
            _, (state, logs) = loss_of(learning)
            updates = optimizer.get_updates(lambda params: loss_of(params)[0], learning)
            updates, slots = expand_updates(updates, learning), now.optimizer
            grads: Any = {}
        else:
            scale = loss_scale(now.optimizer)
            (loss, (state, logs)), grads = _gradient(loss_of, learning, scale)
            weight = entries(objective, logs["loss"])
            logs = _spoil(logs, grads, scale)
            extra = {
                "value": loss,
                "grad": grads,
                "value_fn": lambda params: loss_of(params)[0],
            }
            updates, slots = run_update(
                optimizer, grads, now.optimizer, learning, weight=weight, **extra
            )
        if not stays_finite(optimizer):
            logs = _spoil(logs, updates, None)
        if norms:
            logs = {**logs, **_norms(grads, updates, learning)}
        new = _updated(layer, now, learning, updates)
        new = new.replace(
            state=state, optimizer=slots, step=optax.safe_increment(now.step)
        )
        return _same_types(new, now), logs

    return train_step


def _norms(*trees: Any) -> dict[str, Tally]:
    """The norm of each leaf of gradients, updates and weights, by path."""
    norm = lambda a: jnp.sqrt(jnp.square(a.astype(jnp.float32)).sum())
    return {
        "/".join((name, *path)): Tally(
            Mean(), {"total": norm(leaf), "count": jnp.ones(())}
        )
        for name, whole in zip(NORMS, trees, strict=True)
        for path, leaf in tree.flatten(whole)
        if path
    }


def _gradient(loss_of: Any, params: Any, scale: Array | None) -> Any:
    """((loss, more), gradients), these of the loss times `scale`, if there is one."""
    if scale is None:
        return jax.value_and_grad(loss_of, has_aux=True)(params)

    def scaled(params: Any) -> Any:
        loss, more = loss_of(params)
        return loss * scale.astype(loss.dtype), (loss, more)

    (_, found), grads = jax.value_and_grad(scaled, has_aux=True)(params)
    return found, grads


def _updated(layer: Layer, now: TrainState, learning: Any, updates: Any) -> TrainState:
    """The state with updates added to the weights that learn, and constraints applied.

    A weight that has not moved is not constrained: its gradient waits among others, or was left
    out, and a constraint that goes part of the way would go it again and again.
    """
    _, fixed = weights.split(layer, now.params)
    moved = optax.apply_updates(learning, updates)
    pick = lambda c, m, u: c if c is m else jnp.where(jnp.any(u != 0), c, m)
    learned = jax.tree.map(pick, weights.constrain(layer, moved), moved, updates)
    return now.replace(params=weights.merge(now.params, learned, fixed))


@_shared
def make_flush(
    layer: Layer, optimizer: Any
) -> Callable[[TrainState], TrainState] | None:
    """The compiled function that applies gradients which wait in the optimizer's state.

    None for an optimizer that lets none wait.
    """
    if not getattr(optimizer, "accumulates", False):
        return None

    @jax.jit
    def flush(now: TrainState) -> TrainState:
        learning, _ = weights.split(layer, now.params)
        updates, slots = optimizer.flush(now.optimizer, learning)
        return _same_types(
            _updated(layer, now, learning, updates).replace(optimizer=slots), now
        )

    return flush


def with_average(layer: Layer, optimizer: Any, now: TrainState) -> TrainState:
    """The state with the running average in place of the weights, if the optimizer keeps one.

    Constraints hold for it too: the average is one of weights before they were constrained.
    """
    if not getattr(optimizer, "averages", False):
        return now
    learning, fixed = weights.split(layer, now.params)
    average = weights.constrain(layer, optimizer.average(now.optimizer, learning))
    return now.replace(params=weights.merge(now.params, average, fixed))


def _same_types(new: TrainState, old: TrainState) -> TrainState:
    """`new` in the dtypes of `old`: a step must not change what it is given next."""
    return jax.tree.map(
        lambda n, o: (
            n.astype(o.dtype) if hasattr(o, "dtype") and n.dtype != o.dtype else n
        ),
        new,
        old,
    )


def _spoil(logs: dict[str, Tally], grads: Any, scale: Array | None) -> dict[str, Tally]:
    """The logs, with a loss that is not finite if any gradient (or update) is not.

    What a scale above 1 has made infinite is for the optimizer to deal with.
    """
    size = sum(
        (jnp.sum(jnp.abs(g), dtype=jnp.float32) for g in jax.tree.leaves(grads)), 0.0
    )
    nothing = 0 * size  # NaN where a gradient is infinite or NaN
    if scale is not None:
        nothing = jnp.where(scale > 1, 0, nothing)
    loss = logs["loss"]
    sums = jax.tree.map(lambda total: total + nothing, loss.sums)
    return {**logs, "loss": Tally(loss.metric, sums)}


def _updates_itself(optimizer: Any) -> bool:
    return hasattr(optimizer, "get_updates")


def init_optimizer(layer: Layer, optimizer: Any, params: Any) -> Any:
    """The state of the optimizer for the weights that learn."""
    if _updates_itself(optimizer):
        return {}
    learning, _ = weights.split(layer, params)
    return start(optimizer, learning)


@small_cache(64)
def make_eval_step(layer: Layer, objective: Objective) -> Callable[..., Any]:
    """The pure function `step((params, state), batch, key) -> ((params, state), logs)`.

    The state is what it was, but for layers that are stateful.

    >>> from fnn.training.objective import OutputGoal
    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="zeros"), jnp.ones((8, 1))
    >>> step = make_eval_step(layer, Objective((OutputGoal("output", fnn.losses.get("mse")),)))
    >>> batch = {"x": x, "y": (3 * x,), "weight": ()}, jnp.ones(8, bool)
    >>> weighted, logs = step(layer.init(jax.random.key(0), x), batch, jax.random.key(1))
    >>> logs["loss"].result.item()
    9.0
    """
    forward = Forward(layer, objective)

    def eval_step(
        weighted: Any, batch: Any, key: Array
    ) -> tuple[Any, dict[str, Tally]]:
        (params, state), (arrays, rows) = weighted, batch
        outputs, bare, after = forward(params, state, arrays["x"], Context(rows=rows))
        learning, _ = weights.split(layer, params)
        penalty = weights.penalty(layer, learning) + weights.auxiliary(after)
        return (params, after), objective.evaluate(
            outputs, bare, arrays, rows, penalty
        )[1]

    return eval_step


def predict_function(layer: Layer) -> Callable[..., Any]:
    """The pure function `step(params, state, x) -> (outputs without masks, state)`."""

    def predict_step(params: Any, state: Any, x: Any) -> Any:
        outputs, state = call(layer, params, state, x, Context())
        return strip_masks(outputs), state

    return predict_step


@programs.cached
def make_predict_step(layer: Layer) -> Callable[..., Any]:
    """`predict_function`, compiled.

    >>> layer, x = fnn.layers.Dense(1, kernel_initializer="ones"), jnp.ones((2, 3))
    >>> make_predict_step(layer)(*layer.init(jax.random.key(0), x), x)[0].tolist()
    [[3.0], [3.0]]
    """
    return jax.jit(predict_function(layer))
