"""Plan: one training, its data, its step and what happens around it; Dispatch: steps in flight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from fnn.core.tree import Tree
from fnn.training import engine
from fnn.training.checkpoint import Saver
from fnn.training.data import ArrayData
from fnn.training.hooks import Callback, CallbackList
from fnn.training.progress import Progress
from fnn.training.state import TrainState
from fnn.training.stream import StreamData


class Holder(Protocol):
    """Holds the state of a training: the weights of a model, or a `Run`."""

    now: Tree


def always(epoch: int) -> bool:
    """True for every epoch."""
    return True


@dataclasses.dataclass
class Plan:
    """One training: its data, its step and what happens around it."""

    step: engine.Step
    data: ArrayData | StreamData
    run: Any  # what callbacks get as their model: a Model or a Run
    weights: Holder
    callbacks: list[Callback]
    key: jax.Array
    epochs: int
    initial_epoch: int
    steps: int | None  # per epoch; None: all of the data
    verbose: str | int
    guard: str
    validate: Callable[[int, CallbackList], dict[str, float]] | None
    progress: Progress | None = (
        None  # that of the first epoch, from the call of `fit` on
    )
    validates: Callable[[int], bool] = always  # whether `validate` runs after an epoch
    # Names the layer in which NaN first appeared: (state, batch, key) -> name.
    diagnose: Callable[[TrainState, Tree, jax.Array], str] | None = None
    # Called at the start of an epoch.
    begin_epoch: Callable[[], None] | None = None
    # Change the state at the end of an epoch, and at the end of the training.
    end_epoch: Callable[[Tree], Tree] | None = None
    end_training: Callable[[Tree], Tree] | None = None
    # Strings that tell whether a resumed training has the same optimizer, losses and network.
    recipe: dict[str, str] = dataclasses.field(default_factory=dict)
    # What saves the training, beside the savers of callbacks.
    saver: Saver | None = None


class Dispatch(NamedTuple):
    """Steps in flight: what they will return, and what they were given."""

    state: Tree
    accumulated: Tree
    healthy: Tree
    done: int  # batches of the epoch, these included
    chunk: Tree
    number: int  # of the first of these steps
    at: int  # index of its batch in the chunk
