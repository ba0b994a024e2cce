"""Callbacks that monitor a value: early stopping, a lower rate on a plateau."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fnn.callbacks.checks import check_log_name
from fnn.callbacks.rates import check_rate_can_be_set, learning_rates, set_learning_rate
from fnn.core import tree
from fnn.core.tree import Tree
from fnn.runtime.processes import say
from fnn.training.hooks import AnyModel, Callback, Logs, RunParams
from fnn.training.monitor import direction_of, improves
from fnn.training.state import TrainState


class Monitor(Protocol):
    """A callback that monitors a value of the logs."""

    monitor: str
    mode: str
    model: AnyModel
    details: RunParams


class EarlyStopping(Callback):
    """Stops a training once `monitor` has not improved for `patience` epochs.

    A value improves if it is better than the best by more than `min_delta`; NaN never
    does. With `mode` "auto" the metric determines whether higher is better; a loss, and
    an unknown metric named `..._loss`, should decrease. With `restore_best_weights` the
    model ends with the weights of its best epoch, also if the training ran to its end,
    but not after an error or Ctrl-C. Epochs before `start_from_epoch` do not count;
    neither do epochs without validation (`validation_freq`) if `monitor` is a validation
    value. Raises ValueError if `monitor` is not in the logs, listing those that are;
    before the first step unless another callback may add it.

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
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best: float | None = None
        self.best_weights: Tree = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_monitor(self)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = monitored(self, logs or {})
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._better(value, self.best):
            self.best = value
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self._weights()
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None and not self.failed:
            if self.verbose:
                epoch = self.best_epoch + 1
                say(f"Restoring model weights from the best epoch: {epoch}.")
            self._restore()

    def _weights(self) -> Tree:
        now = self.model.train_state
        if not isinstance(now, TrainState):
            return now
        return {"params": now.params, "state": now.state}

    def _restore(self) -> None:
        """Restores the best weights; step counters and optimizer state stay."""
        now = self.model.train_state
        best = self.best_weights
        if isinstance(now, TrainState):
            # After resuming, weights come from a file: in another order, as NumPy arrays.
            best = tree.fill({"params": now.params, "state": now.state}, best)
            best = now.replace(**jax.tree.map(jnp.asarray, best))
        self.model.train_state = best

    def _better(self, value: float, best: float | None) -> bool:
        return improves(value, best, direction(self), self.min_delta)


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` after `patience` epochs without improvement.

    A value improves if it is better than the best by more than `min_delta`; NaN never
    does. After a reduction `cooldown` epochs do not count. The rate never falls below
    `min_lr`; nothing is recompiled. The logs contain the rate of the epoch as
    `learning_rate`. With `ByPath` every rate is reduced. Raises ValueError if `monitor`
    is not in the logs, listing those that are; before the first step unless another
    callback may add it.

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
        self.monitor = monitor
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.cooldown_counter = 0
        self.best: float | None = None

    def added_logs(self) -> Iterable[str]:
        return learning_rates(self)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_rate_can_be_set(self)
        check_monitor(self)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is None:
            logs = {}
        logs.update(learning_rates(self))
        value = monitored(self, logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if improves(value, self.best, direction(self), self.min_delta):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _reduce(self, epoch: int) -> bool:
        """Lowers every rate above `min_lr`. Returns whether there was one."""
        reduced = False
        # Rates are float32: so is the limit that they are compared with.
        limit = np.float32(self.min_lr)
        for name, rate in learning_rates(self).items():
            if rate <= limit:
                continue
            lower = max(rate * self.factor, self.min_lr)
            set_learning_rate(self, name, lower)
            reduced = True
            if self.verbose:
                say(
                    f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing "
                    f"{name.replace('_', ' ', 1)} to {lower}."
                )
        return reduced


def check_mode(owner: str, mode: str) -> None:
    """Raises ValueError for an unknown mode."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(
            f'{owner}: expected mode "auto", "min" or "max", received {mode!r}'
        )


def check_monitor(callback: EarlyStopping | ReduceLROnPlateau) -> None:
    """Raises ValueError before the first step if the logs cannot contain the monitored value."""
    check_log_name(callback, callback.monitor, "monitor")
    direction(callback)


def monitored(callback: Monitor, logs: Logs) -> float | None:
    """The logged value that a callback monitors; None after an epoch without validation.

    Raises ValueError if the logs do not contain it, listing those that exist, or if it
    is not a single number.
    """
    owner = type(callback).__name__
    monitor = callback.monitor
    has_validation = any(name.startswith("val_") for name in logs)
    validated_later = callback.details.get("validated") and not has_validation
    if monitor.startswith("val_") and validated_later:
        return None
    if monitor not in logs:
        raise ValueError(
            f"{owner}: expected monitor among {sorted(logs)}, received "
            f"monitor={monitor!r}; pass validation_data for names that start with val_"
        )
    value = logs[monitor]
    if np.ndim(value):
        raise ValueError(
            f"{owner}: expected a monitor that is one number, received {monitor!r}, which "
            f"is {value}; average it (F1Score has average='macro')"
        )
    return float(value)


def direction(callback: Monitor) -> str:
    """ "max" if higher values of what a callback monitors are better, else "min"."""
    owner = type(callback).__name__
    return direction_of(owner, callback.monitor, callback.mode, callback.model)
