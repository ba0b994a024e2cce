"""Fitting: the plan of one call of `fit`, from what the user passed and the parts of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from fnn.core.tree import Tree
from fnn.data.splits import Split
from fnn.models.feed import Data, Feed
from fnn.runtime.settings import settings
from fnn.runtime.warning import warn
from fnn.training import checks, evaluation, sources
from fnn.training.hooks import Callback, CallbackList
from fnn.training.objective import Objective
from fnn.training.plan import Plan
from fnn.training.step import make_flush, with_average

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
        weights=program.holder,
        callbacks=callbacks,
        key=weights.now.key,
        guard=program.guard,
        diagnose=program.diagnosis(objective),
        begin_epoch=program.begin_epoch,
        end_epoch=make_flush(layer, optimizer),
        end_training=end_training,
        recipe=program.recipe(objective),
        **given,
    )


def listening(
    model: object,
    callbacks: Callback | Iterable[Callback] | None,
    verbose: str | int,
    steps: int | None,
) -> CallbackList:
    """The callbacks of one pass of `evaluate` or `predict`."""
    params = {"verbose": verbose, "epochs": 1, "steps": steps}
    return CallbackList(callbacks, model, params)


def limited(epochs: int, steps: int | None) -> tuple[int, int | None]:
    """Epochs and steps per epoch within the limits of `fnn.config`, with a warning."""
    most = settings.max_epochs
    if most and most < epochs:
        warn(f"fit: {epochs} epochs are limited to {most} by fnn.config.set_max_epochs")
        epochs = most
    if settings.max_steps_per_epoch:
        steps = limited_steps(steps)
    return epochs, steps


def limited_steps(steps: int | None) -> int | None:
    """The number of steps within the limit of `fnn.config`, with a warning."""
    most = settings.max_steps_per_epoch
    if not most or (steps and steps <= most):
        return steps
    warn(f"the steps are limited to {most} by fnn.config.set_max_steps_per_epoch")
    return most


def split(
    feed: Feed,
    x: Tree,
    y: Tree,
    weight: Tree,
    validation_data: Tree,
    fraction: float | Split,
) -> tuple[Tree, ...]:
    """(x, y, sample_weight, validation data), the last split off unless it was given."""
    x, y, weight = feed.readable(x, y, weight)
    if not fraction or validation_data is not None:
        return x, y, weight, validation_data
    return feed.split(x, y, weight, fraction)


def validation(
    feed: Feed,
    given: Tree,
    sizes: tuple[int | None, int | None],
    steps: int | None,
    is_due: Callable[[int], bool],
    epochs: int,
) -> Validate | None:
    """The function that validates after an epoch, if it is due; None without validation data.

    `sizes` are that of its batches, and of those of training in its place.
    """
    if given is None:
        return None
    batch_size, default = sizes
    checks.check_positive(validation_steps=steps, validation_batch_size=batch_size)
    if batch_size is None:
        batch_size = default
    steps = limited_steps(steps)
    given = sources.readable(given)
    if sources.is_stream(given):
        if isinstance(given, Iterator) and epochs > 1 and steps is None:
            raise ValueError(
                "expected validation_data that starts again every epoch, received an iterator; "
                "pass a function that returns it, or arrays"
            )
        data, objective = feed.data(given, batch_size=batch_size, steps=steps)
    else:
        x, y, weight = sources.unpack_batch(given, sources.NO_NAMES)
        data, objective = feed.data(x, y, weight, batch_size=batch_size)
    step = feed.program.eval_step(objective)
    program = feed.program

    def validate(epoch: int, callbacks: CallbackList) -> dict[str, float]:
        if not is_due(epoch):
            return {}
        return evaluation.evaluate(
            step,
            program.evaluated,
            data,
            callbacks=callbacks,
            steps=steps,
            carry=program.carry(keeps=False),
        )

    return validate
