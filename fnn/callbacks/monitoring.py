"""Callbacks that watch one number: early stopping, a lower rate on a plateau."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fnn.callbacks.possible import check_log_name
from fnn.callbacks.rates import check_rate_can_be_set, learning_rates, set_learning_rate
from fnn.core import tree
from fnn.core.registry import lookup
from fnn.training.hooks import Callback, Logs
from fnn.training.state import TrainState


class EarlyStopping(Callback):
    """Stops a training once `monitor` has not improved for `patience` epochs.

    Improved means better than the best by more than `min_delta`; NaN never is. `mode` "auto" asks
    the metric whether more is better; a loss and an unknown metric of the form `..._loss` go down.
    With `restore_best_weights` the model ends with the weights of its best epoch, also when the
    training ran to its end, but not after an error or Ctrl-C. The first epochs, before
    `start_from_epoch`, do not count, nor do epochs without validation (`validation_freq`) if it is
    validation that is watched.
    Raises ValueError if `monitor` is not in the logs, naming those that are; before the first step
    unless another callback may add it.

    >>> model.learning_rate = 0.0  # nothing improves after the first epoch
    >>> stop = EarlyStopping("loss", patience=2)
    >>> model.fit(x, y, epochs=9, callbacks=[stop], verbose=0).epoch
    [0, 1, 2]
    """

    resumed: ClassVar[tuple[str, ...]] = (
        "wait",
        "stopped_epoch",
        "best",
        "best_epoch",
        "best_weights",
    )

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
        check_mode("EarlyStopping", mode)
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.verbose, self.mode, self.baseline = verbose, mode, baseline
        self.restore_best_weights, self.start_from_epoch = (
            restore_best_weights,
            start_from_epoch,
        )
        self._reset()

    def _reset(self) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best: float | None = None
        self.best_weights: Any = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_monitor(self)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = monitored(self, logs or {})
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self._weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None and not self.failed:
            if self.verbose:
                print(
                    f"Restoring model weights from the best epoch: {self.best_epoch + 1}."
                )
            now, best = self.model.train_state, self.best_weights
            if isinstance(
                now, TrainState
            ):  # weights go back, counters and optimizer stay
                best = tree.fill({"params": now.params, "state": now.state}, best)
                best = now.replace(**jax.tree.map(jnp.asarray, best))
            self.model.train_state = best

    def _weights(self) -> Any:
        now = self.model.train_state
        return (
            {"params": now.params, "state": now.state}
            if isinstance(now, TrainState)
            else now
        )

    def _better(self, value: float, best: float | None) -> bool:
        return improves(value, best, direction(self), self.min_delta)


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` after `patience` epochs without improvement.

    Improved means better than the best by more than `min_delta`; NaN never is. After a reduction
    `cooldown` epochs do not count. The rate never falls below `min_lr`; nothing is compiled anew.
    The rate of the epoch goes into the logs as `learning_rate`. Of `ByPath` every rate is reduced.
    Raises ValueError if `monitor` is not in the logs, naming those that are; before the first step
    unless another callback may add it.

    >>> reduce = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9.0)  # none gains 9
    >>> model.fit(x, y, epochs=3, callbacks=[reduce], verbose=0).history["learning_rate"]
    [0.125, 0.125, 0.0625]
    """

    resumed: ClassVar[tuple[str, ...]] = ("wait", "best", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__()
        check_mode("ReduceLROnPlateau", mode)
        if not 0 < factor < 1:
            raise ValueError(
                f"ReduceLROnPlateau: expected factor between 0 and 1, received {factor!r}; "
                "e.g. factor=0.1"
            )
        self.monitor, self.factor, self.patience, self.verbose = (
            monitor,
            factor,
            patience,
            verbose,
        )
        self.mode, self.min_delta, self.cooldown = mode, abs(min_delta), cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.wait, self.cooldown_counter = 0, 0
        self.best: float | None = None

    def added_logs(self) -> Iterable[str]:
        return learning_rates(self)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_rate_can_be_set(self)
        check_monitor(self)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update(learning_rates(self))
        value = monitored(self, logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        way = direction(self)
        if improves(value, self.best, way, self.min_delta):
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def _reduce(self, epoch: int) -> bool:
        """Lowers every rate that is above the least; whether there was one."""
        above = {
            n: r for n, r in learning_rates(self).items() if r > np.float32(self.min_lr)
        }
        for name, rate in above.items():
            set_learning_rate(self, name, max(rate * self.factor, self.min_lr))
            if self.verbose:
                print(
                    f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing {name.replace('_', ' ', 1)} "
                    f"to {max(rate * self.factor, self.min_lr)}."
                )
        return bool(above)


def check_mode(owner: str, mode: str) -> None:
    """Raises ValueError for an unknown mode."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(
            f'{owner}: expected mode "auto", "min" or "max", received {mode!r}'
        )


def improves(value: float, best: float | None, way: str, min_delta: float = 0) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`; `way` is "max" or "min".

    NaN is never better than anything, and any number is better than NaN.
    """
    if best is None or np.isnan(best):
        return not np.isnan(value)
    return value - min_delta > best if way == "max" else value + min_delta < best


def check_monitor(callback: Any) -> None:
    """Raises ValueError before the first step if what a callback monitors cannot be."""
    check_log_name(callback, callback.monitor, "monitor")
    direction(callback)


def monitored(callback: Any, logs: Logs) -> float | None:
    """The logged number that a callback watches; None after an epoch that was not validated.

    Raises ValueError naming the logs there are, or if it is no single number.
    """
    owner, monitor = type(callback).__name__, callback.monitor
    rests = callback.params.get("validated") and not any(
        n.startswith("val_") for n in logs
    )
    if monitor.startswith("val_") and rests:
        return None
    if monitor not in logs:
        raise ValueError(
            f"{owner}: expected monitor among {sorted(logs)}, received monitor={monitor!r}; "
            "give validation_data for the names that start with val_"
        )
    if np.ndim(logs[monitor]):
        raise ValueError(
            f"{owner}: expected a monitor that is one number, received {monitor!r}, which is "
            f"{logs[monitor]}; average it (F1Score has average='macro')"
        )
    return float(logs[monitor])


def direction(callback: Any) -> str:
    """ "max" if more of what a callback monitors is better, else "min"."""
    monitor, mode, model = callback.monitor, callback.mode, callback.model
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
            f"{type(callback).__name__}: expected a metric that says whether more is better, "
            f"received monitor={monitor!r}; "
            'give mode="min" or mode="max"'
        )
    return found
