"""The loop: any pure step over any state, with progress, callbacks, history and safe interrupts."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.runtime.process import check_process
from fnn.training import engine
from fnn.training.checks import as_array, check_guard, rows_of, whole_number
from fnn.training.data import ArrayData
from fnn.training.history import History
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import interruptible
from fnn.training.resume import Resume
from fnn.training.state import bare
from fnn.training.stream import StreamData
from fnn.training.trainer import Plan, Trainer, shown


class Run:
    """A training in progress. `train_state` is the state after the last complete step."""

    def __init__(self, state: Any) -> None:
        self.train_state, self.stop_training = state, False
        self.history: History | None = None

    @property
    def now(self) -> Any:
        """The state, by the name that the trainer uses."""
        return self.train_state

    @now.setter
    def now(self, state: Any) -> None:
        self.train_state = state


def fit(
    step: Any,
    state: Any,
    data: Any,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    shuffle: Any = True,
    seed: int = 0,
    callbacks: Any = (),
    verbose: Any = "auto",
    validate: Callable[[Any], dict[str, float]] | None = None,
    guard: str = "raise",
) -> tuple[Any, History]:
    """Trains any state with any pure step: `step(state, batch, key) -> (state, logs)`.

    `state` is any pytree (two networks and two optimizers, say); `data` arrays with a common number
    of rows in any pytree, or a stream of batches (iterable, sequence or callable). `batch` is a
    part of it with `batch_size` rows; rows that do not fill a batch are left out of an epoch,
    other ones each time. `logs` maps names to numbers, averaged over the epoch; one called "loss"
    is watched: `guard` "raise" stops at the first that is not finite, "skip" leaves such a step
    out, "ignore" goes on. `validate(state)` is called after every epoch, its numbers are logged
    with `val_` before their names. The step is compiled once; it must not depend on anything else.

    Returns the state and the History. An exception, Ctrl-C too, carries the state of the last
    complete step as `error.train_state`.

    >>> def step(w, batch, key):
    ...     loss, grad = jax.value_and_grad(lambda w: ((batch - w) ** 2).mean())(w)
    ...     return w - 0.1 * grad, {"loss": loss}
    >>> w, history = fit(step, jnp.zeros(()), np.full(64, 3.0, "float32"), epochs=20, verbose=0)
    >>> round(float(w), 2)
    3.0
    """
    check_process()
    check_guard(guard)
    run = Run(jax.tree.map(tree.owned, state))
    source = _as_source(data, batch_size, shuffle, seed, steps_per_epoch)
    plan = Plan(
        step=engine.tallied(_checked_step(step)),
        data=source,
        run=run,
        weights=run,
        callbacks=callbacks,
        key=jax.random.key(seed),
        epochs=epochs,
        initial_epoch=initial_epoch,
        steps=steps_per_epoch,
        verbose=verbose,
        guard=guard,
        validate=None
        if validate is None
        else lambda epoch, _: validate(run.train_state),
    )
    try:
        history = train(plan)
        return run.train_state, history
    except BaseException as error:
        error.train_state = run.train_state  # type: ignore[attr-defined]
        raise


def _checked_step(step: Any) -> Any:
    """`step`. Raises TypeError for one that cannot be called with (state, batch, key)."""
    if not callable(step):
        raise TypeError(
            f"step must be a function, but is {step!r}; pass step(state, batch, key), which "
            "returns (state, logs)"
        )
    with contextlib.suppress(ValueError):  # a function without a signature
        signature = inspect.signature(step)
        try:
            signature.bind(None, None, None)
        except TypeError as error:
            raise TypeError(
                f"step is called with (state, batch, key), but takes {signature}; write it as "
                "step(state, batch, key), with a key even if nothing is random"
            ) from error
    return step


def _as_source(
    data: Any, batch_size: int, shuffle: Any, seed: int, steps: int | None
) -> Any:
    if steps is not None:
        whole_number("steps_per_epoch", steps, 1)
    leaves = jax.tree.leaves(data)
    if leaves and all(
        hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves
    ):
        arrays = jax.tree.map(lambda a: as_array("data", a), data)
        if not rows_of({"data": arrays}):
            raise ValueError("expected data with rows, received none; check the arrays")
        whole_number("batch_size", batch_size, 1)
        return ArrayData(arrays, batch_size, shuffle=shuffle, seed=seed)
    keep = lambda a: a if isinstance(a, jax.Array) else np.asarray(a)
    each = lambda batch: jax.tree.map(keep, batch)
    return StreamData(data, each, steps=steps, goes_on=True)


def train(plan: Plan) -> History:
    """Runs a plan: every epoch, with the callbacks told; the way out is the same for all errors."""
    whole_number("epochs", plan.epochs, 0)
    whole_number("initial_epoch", plan.initial_epoch, 0)
    params, told = _parameters(plan)
    history = plan.run.history = History(
        params, None if isinstance(plan.run, Run) else plan.run
    )
    callbacks = CallbackList(plan.callbacks, plan.run, told)
    plan.run.stop_training = False
    _check_restarts(plan)
    with interruptible() as interrupt:
        trainer, resume = Trainer(plan, callbacks, interrupt), Resume(plan, callbacks)
        callbacks.set_logs(told, _names_of_logs(plan, trainer, told["validated"]))
        try:
            callbacks.begin("train")
            first = resume.first_epoch()
            trainer.start(first)
            for epoch in range(first, plan.epochs):
                if plan.run.stop_training:
                    break
                callbacks.call("on_epoch_begin", epoch, {})
                logs = trainer.epoch(epoch)
                callbacks.call("on_epoch_end", epoch, logs)
                history.record(epoch, logs, getattr(plan.run, "learning_rate", None))
                resume.record(epoch)
                callbacks.call_optional("on_epoch_recorded", epoch)
                interrupt.poll()
            if plan.end_training is not None and plan.epochs > plan.initial_epoch:
                plan.now = plan.end_training(plan.now)
            plan.now = bare(plan.now)
        except BaseException as error:
            callbacks.end("train", {}, error)
            raise
        callbacks.end("train", {})
    return history


def _parameters(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters in the History, and those that callbacks are told."""
    steps = plan.steps or plan.data.steps
    params = {"verbose": plan.verbose, "epochs": plan.epochs, "steps": steps}
    return params, {
        **params,
        "validated": plan.validate is not None
        and any(map(plan.validates, range(plan.initial_epoch, plan.epochs))),
        "batch_size": plan.data.batch_size,
        "rows": None if plan.steps else getattr(plan.data, "count", None),
    }


def _names_of_logs(
    plan: Plan, trainer: Trainer, validated: bool
) -> frozenset[str] | None:
    """The names that the logs of an epoch will have; None if that cannot be known."""
    if trainer.callbacks.adds_logs or (validated and isinstance(plan.run, Run)):
        return None
    names = set(shown(trainer.program.logs))
    return frozenset(names | {f"val_{name}" for name in names if validated})


def _check_restarts(plan: Plan) -> None:
    """Raises ValueError for several epochs over data that ends after one."""
    if (
        getattr(plan.data, "once", False)
        and not plan.steps
        and plan.epochs - plan.initial_epoch > 1
    ):
        raise ValueError(
            f"expected data that starts again for {plan.epochs} epochs, received an iterator, "
            "which ends after one; give a function that returns it, or steps_per_epoch"
        )
