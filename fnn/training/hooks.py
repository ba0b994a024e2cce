"""Callback: the moments of a training that a user's code can hook into."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Logs = dict[str, Any]


class Callback:
    """Does something at moments of `fit`, `evaluate` and `predict`: override the hooks you need.

    `self.model` is the model; in a training without a `Model` it is the run, whose `train_state` is
    the state. `self.params` is {"epochs", "steps", "verbose"}. At `on_train_batch_end` the model
    has this step's weights, and what is assigned to it counts from the next step on. Overriding a
    batch hook makes fit wait for every batch; the other hooks cost nothing.

    A callback may also have: `resumed`, the names of its counters, numbers or None (of patience,
    say), which go into `TrainState.callbacks` after each epoch and come back from there where a
    training goes on; `on_epoch_recorded(epoch)`, called when they are there;
    `on_not_finite(message)`, asked before fit raises over a loss that is not finite, True to end
    the training in its place; `step_statistics = True`, for a step that logs the norms of
    gradients, updates and weights.

    >>> class Say(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, sorted(logs))
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None: ...

    def on_train_end(self, logs: Logs | None = None) -> None: ...

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None: ...

    def on_test_end(self, logs: Logs | None = None) -> None: ...

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_predict_begin(self, logs: Logs | None = None) -> None: ...

    def on_predict_end(self, logs: Logs | None = None) -> None: ...

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None: ...

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None: ...


class CallbackList:
    """Several callbacks called in order as one.

    It tells each its model and the parameters. Raises TypeError for what is no callback.

    >>> say = fnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> CallbackList([say, say], model=None, params={}).call("on_epoch_end", 0, {"loss": 0.5})
    0 {'loss': 0.5}
    0 {'loss': 0.5}
    """

    def __init__(self, callbacks: Any, model: Any, params: dict[str, Any]) -> None:
        given = callbacks or ()
        self.callbacks: list[Any] = list(given) if isinstance(given, Iterable) else [given]
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end"):
                raise TypeError(
                    f"expected callbacks, received {callback!r}; do subclass fnn.callbacks.Callback"
                )
            callback.set_model(model)
            callback.set_params(params)

    def call(self, hook: str, *arguments: Any) -> None:
        """Calls one hook of every callback."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def call_optional(self, hook: str, *arguments: Any) -> list[Any]:
        """Calls a hook that not every callback has. Returns the answers."""
        having = [callback for callback in self.callbacks if hasattr(callback, hook)]
        return [getattr(callback, hook)(*arguments) for callback in having]

    def call_every(self, hook: str, *arguments: Any) -> None:
        """Calls one hook of every callback even if one raises; for the way out after an error."""
        for callback in self.callbacks:
            try:
                getattr(callback, hook)(*arguments)
            except Exception as error:
                error.add_note(f"in {hook} of {type(callback).__name__}, after an earlier error")

    @property
    def counters(self) -> dict[str, dict[str, Any]]:
        """The numbers in the attributes that callbacks call `resumed`; NaN for None."""
        return {
            owner: {
                name: np.float64(np.nan if value is None else value)
                for name, value in ((name, getattr(callback, name)) for name in callback.resumed)
            }
            for owner, callback in self._resumable()
        }

    @counters.setter
    def counters(self, counters: dict[str, dict[str, Any]]) -> None:
        for owner, callback in self._resumable():
            for name, value in counters.get(owner, {}).items():
                whole = isinstance(getattr(callback, name), int)
                number = int(value) if whole else float(value)
                setattr(callback, name, None if math.isnan(value) else number)

    def _resumable(self) -> list[tuple[str, Any]]:
        """The callbacks that have counters, by number and class."""
        found = [callback for callback in self.callbacks if hasattr(callback, "resumed")]
        return [(f"{i}_{type(callback).__name__}", callback) for i, callback in enumerate(found)]

    def watches(self, *hooks: str) -> bool:
        """Whether any callback overrides one of the hooks."""
        return any(
            getattr(type(callback), hook, None) is not getattr(Callback, hook)
            for callback in self.callbacks
            for hook in hooks
        )
