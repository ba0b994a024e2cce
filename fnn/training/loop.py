"""The loop: any pure step over any state, with progress, callbacks, history and safe interrupts."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime import processes
from fnn.runtime.compilations import active
from fnn.runtime.layouts import Distribution, current
from fnn.runtime.process import check_process
from fnn.training import engine
from fnn.training.agreement import check_agreement
from fnn.training.checkpoint import CheckpointLike, saver_of
from fnn.training.checks import as_array, as_integer, check_guard, example_count
from fnn.training.data import ArrayData
from fnn.training.engine import Step
from fnn.training.examples import Collector, as_batches, is_example
from fnn.training.history import History
from fnn.training.hooks import SHOWN, Callback, CallbackList, as_list
from fnn.training.interrupt import interruptible, terminable
from fnn.training.laying_out import place
from fnn.training.lazy import is_sparse
from fnn.training.one_device import Mentioned, mention
from fnn.training.plain_logs import with_accumulators
from fnn.training.plan import Plan
from fnn.training.progress import COMPILING, Progress
from fnn.training.resume import Resume
from fnn.training.sources import readable
from fnn.training.state import log_names, shown, without_counters
from fnn.training.stream import StreamData
from fnn.training.trainer import Trainer

Callbacks: TypeAlias = Callback | Iterable[Callback] | None


class Run:
    """A training in progress. `train_state` is the state after the last complete step."""

    def __init__(self, state: Tree) -> None:
        self.train_state = state
        self.stop_training = False
        self.history: History | None = None

    @property
    def now(self) -> Tree:
        """The state, by the name that the trainer uses."""
        return self.train_state

    @now.setter
    def now(self, state: Tree) -> None:
        self.train_state = state


def fit(
    step: Step,
    state: Tree,
    data: Tree,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    shuffle: bool | str = True,
    seed: int = 0,
    callbacks: Callbacks = (),
    verbose: str | int = "auto",
    validate: Callable[[Tree], dict[str, float]] | None = None,
    guard: str = "raise",
    checkpoint: CheckpointLike = None,
    resume: bool = False,
    distribution: Distribution | None = None,
) -> tuple[Tree, History]:
    """Trains any state with any pure step: `step(state, batch, key) -> (state, logs)`.

    `state` is any pytree (two networks and two optimizers, say). `data` is any pytree of arrays
    with a common number of examples, or a stream of batches (iterable, sequence or callable).
    `batch` is a part of it with `batch_size` examples; the remainder that does not fill a batch
    is left out of an epoch, other examples each time. `logs` maps names to numbers, which are
    averaged over the epoch; the one called "loss" is watched: `guard` "raise" stops at the first
    that is not finite, "skip" leaves such a step out, "ignore" continues. `validate(state)` is
    called after every epoch, and its numbers are logged with the prefix `val_`. The step is
    compiled once; it must not depend on anything else. The training is saved to `checkpoint`, a
    folder or a `Checkpoint`, and with `resume` continues from the newest one there. `distribution`
    is a value of `fnn.distribution`: batches that the devices divide evenly lie on all of them, and
    the arrays of the state where its rules say, if you have put none on devices.

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
    active.set(None)  # the step is no model's
    state, scope = _on_devices(jax.tree.map(tree.owned, state), distribution)
    run = Run(state)
    progress = Progress.of_fit(verbose)
    source = _as_source(data, batch_size, shuffle, seed, steps_per_epoch)
    plan = Plan(
        step=with_accumulators(_checked_step(step)),
        data=source,
        run=run,
        weights=run,
        callbacks=as_list(callbacks),
        key=jax.random.key(seed),
        epochs=epochs,
        initial_epoch=initial_epoch,
        steps=steps_per_epoch,
        verbose=verbose,
        guard=guard,
        validate=_validation(validate, run),
        progress=progress,
        saver=saver_of(checkpoint, resume),
    )
    try:
        with progress, scope:
            history = train(plan)
        return run.train_state, history
    except BaseException as error:
        error.train_state = run.train_state  # type: ignore[attr-defined]
        raise


def _on_devices(
    state: Tree, distribution: Distribution | None
) -> tuple[Tree, contextlib.AbstractContextManager[None]]:
    """(the state where a distribution wants it, a block in which that is in force)."""
    if distribution is None:
        distribution = current()
    if distribution is None:
        return state, contextlib.nullcontext()
    if distribution.rules:
        state = place(distribution, state)
    return state, distribution.scope()


def _validation(
    validate: Callable[[Tree], dict[str, float]] | None, run: Run
) -> Callable[[int, CallbackList], dict[str, float]] | None:
    if validate is None:
        return None
    return lambda epoch, callbacks: validate(run.train_state)


def _checked_step(step: Step) -> Step:
    """`step`. Raises TypeError for one that cannot be called with (state, batch, key)."""
    if not callable(step):
        raise TypeError(
            f"step must be a function, but is {step!r}; pass step(state, batch, key), which "
            "returns (state, logs)"
        )
    try:
        signature = inspect.signature(step)
    except ValueError:
        # A function without a signature.
        return step
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"step is called with (state, batch, key), but takes {signature}; write it as "
            "step(state, batch, key), with a key even if nothing is random"
        ) from error
    return step


def _as_source(
    data: Tree,
    batch_size: int,
    shuffle: bool | str,
    seed: int,
    steps: int | None,
) -> ArrayData | StreamData:
    if steps is not None:
        as_integer("steps_per_epoch", steps, 1)
    as_integer("batch_size", batch_size, 1)
    data = jax.tree.map(readable, data)
    leaves = jax.tree.leaves(data)
    if not leaves or not all(map(_is_array, leaves)):
        source = as_batches(data, _is_example, batch_size)
        collect = Collector(_is_example, batch_size)
        order = [seed] if shuffle else None
        return StreamData(
            source, collect, _as_batch, steps=steps, continues=True, seed=order
        )
    arrays = jax.tree.map(lambda a: as_array("data", a, lazy=True), data)
    if not example_count({"data": arrays}):
        raise ValueError("expected data with examples, received none; check the arrays")
    return ArrayData(arrays, batch_size, shuffle=shuffle, seed=seed)


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "shape") and (
        hasattr(leaf, "dtype") or hasattr(leaf, "to_numpy")
    )


def _is_example(item: Tree) -> bool:
    return is_example((item, None, None))


def _as_batch(batch: Tree) -> Tree:
    """A batch of a stream as arrays, which stay on the device if they are there."""

    def as_array_of_batch(leaf: Tree) -> Tree:
        if isinstance(leaf, jax.Array):
            return leaf
        if is_sparse(leaf):
            return leaf.toarray()
        return np.asarray(leaf)

    return jax.tree.map(as_array_of_batch, batch)


def train(plan: Plan) -> History:
    """Runs a plan: every epoch, between the hooks of callbacks, which end after errors too."""
    as_integer("epochs", plan.epochs, 0)
    as_integer("initial_epoch", plan.initial_epoch, 0)
    params = _parameters(plan)
    model = None if isinstance(plan.run, Run) else plan.run
    shown_params = {name: params[name] for name in SHOWN}
    history = plan.run.history = History(shown_params, model)
    callbacks = CallbackList(plan.callbacks, plan.run, params)
    plan.run.stop_training = False
    _check_restarts(plan)
    if jax.distributed.is_initialized() or "launch" not in processes.looked:
        check_agreement(plan)
    resume = Resume(plan, callbacks)
    with interruptible() as interrupt, terminable(interrupt, bool(resume.savers)):
        now = without_counters(plan.weights.now)
        if plan.progress is not None:
            if plan.progress.mode and not Mentioned.once:
                mention(plan, plan.progress)
            plan.progress.stage(COMPILING)
        spec = plan.data.batch_spec()
        program = engine.program(plan.step, now, spec, plan.key)
        trainer = Trainer(plan, program, callbacks, interrupt, resume)
        names = _names_of_logs(plan, trainer, params["validated"])
        callbacks.set_logs(params, names)
        try:
            callbacks.begin("train")
            first = resume.first_epoch(program.zeros, names)
            trainer.start(first)
            last = _epochs(trainer, first, history)
            if plan.end_training is not None and plan.epochs > plan.initial_epoch:
                plan.weights.now = plan.end_training(plan.weights.now)
            plan.weights.now = without_counters(plan.weights.now)
            if resume.savers:
                resume.close()
        except BaseException as error:
            trainer.progress.stop()
            _save_interrupted(trainer, error)
            callbacks.end("train", {}, error)
            raise
        callbacks.end("train", last)
    return history


def _epochs(trainer: Trainer, first: int, history: History) -> dict[str, Any]:
    """Runs the epochs of a training from this one on. Returns the logs of the last."""
    plan, resume = trainer.plan, trainer.resume
    last: dict[str, Any] = {}
    for epoch in range(first, plan.epochs):
        if plan.run.stop_training and not resume.is_inside_epoch:
            break
        last, logs = trainer.watched_epoch(epoch)
        history.record(epoch, logs, getattr(plan.run, "learning_rate", None))
        resume.record(epoch)
        if resume.savers:
            resume.save_after(trainer.end_epoch(epoch + 1, logs))
        trainer.callbacks.call_optional("on_epoch_recorded", epoch)
        trainer.interrupt.poll()
    return last


def _save_interrupted(trainer: Trainer, error: BaseException) -> None:
    """Saves a training that Ctrl-C or SIGTERM has ended between two steps."""
    try:
        at_boundary = error is trainer.interrupt.at_boundary
        if jax.distributed.is_initialized():
            # Ctrl-C ends processes after different steps.
            at_boundary &= isinstance(error, SystemExit)
        if trainer.saves and at_boundary and trainer.is_whole:
            trainer.resume.save_last(trainer.snapshot())
    finally:
        trainer.resume.close()


def _parameters(plan: Plan) -> dict[str, Any]:
    """The parameters of a training that callbacks get."""
    epochs = range(plan.initial_epoch, plan.epochs)
    count = None
    if not plan.steps:
        count = getattr(plan.data, "count", None)
    validated = plan.validate is not None and any(map(plan.validates, epochs))
    return {
        "verbose": plan.verbose,
        "epochs": plan.epochs,
        "steps": plan.steps or plan.data.steps,
        "validated": validated,
        "batch_size": plan.data.batch_size,
        "rows": count,
    }


def _names_of_logs(
    plan: Plan, trainer: Trainer, validated: bool
) -> frozenset[str] | None:
    """The names that the logs of an epoch will have; None if that cannot be known."""
    if trainer.callbacks.adds_logs or (validated and isinstance(plan.run, Run)):
        return None
    logs = dict.fromkeys(log_names(trainer.program.logs))
    names = frozenset(shown(logs))
    if validated:
        names |= {f"val_{name}" for name in names}
    return names


def _check_restarts(plan: Plan) -> None:
    """Raises ValueError for several epochs over data that ends after one."""
    ends = getattr(plan.data, "once", False) and not plan.steps
    if ends and plan.epochs - plan.initial_epoch > 1:
        raise ValueError(
            f"expected data that starts again for {plan.epochs} epochs, received an iterator, "
            "which ends after one; give a function that returns it, or steps_per_epoch"
        )
