"""Callbacks: what runs between the steps of a training, with Keras's hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fnn.core.config import lookup
from fnn.training.history import History as _History
from fnn.training.hooks import Callback, CallbackList, Logs


class History(_History, Callback):
    """The record of a training as a callback of its own; `fit` returns one anyway."""

    def __init__(self) -> None:
        Callback.__init__(self)
        _History.__init__(self)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.record(epoch, logs or {})


class LambdaCallback(Callback):
    """A callback made of functions, one for each hook that matters.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch)).on_epoch_end(3, {})
    3
    """

    HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        super().__init__()
        unknown = sorted(set(hooks) - set(self.HOOKS))
        if unknown:
            raise TypeError(
                f"LambdaCallback: expected hooks among {self.HOOKS}, received {unknown}"
            )
        made = type("LambdaCallback", (LambdaCallback,), {n: _method(f) for n, f in hooks.items()})
        self.__class__ = made


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: function(*arguments)


class EarlyStopping(Callback):
    """Stops a training once `monitor` has not improved for `patience` epochs.

    Improved means better than the best by more than `min_delta`. `mode` "auto" asks the metric
    whether more is better; a loss and an unknown metric of the form `..._loss` go down. With
    `restore_best_weights` the model ends with the weights of its best epoch, also when the training
    ran to its end. The first epochs, before `start_from_epoch`, do not count.
    Raises ValueError if `monitor` is not in the logs, naming those that are.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                f'EarlyStopping: expected mode "auto", "min" or "max", received {mode!r}'
            )
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.verbose, self.mode, self.baseline = verbose, mode, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best: float | None = None
        self.best_state: Any = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = monitored("EarlyStopping", self.monitor, logs or {})
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_state is None:
            self.best_state = self.model.train_state
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_state = self.model.train_state
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_state is not None:
            if self.verbose:
                print(f"Restoring model weights from the best epoch: {self.best_epoch + 1}.")
            best, now = self.best_state, self.model.train_state
            if hasattr(now, "replace"):  # a model: weights go back, counters and optimizer stay
                best = now.replace(params=best.params, state=best.state)
            self.model.train_state = best

    def _better(self, value: float, best: float | None) -> bool:
        if best is None:
            return True
        up = direction(self.monitor, self.mode, self.model) == "max"
        return value - self.min_delta > best if up else value + self.min_delta < best


def monitored(owner: str, monitor: str, logs: Logs) -> float:
    """The logged number called `monitor`. Raises ValueError naming the logs there are."""
    if monitor not in logs:
        raise ValueError(
            f"{owner}: expected monitor among {sorted(logs)}, received monitor={monitor!r}; "
            "do give validation_data for the names that start with val_"
        )
    return float(logs[monitor])


def direction(monitor: str, mode: str, model: Any = None) -> str:
    """ "max" if more of `monitor` is better, else "min"."""
    if mode != "auto":
        return mode
    name = monitor.removeprefix("val_")
    if name.endswith("loss"):
        return "min"
    known = model.metric_directions() if hasattr(model, "metric_directions") else {}
    if known.get(name):
        return known[name]
    try:
        found = getattr(lookup("metric", name), "direction", None)
    except ValueError:
        found = None
    if found not in ("min", "max"):
        raise ValueError(
            f"expected a metric that says whether more is better, received monitor={monitor!r}; "
            'do give mode="min" or mode="max"'
        )
    return found


__all__ = ["Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback"]
