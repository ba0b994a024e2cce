"""Callbacks that set the learning rate: by a function of the epoch, or to find a good one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fnn.optimizers import with_learning_rate
from fnn.runtime.optional import optional
from fnn.training.hooks import Callback, Logs


def learning_rates(callback: Callback) -> dict[str, float]:
    """The rate now, as it stands in logs: `learning_rate`, or one for each pattern of `ByPath`."""
    found = getattr(callback.model, "learning_rate", None)
    rates = (
        {f"_{name}": rate for name, rate in found.items()}
        if isinstance(found, dict)
        else {}
    )
    rates = {
        name: rate for name, rate in (rates or {"": found}).items() if rate is not None
    }
    if not rates:
        raise ValueError(
            f"{type(callback).__name__}: expected a model whose optimizer tells its learning rate, "
            f"received {getattr(callback.model, 'optimizer', callback.model)!r}; use compile with "
            "an optimizer of fnn.optimizers, or with optax.inject_hyperparams"
        )
    return {f"learning_rate{name}": float(rate) for name, rate in rates.items()}


def set_learning_rate(callback: Callback, name: str, value: float) -> None:
    """Sets one of the rates, by its name in `learning_rates`."""
    pattern = name.removeprefix("learning_rate").removeprefix("_")
    callback.model.learning_rate = {pattern: value} if pattern else value


def check_rate_can_be_set(callback: Callback) -> None:
    """Raises ValueError unless the model has a learning rate, and one that can be set."""
    learning_rates(callback)
    state = getattr(callback.model.train_state, "optimizer", None)
    if state is not None:
        with_learning_rate(state, 0.0)


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to `schedule(epoch, rate)`, or `schedule(epoch)`.

    `epoch` counts from 0, `rate` is the one before; it is passed if `schedule` can take it, even to
    an argument with a default. It goes into the logs as `learning_rate`.
    A function of the step belongs into the optimizer: `Adam(fnn.schedules.CosineDecay(...))`.
    Raises ValueError for what is no number.

    >>> schedule = LearningRateScheduler(lambda epoch, rate: rate if epoch < 10 else 0.9 * rate)
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0) -> None:
        super().__init__()
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = _takes_two(schedule)

    def added_logs(self) -> Iterable[str]:
        return learning_rates(self)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        for name, rate in learning_rates(self).items():
            new = (
                self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
            )
            if np.ndim(new) or np.asarray(new).dtype.kind not in "fiu":
                raise ValueError(
                    "LearningRateScheduler: expected a number from schedule, received "
                    f"{new!r} for epoch {epoch}; return the learning rate"
                )
            set_learning_rate(self, name, float(new))
            if self.verbose:
                print(
                    f"\nEpoch {epoch + 1}: LearningRateScheduler setting "
                    f"{name.replace('_', ' ', 1)} to {float(new)}."
                )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs.update(learning_rates(self))


def _takes_two(schedule: Callable[..., Any]) -> bool:
    """Whether a function can be called with two arguments, as Keras calls it where it can."""
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # a builtin function, `max` say, has none
        return True
    try:
        signature.bind(0, 0.0)
    except TypeError:
        return False
    return True


class LearningRateFinder(Callback):
    """Raises the learning rate from step to step, to see where the loss falls and where it breaks.

    Give it to `fit` alone, with enough epochs for `steps` batches: it ends the training after them,
    or once the smoothed loss is `diverged` times its least. The model is then as it was before.
    `rates` and `losses` (smoothed) are what was found, `suggestion` the rate where the loss falls
    fastest, `plot()` a figure of it. Source: Smith 2017, Cyclical Learning Rates, section 3.3.

    >>> finder = LearningRateFinder(steps=50)
    >>> finder.rates, finder.losses
    ([], [])
    """

    def __init__(
        self,
        lowest: float = 1e-6,
        highest: float = 1.0,
        steps: int = 100,
        smoothing: float = 0.9,
        diverged: float = 4.0,
    ) -> None:
        super().__init__()
        if (
            not 0 < lowest < highest
            or steps < 2
            or not 0 <= smoothing < 1
            or not diverged > 1
        ):
            raise ValueError(
                "LearningRateFinder: expected 0 < lowest < highest, steps of at least 2, smoothing "
                f"in [0, 1) and diverged above 1, received lowest={lowest}, highest={highest}, "
                f"steps={steps}, smoothing={smoothing}, diverged={diverged}"
            )
        self.planned = np.geomspace(lowest, highest, steps)
        self.smoothing, self.diverged = smoothing, diverged
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.rates, self.losses, self._mean, self._before = [], [], 0.0, 0.0
        self._start = self.model.train_state
        self._set()

    def _set(self) -> None:
        for name in learning_rates(self):
            set_learning_rate(self, name, float(self.planned[len(self.rates)]))

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.model.stop_training:
            return
        # The logs hold the mean of the rows of the epoch so far; the last batch may be a short one.
        rows, size = self.params.get("rows"), self.params.get("batch_size", 1)
        seen, seen_before = (
            min(n * size, rows or n * size) for n in (batch + 1, batch)
        )
        total = seen * (logs or {})["loss"]
        loss = (total - (self._before if batch else 0.0)) / (seen - seen_before)
        self._before = total
        self._mean = self.smoothing * self._mean + (1 - self.smoothing) * loss
        self.rates.append(float(self.planned[len(self.rates)]))
        self.losses.append(self._mean / (1 - self.smoothing ** len(self.rates)))
        broken = not self.losses[-1] <= self.diverged * min(self.losses)  # NaN too
        if broken or len(self.rates) == len(self.planned):
            self.model.stop_training = True
        else:
            self._set()

    def on_not_finite(self, message: str) -> bool:
        """A loss that is not finite is an end like any other."""
        return True

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.model.train_state = self._start

    @property
    def suggestion(self) -> float:
        """The rate where the loss falls fastest (per factor of the rate), before its least.

        The first tenth is left out: there one noisy batch is all that there is.
        """
        if len(self.losses) < 3:
            raise ValueError(
                f"LearningRateFinder: expected a test of 3 steps at least, received "
                f"{len(self.losses)}; use model.fit(x, y, epochs=..., callbacks=[finder])"
            )
        first = len(self.losses) // 10
        end = max(int(np.argmin(self.losses[first:])) + first + 1, first + 3)
        slopes = np.gradient(
            np.array(self.losses[first:end]), np.log(self.rates[first:end])
        )
        return self.rates[first + int(np.argmin(slopes))]

    def plot(self, path: Any = None) -> Any:
        """A figure of loss over rate (needs matplotlib); saved if a path is given."""
        with optional("matplotlib", extra="plot"):
            from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.axvline(
            self.suggestion, linestyle=":", label=f"suggestion {self.suggestion:.2g}"
        )
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure
