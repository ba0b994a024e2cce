"""fit_many and cross_validate: independent trainings of one model in one program."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from fnn.core import tree
from fnn.core.calling import initialize, walk
from fnn.core.context import salt
from fnn.core.tree import Tree
from fnn.models.folding import Fold
from fnn.models.many_batches import ManyBatches
from fnn.models.members import Devices, Members
from fnn.models.model import Model
from fnn.models.own_steps import overrides
from fnn.models.weights import Weights
from fnn.preprocessing.adapting import Adapting
from fnn.runtime.layouts import current
from fnn.runtime.program_cache import small_cache
from fnn.runtime.seed import next_key
from fnn.runtime.warning import warn
from fnn.training import checks
from fnn.training.history import History
from fnn.training.hooks import as_list
from fnn.training.interrupt import interruptible
from fnn.training.loop import Callbacks, Run, train
from fnn.training.many import (
    ManyState,
    change_alive,
    make_many_step,
    stacked,
    unstacked,
)
from fnn.training.plan import Plan
from fnn.training.progress import Progress
from fnn.training.state import TrainState
from fnn.training.step import make_flush, with_average

Change: TypeAlias = Callable[[ManyState], ManyState]


def fit_many(
    model: Model,
    x: Tree,
    y: Tree = None,
    *,
    seeds: Sequence[int] | int | None = None,
    learning_rates: Sequence[Tree] | float | None = None,
    folds: object = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: str | int = "auto",
    callbacks: Callbacks = None,
    validation_data: Tree = None,
    shuffle: bool | str = True,
    class_weight: Tree = None,
    sample_weight: Tree = None,
    steps_per_epoch: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Iterable[int] = 1,
    devices: Devices = None,
) -> Members:
    """Trains a compiled model several times at once, in one program. Returns the `Members`.

    A member has its own seed, learning rate and fold; lists of several of these have one length,
    and a single seed or rate is that of all members. The model itself stays as it is.

    `seeds`           new weights, order of the examples and dropout, as `Model(layer, seed=s)`;
                      without them all members start from the weights and key of `model`
    `learning_rates`  in place of the one that the model was compiled with
    `folds`           an integer k (consecutive parts), a splitter of scikit-learn, or pairs of
                      indices (train, validation); a member is validated on its own part
    `devices`         over which the members are divided; the default is those of the distribution
                      with which the model was compiled, or all of this process

    Other arguments are those of `fit`. Each member becomes what `fit` alone would make of it,
    with the same order of examples and the same random numbers; weights differ by rounding alone
    (about 1e-6), since XLA sums a product of several matrices in another order. At a loss that is
    not finite `guard="raise"` ends that member before the step: its history ends with NaN and the
    others continue.

    One program is compiled for all members, and on several devices they train side by side. On
    one CPU a step of several members takes about as long as their steps one after the other, and
    longer with convolutions, which XLA computes slowly for several members. Each member lies on one
    device as a whole, so batches are not divided. Raises ValueError for a distribution that
    divides weights, unless `devices` are given, and for streams, callbacks, stateful recurrent
    layers and models with a `train_step` of their own.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.compile("sgd", "mse")
    >>> x = np.eye(2, dtype="float32")
    >>> members = fit_many(model, x, x[:, :1], seeds=[0, 1, 2], epochs=2, verbose=0)
    >>> len(members), members.predict(x).shape, members.best() is members[members.best_index()]
    (3, (3, 2, 1), True)
    """
    _refuse(model, callbacks, folds, validation_data)
    devices = devices or _devices_of(model)
    feed, program = model._feed, model._program
    progress = Progress.of_fit(verbose)
    with interruptible(), progress:
        batches = ManyBatches(feed, x, y, sample_weight, class_weight, folds)
        setups = _setups(seeds, learning_rates, batches.folds)
        models = [_member(model, *setup) for setup in setups]
        members = Members(models, (), devices)
        step = program.train_step(batches.objective)
        run = Run(_start(members))
        flush = make_flush(model._network.layer, program.optimizer)
        due = checks.validation_schedule(validation_freq)
        sizes = validation_batch_size or batch_size
        plan = Plan(
            step=make_many_step(step, program.guard, members.mesh),
            data=batches.train(members, batch_size, shuffle, steps_per_epoch),
            run=run,
            weights=run,
            callbacks=[],
            key=random.key(0),
            epochs=epochs,
            initial_epoch=0,
            steps=steps_per_epoch,
            verbose=verbose,
            guard="ignore",
            validate=batches.validation(members, run, validation_data, sizes, due),
            validates=due,
            progress=progress,
            end_epoch=_end_of_epochs(flush),
            end_training=_end_training(model),
        )
        history = train(plan)
    return _finished(members, run.now, history, devices)


def cross_validate(
    model: Model,
    x: Tree,
    y: Tree = None,
    folds: object = 5,
    **given: Any,
) -> Members:
    """Trains a compiled model on each fold at once and scores it on the examples left out.

    `members.scores["val_loss"]` has the score of each fold, and so has `val_` with the name of
    each metric. `folds` and the other arguments are those of `fit_many`; the scores are taken
    after the last epoch. All folds start from the same weights: those of the model, or with
    `seeds` new ones. Equal to a loop over scikit-learn's `KFold(k).split(x)`, except for rounding.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> model.compile("sgd", "mse")
    >>> x = np.ones((6, 2), "float32")
    >>> cross_validate(model, x, x[:, :1], folds=3, verbose=0).scores["val_loss"].shape
    (3,)
    """
    epochs = max(given.get("epochs", 1), 1)
    given.setdefault("validation_freq", epochs)
    return fit_many(model, x, y, folds=folds, **given)


# -- what is refused -----------------------------------------------------------------------------


def _refuse(
    model: Model, callbacks: Callbacks, folds: object, validation_data: Tree
) -> None:
    """Raises for what cannot run in one program, and before `compile`."""
    model._program.require("fit_many")
    instead = "train the members one by one with fit"
    if callbacks is not None and as_list(callbacks):
        names = ", ".join(type(one).__name__ for one in as_list(callbacks))
        raise ValueError(
            f"fit_many takes no callbacks, since all members run in one program, got {names}; "
            f"use a schedule of fnn.schedules for the learning rate, or {instead}"
        )
    if overrides(model, "train_step") or overrides(model, "test_step"):
        raise ValueError(
            f"fit_many runs the step of fit, but {type(model).__name__} has its own; {instead}"
        )
    if model._network.is_stateful:
        raise ValueError(
            f"fit_many takes no stateful recurrent layers, but {model.name!r} has some; {instead}"
        )
    if folds is not None and validation_data is not None:
        raise ValueError(
            "each fold has its own validation examples; pass folds or validation_data, not both"
        )


def _devices_of(model: Model) -> Devices:
    """The devices of the distribution that holds for a model; None without one.

    Raises ValueError for one that divides weights: a member lies on one device.
    """
    distribution = model._program.distribution or current()
    if distribution is None:
        return None
    if distribution.rules:
        raise ValueError(
            f"fit_many divides the members over the devices, each with all its weights, but the "
            f"distribution of {model.name!r} divides weights: {distribution}; compile with "
            "fnn.distribution.DataParallel() or without one, pass devices, or train the members "
            "one by one with fit"
        )
    return [
        device
        for device in distribution.mesh.devices.flat
        if device.process_index == jax.process_index()
    ]


# -- the state -----------------------------------------------------------------------------------


def _end_training(model: Model) -> Change | None:
    """What changes the state at the end of the training."""
    layer, optimizer = model._network.layer, model._program.optimizer
    if not getattr(optimizer, "averages", False):
        return None
    return change_alive(functools.partial(with_average, layer, optimizer))


@small_cache(64)
def _end_of_epochs(flush: Callable[[TrainState], TrainState] | None) -> Change:
    """What changes the state at the end of an epoch, compiled once."""
    return change_alive(functools.partial(_end_epoch, flush))


def _end_epoch(
    flush: Callable[[TrainState], TrainState] | None, now: TrainState
) -> TrainState:
    now = now.replace(epoch=now.epoch + 1)
    return now if flush is None else flush(now)


# -- the members ---------------------------------------------------------------------------------


class _Setup(NamedTuple):
    """What is a member's own."""

    seed: int | None
    rate: Tree


def _setups(seeds: Tree, rates: Tree, folds: list[Fold] | None) -> list[_Setup]:
    """The setup of each member. Raises ValueError for lists of different lengths."""
    given = {"seeds": seeds, "learning_rates": rates, "folds": folds}
    several = {name: list(one) for name, one in given.items() if _is_several(one)}
    lengths = {name: len(one) for name, one in several.items()}
    if not lengths or 0 in lengths.values():
        raise ValueError(
            "fit_many needs a list of seeds, learning_rates or folds with a value for each member; "
            "pass seeds=range(8)"
        )
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise ValueError(
            f"every member has one seed, one learning rate and one fold, got {shown}; pass lists "
            "of one length (itertools.product makes all combinations)"
        )
    count = next(iter(lengths.values()))
    all_seeds = several.get("seeds", [seeds] * count)
    all_rates = several.get("learning_rates", [rates] * count)
    return [_Setup(*pair) for pair in zip(all_seeds, all_rates, strict=True)]


def _is_several(given: Tree) -> bool:
    """Whether there is a value for each member, rather than one for all or none."""
    return isinstance(given, Iterable) and not isinstance(given, (dict, str))


def _member(model: Model, seed: int | None, rate: Tree) -> Model:
    """A model with weights of its own, from a seed or those of `model`, ready for training."""
    member: Model = copy.copy(model)
    weights = member._weights
    if seed is not None:
        weights.key = next_key(checks.as_integer("seeds", seed, 0))
        weights.now = _new_state(weights)
    member._program.ensure_optimizer_state()
    if rate is not None:
        member._program.set_learning_rate(rate)
    member.history = None
    return member


def _new_state(weights: Weights) -> TrainState:
    """New weights from the key, as a new model would have; what `adapt` learned stays."""
    network = weights.network.compiled
    init_key = random.fold_in(weights.key, salt("init"))
    params, state = initialize(network.layer, init_key, network.trial())
    for path, layer, _ in walk(weights.network.layer):
        learned = tree.get(weights.now.state, path)
        if isinstance(layer, Adapting) and learned:
            state = tree.put(state, path, learned)
    train_key = random.fold_in(weights.key, salt("train"))
    return TrainState(params, state, None, train_key)


def _start(members: Members) -> ManyState:
    """The state of all members before training."""
    whole = stacked(members.states(), members.mesh)
    # Placed as `step`: elsewhere than after a step, the program would be compiled twice.
    return ManyState(whole, whole.step, jnp.ones_like(whole.step, bool))


def _finished(
    members: Members, now: ManyState, history: History, devices: Devices
) -> Members:
    """The members with their trained weights and their histories."""
    alive = members.of_members(now.alive)
    failed = [index for index, lives in enumerate(alive) if not lives]
    trained = now.train.replace(key=None)
    for index, state in enumerate(unstacked(trained, len(members))):
        model = members[index]
        before = model._weights.now
        model._weights.now = state.replace(key=before.key, callbacks=before.callbacks)
        model.history = _history_of(history, index, index in failed, model)
    if failed:
        shown = ", ".join(map(str, failed))
        warn(
            f"fit_many: the loss of {len(failed)} of {len(members)} members was not finite; they "
            f"stopped before that step (members {shown}); lower their learning rates"
        )
    return Members(members.models, failed, devices)


def _history_of(whole: History, index: int, failed: bool, model: Model) -> History:
    """The history of one member, up to the epoch in which its loss was not finite."""
    history = History(whole.params, model)
    values = {
        name: [plain(value[index]) for value in column]
        for name, column in whole.history.items()
    }
    epochs = whole.epoch
    if failed:
        losses = np.isnan(values["loss"])
        end = int(np.argmax(losses)) + 1
        epochs = epochs[:end]
        values = {name: column[:end] for name, column in values.items()}
    history.epoch = list(epochs)
    history.learning_rate = [None] * len(epochs)
    history.history = values
    return history


def plain(value: np.ndarray) -> Tree:
    """A number as Python's, an array as it is."""
    return value.item() if np.ndim(value) == 0 else value
