"""Callback: the moments of a training that a user's code can hook into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

Logs = dict[str, Any]


class Callback:
    """Does something at moments of `fit`, `evaluate` and `predict`: override the hooks you need.

    `self.model` is the model; in a training without a `Model` it is the run, whose `train_state` is
    the state. `self.params` has "epochs", "steps", "verbose", "batch_size", "rows", "validated"
    (whether there is validation) and "logs" (the names that the logs will have, None if other
    callbacks may add some). At `on_train_batch_end` the model
    has this step's weights, and what is assigned to it in a hook counts from the next step on.
    Overriding a batch hook makes fit wait for every batch; the other hooks cost nothing. The last
    hook of a run is called after an error or Ctrl-C too; `self.failed` then is True.

    A callback may also have: `resumed`, in its class, a tuple of the names of its counters, numbers
    or None (of patience, say), arrays or nested dicts of them, which go into `TrainState.callbacks`
    after each epoch and come back from there where a training goes on; `on_epoch_recorded(epoch)`,
    called when they are in; `resumes = True`, to be warned where a resumed training is set up
    differently; `unused`, a tuple of hooks for which this object has no use; `added_logs()`, the
    names that it puts into the logs of an epoch; `on_not_finite(message)`, asked before fit raises
    over a loss that is not finite, True to end the training in its place; `step_statistics = True`,
    for a step that measures the norms of gradients, updates and weights, given to
    `on_step_statistics(epoch, norms)` after each epoch.

    >>> class Say(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, sorted(logs))
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}
        self.failed = False

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


def as_list(callbacks: Any) -> list[Any]:
    """One callback, several or None, as a list."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]


class CallbackList:
    """Several callbacks called in order as one.

    It tells each its model and the parameters. Raises TypeError for what is no callback.

    >>> say = fnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> CallbackList([say, say], model=None, params={}).call("on_epoch_end", 0, {"loss": 0.5})
    0 {'loss': 0.5}
    0 {'loss': 0.5}
    """

    def __init__(self, callbacks: Any, model: Any, params: dict[str, Any]) -> None:
        self.callbacks, self.model = as_list(callbacks), model
        self._begun: dict[str, list[Any]] = {}
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end") or isinstance(callback, type):
                raise TypeError(
                    f"expected callbacks, received {callback!r}; subclass fnn.callbacks.Callback"
                )
            callback.set_model(model)
            callback.set_params(params)

    def set_logs(self, params: dict[str, Any], names: frozenset[str] | None) -> None:
        """Tells each callback the names of the logs that reach it; None if that is not known."""
        for callback in self.callbacks:
            callback.set_params({**params, "logs": names})
            if names is not None and callable(getattr(callback, "added_logs", None)):
                names |= frozenset(callback.added_logs())

    def call(self, hook: str, *arguments: Any) -> None:
        """Calls one hook of every callback."""
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def call_optional(self, hook: str, *arguments: Any) -> list[Any]:
        """Calls a hook that not every callback has. Returns the answers."""
        having = [callback for callback in self.callbacks if hasattr(callback, hook)]
        return [getattr(callback, hook)(*arguments) for callback in having]

    def begin(self, what: str) -> None:
        """Calls `on_<what>_begin` of every callback."""
        self._begun[what] = []
        for callback in self.callbacks:
            getattr(callback, f"on_{what}_begin")({})
            self._begun[what].append(callback)

    def end(self, what: str, logs: Logs, error: BaseException | None = None) -> None:
        """Calls `on_<what>_end` of every callback that has begun, even if one raises.

        What is raised here is raised when all were called; on the way out after an `error` it
        becomes a note of that one.
        """
        raised: BaseException | None = error
        begun = self._begun.get(what, [])
        while (
            begun
        ):  # after a second Ctrl-C, in the midst of this, it goes on with the rest
            callback = begun.pop(0)
            try:
                callback.failed = error is not None
                getattr(callback, f"on_{what}_end")(logs)
            except Exception as another:
                if raised is None:
                    raised = another
                else:
                    raised.add_note(
                        f"on_{what}_end of {type(callback).__name__}: {another!r}"
                    )
        if raised is not error:
            assert raised is not None
            raise raised

    @property
    def counters(self) -> dict[str, dict[str, Any]]:
        """What is in the attributes that callbacks call `resumed`, where that is not None.

        Raises TypeError for what a file of numbers cannot hold.
        """
        return {
            owner: _recorded(
                owner, {name: getattr(callback, name) for name in callback.resumed}
            )
            for owner, callback in self._resumable()
        }

    @counters.setter
    def counters(self, counters: dict[str, dict[str, Any]]) -> None:
        for owner, callback in self._resumable():
            saved = counters.get(owner, {})
            for name in set(callback.resumed) & set(
                saved
            ):  # a file may hold any other names
                place = f"{owner}.{name}"
                setattr(
                    callback,
                    name,
                    _restored(place, saved[name], getattr(callback, name)),
                )

    def _resumable(self) -> list[tuple[str, Any]]:
        """The callbacks that have counters, by class, and number where there are several."""
        found, seen = [], Counter[str]()
        for callback in self.callbacks:
            names = getattr(type(callback), "resumed", None)
            # An attribute of that name which a user's class has for itself means nothing here.
            if isinstance(names, (tuple, list)) and callback.resumed is names:
                name = type(callback).__name__
                found.append((f"{name}_{seen[name]}" if seen[name] else name, callback))
                seen[name] += 1
        return found

    def watches(self, *hooks: str) -> bool:
        """Whether any callback uses one of the hooks."""
        return any(
            _uses(callback, hook) for callback in self.callbacks for hook in hooks
        )

    @property
    def adds_logs(self) -> bool:
        """Whether a callback that is not fnn's own may put further names into the logs."""
        hooks = ("on_epoch_end", "on_train_batch_end", "on_batch_end")
        return any(
            _uses(callback, hook) and not _is_ours(callback, hook)
            for callback in self.callbacks
            for hook in hooks
        )


def _uses(callback: Any, hook: str) -> bool:
    """Whether a callback overrides a hook, in its class or by an attribute, and has use for it."""
    own = getattr(getattr(callback, hook, None), "__func__", None)
    unused = getattr(callback, "unused", ()) if _is_ours(callback, hook) else ()
    if isinstance(unused, tuple) and hook in unused:
        return False
    return own is not getattr(Callback, hook)


def _is_ours(callback: Any, hook: str) -> bool:
    """Whether the hook of a callback is a function of fnn's, not of a subclass of a user's."""
    return str(getattr(getattr(callback, hook, None), "__module__", "")).startswith(
        "fnn."
    )


def _recorded(place: str, value: Any) -> Any:
    """A counter as the state holds it: an array, or dicts of arrays without what is None."""
    if isinstance(value, dict):
        found = {name: item for name, item in value.items() if item is not None}
        return {
            name: _recorded(f"{place}.{name}", item) for name, item in found.items()
        }
    if isinstance(value, (int, float)):
        return np.float64(value)
    if hasattr(value, "shape") and getattr(value, "dtype", None) not in (
        None,
        np.dtype(object),
    ):
        return value
    raise TypeError(
        f"{place} is {value!r}, but what a callback calls `resumed` must be a number, None, an "
        "array or nested dicts of arrays; make an array of it, or leave its name out of `resumed`"
    )


def _restored(place: str, saved: Any, fresh: Any) -> Any:
    """A saved counter as the callback has it; `fresh` is its value before any training."""
    number = isinstance(fresh, (int, float))
    single = not isinstance(saved, dict) and np.ndim(saved) == 0
    if number and not single:
        raise ValueError(
            f"the saved state has no number for {place}; it is damaged or of another callback: "
            "start anew without it"
        )
    if not single:
        return saved
    return (type(fresh) if number else float)(saved)
