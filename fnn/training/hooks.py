"""Callback: hooks into a training, and the list that calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core.tree import Tree

Logs = dict[str, Any]
AnyModel: TypeAlias = Any  # a Model, or the Run of a training without one
AnyCallback: TypeAlias = Any  # a Callback, or another object with its methods
RunParams: TypeAlias = dict[str, Any]  # `Callback.params`
Counters: TypeAlias = dict[str, Tree]  # the `resumed` attributes of a callback by name


# The entries of `Callback.params`, as in Keras.
SHOWN = ("verbose", "epochs", "steps")
# The hooks before and after each batch of a training.
BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


class Callback:
    """Code that runs during `fit`, `evaluate` and `predict`: override the hooks you need.

    `self.model` is the model. In a training without a `Model` it is the run, whose
    `train_state` is the state. `self.params` has "epochs", "steps" and "verbose";
    `self.details` has "batch_size", "rows" (the number of examples), "validated" (whether
    there is validation) and "logs" (the names that the logs will have, None if other
    callbacks may add some). At `on_train_batch_end` the model has the weights of this step,
    and what a hook assigns to it takes effect at the next step. Overriding a batch hook
    makes fit wait for every batch; the other hooks cost nothing. The last hook of a run is
    also called after an error or Ctrl-C; `self.failed` is then True.

    A callback may also have these attributes:

    `resumed`          in the class, a tuple of the names of its counters (of patience, for
                       example): numbers, None, arrays or nested dicts of arrays. They are
                       saved in `TrainState.callbacks` after each epoch, and in checkpoints,
                       and restored from there when a training is resumed
    `on_epoch_recorded(epoch)`  called once they are saved
    `resumes = True`   warns if a resumed training is set up differently
    `first_process_only = True`  in the class, for one that writes files or sends messages: of
                       several processes its hooks run in the first one alone
    `unused`           a tuple of hooks that this object does not need
    `added_logs()`     the names that it adds to the logs of an epoch
    `on_not_finite(message)`  called before fit raises an error for a loss that is not
                       finite; True ends the training without the error
    `step_statistics = True`  for a step that measures the norms of gradients, updates and
                       weights, passed to `on_step_statistics(epoch, norms)` after each
                       epoch

    >>> class Say(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(epoch, sorted(logs))
    """

    def __init__(self) -> None:
        self.model: AnyModel = None
        self.params: RunParams = {}
        self.details: RunParams = {}
        self.failed = False

    def set_model(self, model: AnyModel) -> None:
        self.model = model

    def set_params(self, params: RunParams) -> None:
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


def as_list(callbacks: AnyCallback | Iterable[AnyCallback]) -> list[AnyCallback]:
    """One callback, several or None, as a list."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Iterable):
        return list(callbacks)
    return [callbacks]


class CallbackList:
    """Several callbacks, called in order like one.

    It sets the model and the parameters of each. Raises TypeError for anything that is
    not a callback.

    >>> say = fnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> CallbackList([say, say], model=None, params={}).call("on_epoch_end", 0, {"loss": 0.5})
    0 {'loss': 0.5}
    0 {'loss': 0.5}
    """

    def __init__(
        self,
        callbacks: AnyCallback | Iterable[AnyCallback],
        model: AnyModel,
        params: RunParams,
    ) -> None:
        self.callbacks = as_list(callbacks)
        self.model = model
        # For each kind of run, the callbacks whose begin hook has been called.
        self._begun: dict[str, list[AnyCallback]] = {}
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end") or isinstance(callback, type):
                raise TypeError(
                    f"expected callbacks, received {callback!r}; subclass "
                    "fnn.callbacks.Callback"
                )
            callback.set_model(model)
            shown = {name: value for name, value in params.items() if name in SHOWN}
            callback.set_params(shown)
            callback.details = params
        # Those whose hooks run: one process writes the files of several.
        self.called = self.callbacks
        if jax.distributed.is_initialized() and jax.process_index():
            self.called = [one for one in self.callbacks if not _is_for_one(one)]
        self._counting = self._with_counters()

    def set_logs(self, params: RunParams, names: frozenset[str] | None) -> None:
        """Passes each callback the names of the logs it will get; None if they are unknown."""
        for callback in self.callbacks:
            callback.details = {**params, "logs": names}
            added_logs = getattr(callback, "added_logs", None)
            if names is not None and callable(added_logs):
                names |= frozenset(added_logs())

    def call(self, hook: str, *arguments: object) -> None:
        """Calls one hook of every callback."""
        for callback in self.called:
            getattr(callback, hook)(*arguments)

    def call_optional(self, hook: str, *arguments: object) -> list[Any]:
        """Calls a hook of the callbacks that have it. Returns the results."""
        having = [callback for callback in self.called if hasattr(callback, hook)]
        return [getattr(callback, hook)(*arguments) for callback in having]

    def begin(self, what: str) -> None:
        """Calls `on_<what>_begin` of every callback."""
        self._begun[what] = []
        for callback in self.called:
            getattr(callback, f"on_{what}_begin")({})
            self._begun[what].append(callback)

    def end(
        self,
        what: str,
        logs: Logs,
        error: BaseException | None = None,
    ) -> None:
        """Calls `on_<what>_end` of every callback that has begun, even if one raises.

        An exception of a hook is raised after all hooks were called. If there already is
        an `error`, it becomes a note of that error instead.
        """
        raised: BaseException | None = error
        begun = self._begun.get(what, [])
        # Popping lets a call after a second Ctrl-C continue with the rest.
        while begun:
            callback = begun.pop(0)
            try:
                callback.failed = error is not None
                getattr(callback, f"on_{what}_end")(logs)
            except Exception as another:
                if raised is None:
                    raised = another
                else:
                    owner = type(callback).__name__
                    raised.add_note(f"on_{what}_end of {owner}: {another!r}")
        if raised is not error:
            assert raised is not None
            raise raised

    @property
    def counters(self) -> dict[str, Counters]:
        """The `resumed` attributes of the callbacks, except those that are None.

        Raises TypeError for values that a file of numbers cannot hold.
        """
        counters = {}
        for owner, callback in self._counting:
            values = {name: getattr(callback, name) for name in callback.resumed}
            counters[owner] = _recorded(owner, values)
        return counters

    @counters.setter
    def counters(self, counters: dict[str, Counters]) -> None:
        for owner, callback in self._counting:
            saved = counters.get(owner, {})
            # Names in a file that the callback does not list are ignored.
            for name in set(callback.resumed) & set(saved):
                fresh = getattr(callback, name)
                value = _restored(f"{owner}.{name}", saved[name], fresh)
                setattr(callback, name, value)

    def _with_counters(self) -> list[tuple[str, AnyCallback]]:
        """The callbacks with counters, by class name, numbered if a class occurs twice."""
        found = []
        seen = Counter[str]()
        for callback in self.callbacks:
            names = getattr(type(callback), "resumed", None)
            # A user's class may use the name `resumed` for something else.
            if not isinstance(names, (tuple, list)) or callback.resumed is not names:
                continue
            name = type(callback).__name__
            number = seen[name]
            seen[name] += 1
            if number:
                name = f"{name}_{number}"
            found.append((name, callback))
        return found

    def watches(self, *hooks: str) -> bool:
        """Whether any callback uses one of the hooks."""
        return any(
            _uses(callback, hook) for callback in self.callbacks for hook in hooks
        )

    @property
    def adds_logs(self) -> bool:
        """Whether a callback that is not fnn's own may add names to the logs."""
        for callback in self.callbacks:
            for hook in ("on_epoch_end", "on_train_batch_end", "on_batch_end"):
                if _uses(callback, hook) and not _is_own(callback, hook):
                    return True
        return False


def _is_for_one(callback: AnyCallback) -> bool:
    """Whether the hooks of a callback run in the first of several processes alone."""
    return getattr(type(callback), "first_process_only", False) is True


def _uses(callback: AnyCallback, hook: str) -> bool:
    """Whether a callback overrides a hook, in its class or by an attribute, and needs it."""
    if _is_own(callback, hook):
        unused = getattr(callback, "unused", ())
        if isinstance(unused, tuple) and hook in unused:
            return False
    function = getattr(getattr(callback, hook, None), "__func__", None)
    return function is not getattr(Callback, hook)


def _is_own(callback: AnyCallback, hook: str) -> bool:
    """Whether the hook of a callback is a function of fnn, not of a user's subclass."""
    module = getattr(getattr(callback, hook, None), "__module__", "")
    return str(module).startswith("fnn.")


def _recorded(place: str, value: Any) -> Tree:
    """A counter as the state holds it: an array, or dicts of arrays without None."""
    if isinstance(value, dict):
        recorded = {}
        for name, item in value.items():
            if item is not None:
                recorded[name] = _recorded(f"{place}.{name}", item)
        return recorded
    if isinstance(value, (int, float)):
        return np.float64(value)
    dtype = getattr(value, "dtype", None)
    if hasattr(value, "shape") and dtype not in (None, np.dtype(object)):
        return value
    raise TypeError(
        f"{place} is {value!r}, but an attribute that a callback lists in `resumed` must be "
        "a number, None, an array or nested dicts of arrays; make an array of it, or remove "
        "its name from `resumed`"
    )


def _restored(
    place: str,
    saved: Tree,
    fresh: object,
) -> Any:
    """A saved counter as the callback has it; `fresh` is its value before any training."""
    is_number = not isinstance(saved, dict) and np.ndim(saved) == 0
    if isinstance(fresh, (int, float)):
        if not is_number:
            raise ValueError(
                f"the saved state has no number for {place}; it is damaged or of another "
                "callback: start over without it"
            )
        return type(fresh)(saved)
    if is_number:
        return float(saved)
    return saved
