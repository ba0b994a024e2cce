"""Fitting: the plan of one call of `fit`, from what the user passed and the parts of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TypeAlias

from fnn.core.tree import Tree
from fnn.models.feed import Data, Feed
from fnn.training import checks, evaluation, inputs
from fnn.training.diagnosis import diagnose
from fnn.training.hooks import Callback, CallbackList
from fnn.training.objective import Objective
from fnn.training.step import make_flush, make_loss, with_average
from fnn.training.trainer import Plan

Validate: TypeAlias = Callable[[int, CallbackList], dict[str, float]]


def plan_of(
    model: object,
    feed: Feed,
    data: Data,
    objective: Objective,
    callbacks: list[Callback],
    **given: Tree,
) -> Plan:
    """The plan to train a model on data; `given` are fields of the plan as the user passed them."""
    program, weights = feed.program, feed.weights
    program.ensure_optimizer_state()
    layer, optimizer = weights.network.layer, program.optimizer
    end_training = None
    if getattr(optimizer, "averages", False):
        end_training = functools.partial(with_average, layer, optimizer)
    norms = any(getattr(callback, "step_statistics", False) for callback in callbacks)
    return Plan(
        step=program.train_step(objective, norms),
        data=data,
        run=model,
        weights=weights,
        callbacks=callbacks,
        key=weights.now.key,
        guard=program.guard,
        diagnose=functools.partial(diagnose, layer, make_loss(layer, objective)),
        end_epoch=make_flush(layer, optimizer),
        end_training=end_training,
        recipe=program.recipe(objective),
        **given,
    )


def validation(
    feed: Feed,
    given: Tree,
    batch_size: int | None,
    steps: int | None,
    is_due: Callable[[int], bool],
    epochs: int,
) -> Validate | None:
    """The function that validates after an epoch, if it is due; None without validation data."""
    if given is None:
        return None
    checks.check_positive(validation_steps=steps, validation_batch_size=batch_size)
    if inputs.is_stream(given):
        if isinstance(given, Iterator) and epochs > 1 and steps is None:
            raise ValueError(
                "expected validation_data that starts again every epoch, received an iterator; "
                "pass a function that returns it, or arrays"
            )
        data, objective = feed.data(given, batch_size=batch_size, steps=steps)
    else:
        x, y, weight = inputs.unpack_batch(given)
        data, objective = feed.data(x, y, weight, batch_size=batch_size)
    step = feed.program.eval_step(objective)
    # The states of stateful layers are dropped: training continues from its own.
    carry = _dropped if feed.weights.network.is_stateful else None

    def validate(epoch: int, callbacks: CallbackList) -> dict[str, float]:
        if not is_due(epoch):
            return {}
        return evaluation.evaluate(
            step, feed.weights, data, callbacks=callbacks, steps=steps, carry=carry
        )

    return validate


def _dropped(state: Tree) -> None:
    """Keeps no state."""
